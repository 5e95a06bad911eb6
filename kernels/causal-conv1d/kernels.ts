// The depthwise causal convolution, y[t] = act(bias + Σ_w weight[w] x[t - (W-1-w)]), forward and backward, on (B, L,
// D). In the reverse direction time runs the other way: y[t] sees x[t + (W-1-w)].
//
// Channels are neighbours in memory, so that every access is coalesced. An invocation walks along a stretch of tokens
// with the last inputs in registers and reads each token once, four at a time. What holds it: memory.
// docs/kernels/causal-conv1d.md has the layout and the steps with their ratios.

import type { Device, FloatDType } from '../../core/index.ts';
import { defineKernel, wgslMath, type KernelBinding } from '../../core/kit.ts';
import type { Direction } from '../direction.ts';

export interface ConvVariant {
  readonly width: number;
  readonly dtype: FloatDType;
  readonly direction: Direction;
  /** Tokens that an invocation walks along. */
  readonly stretch: number;
  readonly bias: boolean;
  readonly silu: boolean;
}

/** Tokens that an invocation loads together in one step; and invocations of a workgroup, one a channel. */
export const STEP = 4;
export const CHANNELS = 64;

/** The pass that a kernel belongs to. */
export type Pass = 'forward' | 'backward';

/** Workgroups that keep a large GPU at work. */
const ENOUGH = 1024;

/**
 * Tokens that an invocation walks along. With short walks more tokens are read twice, at both ends, and backward has
 * more partial sums. With long walks there are fewer invocations, which a small problem on a GPU cannot afford. Forward
 * has no sums and is faster with short walks.
 */
export function stretchOf(
  { adapter }: Device,
  pass: Pass,
  { batch, length, channels }: { readonly batch: number; readonly length: number; readonly channels: number },
): number {
  if (adapter.software) return 64;
  return pass === 'backward' && Math.ceil(channels / CHANNELS) * Math.ceil(length / 32) * batch >= ENOUGH ? 32 : 16;
}

const PARAMS = ['L', 'D', 'x0', 'xRow', 'stretches'];
/** `count` texts, one for each number from 0. */
export const each = (count: number, text: (i: number) => string, separator = '\n  '): string =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

/** The bindings and statements that both kernels begin with. Index i counts tokens in the order of the direction. */
function common(v: ConvVariant): { bindings: KernelBinding[]; setup: string; declarations: string } {
  const token = v.direction === 'reverse' ? 'p.L - 1u - u32(i)' : 'u32(i)';
  return {
    bindings: [
      { name: 'x', type: `array<${v.dtype}>`, access: 'read' },
      { name: 'weight', type: 'array<f32>', access: 'read' },
      ...(v.bias ? [{ name: 'bias', type: 'array<f32>', access: 'read' } as const] : []),
    ],
    declarations: `
fn token(i: i32) -> u32 { return ${token}; }
fn input(b: u32, i: i32, d: u32) -> f32 { return f32(x[p.x0 + (b * p.L + token(clamp(i, 0, i32(p.L) - 1))) * p.xRow + d]); }
${wgslMath(['quickSigmoid'])}`,
    setup: `
  let channel = gid.x;
  if (channel >= p.D) { return; }
  let d = channel;
  let part = wid.y;
  let b = wid.z;
  let first = i32(part * ${v.stretch}u);
  let end = min(first + ${v.stretch}, i32(p.L));
  ${each(v.width, (w) => `let w${w} = weight[d * ${v.width}u + ${w}u];`)}
  let offset = ${v.bias ? 'bias[d]' : '0.0'};
  ${each(v.width - 1, (k) => `var x${k} = select(0.0, input(b, first - ${v.width - 1 - k}, d), first >= ${v.width - 1 - k});`)}`,
  };
}

/** Grid: (ceil(D / CHANNELS), stretches, batch). */
export const convForwardKernel = defineKernel<ConvVariant>('causalConv1d.forward', (v) => {
  const { bindings, setup, declarations } = common(v);
  const W = v.width;
  return {
    enable: v.dtype === 'f16' ? ['f16'] : [],
    bindings: [...bindings, { name: 'out', type: `array<${v.dtype}>`, access: 'write' }],
    params: PARAMS.map((name) => ({ name, type: 'u32' })),
    workgroupSize: [CHANNELS],
    declarations,
    body: `${setup}
  for (var i = first; i < end; i += ${STEP}) {
    ${each(STEP, (j) => `let x${W - 1 + j} = input(b, i + ${j}, d);`)}
    ${each(
      STEP,
      (j) => `let y${j} = offset + ${each(W, (k) => `w${k} * x${k + j}`, ' + ')};
    if (i + ${j} < end) {
      out[(b * p.L + token(i + ${j})) * p.D + d] = ${v.dtype}(${v.silu ? `y${j} * mathQuickSigmoid(y${j})` : `y${j}`}); }`,
    )}
    ${each(W - 1, (k) => `x${k} = x${k + STEP};`, ' ')}
  }`,
  };
});

/**
 * Writes dx (B, L, D) and, for each stretch of each batch item, partial sums (batch · stretches, W + 1, D) of dweight
 * and dbias. dx[i] needs the gradient before the activation, g[i] = dout[i] · act'(y[i]), at i … i + W-1. So the walk
 * runs W-1 tokens past its stretch; those count only in the sums of the next stretch.
 */
export const convBackwardKernel = defineKernel<ConvVariant>('causalConv1d.backward', (v) => {
  const { bindings, setup, declarations } = common(v);
  const W = v.width;
  return {
    enable: v.dtype === 'f16' ? ['f16'] : [],
    bindings: [
      ...bindings,
      { name: 'dout', type: `array<${v.dtype}>`, access: 'read' },
      { name: 'dx', type: `array<${v.dtype}>`, access: 'write' },
      { name: 'sums', type: 'array<f32>', access: 'write' },
    ],
    params: [...PARAMS, 'dout0', 'doutRow'].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [CHANNELS],
    declarations,
    body: `${setup}
  ${each(W - 1, (k) => `var g${k} = 0.0;`)}
  ${each(W, (k) => `var dw${k} = 0.0;`)}
  var db = 0.0;
  for (var i = first; i < end + ${W - 1}; i += ${STEP}) {
    ${each(
      STEP,
      (j) => `let x${W - 1 + j} = input(b, i + ${j}, d);
    let up${j} = f32(dout[p.dout0 + (b * p.L + token(min(i + ${j}, i32(p.L) - 1))) * p.doutRow + d]);`,
    )}
    ${each(
      STEP,
      (j) => `${
        v.silu
          ? `let y${j} = offset + ${each(W, (k) => `w${k} * x${k + j}`, ' + ')};
    let s${j} = mathQuickSigmoid(y${j});`
          : ''
      }
    let g${W - 1 + j} = select(0.0, up${j}${v.silu ? ` * s${j} * (1.0 + y${j} * (1.0 - s${j}))` : ''}, i + ${j} < i32(p.L));
    let own${j} = select(0.0, g${W - 1 + j}, i + ${j} < end);`,
    )}
    ${each(W, (k) => `dw${k} += ${each(STEP, (j) => `own${j} * x${k + j}`, ' + ')};`)}
    db += ${each(STEP, (j) => `own${j}`, ' + ')};
    ${each(
      STEP,
      (j) => `if (i + ${j - (W - 1)} >= first && i + ${j - (W - 1)} < end) {
      dx[(b * p.L + token(i + ${j - (W - 1)})) * p.D + d] = ${v.dtype}(${each(W, (k) => `g${k + j} * w${W - 1 - k}`, ' + ')}); }`,
    )}
    ${each(W - 1, (k) => `x${k} = x${k + STEP}; g${k} = g${k + STEP};`, ' ')}
  }
  let at = (b * p.stretches + part) * ${W + 1}u * p.D + d;
  ${each(W, (k) => `sums[at + ${k}u * p.D] = dw${k};`)}
  sums[at + ${W}u * p.D] = db;`,
  };
});
