// The tensor: a view of a storage with its place on the autograd tape, and every operation as a method. Methods are
// PyTorch's by name and meaning; each calls the function of that name. The parts: tensor/base.ts holds the memory,
// methods/ the operations.

import { backward, type BackwardOptions } from './autograd/backward.ts';
import { addToGrad, makeLeaf } from './autograd/leaf.ts';
import { MovementMethods } from './methods/movement.ts';
import { permute } from './ops/movement.ts';
import { aliasOf, detachedOf } from './tensor/make.ts';

/** A tensor, or a number that takes the type of the tensor beside it. */
export type TensorLike = Tensor | number;

/**
 * An array of numbers on a device, with its place on the autograd tape. It is a view: shape, strides and offset in a
 * storage that it may share. Every operation is a method; each gives a new tensor, unless its name ends in `_`.
 */
export class Tensor extends MovementMethods {
  /** A view with all dimensions in reverse order. */
  get T(): Tensor {
    return permute(
      this,
      this.shape.map((_, i) => this.ndim - 1 - i),
    );
  }

  /** Another handle of the same values and the same place on the tape. */
  alias(): Tensor {
    return aliasOf(this);
  }

  /** The same values without a history. */
  detach(): Tensor {
    return detachedOf(this);
  }

  /**
   * Makes this a leaf whose gradient is wanted.
   *
   * @throws DTypeError for what is no float, GradError for what is no leaf
   */
  requiresGrad_(wanted = true): this {
    makeLeaf(this, wanted);
    return this;
  }

  /** @internal Adds to `grad`, which gets memory of its own: a gradient may be expanded, or go to several leaves. */
  accumulate(g: Tensor): void {
    addToGrad(this, g);
  }

  /** Computes gradients of all leaves; see `backward`. */
  backward(options: BackwardOptions = {}): void {
    backward(this, options);
  }
}
