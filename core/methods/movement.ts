// Views, and operations that move or pick elements, as methods of tensors.

import * as indexing from '../ops/indexing.ts';
import { pad } from '../ops/join.ts';
import * as ops from '../ops/movement.ts';
import type { Tensor } from '../tensor.ts';
import { ReductionMethods } from './reductions.ts';

export abstract class MovementMethods extends ReductionMethods {
  /** The same values in another shape; one size may be −1. A view where the layout allows it, else a copy. */
  reshape(this: Tensor, ...shape: number[]): Tensor {
    return ops.reshape(this, shape);
  }

  /**
   * A view in another shape; one size may be −1.
   *
   * @throws ShapeError where the layout doesn't allow a view; use reshape()
   */
  view(this: Tensor, ...shape: number[]): Tensor {
    return ops.view(this, shape);
  }

  /** Dimensions `from` to `to` as one. */
  flatten(this: Tensor, from = 0, to = -1): Tensor {
    return ops.flatten(this, from, to);
  }

  /** A view with the dimensions in this order. */
  permute(this: Tensor, ...axes: number[]): Tensor {
    return ops.permute(this, axes);
  }

  /** A view with two dimensions exchanged. */
  transpose(this: Tensor, a: number, b: number): Tensor {
    return ops.transpose(this, a, b);
  }

  /** A view with a new dimension of size 1. */
  unsqueeze(this: Tensor, axis: number): Tensor {
    return ops.unsqueeze(this, axis);
  }

  /** A view without a dimension of size 1, or without all of them. */
  squeeze(this: Tensor, axis?: number): Tensor {
    return ops.squeeze(this, axis);
  }

  /** A view that repeats dimensions of size 1; −1 keeps a size. */
  expand(this: Tensor, ...shape: number[]): Tensor {
    return ops.expand(this, shape);
  }

  /**
   * A view of the elements `begin` (included) to `end` (excluded) along an axis, every `step`th; negative ones count
   * from the end.
   */
  slice(this: Tensor, axis: number, begin: number, end?: number, step = 1): Tensor {
    return ops.slice(this, axis, begin, end, step);
  }

  /** A view of one element along an axis, which goes away. */
  select(this: Tensor, axis: number, index: number): Tensor {
    return ops.select(this, axis, index);
  }

  /** Views of parts along an axis: of one size, or of the sizes given. */
  split(this: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
    return ops.split(this, sizes, axis);
  }

  /** Views of `count` parts along an axis. */
  chunk(this: Tensor, count: number, axis = 0): Tensor[] {
    return ops.chunk(this, count, axis);
  }

  /** A view in reverse along axes. */
  flip(this: Tensor, ...axes: number[]): Tensor {
    return ops.flip(this, axes);
  }

  /** A copy with `value` around it: [before, after] for each dimension. */
  pad(this: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
    return pad(this, widths, value);
  }

  /** y[…, j, …] = x[…, index[…, j, …], …] along an axis. */
  gather(this: Tensor, axis: number, index: Tensor): Tensor {
    return indexing.gather(this, axis, index);
  }

  /** A copy with source[…, j, …] added at index[…, j, …] along an axis. */
  scatterAdd(this: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
    return indexing.scatterAdd(this, axis, index, source);
  }

  /** Whole slices along an axis, by a one-dimensional index. */
  indexSelect(this: Tensor, axis: number, index: Tensor): Tensor {
    return indexing.indexSelect(this, axis, index);
  }
}
