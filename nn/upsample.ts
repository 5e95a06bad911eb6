// Images in another size, as a layer.

import { interpolate, type InterpolateOptions, type Tensor } from '../core/index.ts';
import { Module } from './module.ts';

/** `interpolate(x, options)`: (N,C,H,W) → (N,C,H',W'), by `size` or `scaleFactor`, nearest (default) or bilinear. */
export class Upsample extends Module {
  /** Size or factor, and mode, as given. */
  readonly options: InterpolateOptions;

  constructor(options: InterpolateOptions) {
    super();
    this.options = options;
  }

  /**
   * (N, C, H, W) → (N, C, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    return interpolate(x, this.options);
  }
}
