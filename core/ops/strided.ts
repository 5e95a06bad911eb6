// Views of a tensor's memory with other strides.

import type { Tensor } from '../tensor.ts';
import { viewOf } from '../tensor/make.ts';
import { contiguousStrides, isContiguous, type Shape } from '../tensor/shape.ts';

/** A view of the same memory. Strides and offset are in elements. */
export function strided(x: Tensor, shape: Shape, strides: Shape, offset = x.offset): Tensor {
  return viewOf(x.device, x.storage, { shape, strides, offset, dtype: x.dtype });
}

/** Strides of a view with another shape, or null where it takes a copy. */
export function reshapedStrides(x: Tensor, shape: Shape): number[] | null {
  if (isContiguous(x.shape, x.strides)) return contiguousStrides(shape);
  // Splits and joins of dimensions work where neighbouring old dimensions are walked with one stride.
  const strides = new Array<number>(shape.length);
  let at = 0;
  const old: { size: number; stride: number }[] = [];
  x.shape.forEach((size, d) => {
    if (size !== 1) old.push({ size, stride: x.strides[d] });
  });
  let i = 0;
  while (at < shape.length) {
    if (shape[at] === 1) {
      strides[at++] = 0;
      continue;
    }
    let have = 1,
      want = 1;
    const begin = at;
    const first = i;
    do {
      if (want <= have && at < shape.length) want *= shape[at++];
      else if (i < old.length) have *= old[i++].size;
    } while (want !== have && (at < shape.length || i < old.length));
    while (i === first && i < old.length) have *= old[i++].size;
    if (want !== have) return null;
    for (let k = first; k < i - 1; k++) if (old[k].stride !== old[k + 1].stride * old[k + 1].size) return null;
    let step = old[i - 1].stride;
    for (let k = at - 1; k >= begin; k--) {
      strides[k] = step;
      step *= shape[k];
    }
  }
  return strides;
}
