// Sinusoidal embedding of timesteps. WGSL promises no accuracy for the cosine of a large angle, and an f32 product of
// step and frequency has lost the digits that matter. Here angles are counted in turns: the frequencies are split into
// parts of twelve bits, so that step × part is exact, whole turns go before anything is added, and polynomials give
// what is left.

import {
  defineKernel,
  dense,
  DTypeError,
  empty,
  grid1d,
  noGrad,
  scope,
  ShapeError,
  show,
  tensor,
  ValueError,
  type Tensor,
} from '../../core/index.ts';

/** Options of `timestepEmbedding`. */
export interface TimestepEmbeddingOptions {
  /** Period of the slowest wave, in 2π steps. Default 10000. */
  readonly maxPeriod?: number;
}

const GROUP = 64;

const embeddingKernel = defineKernel<object>('timestepEmbedding', () => ({
  bindings: [
    { name: 'steps', type: 'array<f32>', access: 'read' },
    { name: 'parts', type: 'array<f32>', access: 'read' },
    { name: 'y', type: 'array<f32>', access: 'write' },
  ],
  params: [
    { name: 'n', type: 'u32' },
    { name: 'dim', type: 'u32' },
  ],
  workgroupSize: [GROUP],
  declarations: `// Cosine of an angle in turns. The quarter turn nearest to it chooses the polynomial; the rest is at most an eighth.
fn cosTurns(turns: f32) -> f32 {
  let quarter = round(turns * 4.0);
  let x = (turns - quarter * 0.25) * ${2 * Math.PI};
  let q = x * x;
  let c = 1.0 + q * (-0.5 + q * (${1 / 24} + q * (${-1 / 720} + q * ${1 / 40320})));
  let s = x + x * q * (${-1 / 6} + q * (${1 / 120} + q * (${-1 / 5040} + q * ${1 / 362880})));
  let which = i32(quarter) & 3;
  let v = select(c, s, (which & 1) == 1);
  return select(v, -v, which == 1 || which == 2);
}`,
  body: `  if (flat >= p.n) { return; }
  let half = p.dim / 2u;
  let column = flat % p.dim;
  if (column >= 2u * half) { y[flat] = 0.0; return; }
  let t = steps[flat / p.dim];
  let k = (column % half) * 3u;
  let turns = fract(t * parts[k]) + fract(t * parts[k + 1u]) + t * parts[k + 2u];
  y[flat] = cosTurns(select(turns, turns - 0.25, column >= half));`,
}));

/** The table that the kernel reads: frequencies in turns a step, computed in float64, each as a sum of three parts. */
export function timestepFrequencies(dim: number, maxPeriod = 10000): Float32Array {
  const half = Math.floor(dim / 2);
  const parts = new Float32Array(half * 3);
  for (let i = 0; i < half; i++) {
    let rest = Math.exp((-Math.log(maxPeriod) * i) / half) / (2 * Math.PI);
    for (let k = 0; k < 2; k++) {
      const unit = 2 ** (Math.floor(Math.log2(rest)) - 11);
      parts[i * 3 + k] = Math.floor(rest / unit) * unit;
      rest -= parts[i * 3 + k];
      if (rest === 0) break;
    }
    parts[i * 3 + 2] = rest;
  }
  return parts;
}

/**
 * `[cos(t f), sin(t f)]` with `f[i] = exp(-ln(maxPeriod) i / ⌊dim/2⌋)`, and a zero at the end where dim is odd
 * (arXiv 1706.03762, §3.5, in the form that diffusion models use).
 *
 * Whole steps up to 4095 are exact to f32's last digits; no gradient reaches `t`.
 *
 * @param t (B), f32 or i32: timesteps, which may be fractions.
 * @returns (B, dim) f32
 * @throws ShapeError, DTypeError, ValueError
 */
export function timestepEmbedding(
  t: Tensor,
  dim: number,
  { maxPeriod = 10000 }: TimestepEmbeddingOptions = {},
): Tensor {
  if (t.ndim !== 1) throw new ShapeError('timestepEmbedding', `t has shape ${show(t.shape)}`, { expected: '(batch)' });
  if (t.dtype === 'bool') throw new DTypeError('timestepEmbedding', 't is bool', { expected: 'f32 or i32' });
  if (!Number.isInteger(dim) || dim < 2)
    throw new ValueError('timestepEmbedding', `is ${dim}`, { option: 'dim', expected: 'an integer of at least 2' });
  if (!(maxPeriod > 0))
    throw new ValueError('timestepEmbedding', `is ${maxPeriod}`, {
      option: 'maxPeriod',
      expected: 'a positive number',
    });
  return scope(() => embedTimesteps(t, tensor(t.device, timestepFrequencies(dim, maxPeriod)), dim));
}

/** The same with a table from `timestepFrequencies` that is on the GPU already. */
export function embedTimesteps(t: Tensor, frequencies: Tensor, dim: number): Tensor {
  return scope(() => {
    const y = empty(t.device, [t.shape[0], dim], 'f32');
    const steps = noGrad(() => dense(t.detach().cast('f32')));
    if (y.numel) t.device.run(embeddingKernel, {}, [steps, frequencies, y], [y.numel, dim], grid1d(y.numel, GROUP));
    return y;
  });
}
