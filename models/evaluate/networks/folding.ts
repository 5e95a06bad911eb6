// Batch normalisation folded into the convolution before it, in float64.

import { keep, tensor, type Device } from '../../../core/index.ts';
import type { FoldedConvolution } from './inceptionV3.ts';

export interface BatchNormalisation {
  /** Absent: 1. */
  readonly gamma?: ArrayLike<number>;
  readonly beta: ArrayLike<number>;
  readonly mean: ArrayLike<number>;
  readonly variance: ArrayLike<number>;
}

/** InceptionV3's, in both its variants. */
const EPSILON = 1e-3;

/**
 * `γ (W x - μ) / √(σ² + ε) + β` as one convolution.
 *
 * @param weight (outputs, …), row-major
 */
export function foldConvolution(
  device: Device,
  shape: readonly number[],
  weight: ArrayLike<number>,
  { gamma, beta, mean, variance }: BatchNormalisation,
): FoldedConvolution {
  const [outputs] = shape;
  const scale = Float64Array.from({ length: outputs }, (_, o) => (gamma?.[o] ?? 1) / Math.sqrt(variance[o] + EPSILON));
  const each = weight.length / outputs;
  const folded = Float32Array.from(weight, (value, i) => value * scale[Math.floor(i / each)]);
  const bias = Float32Array.from({ length: outputs }, (_, o) => beta[o] - mean[o] * scale[o]);
  return {
    weight: keep(tensor(device, folded, { shape })),
    bias: keep(tensor(device, bias)),
  };
}
