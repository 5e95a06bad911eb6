// A chain of layers.

import { scope, type Tensor } from '../core/index.ts';
import { Module } from './module.ts';

/** A module of one tensor in and one out. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

/**
 * `y = layerₙ(… layer₁(layer₀(x)))`. Names in the state are PyTorch's: `0.weight`, `1.bias`, … For layers that are not
 * a chain (PyTorch's ModuleList), assign an array of modules to a property.
 */
export class Sequential extends Module {
  constructor(...layers: readonly Layer[]) {
    super();
    Object.assign(this, layers);
  }

  /** In order. */
  get layers(): Layer[] {
    return Array.from(this.namedChildren(), ([, layer]) => layer as Layer);
  }

  /** What the last layer makes of what the one before it made, and so on from x. */
  forward(x: Tensor): Tensor {
    return scope(() => this.layers.reduce((y, layer) => layer.forward(y), x));
  }
}
