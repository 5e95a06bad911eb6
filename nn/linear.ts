// The fully connected layer.

import { linear, scope, ShapeError, show, type Generator, type Tensor } from '../core/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `Linear`. */
export interface LinearOptions {
  /** Default true. */
  readonly bias?: boolean;
}

/**
 * `y = x Wᵀ + b`.
 *
 * Shapes: x (…, inFeatures), y (…, outFeatures); `weight` (outFeatures, inFeatures), `bias` (outFeatures).
 * Initialisation: both U(±1/√inFeatures), as in PyTorch. Computes in the type of the weight: where only matrices are
 * f16, x and b are cast.
 */
export class Linear extends Module {
  /** (outFeatures, inFeatures). */
  readonly weight: Tensor;
  /** (outFeatures), or null. */
  readonly bias: Tensor | null;

  /**
   * @param generator draws the initial values; its device holds them
   * @throws ValueError
   */
  constructor(generator: Generator, inFeatures: number, outFeatures: number, { bias = true }: LinearOptions = {}) {
    super();
    checkSizes('Linear', { inFeatures, outFeatures });
    const bound = 1 / Math.sqrt(inFeatures);
    this.weight = parameter(generator.uniform([outFeatures, inFeatures], { low: -bound, high: bound }));
    this.bias = bias ? parameter(generator.uniform([outFeatures], { low: -bound, high: bound })) : null;
  }

  /**
   * (…, inFeatures) → (…, outFeatures).
   *
   * @throws ShapeError, DTypeError
   */
  forward(x: Tensor): Tensor {
    const [, inFeatures] = this.weight.shape;
    if (x.shape.at(-1) !== inFeatures)
      throw new ShapeError('Linear', `x has shape ${show(x.shape)}`, { expected: `(…, ${inFeatures})` });
    const { weight, bias } = this;
    return scope(() => linear(x.cast(weight.dtype), weight, bias && bias.cast(weight.dtype)));
  }
}
