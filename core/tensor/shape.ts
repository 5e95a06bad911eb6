// Arithmetic on shapes, strides and axes.

import { ShapeError, ValueError } from '../errors.ts';

/** Sizes of the dimensions, outermost first; `[]` for a scalar. */
export type Shape = readonly number[];

/** Number of elements of a shape; 1 for a scalar. */
export function numelOf(shape: Shape): number {
  let n = 1;
  for (const size of shape) n *= size;
  return n;
}

/** Strides of a row-major tensor, in elements. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

export function isContiguous(shape: Shape, strides: Shape): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i];
  }
  return true;
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** A shape as errors print it: `(2,3)`. */
export function show(shape: Shape): string {
  return `(${shape.join(',')}${shape.length === 1 ? ',' : ''})`;
}

/** The shape that both broadcast to, by NumPy's rule. */
export function broadcastShapes(op: string, ...shapes: Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    const lead = rank - shape.length;
    shape.forEach((size, i) => {
      const at = lead + i;
      if (out[at] === 1) out[at] = size;
      else if (size !== 1 && size !== out[at]) {
        throw new ShapeError(op, `Shapes ${shapes.map(show).join(' and ')} cannot be broadcast together`, {
          expected: 'sizes that are equal or 1 from the last dimension on',
        });
      }
    });
  }
  return out;
}

/** Strides that read a tensor as if it had the larger shape. */
export function broadcastStrides(shape: Shape, strides: Shape, to: Shape): number[] {
  const lead = to.length - shape.length;
  return to.map((size, i) => (i < lead || (shape[i - lead] === 1 && size !== 1) ? 0 : strides[i - lead]));
}

/** An axis counted from the front. */
export function axisOf(op: string, axis: number, rank: number): number {
  if (typeof axis !== 'number') throw noAxis(op, axis, 'a number');
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ValueError(op, `Axis ${axis} is out of range for ${rank} dimensions`, {
      expected: `${-rank} to ${rank - 1}`,
    });
  }
  return axis < 0 ? axis + rank : axis;
}

/** Axes from the front, ascending, all of them where none are given. */
export function axesOf(op: string, axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes !== undefined && typeof axes !== 'number' && !Array.isArray(axes))
    throw noAxis(op, axes, 'a number or an array of numbers');
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === 'number' ? [axes] : [...axes]).map((axis) => axisOf(op, axis, rank));
  if (new Set(list).size !== list.length)
    throw new ValueError(op, `Axes ${JSON.stringify(axes)} name a dimension twice`);
  return list.sort((a, b) => a - b);
}

/** What was given for an axis is none: `{ axis: 1 }`, as other libraries take it. */
function noAxis(op: string, given: unknown, expected: string): ValueError {
  const named = Object.values((given ?? {}) as Record<string, unknown>).find((value) => typeof value === 'number');
  return new ValueError(op, `The axis is ${typeof given === 'object' ? JSON.stringify(given) : String(given)}`, {
    expected,
    remedy: named === undefined ? undefined : `write ${op}(${named})`,
  });
}

/** Fills in one -1. */
export function inferShape(op: string, shape: Shape, numel: number): number[] {
  const unknown = shape.filter((size) => size === -1).length;
  const known = shape.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const bad =
    unknown > 1 ||
    shape.some((size) => size < -1 || !Number.isInteger(size)) ||
    (unknown ? known === 0 || numel % known !== 0 : known !== numel);
  if (bad) throw new ShapeError(op, `Shape ${show(shape)} doesn't hold ${numel} elements`);
  return shape.map((size) => (size === -1 ? numel / known : size));
}

/**
 * Drops dimensions of size 1 and joins neighbours that every operand walks with one stride.
 */
export function collapse(shape: Shape, strides: readonly Shape[]): { shape: number[]; strides: number[][] } {
  const sizes: number[] = [];
  const out: number[][] = strides.map(() => []);
  shape.forEach((size, d) => {
    if (size === 1) return;
    const last = sizes.length - 1;
    if (last >= 0 && strides.every((s, k) => out[k][last] === s[d] * size)) {
      sizes[last] *= size;
      strides.forEach((s, k) => {
        out[k][last] = s[d];
      });
    } else {
      sizes.push(size);
      strides.forEach((s, k) => out[k].push(s[d]));
    }
  });
  if (!sizes.length) {
    sizes.push(1);
    for (const s of out) s.push(1);
  }
  return { shape: sizes, strides: out };
}
