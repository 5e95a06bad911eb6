// Leaves of the tape: tensors made by the user, whose gradients are wanted.

import { DTypeError, GradError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import { isFloat } from '../tensor/dtype.ts';
import { keep } from '../tensor/scope.ts';
import { LeafNode } from './node.ts';

/** Makes a tensor a leaf whose gradient is wanted, or one whose gradient isn't. */
export function makeLeaf(t: Tensor, wanted: boolean): void {
  if (!isFloat(t.dtype) && wanted)
    throw new DTypeError('requiresGrad', `A ${t.dtype} tensor has no gradient`, { expected: 'f32 or f16' });
  if (t.edge && !(t.edge.node instanceof LeafNode))
    throw new GradError('requiresGrad', 'Only a leaf can change it', { remedy: 'detach() the tensor first' });
  if (wanted && !t.edge) t.attach({ node: new LeafNode(t), index: 0 });
  if (!wanted) t.unattach();
}

/** Adds to a leaf's `grad`, which gets memory of its own: a gradient may be expanded, or go to several leaves. */
export function addToGrad(t: Tensor, g: Tensor): void {
  const sum = keep(t.grad?.add(g) ?? (g.isContiguous && (g.exclusive || !g.storage.shared) ? g : g.clone()));
  if (sum !== g) g.dispose();
  t.grad = sum;
}
