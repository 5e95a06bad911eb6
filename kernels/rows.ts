// Arguments of shape (batch, length, width) that a kernel reads in place: rows at an even distance, which columns of a wider array
// are too.

import type { Tensor } from '../core/index.ts';
import type { Storage } from '../core/storage.ts';

/** Rows (batch · length, width) inside a storage. Offset and distance in elements. */
export interface Rows {
  readonly storage: Storage;
  readonly offset: number;
  readonly row: number;
}

/** A (B, L, W) tensor as rows a fixed distance apart; copied where it is not that. */
export function rowsOf(t: Tensor): Rows {
  const [batch, length, width] = t.shape;
  const [outer, inner, step] = t.strides;
  const row = length === 1 ? outer : inner;
  const even = (batch === 1 || outer === length * row) && (width === 1 || step === 1) && row >= 0;
  if (even) return { storage: t.storage, offset: t.offset, row };
  const copy = t.contiguous();
  return { storage: copy.storage, offset: copy.offset, row: width };
}
