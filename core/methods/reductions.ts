// Reductions and products as methods of tensors.

import { cumsum } from '../ops/cumsum.ts';
import { matmul } from '../ops/matmul.ts';
import * as ops from '../ops/reduce.ts';
import { logSoftmax, softmax } from '../ops/softmax.ts';
import { sort, topk, type SortedValues } from '../ops/sort.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { ElementwiseMethods } from './elementwise.ts';

export abstract class ReductionMethods extends ElementwiseMethods {
  /** Sum over axes, all where none are given. Booleans are counted in i32. */
  sum(this: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
    return ops.sum(this, axes, keepdim);
  }

  /** Mean over axes, all where none are given; f32 for integers. */
  mean(this: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
    return ops.mean(this, axes, keepdim);
  }

  /** Largest value over axes; NaN where there is one. Equal ones share the gradient. */
  max(this: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
    return ops.max(this, axes, keepdim);
  }

  /** Smallest value over axes; NaN where there is one. Equal ones share the gradient. */
  min(this: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
    return ops.min(this, axes, keepdim);
  }

  /** Variance over axes, all where none are given; `correction` 1 (the default) is the unbiased one. */
  var(this: Tensor, axes?: number | readonly number[], keepdim = false, correction = 1): Tensor {
    return ops.variance(this, axes, keepdim, correction);
  }

  /** Standard deviation over axes, all where none are given; `correction` 1 (the default) is of the unbiased variance. */
  std(this: Tensor, axes?: number | readonly number[], keepdim = false, correction = 1): Tensor {
    return ops.std(this, axes, keepdim, correction);
  }

  /** Index (i32) of the first largest value, along an axis or of all. NaN counts as the largest. */
  argmax(this: Tensor, axis?: number, keepdim = false): Tensor {
    return ops.argmax(this, axis, keepdim);
  }

  /** Index (i32) of the first smallest value, along an axis or of all. NaN counts as the smallest. */
  argmin(this: Tensor, axis?: number, keepdim = false): Tensor {
    return ops.argmin(this, axis, keepdim);
  }

  /** Sums what broadcasting repeated, so that the result has `shape`: PyTorch's `sum_to_size`. */
  sumToSize(this: Tensor, shape: Shape): Tensor {
    return ops.sumToSize(this, shape);
  }

  /** The values along an axis in order, and where they were. Equal ones keep their order; NaN is the largest. */
  sort(this: Tensor, axis = -1, options: { descending?: boolean } = {}): SortedValues {
    return sort(this, axis, options);
  }

  /** The k largest values along an axis, or the smallest, in order, and where they were. */
  topk(this: Tensor, k: number, axis = -1, options: { largest?: boolean } = {}): SortedValues {
    return topk(this, k, axis, options);
  }

  /** Running sums along an axis. */
  cumsum(this: Tensor, axis: number): Tensor {
    return cumsum(this, axis);
  }

  /** eˣ / Σ eˣ along an axis. */
  softmax(this: Tensor, axis: number): Tensor {
    return softmax(this, axis);
  }

  /** x − log Σ eˣ along an axis. */
  logSoftmax(this: Tensor, axis: number): Tensor {
    return logSoftmax(this, axis);
  }

  /** Matrix product of the last two dimensions, the others broadcast: (…, M, K) · (…, K, N) → (…, M, N). */
  matmul(this: Tensor, y: Tensor): Tensor {
    return matmul(this, y);
  }
}
