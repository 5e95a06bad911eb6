// Float64 arrays with a shape, row-major: the plain reference of views, reductions and indexing.

import { numelOf, type Shape } from '../../core/index.ts';

export interface NdArray {
  readonly shape: Shape;
  readonly data: readonly number[];
}

/** The array whose element at an index is `fn(index)`. */
export function build(shape: Shape, fn: (index: number[]) => number): NdArray {
  const data = Array.from({ length: numelOf(shape) }, (_, flat) => {
    let rest = flat;
    const index = new Array<number>(shape.length);
    for (let d = shape.length - 1; d >= 0; d--) {
      index[d] = rest % shape[d];
      rest = Math.floor(rest / shape[d]);
    }
    return fn(index);
  });
  return { shape, data };
}

/** The element at an index; dimensions of size 1 broadcast, and so do missing leading ones. */
export function at(x: NdArray, index: readonly number[]): number {
  const lead = index.length - x.shape.length;
  return x.data[x.shape.reduce((flat, size, d) => flat * size + (size === 1 ? 0 : index[d + lead]), 0)];
}

/** Reduces some axes, which stay with size 1: `fn` of the values in row-major order. */
export function reduceAxes(x: NdArray, axes: readonly number[], fn: (values: number[]) => number): NdArray {
  const kept = x.shape.map((size, d) => (axes.includes(d) ? 1 : size));
  const inner = x.shape.map((size, d) => (axes.includes(d) ? size : 1));
  return build(kept, (index) =>
    fn([
      ...build(inner, (offset) =>
        at(
          x,
          index.map((v, d) => v + offset[d]),
        ),
      ).data,
    ]),
  );
}
