// Pooling as layers. Each is the tensor operation of its name.

import {
  adaptiveAvgPool2d,
  avgPool2d,
  maxPool2d,
  type AvgPoolOptions,
  type Pair,
  type PoolOptions,
  type Tensor,
} from '../core/index.ts';
import { Module } from './module.ts';

/** The largest value of each window of each channel: (N,C,H,W) → (N,C,H',W'), see `maxPool2d`. */
export class MaxPool2d extends Module {
  /** (height, width) of a window; one number for both. */
  readonly kernelSize: Pair;
  /** Stride, padding and dilation as given. */
  readonly options: PoolOptions;

  /** @param options stride (default the window's size), padding (default 0) and dilation (default 1) */
  constructor(kernelSize: Pair, options: PoolOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = options;
  }

  /**
   * (N, C, H, W) → (N, C, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, this.options);
  }
}

/** The mean of each window of each channel: (N,C,H,W) → (N,C,H',W'), see `avgPool2d`. */
export class AvgPool2d extends Module {
  /** (height, width) of a window; one number for both. */
  readonly kernelSize: Pair;
  /** Stride, padding and what the mean counts, as given. */
  readonly options: AvgPoolOptions;

  /** @param options those of `MaxPool2d`, and countIncludePad: whether zeros of the padding count (default true) */
  constructor(kernelSize: Pair, options: AvgPoolOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = options;
  }

  /**
   * (N, C, H, W) → (N, C, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }
}

/** Means of windows that cover an image of any size evenly: (N,C,H,W) → (N,C, outputSize), see `adaptiveAvgPool2d`. */
export class AdaptiveAvgPool2d extends Module {
  /** (height, width) of the result; one number for both. */
  readonly outputSize: Pair;

  constructor(outputSize: Pair) {
    super();
    this.outputSize = outputSize;
  }

  /**
   * (N, C, H, W) → (N, C, H', W').
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}
