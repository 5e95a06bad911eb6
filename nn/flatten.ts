// Joins dimensions, for instance from feature maps to vectors.

import type { Tensor } from '../core/index.ts';
import { Module } from './module.ts';

/**
 * Joins dimensions startDim (default 1) to endDim (default -1, the last): (N,C,H,W) → (N, C·H·W). A view where strides
 * allow.
 */
export class Flatten extends Module {
  /** First dimension of those that become one. */
  readonly startDim: number;
  /** Last of them. */
  readonly endDim: number;

  constructor(startDim = 1, endDim = -1) {
    super();
    this.startDim = startDim;
    this.endDim = endDim;
  }

  /** x with those dimensions as one; a view where the layout allows it. */
  forward(x: Tensor): Tensor {
    return x.flatten(this.startDim, this.endDim);
  }
}
