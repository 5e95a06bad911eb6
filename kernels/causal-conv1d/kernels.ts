// The depthwise causal convolution, y[t] = act(bias + Σ_w weight[w] x[t - (W-1-w)]), forward and backward, on (B, L, D). In the
// reverse direction time runs the other way: y[t] sees x[t + (W-1-w)]. A channel lies next to its neighbours, so that every
// access is coalesced; an invocation walks along a stretch of tokens with the last inputs in registers and reads each once.

import { defineKernel, type KernelBinding } from '../../core/kernel.ts';

export type ConvDType = 'f32' | 'f16';
export type Direction = 'forward' | 'reverse';

export interface ConvVariant {
  readonly width: number;
  readonly dtype: ConvDType;
  readonly direction: Direction;
  readonly bias: boolean;
  readonly silu: boolean;
}

/** Tokens that one invocation walks along, and invocations (channels) of a workgroup. */
export const STRETCH = 16;
export const CHANNELS = 64;

const PARAMS = ['L', 'D', 'x0', 'xRow', 'stretches'];
/** `count` texts, one for each number from 0. */
export const each = (count: number, text: (i: number) => string, separator = '\n  '): string => Array.from({ length: count }, (_, i) => text(i)).join(separator);

/** Overflow-safe. */
export const SIGMOID = `
fn sigmoid(a: f32) -> f32 {
  let e = exp(-abs(a));
  return select(e, 1.0, a >= 0.0) / (1.0 + e);
}`;

/** The bindings and statements that both kernels begin with. Scan order i counts tokens in the order of the direction. */
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
fn input(b: u32, i: i32, d: u32) -> f32 {
  if (i < 0 || i >= i32(p.L)) { return 0.0; }
  return f32(x[p.x0 + (b * p.L + token(i)) * p.xRow + d]);
}${SIGMOID}`,
    setup: `
  let channel = gid.x;
  let d = min(channel, p.D - 1u);
  let inside = channel < p.D;
  let part = wid.y;
  let b = wid.z;
  let first = i32(part * ${STRETCH}u);
  let end = min(first + ${STRETCH}, i32(p.L));
  ${each(v.width, (w) => `let w${w} = weight[d * ${v.width}u + ${w}u];`)}
  let offset = ${v.bias ? 'bias[d]' : '0.0'};`,
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
  if (!inside) { return; }
  ${each(W - 1, (k) => `var x${k} = input(b, first - ${W - 1 - k}, d);`)}
  for (var i = first; i < end; i++) {
    let x${W - 1} = input(b, i, d);
    let y = offset + ${each(W, (k) => `w${k} * x${k}`, ' + ')};
    out[(b * p.L + token(i)) * p.D + d] = ${v.dtype}(${v.silu ? 'y * sigmoid(y)' : 'y'});
    ${each(W - 1, (k) => `x${k} = x${k + 1};`, ' ')}
  }`,
  };
});

/**
 * Writes dx (B, L, D) and, for each stretch of each batch, partial sums (batch · stretches, W + 1, D) of dweight and dbias. The
 * gradient before the activation, g[i] = dout[i] · act'(y[i]), is needed at i … i + W-1 for dx[i], so the walk runs W-1 tokens
 * past its stretch; those tokens count in the sums of the next stretch alone.
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
  if (!inside) { return; }
  ${each(W - 1, (k) => `var x${k} = input(b, first - ${W - 1 - k}, d);`)}
  ${each(W - 1, (k) => `var g${k} = 0.0;`)}
  ${each(W, (k) => `var dw${k} = 0.0;`)}
  var db = 0.0;
  for (var i = first; i < end + ${W - 1}; i++) {
    let x${W - 1} = input(b, i, d);
    var g${W - 1} = 0.0;
    if (i < i32(p.L)) {
      g${W - 1} = f32(dout[p.dout0 + (b * p.L + token(i)) * p.doutRow + d]);
      ${v.silu ? `let y = offset + ${each(W, (k) => `w${k} * x${k}`, ' + ')};
      let s = sigmoid(y);
      g${W - 1} *= s * (1.0 + y * (1.0 - s));` : ''}
    }
    if (i < end) {
      ${each(W, (k) => `dw${k} += g${W - 1} * x${k};`, ' ')}
      db += g${W - 1};
    }
    let done = i - ${W - 1};
    if (done >= first) {
      dx[(b * p.L + token(done)) * p.D + d] = ${v.dtype}(${each(W, (k) => `g${k} * w${W - 1 - k}`, ' + ')});
    }
    ${each(W - 1, (k) => `x${k} = x${k + 1}; g${k} = g${k + 1};`, ' ')}
  }
  let at = (b * p.stretches + part) * ${W + 1}u * p.D + d;
  ${each(W, (k) => `sums[at + ${k}u * p.D] = dw${k};`)}
  sums[at + ${W}u * p.D] = db;`,
  };
});
