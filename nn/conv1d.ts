// Convolution over one dimension.

import { conv1d, scope, ValueError, type Conv1dOptions, type Generator, type Tensor } from '../core/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `Conv1d`. */
export interface Conv1dLayerOptions extends Conv1dOptions {
  /** Default true. */
  readonly bias?: boolean;
}

/**
 * `y[n,o,i] = bias[o] + Σ_{c,u} weight[o,c,u] x[n, c, i·stride + u·dilation - padding]`, c over the channels of o's
 * group.
 *
 * Shapes: x (N, inChannels, L), y (N, outChannels, L'); `weight` (outChannels, inChannels/groups, kernelSize), `bias`
 * (outChannels). Initialisation: both U(±1/√(inChannels/groups · kernelSize)), as in PyTorch. Computes in the type of
 * the weight: where only weights are f16, x and bias are cast.
 */
export class Conv1d extends Module {
  /** (outChannels, inChannels / groups, kernelSize). */
  readonly weight: Tensor;
  /** (outChannels), or null. */
  readonly bias: Tensor | null;
  /** Stride, padding, dilation and groups as given. */
  readonly options: Conv1dOptions;

  /**
   * @param generator draws the initial values; its device holds them
   * @throws ValueError
   */
  constructor(
    generator: Generator,
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    { bias = true, ...options }: Conv1dLayerOptions = {},
  ) {
    super();
    const { groups = 1 } = options;
    checkSizes('Conv1d', { inChannels, outChannels, kernelSize, groups });
    if (inChannels % groups || outChannels % groups)
      throw new ValueError('Conv1d', `${inChannels} input and ${outChannels} output channels`, {
        expected: `both divisible by the ${groups} groups`,
      });
    this.options = options;
    const bound = 1 / Math.sqrt((inChannels / groups) * kernelSize);
    this.weight = parameter(
      generator.uniform([outChannels, inChannels / groups, kernelSize], { low: -bound, high: bound }),
    );
    this.bias = bias ? parameter(generator.uniform([outChannels], { low: -bound, high: bound })) : null;
  }

  /**
   * (N, inChannels, L) → (N, outChannels, L').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    const { weight, bias } = this;
    return scope(() => conv1d(x.cast(weight.dtype), weight, bias && bias.cast(weight.dtype), this.options));
  }
}
