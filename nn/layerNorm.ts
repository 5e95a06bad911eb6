// Layer normalisation.

import {
  numelOf,
  ones,
  sameShape,
  scope,
  ShapeError,
  show,
  zeros,
  type Device,
  type Shape,
  type Tensor,
} from '../core/index.ts';
import { addLayerNorm } from '../kernels/add-norm/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `LayerNorm`. */
export interface LayerNormOptions {
  /** Default 1e-5. */
  readonly eps?: number;
  /** Whether there are a weight and a bias. Default true. */
  readonly elementwiseAffine?: boolean;
  /** Whether there is a bias beside the weight. Default true. */
  readonly bias?: boolean;
}

/**
 * `y = (x - mean(x)) / √(var(x) + eps) · weight + bias`, over the last dimensions and with the biased variance (Ba,
 * Kiros and Hinton, arXiv 1607.06450).
 *
 * Shapes: x, y (…, ...normalizedShape); `weight`, `bias` normalizedShape. Initialisation: weight 1, bias 0. Sums are
 * f32. There is no second derivative.
 */
export class LayerNorm extends Module {
  /** normalizedShape, or null. */
  readonly weight: Tensor | null;
  /** normalizedShape, or null. */
  readonly bias: Tensor | null;
  /** The last dimensions, over which the mean is taken. */
  readonly normalizedShape: Shape;
  /** Is added to the variance. */
  readonly eps: number;

  /**
   * @param on what holds the parameters: a Generator as for other layers, or anything with a device
   * @throws ValueError
   */
  constructor(
    on: { readonly device: Device },
    normalizedShape: number | Shape,
    { eps = 1e-5, elementwiseAffine = true, bias = true }: LayerNormOptions = {},
  ) {
    super();
    this.normalizedShape = rowShape('LayerNorm', normalizedShape);
    this.eps = eps;
    this.weight = elementwiseAffine ? parameter(ones(on.device, this.normalizedShape)) : null;
    this.bias = elementwiseAffine && bias ? parameter(zeros(on.device, this.normalizedShape)) : null;
  }

  /**
   * (…, ...normalizedShape) → the same shape.
   *
   * @throws ShapeError, DTypeError
   */
  forward(x: Tensor): Tensor {
    return normalizeRows('LayerNorm', x, this.normalizedShape, (rows) =>
      addLayerNorm({ x: rows, weight: this.weight?.reshape(-1), bias: this.bias?.reshape(-1), eps: this.eps }),
    );
  }
}

/** @internal The dimensions that a norm is over. */
export function rowShape(layer: string, normalizedShape: number | Shape): Shape {
  const shape = typeof normalizedShape === 'number' ? [normalizedShape] : [...normalizedShape];
  checkSizes(layer, {
    'number of normalized dimensions': shape.length,
    ...Object.fromEntries(shape.map((size, i) => [`normalizedShape[${i}]`, size])),
  });
  return shape;
}

/** @internal Runs a norm over rows on the last dimensions of x. */
export function normalizeRows(layer: string, x: Tensor, row: Shape, norm: (rows: Tensor) => Tensor): Tensor {
  const lead = x.shape.slice(0, Math.max(0, x.ndim - row.length));
  if (!sameShape(x.shape, [...lead, ...row]))
    throw new ShapeError(layer, `x has shape ${show(x.shape)}`, { expected: `(…, ${row.join(', ')})` });
  return scope(() => norm(x.reshape(...lead, numelOf(row))).reshape(...x.shape));
}
