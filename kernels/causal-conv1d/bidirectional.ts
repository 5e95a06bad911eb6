// Both directions of the causal convolution over the same tokens, in one dispatch each way: with W taps, direction 0 sees
// x[t - (W-1)] … x[t], direction 1 x[t] … x[t + (W-1)]. Against two convolutions it reads x once, and its backward writes dx once
// where they make two of them to be added: per value of x, 3 values moved instead of 4 forward, 4 instead of 9 backward.

import { defineKernel, type KernelBinding } from '../../core/kernel.ts';
import type { Device, Operand } from '../../core/index.ts';
import { Storage } from '../../core/storage.ts';
import { bindRows, type Rows } from '../rows.ts';
import { CHANNELS, each, SIGMOID, STRETCH, type ConvDType } from './kernels.ts';
import { convReduce } from './reduce.ts';

interface Variant {
  readonly width: number;
  readonly dtype: ConvDType;
  readonly bias: boolean;
  readonly silu: boolean;
}

/** Weights (D, W) and biases (D) of both directions, f32; a bias for both or for none. */
export interface ConvPairArguments {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly dtype: ConvDType;
  readonly silu: boolean;
  readonly x: Rows;
  readonly weights: readonly [Operand, Operand];
  readonly biases: readonly [Operand, Operand] | null;
}

/** Both directions' rows (B·L, D), contiguous, in one buffer; offsets in elements. */
export interface RowPair {
  readonly storage: Storage;
  readonly offsets: readonly [number, number];
}

const PARAMS = ['L', 'D', 'x0', 'xRow', 'stretches', 'y0', 'y1'];

function common(v: Variant): { bindings: KernelBinding[]; declarations: string; setup: string } {
  const W = v.width;
  const read = (name: string): KernelBinding => ({ name, type: 'array<f32>', access: 'read' });
  return {
    bindings: [
      { name: 'x', type: `array<${v.dtype}>`, access: 'read' }, read('weight0'), read('weight1'), ...(v.bias ? [read('bias0'), read('bias1')] : []),
    ],
    declarations: `
fn input(b: u32, t: i32, d: u32) -> f32 {
  if (t < 0 || t >= i32(p.L)) { return 0.0; }
  return f32(x[p.x0 + (b * p.L + u32(t)) * p.xRow + d]);
}
${SIGMOID}`,
    setup: `
  let channel = gid.x;
  if (channel >= p.D) { return; }
  let d = channel;
  let part = wid.y;
  let b = wid.z;
  let first = i32(part * ${STRETCH}u);
  let end = min(first + ${STRETCH}, i32(p.L));
  ${each(W, (w) => `let v${w} = weight0[d * ${W}u + ${w}u]; let w${w} = weight1[d * ${W}u + ${w}u];`)}
  let offset0 = ${v.bias ? 'bias0[d]' : '0.0'};
  let offset1 = ${v.bias ? 'bias1[d]' : '0.0'};`,
  };
}

/** The convolutions at token c, where x0 … x(2W-2) hold x[c - (W-1)] … x[c + (W-1)]. */
function outputs(W: number): string {
  return `let a0 = offset0 + ${each(W, (k) => `v${k} * x${k}`, ' + ')};
    let a1 = offset1 + ${each(W, (k) => `w${k} * x${2 * W - 2 - k}`, ' + ')};`;
}

const shift = (name: string, count: number): string => each(count - 1, (k) => `${name}${k} = ${name}${k + 1};`, ' ');

/** Grid: (ceil(D / CHANNELS), stretches, batch). */
const forwardKernel = defineKernel<Variant>('causalConv1d.forwardPair', (v) => {
  const { bindings, declarations, setup } = common(v);
  const W = v.width;
  return {
    enable: v.dtype === 'f16' ? ['f16'] : [],
    bindings: [...bindings, { name: 'y', type: `array<${v.dtype}>`, access: 'write' }],
    params: PARAMS.map((name) => ({ name, type: 'u32' })),
    workgroupSize: [CHANNELS],
    declarations,
    body: `${setup}
  ${each(2 * W - 2, (k) => `var x${k} = input(b, first + ${k - (W - 1)}, d);`)}
  for (var c = first; c < end; c++) {
    var x${2 * W - 2} = input(b, c + ${W - 1}, d);
    ${outputs(W)}
    let at = (b * p.L + u32(c)) * p.D + d;
    y[p.y0 + at] = ${v.dtype}(${v.silu ? 'a0 * sigmoid(a0)' : 'a0'});
    y[p.y1 + at] = ${v.dtype}(${v.silu ? 'a1 * sigmoid(a1)' : 'a1'});
    ${shift('x', 2 * W - 1)}
  }`,
  };
});

/**
 * dx[t] = Σ_k v_k g0[t + (W-1-k)] + Σ_k w_k g1[t - (W-1-k)] with g the upstream gradients before the activation. The walk's centre
 * runs W-1 tokens ahead of the dx that is written and over both ends of its stretch; sums count the stretch's own tokens alone:
 * (batch · stretches, 2, W + 1, D).
 */
const backwardKernel = defineKernel<Variant>('causalConv1d.backwardPair', (v) => {
  const { bindings, declarations, setup } = common(v);
  const W = v.width;
  const slope = (a: string): string => (v.silu ? `let s${a} = sigmoid(${a}); let u${a} = s${a} * (1.0 + ${a} * (1.0 - s${a}));` : `let u${a} = 1.0;`);
  return {
    enable: v.dtype === 'f16' ? ['f16'] : [],
    bindings: [
      ...bindings, { name: 'dy', type: `array<${v.dtype}>`, access: 'read' },
      { name: 'dx', type: `array<${v.dtype}>`, access: 'write' }, { name: 'sums', type: 'array<f32>', access: 'write' },
    ],
    params: [...PARAMS, 'dx0', 'dxRow'].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [CHANNELS],
    declarations,
    body: `${setup}
  ${each(2 * W - 2, (k) => `var x${k} = input(b, first - ${W - 1} + ${k - (W - 1)}, d);`)}
  ${each(W - 1, (k) => `var g${k} = 0.0;`)}
  ${each(2 * W - 2, (k) => `var h${k} = 0.0;`)}
  ${each(W, (k) => `var dv${k} = 0.0; var dw${k} = 0.0;`)}
  var db0 = 0.0;
  var db1 = 0.0;
  for (var c = first - ${W - 1}; c < end + ${W - 1}; c++) {
    var x${2 * W - 2} = input(b, c + ${W - 1}, d);
    var g${W - 1} = 0.0;
    var h${2 * W - 2} = 0.0;
    if (c >= 0 && c < i32(p.L)) {
      ${outputs(W)}
      ${slope('a0')}
      ${slope('a1')}
      let at = (b * p.L + u32(c)) * p.D + d;
      g${W - 1} = f32(dy[p.y0 + at]) * ua0;
      h${2 * W - 2} = f32(dy[p.y1 + at]) * ua1;
    }
    if (c >= first && c < end) {
      ${each(W, (k) => `dv${k} += g${W - 1} * x${k}; dw${k} += h${2 * W - 2} * x${2 * W - 2 - k};`, ' ')}
      db0 += g${W - 1};
      db1 += h${2 * W - 2};
    }
    let t = c - ${W - 1};
    if (t >= first) {
      dx[p.dx0 + (b * p.L + u32(t)) * p.dxRow + d] = ${v.dtype}(${each(W, (k) => `v${k} * g${W - 1 - k} + w${k} * h${k}`, ' + ')});
    }
    ${shift('x', 2 * W - 1)}
    ${shift('g', W)}
    ${shift('h', 2 * W - 1)}
  }
  let at = (b * p.stretches + part) * ${2 * (W + 1)}u * p.D + d;
  ${each(W, (k) => `sums[at + ${k}u * p.D] = dv${k}; sums[at + ${W + 1 + k}u * p.D] = dw${k};`)}
  sums[at + ${W}u * p.D] = db0;
  sums[at + ${2 * W + 1}u * p.D] = db1;`,
  };
});

function grid({ batch, length, channels }: ConvPairArguments): [number, number, number] {
  return [Math.ceil(channels / CHANNELS), Math.ceil(length / STRETCH), batch];
}

function launch(args: ConvPairArguments, y: RowPair): { variant: Variant; inputs: Operand[]; params: number[] } {
  const { length, channels, width, dtype, silu, x, weights, biases } = args;
  return {
    variant: { width, dtype, silu, bias: biases !== null },
    inputs: [bindRows(x), ...weights, ...(biases ?? [])],
    params: [length, channels, x.offset, x.row, Math.ceil(length / STRETCH), ...y.offsets],
  };
}

/** Writes both directions' results to `y`. */
export function convPairForward(device: Device, args: ConvPairArguments, y: RowPair): void {
  const { variant, inputs, params } = launch(args, y);
  device.run(forwardKernel, variant, [...inputs, { storage: y.storage, byteOffset: 0 }], params, grid(args));
}

/** Writes dx, from both directions' upstream gradients `dy`; gives of each direction dweight (D, W), then dbias (D), in one f32 buffer. */
export function convPairBackward(device: Device, args: ConvPairArguments, dy: RowPair, dx: Rows): Storage {
  const { batch, channels, width } = args;
  const { variant, inputs, params } = launch(args, dy);
  const groups = grid(args);
  const parts = batch * groups[1];
  const rows = 2 * (width + 1);
  const sums = new Storage(device, parts * rows * channels * 4, 'partial sums of causalConv1d');
  const out = new Storage(device, rows * channels * 4, 'weight gradients of causalConv1d');
  device.run(backwardKernel, variant, [...inputs, { storage: dy.storage, byteOffset: 0 }, bindRows(dx), { storage: sums, byteOffset: 0 }],
    [...params, dx.offset, dx.row], groups);
  convReduce(device, { storage: sums, byteOffset: 0 }, { storage: out, byteOffset: 0 }, { parts, sets: 2, width, channels });
  sums.release();
  return out;
}
