// Normalisation over groups of channels.

import { ones, ShapeError, show, ValueError, zeros, type Device, type Tensor } from '../core/index.ts';
import { groupNorm } from '../kernels/group-norm/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `GroupNorm`. */
export interface GroupNormOptions {
  /** Default 1e-5. */
  readonly eps?: number;
  /** Whether channels have a weight and a bias. Default true. */
  readonly affine?: boolean;
  /** SiLU of the result in the same pass, in place of a layer behind this one. Default none. */
  readonly activation?: 'silu' | null;
}

/**
 * `y = (x - mean) / √(var + eps) · weight + bias`, with mean and biased variance over the channels of a group and all
 * positions, and weight and bias per channel (Wu and He, arXiv 1803.08494).
 *
 * Shapes: x, y (N, numChannels, …); `weight`, `bias` (numChannels). Initialisation: weight 1, bias 0. Sums are f32.
 * There is no second derivative.
 */
export class GroupNorm extends Module {
  /** (numChannels), or null. */
  readonly weight: Tensor | null;
  /** (numChannels), or null. */
  readonly bias: Tensor | null;
  /** Groups of channels. */
  readonly numGroups: number;
  /** Channels of x. */
  readonly numChannels: number;
  /** Is added to the variance. */
  readonly eps: number;
  /** Applied to the result in the same pass. */
  readonly activation: 'silu' | null;

  /**
   * @param on what holds the parameters: a Generator as for other layers, or anything with a device
   * @throws ValueError
   */
  constructor(
    on: { readonly device: Device },
    numGroups: number,
    numChannels: number,
    { eps = 1e-5, affine = true, activation = null }: GroupNormOptions = {},
  ) {
    super();
    checkSizes('GroupNorm', { numGroups, numChannels });
    if (numChannels % numGroups)
      throw new ValueError('GroupNorm', `${numChannels} channels`, {
        expected: `a multiple of the ${numGroups} groups`,
      });
    this.numGroups = numGroups;
    this.numChannels = numChannels;
    this.eps = eps;
    this.activation = activation;
    this.weight = affine ? parameter(ones(on.device, [numChannels])) : null;
    this.bias = affine ? parameter(zeros(on.device, [numChannels])) : null;
  }

  /**
   * (N, numChannels, …) → the same shape.
   *
   * @throws ShapeError, DTypeError
   */
  forward(x: Tensor): Tensor {
    if (x.ndim < 2 || x.shape[1] !== this.numChannels)
      throw new ShapeError('GroupNorm', `x has shape ${show(x.shape)}`, { expected: `(N, ${this.numChannels}, …)` });
    const { numGroups: groups, weight, bias, eps, activation } = this;
    return groupNorm({ x, groups, weight, bias, eps, activation });
  }
}
