// Arguments of shape (batch, length, width) that a kernel reads in place: rows a fixed distance apart. Columns of a
// wider array are such rows.

import { contiguousStrides, type Shape, type Tensor } from '../core/index.ts';
import { viewOf, type Operand, type Storage } from '../core/kit.ts';

/** Rows (batch · length, width) inside a storage. Offset and distance in elements. */
export interface Rows {
  readonly storage: Storage;
  readonly offset: number;
  readonly row: number;
}

/** A (B, L, W) tensor as rows a fixed distance apart. Other layouts are copied. */
export function rowsOf(t: Tensor): Rows {
  const [batch, length, width] = t.shape;
  const [outer, inner, step] = t.strides;
  const row = length === 1 ? outer : inner;
  const even = (batch === 1 || outer === length * row) && (width === 1 || step === 1) && row >= 0;
  if (even) return { storage: t.storage, offset: t.offset, row };
  const copy = t.contiguous();
  return { storage: copy.storage, offset: copy.offset, row: width };
}

/** The whole storage that rows lie in. Kernels add the offset themselves, so that it may be any number. */
export function bindRows(rows: Rows): Operand {
  return { storage: rows.storage, byteOffset: 0 };
}

/** A contiguous part of a storage, from element `offset` on, that no other tensor overlaps. */
export function partOf({ device, storage, dtype }: Tensor, shape: Shape, offset: number): Tensor {
  const t = viewOf(device, storage, { shape, strides: contiguousStrides(shape), offset, dtype });
  t.exclusive = true;
  return t;
}
