// Zeros around images, as a layer.

import { pad, ValueError, type Tensor } from '../core/index.ts';
import { Module } from './module.ts';

/**
 * Zeros around the last two dimensions: (…, H, W) → (…, top + H + bottom, left + W + right). Before a convolution with
 * padding on one side alone, as autoencoders have it: `new ZeroPad2d([0, 1, 0, 1])`.
 */
export class ZeroPad2d extends Module {
  /** Columns of zeros on the left. */
  readonly left: number;
  /** Columns of zeros on the right. */
  readonly right: number;
  /** Rows of zeros above. */
  readonly top: number;
  /** Rows of zeros below. */
  readonly bottom: number;

  /**
   * @param padding one number for all sides, or (left, right, top, bottom), PyTorch's order
   * @throws ValueError
   */
  constructor(padding: number | readonly [left: number, right: number, top: number, bottom: number]) {
    super();
    const sides = typeof padding === 'number' ? [padding, padding, padding, padding] : padding;
    if (sides.length !== 4 || !sides.every((n) => Number.isInteger(n) && n >= 0))
      throw new ValueError('ZeroPad2d', `is (${sides.join(',')})`, {
        option: 'padding',
        expected: 'four whole numbers from 0 on: left, right, top, bottom',
      });
    [this.left, this.right, this.top, this.bottom] = sides;
  }

  /**
   * (N, C, H, W) → (N, C, top + H + bottom, left + W + right).
   *
   * @throws ShapeError when x has fewer than two dimensions
   */
  forward(x: Tensor): Tensor {
    const none = Array.from({ length: Math.max(0, x.ndim - 2) }, () => [0, 0] as const);
    return pad(x, [...none, [this.top, this.bottom], [this.left, this.right]]);
  }
}
