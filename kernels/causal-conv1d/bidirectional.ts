// Both directions of the causal convolution over the same tokens, in one dispatch each way. With W taps, direction 0
// sees x[t - (W-1)] … x[t], direction 1 x[t] … x[t + (W-1)]. Two convolutions would read x twice and leave two dx to be
// added. Per value of x, 3 values are moved here and not 4 forward, 4 and not 9 backward.

import type { Device, FloatDType, Tensor } from '../../core/index.ts';
import { defineKernel, emptyTensor, wgslMath, type KernelBinding, type Operand, type Storage } from '../../core/kit.ts';
import { bindRows, type Rows } from '../rows.ts';
import { CHANNELS, each, STEP, stretchOf, type Pass } from './kernels.ts';
import { convReduce } from './reduce.ts';

interface Variant {
  readonly width: number;
  readonly dtype: FloatDType;
  /** Tokens that an invocation walks along. */
  readonly stretch: number;
  readonly bias: boolean;
  readonly silu: boolean;
}

/** Weights (D, W) and biases (D) of both directions, f32; a bias for both or for none. */
export interface ConvPairArguments {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly dtype: FloatDType;
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
      { name: 'x', type: `array<${v.dtype}>`, access: 'read' },
      read('weight0'),
      read('weight1'),
      ...(v.bias ? [read('bias0'), read('bias1')] : []),
    ],
    declarations: `
fn row(b: u32, t: i32) -> u32 { return b * p.L + u32(clamp(t, 0, i32(p.L) - 1)); }
fn within(t: i32) -> bool { return t >= 0 && t < i32(p.L); }
fn input(b: u32, t: i32, d: u32) -> f32 { return select(0.0, f32(x[p.x0 + row(b, t) * p.xRow + d]), within(t)); }
${wgslMath(['quickSigmoid'])}`,
    setup: `
  let channel = gid.x;
  if (channel >= p.D) { return; }
  let d = channel;
  let part = wid.y;
  let b = wid.z;
  let first = i32(part * ${v.stretch}u);
  let end = min(first + ${v.stretch}, i32(p.L));
  ${each(W, (w) => `let v${w} = weight0[d * ${W}u + ${w}u]; let w${w} = weight1[d * ${W}u + ${w}u];`)}
  let offset0 = ${v.bias ? 'bias0[d]' : '0.0'};
  let offset1 = ${v.bias ? 'bias1[d]' : '0.0'};`,
  };
}

/** The convolutions at token c + j. x0 … x(2W-2) hold x[c - (W-1)] … x[c + (W-1)], further variables what follows. */
function outputs(W: number, j: number): string {
  return `let a${j} = offset0 + ${each(W, (k) => `v${k} * x${k + j}`, ' + ')};
    let e${j} = offset1 + ${each(W, (k) => `w${k} * x${2 * W - 2 - k + j}`, ' + ')};`;
}

/** Shifts the variables, for the next step. */
const shift = (name: string, count: number): string => each(count, (k) => `${name}${k} = ${name}${k + STEP};`, ' ');

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
  for (var c = first; c < end; c += ${STEP}) {
    ${each(STEP, (j) => `let x${2 * W - 2 + j} = input(b, c + ${W - 1 + j}, d);`)}
    ${each(
      STEP,
      (j) => `${outputs(W, j)}
    if (c + ${j} < end) {
      let at = row(b, c + ${j}) * p.D + d;
      y[p.y0 + at] = ${v.dtype}(${v.silu ? `a${j} * mathQuickSigmoid(a${j})` : `a${j}`});
      y[p.y1 + at] = ${v.dtype}(${v.silu ? `e${j} * mathQuickSigmoid(e${j})` : `e${j}`});
    }`,
    )}
    ${shift('x', 2 * W - 2)}
  }`,
  };
});

/**
 * dx[t] = Σ_k v_k g0[t + (W-1-k)] + Σ_k w_k g1[t - (W-1-k)], with g the upstream gradients before the activation. So g
 * is computed W-1 tokens ahead of the dx that is written, and beyond both ends of the stretch. The sums (batch ·
 * stretches, 2, W + 1, D) count only the stretch's own tokens.
 */
const backwardKernel = defineKernel<Variant>('causalConv1d.backwardPair', (v) => {
  const { bindings, declarations, setup } = common(v);
  const W = v.width;
  const slope = (a: string): string =>
    v.silu
      ? `let s${a} = mathQuickSigmoid(${a}); let u${a} = s${a} * (1.0 + ${a} * (1.0 - s${a}));`
      : `const u${a} = 1.0;`;
  return {
    enable: v.dtype === 'f16' ? ['f16'] : [],
    bindings: [
      ...bindings,
      { name: 'dy', type: `array<${v.dtype}>`, access: 'read' },
      { name: 'dx', type: `array<${v.dtype}>`, access: 'write' },
      { name: 'sums', type: 'array<f32>', access: 'write' },
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
  for (var c = first - ${W - 1}; c < end + ${W - 1}; c += ${STEP}) {
    ${each(
      STEP,
      (j) => `let x${2 * W - 2 + j} = input(b, c + ${W - 1 + j}, d);
    let at${j} = row(b, c + ${j}) * p.D + d;
    let up${j} = vec2f(f32(dy[p.y0 + at${j}]), f32(dy[p.y1 + at${j}]));`,
    )}
    ${each(
      STEP,
      (j) => `${outputs(W, j)}
    ${slope(`a${j}`)}
    ${slope(`e${j}`)}
    let live${j} = within(c + ${j});
    let g${W - 1 + j} = select(0.0, up${j}.x * ua${j}, live${j});
    let h${2 * W - 2 + j} = select(0.0, up${j}.y * ue${j}, live${j});
    let own${j} = c + ${j} >= first && c + ${j} < end;
    let ownG${j} = select(0.0, g${W - 1 + j}, own${j});
    let ownH${j} = select(0.0, h${2 * W - 2 + j}, own${j});`,
    )}
    ${each(
      W,
      (k) => `dv${k} += ${each(STEP, (j) => `ownG${j} * x${k + j}`, ' + ')};
    dw${k} += ${each(STEP, (j) => `ownH${j} * x${2 * W - 2 - k + j}`, ' + ')};`,
    )}
    db0 += ${each(STEP, (j) => `ownG${j}`, ' + ')};
    db1 += ${each(STEP, (j) => `ownH${j}`, ' + ')};
    ${each(
      STEP,
      (j) => `if (c + ${j - (W - 1)} >= first && c + ${j - (W - 1)} < end) {
      dx[p.dx0 + row(b, c + ${j - (W - 1)}) * p.dxRow + d] = ${v.dtype}(
        ${each(W, (k) => `v${k} * g${W - 1 - k + j} + w${k} * h${k + j}`, ' + ')});
    }`,
    )}
    ${shift('x', 2 * W - 2)}
    ${shift('g', W - 1)}
    ${shift('h', 2 * W - 2)}
  }
  let at = (b * p.stretches + part) * ${2 * (W + 1)}u * p.D + d;
  ${each(W, (k) => `sums[at + ${k}u * p.D] = dv${k}; sums[at + ${W + 1 + k}u * p.D] = dw${k};`)}
  sums[at + ${W}u * p.D] = db0;
  sums[at + ${2 * W + 1}u * p.D] = db1;`,
  };
});

function launch(
  device: Device,
  pass: Pass,
  args: ConvPairArguments,
  y: RowPair,
): { variant: Variant; inputs: Operand[]; params: number[]; groups: [number, number, number] } {
  const { batch, length, channels, width, dtype, silu, x, weights, biases } = args;
  const stretch = stretchOf(device, pass, args),
    stretches = Math.ceil(length / stretch);
  return {
    variant: { width, dtype, stretch, silu, bias: biases !== null },
    inputs: [bindRows(x), ...weights, ...(biases ?? [])],
    params: [length, channels, x.offset, x.row, stretches, ...y.offsets],
    groups: [Math.ceil(channels / CHANNELS), stretches, batch],
  };
}

/** Writes both directions' results to `y`. */
export function convPairForward(device: Device, args: ConvPairArguments, y: RowPair): void {
  const { variant, inputs, params, groups } = launch(device, 'forward', args, y);
  device.run(forwardKernel, variant, [...inputs, { storage: y.storage, byteOffset: 0 }], params, groups);
}

/**
 * Writes dx, from both directions' upstream gradients `dy`; gives of each direction dweight (D, W), then dbias (D), in
 * one f32 tensor.
 */
export function convPairBackward(device: Device, args: ConvPairArguments, dy: RowPair, dx: Rows): Tensor {
  const { batch, channels, width } = args;
  const { variant, inputs, params, groups } = launch(device, 'backward', args, dy);
  const parts = batch * groups[1];
  const rows = 2 * (width + 1);
  const sums = emptyTensor(device, [parts * rows * channels], 'f32');
  const out = emptyTensor(device, [rows * channels], 'f32');
  device.run(
    backwardKernel,
    variant,
    [...inputs, { storage: dy.storage, byteOffset: 0 }, bindRows(dx), sums],
    [...params, dx.offset, dx.row],
    groups,
  );
  convReduce(device, sums, out, { parts, sets: 2, width, channels });
  sums.dispose();
  return out;
}
