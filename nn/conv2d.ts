// Convolution over images.

import {
  conv2d,
  scope,
  ValueError,
  type Conv2dOptions,
  type Generator,
  type Pair,
  type Tensor,
} from '../core/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `Conv2d`. */
export interface Conv2dLayerOptions extends Conv2dOptions {
  /** Default true. */
  readonly bias?: boolean;
}

/**
 * `y[n,o,i,j] = bias[o] + Σ_{c,u,v} weight[o,c,u,v] x[n, c, i·stride + u·dilation - padding, j·stride + v·dilation - padding]`,
 * c over the channels of o's group.
 *
 * Shapes: x (N, inChannels, H, W), y (N, outChannels, H', W'); `weight` (outChannels, inChannels/groups, kH, kW),
 * `bias` (outChannels). Initialisation: both U(±1/√(inChannels/groups · kH · kW)), as in PyTorch. Computes in the type
 * of the weight: where only weights are f16, x and bias are cast.
 */
export class Conv2d extends Module {
  /** (outChannels, inChannels / groups, kernel height, kernel width). */
  readonly weight: Tensor;
  /** (outChannels), or null. */
  readonly bias: Tensor | null;
  /** Stride, padding, dilation and groups as given. */
  readonly options: Conv2dOptions;

  /**
   * @param generator draws the initial values; its device holds them
   * @param kernelSize of a square window, or (height, width)
   * @throws ValueError
   */
  constructor(
    generator: Generator,
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    { bias = true, ...options }: Conv2dLayerOptions = {},
  ) {
    super();
    const { groups = 1 } = options;
    const [height, width] = typeof kernelSize === 'number' ? [kernelSize, kernelSize] : kernelSize;
    checkSizes('Conv2d', { inChannels, outChannels, 'kernel height': height, 'kernel width': width, groups });
    if (inChannels % groups || outChannels % groups)
      throw new ValueError('Conv2d', `${inChannels} input and ${outChannels} output channels`, {
        expected: `both divisible by the ${groups} groups`,
      });
    this.options = options;
    const bound = 1 / Math.sqrt((inChannels / groups) * height * width);
    this.weight = parameter(
      generator.uniform([outChannels, inChannels / groups, height, width], { low: -bound, high: bound }),
    );
    this.bias = bias ? parameter(generator.uniform([outChannels], { low: -bound, high: bound })) : null;
  }

  /**
   * (N, inChannels, H, W) → (N, outChannels, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    const { weight, bias } = this;
    return scope(() => conv2d(x.cast(weight.dtype), weight, bias && bias.cast(weight.dtype), this.options));
  }
}
