// The transpose of a convolution over images.

import {
  convTranspose2d,
  scope,
  ValueError,
  type ConvTranspose2dOptions,
  type Generator,
  type Pair,
  type Tensor,
} from '../core/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of the layer, beside those of the operation. */
export interface ConvTranspose2dLayerOptions extends ConvTranspose2dOptions {
  /** Whether the result's channels have a bias. Default true. */
  readonly bias?: boolean;
}

/**
 * `y[n, o, i·stride + u·dilation - padding, j·stride + v·dilation - padding] += weight[c,o,u,v] x[n,c,i,j]`, plus bias[o]:
 * `convTranspose2d` as a layer.
 *
 * Shapes: x (N, inChannels, H, W), y (N, outChannels, H', W'); `weight` (inChannels, outChannels/groups, kH, kW), `bias`
 * (outChannels). Initialisation: both U(±1/√(outChannels/groups · kH · kW)), as in PyTorch. Computes in the type of the
 * weight.
 */
export class ConvTranspose2d extends Module {
  /** (inChannels, outChannels/groups, kH, kW). */
  readonly weight: Tensor;
  /** (outChannels), or null. */
  readonly bias: Tensor | null;
  /** Stride, padding, dilation, groups and output padding. */
  readonly options: ConvTranspose2dOptions;

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
    { bias = true, ...options }: ConvTranspose2dLayerOptions = {},
  ) {
    super();
    const { groups = 1 } = options;
    const [height, width] = typeof kernelSize === 'number' ? [kernelSize, kernelSize] : kernelSize;
    checkSizes('ConvTranspose2d', { inChannels, outChannels, 'kernel height': height, 'kernel width': width, groups });
    if (inChannels % groups || outChannels % groups)
      throw new ValueError('ConvTranspose2d', `${inChannels} input and ${outChannels} output channels`, {
        expected: `both divisible by the ${groups} groups`,
      });
    this.options = options;
    const bound = 1 / Math.sqrt((outChannels / groups) * height * width);
    const draw = (shape: readonly number[]): Tensor =>
      parameter(generator.uniform(shape, { low: -bound, high: bound }));
    this.weight = draw([inChannels, outChannels / groups, height, width]);
    this.bias = bias ? draw([outChannels]) : null;
  }

  /**
   * (N, inChannels, H, W) → (N, outChannels, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    const { weight, bias } = this;
    return scope(() => convTranspose2d(x.cast(weight.dtype), weight, bias && bias.cast(weight.dtype), this.options));
  }
}
