// What a module's state consists of: tensors marked as parameters or buffers. The mark is apart from requiresGrad, so
// that a frozen parameter is still a parameter.

import { DTypeError } from '../core/errors.ts';
import { isFloat, keep, type Tensor } from '../core/index.ts';

/** What a marked tensor is. A transient buffer follows its module but isn't saved. */
export type TensorRole = 'parameter' | 'buffer' | 'transient';

const roles = /* @__PURE__ */ new WeakMap<Tensor, TensorRole>();

/** The role that a tensor was given; undefined for any other tensor. */
export function roleOf(t: Tensor): TensorRole | undefined {
  return roles.get(t);
}

/**
 * Makes a tensor a module's parameter: it lives until `dispose()`, has a gradient (unless `requiresGrad` is false:
 * frozen), and belongs to the state. The tensor must be a leaf.
 *
 * @throws DTypeError for a type without gradients
 */
export function parameter(t: Tensor, options: { requiresGrad?: boolean } = {}): Tensor {
  if (!isFloat(t.dtype))
    throw new DTypeError('parameter', `A ${t.dtype} tensor can't be learned`, {
      expected: 'f32 or f16',
      remedy: 'make it a buffer()',
    });
  t.requiresGrad_(options.requiresGrad ?? true);
  roles.set(keep(t), 'parameter');
  return t;
}

/** Makes a tensor a module's buffer: state without a gradient. Saved with the state unless `persistent` is false. */
export function buffer(t: Tensor, options: { persistent?: boolean } = {}): Tensor {
  roles.set(keep(t), options.persistent === false ? 'transient' : 'buffer');
  return t;
}
