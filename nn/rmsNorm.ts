// Root mean square normalisation.

import { ones, type Device, type Shape, type Tensor } from '../core/index.ts';
import { addRmsNorm } from '../kernels/add-norm/index.ts';
import { normalizeRows, rowShape } from './layerNorm.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `RMSNorm`. */
export interface RMSNormOptions {
  /** Default the machine epsilon of x's type (2⁻²³ for f32, 2⁻¹⁰ for f16), as in PyTorch. */
  readonly eps?: number;
  /** Whether there is a weight. Default true. */
  readonly elementwiseAffine?: boolean;
}

/**
 * `y = x / √(mean(x²) + eps) · weight`, over the last dimensions (Zhang and Sennrich, arXiv 1910.07467).
 *
 * Shapes: x, y (…, ...normalizedShape); `weight` normalizedShape. Initialisation: weight 1. Sums are f32. There is no
 * second derivative.
 */
export class RMSNorm extends Module {
  /** normalizedShape, or null. */
  readonly weight: Tensor | null;
  /** The last dimensions, over which the mean square is taken. */
  readonly normalizedShape: Shape;
  /** Is added to the mean square; undefined for the epsilon of x's type. */
  readonly eps: number | undefined;

  /**
   * @param on what holds the weight: a Generator as for other layers, or anything with a device
   * @throws ValueError
   */
  constructor(
    on: { readonly device: Device },
    normalizedShape: number | Shape,
    { eps, elementwiseAffine = true }: RMSNormOptions = {},
  ) {
    super();
    this.normalizedShape = rowShape('RMSNorm', normalizedShape);
    this.eps = eps;
    this.weight = elementwiseAffine ? parameter(ones(on.device, this.normalizedShape)) : null;
  }

  /**
   * (…, ...normalizedShape) → the same shape.
   *
   * @throws ShapeError, DTypeError
   */
  forward(x: Tensor): Tensor {
    const eps = this.eps ?? (x.dtype === 'f16' ? 2 ** -10 : 2 ** -23);
    return normalizeRows('RMSNorm', x, this.normalizedShape, (rows) =>
      addRmsNorm({ x: rows, weight: this.weight?.reshape(-1), eps }),
    );
  }
}
