// Views (reshape, permute, slice, expand, flip: they move no data) and the operations that do move it (concat, stack,
// pad).

import { defineOp } from '../autograd/defineOp.ts';
import { copyInto } from '../expr/elementwise.ts';
import { ShapeError, ValueError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import {
  axesOf,
  axisOf,
  broadcastShapes,
  broadcastStrides,
  contiguousStrides,
  inferShape,
  numelOf,
  sameShape,
  show,
  type Shape,
} from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { full } from './create.ts';
import { concat } from './join.ts';
import { reshapedStrides, strided } from './strided.ts';
import { contiguous } from './elementwise.ts';

const reshapeOp = defineOp({
  name: 'reshape',
  forward({ x }: { x: Tensor }, { shape }: { shape: Shape }) {
    const strides = x.numel ? reshapedStrides(x, shape) : contiguousStrides(shape);
    const out = strides ? strided(x, shape, strides) : strided(contiguous(x), shape, contiguousStrides(shape));
    return { out, saved: { shape: x.shape } };
  },
  backward: (g, { shape }) => ({ x: reshape(g, shape) }),
});
/** Same elements in another shape; one size may be -1. A view where strides allow it, else a copy. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  return reshapeOp({ x }, { shape: inferShape('reshape', shape, x.numel) });
}

/**
 * A view in another shape, one size of which may be -1.
 *
 * @throws ShapeError where the layout doesn't allow a view
 */
export function view(x: Tensor, shape: readonly number[]): Tensor {
  const to = inferShape('view', shape, x.numel);
  if (!reshapedStrides(x, to))
    throw new ShapeError(
      'view',
      `Shape ${show(x.shape)} with strides ${show(x.strides)} can't be seen as ${show(to)} without a copy`,
      { remedy: 'use reshape()' },
    );
  return reshape(x, to);
}

/**
 * Dimensions `from` to `to` as one. A view where the layout allows it, else a copy.
 *
 * @throws ShapeError for a dimension that x does not have
 */
export function flatten(x: Tensor, from = 0, to = -1): Tensor {
  const a = axisOf('flatten', from, x.ndim),
    b = axisOf('flatten', to, x.ndim);
  return reshape(x, [...x.shape.slice(0, a), numelOf(x.shape.slice(a, b + 1)), ...x.shape.slice(b + 1)]);
}

const permuteOp = defineOp({
  name: 'permute',
  forward({ x }: { x: Tensor }, { axes }: { axes: readonly number[] }) {
    const [shape, strides] = [x.shape, x.strides].map((list) => axes.map((a) => list[a]));
    return { out: strided(x, shape, strides), saved: { inverse: axes.map((_, i) => axes.indexOf(i)) } };
  },
  backward: (g, { inverse }) => ({ x: permute(g, inverse) }),
});
/**
 * A view with the dimensions in this order.
 *
 * @throws ShapeError where `axes` are no permutation of the dimensions
 */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const from = axes.map((a) => axisOf('permute', a, x.ndim));
  if (from.length !== x.ndim || new Set(from).size !== x.ndim)
    throw new ShapeError(
      'permute',
      `Axes ${JSON.stringify(axes)} are no permutation of the ${x.ndim} dimensions of shape ${show(x.shape)}`,
    );
  return permuteOp({ x }, { axes: from });
}

/**
 * A view with two dimensions exchanged.
 *
 * @throws ShapeError for a dimension that x does not have
 */
export function transpose(x: Tensor, a: number, b: number): Tensor {
  const axes = x.shape.map((_, i) => i);
  const i = axisOf('transpose', a, x.ndim),
    j = axisOf('transpose', b, x.ndim);
  [axes[i], axes[j]] = [axes[j], axes[i]];
  return permute(x, axes);
}

/**
 * A view with a new dimension of size 1.
 *
 * @throws ShapeError for a place that is none
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const a = axisOf('unsqueeze', axis, x.ndim + 1);
  return reshape(x, [...x.shape.slice(0, a), 1, ...x.shape.slice(a)]);
}

/**
 * A view without a dimension of size 1, or without all of them. A dimension of another size stays.
 *
 * @throws ShapeError for a dimension that x does not have
 */
export function squeeze(x: Tensor, axis?: number): Tensor {
  if (axis === undefined)
    return reshape(
      x,
      x.shape.filter((size) => size !== 1),
    );
  const a = axisOf('squeeze', axis, x.ndim);
  return x.shape[a] === 1
    ? reshape(
        x,
        x.shape.filter((_, i) => i !== a),
      )
    : x.alias();
}

const expandOp = defineOp({
  name: 'expand',
  forward: ({ x }: { x: Tensor }, { shape }: { shape: Shape }) => ({
    out: strided(x, shape, broadcastStrides(x.shape, x.strides, shape)),
    saved: { shape: x.shape },
  }),
  backward: (g, { shape }) => ({ x: g.sumToSize(shape) }),
});
/** Repeats dimensions of size 1 without copying; -1 keeps a size. */
export function expand(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.ndim;
  const to = shape.map((size, i) => (size === -1 && i >= lead ? x.shape[i - lead] : size));
  if (lead < 0 || !sameShape(broadcastShapes('expand', x.shape, to), to))
    throw new ShapeError('expand', `Shape ${show(x.shape)} doesn't expand to ${show(shape)}`);
  return expandOp({ x }, { shape: to });
}

/** Elements `begin`, `begin + step`, …, `count` of them, along an axis. */
interface Slice {
  readonly axis: number;
  readonly begin: number;
  readonly count: number;
  readonly step: number;
}

const sliceOp = defineOp({
  name: 'slice',
  forward({ x }: { x: Tensor }, part: Slice) {
    const { axis, begin, count, step } = part;
    const shape = x.shape.map((size, i) => (i === axis ? count : size));
    const strides = x.strides.map((s, i) => (i === axis ? s * step : s));
    const out = strided(x, shape, strides, x.offset + (count ? begin * x.strides[axis] : 0));
    return { out, saved: { shape: x.shape, part } };
  },
  backward: (g, { shape, part }) => ({ x: embedOp({ x: g }, { shape, part }) }),
});

/** Zeros of a shape with a tensor written into a slice: the adjoint of slicing. */
const embedOp = defineOp({
  name: 'embed',
  forward({ x }: { x: Tensor }, { shape, part }: { shape: Shape; part: Slice }) {
    const { axis, begin, step } = part;
    const out = full(x.device, shape, 0, x.dtype);
    const strides = out.strides.map((s, i) => (i === axis ? s * step : s));
    if (x.numel) copyInto(strided(out, x.shape, strides, begin * out.strides[axis]), x);
    return { out, saved: { part } };
  },
  backward: (g, { part }): { x: Tensor } => ({ x: sliceOp({ x: g }, part) }),
});

/** Elements begin, begin + step, … before end along an axis. Negative bounds count from the end; bounds are clipped. */
export function slice(x: Tensor, axis: number, begin: number, end = Infinity, step = 1): Tensor {
  const a = axisOf('slice', axis, x.ndim);
  if (!Number.isInteger(step) || step < 1)
    throw new ValueError('slice', `The step is ${step}`, {
      expected: 'a whole number from 1 on',
      remedy: 'use flip() to go backwards',
    });
  if (!Number.isInteger(begin) || !(Number.isInteger(end) || end === Infinity))
    throw new ValueError('slice', `The bounds are ${begin} and ${end}`, { expected: 'whole numbers' });
  const size = x.shape[a];
  const clip = (v: number): number => Math.min(size, Math.max(0, v < 0 ? v + size : v));
  const from = clip(begin);
  const count = Math.max(0, Math.ceil((clip(end) - from) / step));
  return sliceOp({ x }, { axis: a, begin: from, count, step });
}

/** One index along an axis, which goes away. */
export function select(x: Tensor, axis: number, index: number): Tensor {
  const a = axisOf('select', axis, x.ndim);
  const i = axisOf('select', index, x.shape[a]);
  return scope(() =>
    reshape(
      slice(x, a, i, i + 1),
      x.shape.filter((_, d) => d !== a),
    ),
  );
}

const splitOp = defineOp({
  name: 'split',
  forward({ x }: { x: Tensor }, { axis, counts }: { axis: number; counts: readonly number[] }) {
    const shapes = counts.map((count) => x.shape.map((size, i) => (i === axis ? count : size)));
    let at = 0;
    const out = shapes.map((shape) => {
      const offset = x.offset + (shape[axis] ? at * x.strides[axis] : 0);
      at += shape[axis];
      return strided(x, shape, x.strides, offset);
    });
    const { device, dtype } = x;
    return { out, saved: { axis, shapes, device, dtype } };
  },
  // One concatenation, where slices would each fill a gradient of the whole with zeros, to be added up.
  backward(grads, { axis, shapes, device, dtype }) {
    const parts = grads.map((g, i) => g ?? full(device, shapes[i], 0, dtype));
    return { x: concat(parts, axis) };
  },
});

/** Parts along an axis: of one size (the last may be smaller), or of the sizes given. */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const a = axisOf('split', axis, x.ndim);
  const total = x.shape[a];
  if ([sizes].flat().some((size) => !Number.isInteger(size) || size < (typeof sizes === 'number' ? 1 : 0)))
    throw new ValueError('split', `Sizes ${JSON.stringify(sizes)}`, {
      expected: `whole numbers from ${typeof sizes === 'number' ? 1 : 0} on`,
    });
  const parts =
    typeof sizes === 'number'
      ? Array.from({ length: Math.ceil(total / sizes) }, (_, i) => Math.min(sizes, total - i * sizes))
      : [...sizes];
  if (parts.reduce((s, v) => s + v, 0) !== total)
    throw new ShapeError('split', `Sizes ${JSON.stringify(parts)} add up to ${parts.reduce((s, v) => s + v, 0)}`, {
      expected: `${total}, the size of axis ${a} of shape ${show(x.shape)}`,
    });
  return splitOp({ x }, { axis: a, counts: parts });
}

/** At most `count` parts along an axis, all of one size but for the last. */
export function chunk(x: Tensor, count: number, axis = 0): Tensor[] {
  if (!Number.isInteger(count) || count < 1)
    throw new ValueError('chunk', `${count} parts are asked for`, { expected: 'a whole number from 1 on' });
  return split(x, Math.max(1, Math.ceil(x.shape[axisOf('chunk', axis, x.ndim)] / count)), axis);
}

const flipOp = defineOp({
  name: 'flip',
  forward({ x }: { x: Tensor }, { axes }: { axes: readonly number[] }) {
    const strides = x.strides.map((s, i) => (axes.includes(i) ? -s : s));
    const offset = axes.reduce((o, a) => o + (x.shape[a] - 1) * x.strides[a], x.offset);
    return { out: strided(x, x.shape, strides, x.numel ? offset : x.offset), saved: { axes } };
  },
  backward: (g, { axes }) => ({ x: flip(g, axes) }),
});
/** Reverses axes, as a view with negative strides. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  return flipOp({ x }, { axes: axesOf('flip', axes, x.ndim) });
}
