// A weight and a bias under their official names, as part of a module's state, and the matrix product that layers make of them.

import { linear, type Generator, type Tensor, zeros } from '../core/index.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** A weight and perhaps a bias, for operations that take them as arguments. */
export class Weights extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(weight: Tensor, bias: Tensor | null = null) {
    super();
    this.weight = parameter(weight);
    this.bias = bias && parameter(bias);
  }
}

/**
 * `y = x Wᵀ + b`, computed in the type of the weight: where a model keeps its matrices in f16 and the rest in f32, x and b are cast.
 *
 * Shapes: x (…, in), weight (out, in), bias (out), y (…, out).
 */
export class Projection extends Weights {
  forward(x: Tensor): Tensor {
    const { weight, bias } = this;
    return linear(x.cast(weight.dtype), weight, bias && bias.cast(weight.dtype));
  }
}

/** A projection with PyTorch's initial weights, U(±1/√in), and a bias that begins like them, at zero, or isn't there. */
export function projection(generator: Generator, inputs: number, outputs: number, bias: 'uniform' | 'zeros' | null): Projection {
  const bound = 1 / Math.sqrt(inputs);
  const uniform = (shape: readonly number[]): Tensor => generator.uniform(shape, { low: -bound, high: bound });
  return new Projection(uniform([outputs, inputs]), bias && (bias === 'zeros' ? zeros(generator.device, [outputs]) : uniform([outputs])));
}
