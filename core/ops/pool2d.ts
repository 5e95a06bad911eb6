// Pooling: a reduction over the windows of each channel.

import type { Tensor } from '../tensor.ts';
import { ShapeError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import { show } from '../tensor/shape.ts';
import { pad } from './join.ts';
import { reshape } from './movement.ts';
import { max, mean } from './reduce.ts';
import { pairOf, unfold, windows, type Pair, type WindowOptions } from './unfold.ts';

export interface PoolOptions extends WindowOptions {
  /** Step between windows. Default the window's size: windows side by side. */
  readonly stride?: Pair;
}

/** Reduces each window of each channel: (N,C,H,W) → (N,C,H',W'). */
function pool(
  op: string,
  x: Tensor,
  kernelSize: Pair,
  options: PoolOptions,
  reduce: (windows: Tensor) => Tensor,
): Tensor {
  const settings = { ...options, stride: options.stride ?? kernelSize };
  const { output } = windows(op, x.shape, kernelSize, settings, false);
  const [N, C, H, W] = x.shape;
  return scope(() => reshape(reduce(unfold(reshape(x, [N * C, 1, H, W]), kernelSize, settings)), [N, C, ...output]));
}

/**
 * The largest value of each window: (N,C,H,W) → (N,C,H',W'). Padding counts as -∞. Equal largest values share the
 * gradient.
 *
 * @throws ShapeError when a window could lie in the padding alone
 */
export function maxPool2d(x: Tensor, kernelSize: Pair, options: PoolOptions = {}): Tensor {
  const { padding = 0, stride = kernelSize, ...rest } = options;
  const [py, px] = pairOf('maxPool2d', 'padding', padding, 0);
  const kernel = pairOf('maxPool2d', 'kernelSize', kernelSize, 1);
  if (2 * py > kernel[0] || 2 * px > kernel[1])
    throw new ShapeError('maxPool2d', `padding is ${show([py, px])}`, {
      expected: `at most half of the window ${show(kernel)}`,
    });
  return scope(() => {
    const padded =
      py || px
        ? pad(
            x,
            [
              [0, 0],
              [0, 0],
              [py, py],
              [px, px],
            ],
            -Infinity,
          )
        : x;
    return pool('maxPool2d', padded, kernel, { ...rest, stride }, (w) => max(w, 1));
  });
}

/** The mean of each window: (N,C,H,W) → (N,C,H',W'). Padding counts as zeros. */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: PoolOptions = {}): Tensor {
  return pool('avgPool2d', x, kernelSize, options, (w) => mean(w, 1));
}
