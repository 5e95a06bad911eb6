// Views (reshape, permute, slice, expand, flip: they move no data) and the operations that do move it (concat, stack, pad).

import { defineOp } from '../autograd/tape.ts';
import type { Device } from '../gpu/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { copyInto } from '../expr/elementwise.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import {
  axesOf,
  axisOf,
  broadcastShapes,
  broadcastStrides,
  contiguousStrides,
  inferShape,
  isContiguous,
  numelOf,
  sameShape,
  show,
  type Shape,
} from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor, viewOf } from '../tensor/make.ts';
import { full } from './create.ts';
import { contiguous } from './elementwise.ts';

function strided(x: Tensor, shape: Shape, strides: Shape, offset = x.offset): Tensor {
  return viewOf(x.device, x.storage, { shape, strides, offset, dtype: x.dtype });
}

/** Strides of a view with another shape, or null where it takes a copy. */
function reshapedStrides(x: Tensor, shape: Shape): number[] | null {
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

const reshapeOp = defineOp<[Tensor, Shape], Tensor>({
  name: 'reshape',
  forward(ctx, x, shape) {
    ctx.state.shape = x.shape;
    const strides = x.numel ? reshapedStrides(x, shape) : contiguousStrides(shape);
    if (strides) return strided(x, shape, strides);
    const dense = contiguous(x);
    return strided(dense, shape, contiguousStrides(shape));
  },
  backward: (ctx, g) => [reshape(g!, ctx.state.shape as Shape)],
});
/** Same elements in another shape; one size may be -1. A view where strides allow it, else a copy. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  return reshapeOp(x, inferShape('reshape', shape, x.numel));
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

export function flatten(x: Tensor, from = 0, to = -1): Tensor {
  const a = axisOf('flatten', from, x.ndim),
    b = axisOf('flatten', to, x.ndim);
  return reshape(x, [...x.shape.slice(0, a), numelOf(x.shape.slice(a, b + 1)), ...x.shape.slice(b + 1)]);
}

const permuteOp = defineOp<[Tensor, readonly number[]], Tensor>({
  name: 'permute',
  forward(ctx, x, axes) {
    ctx.state.axes = axes;
    return strided(
      x,
      axes.map((a) => x.shape[a]),
      axes.map((a) => x.strides[a]),
    );
  },
  backward(ctx, g) {
    const axes = ctx.state.axes as number[];
    return [
      permute(
        g!,
        axes.map((_, i) => axes.indexOf(i)),
      ),
    ];
  },
});
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const from = axes.map((a) => axisOf('permute', a, x.ndim));
  if (from.length !== x.ndim || new Set(from).size !== x.ndim)
    throw new ShapeError(
      'permute',
      `Axes ${JSON.stringify(axes)} are no permutation of the ${x.ndim} dimensions of shape ${show(x.shape)}`,
    );
  return permuteOp(x, from);
}

export function transpose(x: Tensor, a: number, b: number): Tensor {
  const axes = x.shape.map((_, i) => i);
  const i = axisOf('transpose', a, x.ndim),
    j = axisOf('transpose', b, x.ndim);
  [axes[i], axes[j]] = [axes[j], axes[i]];
  return permute(x, axes);
}

export function unsqueeze(x: Tensor, axis: number): Tensor {
  const a = axisOf('unsqueeze', axis, x.ndim + 1);
  return reshape(x, [...x.shape.slice(0, a), 1, ...x.shape.slice(a)]);
}

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

const expandOp = defineOp<[Tensor, Shape], Tensor>({
  name: 'expand',
  forward(ctx, x, shape) {
    ctx.state.shape = x.shape;
    return strided(x, shape, broadcastStrides(x.shape, x.strides, shape));
  },
  backward: (ctx, g) => [g!.sumToSize(ctx.state.shape as Shape)],
});
/** Repeats dimensions of size 1 without copying; -1 keeps a size. */
export function expand(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.ndim;
  const to = shape.map((size, i) => (size === -1 && i >= lead ? x.shape[i - lead] : size));
  if (lead < 0 || !sameShape(broadcastShapes('expand', x.shape, to), to))
    throw new ShapeError('expand', `Shape ${show(x.shape)} doesn't expand to ${show(shape)}`);
  return expandOp(x, to);
}

const sliceOp = defineOp<[Tensor, number, number, number, number], Tensor>({
  name: 'slice',
  forward(ctx, x, axis, begin, count, step) {
    Object.assign(ctx.state, { shape: x.shape, axis, begin, count, step });
    const shape = x.shape.map((size, i) => (i === axis ? count : size));
    return strided(
      x,
      shape,
      x.strides.map((s, i) => (i === axis ? s * step : s)),
      x.offset + (count ? begin * x.strides[axis] : 0),
    );
  },
  backward(ctx, g) {
    const { shape, axis, begin, count, step } = ctx.state as {
      shape: Shape;
      axis: number;
      begin: number;
      count: number;
      step: number;
    };
    return [embed(g!, shape, axis, begin, count, step)];
  },
});

const embedOp = defineOp<[Tensor, Shape, number, number, number, number], Tensor>({
  name: 'embed',
  forward(ctx, x, shape, axis, begin, count, step) {
    Object.assign(ctx.state, { axis, begin, count, step });
    const out = full(x.device, shape, 0, x.dtype);
    if (x.numel)
      copyInto(
        strided(
          out,
          x.shape,
          out.strides.map((s, i) => (i === axis ? s * step : s)),
          begin * out.strides[axis],
        ),
        x,
      );
    return out;
  },
  backward(ctx, g) {
    const { axis, begin, count, step } = ctx.state as { axis: number; begin: number; count: number; step: number };
    return [sliceOp(g!, axis, begin, count, step)];
  },
});
/** Zeros of a shape with a tensor written into a slice: the adjoint of slicing. */
function embed(x: Tensor, shape: Shape, axis: number, begin: number, count: number, step: number): Tensor {
  return embedOp(x, shape, axis, begin, count, step);
}

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
  return sliceOp(x, a, from, count, step);
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

const splitOp = defineOp<[Tensor, number, readonly number[]], Tensor[]>({
  name: 'split',
  forward(ctx, x, axis, counts) {
    const shapes = counts.map((count) => x.shape.map((size, i) => (i === axis ? count : size)));
    Object.assign(ctx.state, { axis, shapes, device: x.device, dtype: x.dtype });
    let at = 0;
    return shapes.map((shape) => {
      const offset = x.offset + (shape[axis] ? at * x.strides[axis] : 0);
      at += shape[axis];
      return strided(x, shape, x.strides, offset);
    });
  },
  // One concatenation, where slices would each fill a gradient of the whole with zeros, to be added up.
  backward(ctx, ...grads) {
    const { axis, shapes, device, dtype } = ctx.state as {
      axis: number;
      shapes: Shape[];
      device: Device;
      dtype: DType;
    };
    return [
      concat(
        grads.map((g, i) => g ?? full(device, shapes[i], 0, dtype)),
        axis,
      ),
    ];
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
  return splitOp(x, a, parts);
}

/** At most `count` parts along an axis, all of one size but for the last. */
export function chunk(x: Tensor, count: number, axis = 0): Tensor[] {
  if (!Number.isInteger(count) || count < 1)
    throw new ValueError('chunk', `${count} parts are asked for`, { expected: 'a whole number from 1 on' });
  return split(x, Math.max(1, Math.ceil(x.shape[axisOf('chunk', axis, x.ndim)] / count)), axis);
}

const flipOp = defineOp<[Tensor, readonly number[]], Tensor>({
  name: 'flip',
  forward(ctx, x, axes) {
    ctx.state.axes = axes;
    const offset = axes.reduce((o, a) => o + (x.shape[a] - 1) * x.strides[a], x.offset);
    return strided(
      x,
      x.shape,
      x.strides.map((s, i) => (axes.includes(i) ? -s : s)),
      x.numel ? offset : x.offset,
    );
  },
  backward: (ctx, g) => [flip(g!, ctx.state.axes as number[])],
});
/** Reverses axes, as a view with negative strides. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  return flipOp(x, axesOf('flip', axes, x.ndim));
}

const concatOp = defineOp<[number, ...Tensor[]], Tensor>({
  name: 'concat',
  forward(ctx, axis, ...parts) {
    const sizes = parts.map((t) => t.shape[axis]);
    Object.assign(ctx.state, { axis, sizes });
    const total = sizes.reduce((s, v) => s + v, 0);
    const out = emptyTensor(
      parts[0].device,
      parts[0].shape.map((size, i) => (i === axis ? total : size)),
      parts[0].dtype,
    );
    let at = 0;
    for (const part of parts) {
      if (part.numel) copyInto(strided(out, part.shape, out.strides, at * out.strides[axis]), part);
      at += part.shape[axis];
    }
    return out;
  },
  backward(ctx, g) {
    const { axis, sizes } = ctx.state as { axis: number; sizes: number[] };
    return [null, ...split(g!, sizes, axis)];
  },
});
/** Joins tensors along an axis that exists. */
export function concat(parts: readonly Tensor[], axis = 0): Tensor {
  if (!parts.length) throw new ValueError('concat', 'No tensors given', { expected: 'at least one' });
  const [first] = parts;
  const a = axisOf('concat', axis, first.ndim);
  for (const part of parts) {
    if (part.ndim !== first.ndim || part.shape.some((size, i) => i !== a && size !== first.shape[i]))
      throw new ShapeError(
        'concat',
        `Shapes ${parts.map((t) => show(t.shape)).join(', ')} differ in more than axis ${a}`,
      );
    if (part.dtype !== first.dtype)
      throw new DTypeError('concat', `Types ${parts.map((t) => t.dtype).join(', ')} differ`, {
        remedy: 'cast() them first',
      });
  }
  return concatOp(a, ...parts);
}

/** Joins tensors of one shape along a new axis. */
export function stack(parts: readonly Tensor[], axis = 0): Tensor {
  if (!parts.length) throw new ValueError('stack', 'No tensors given', { expected: 'at least one' });
  const [first] = parts;
  if (parts.some((t) => !sameShape(t.shape, first.shape)))
    throw new ShapeError('stack', `Shapes ${parts.map((t) => show(t.shape)).join(', ')} differ`, {
      remedy: 'expand() or pad() them to one shape',
    });
  const a = axisOf('stack', axis, first.ndim + 1);
  return scope(() =>
    concat(
      parts.map((t) => unsqueeze(t, a)),
      a,
    ),
  );
}

const padOp = defineOp<[Tensor, readonly (readonly [number, number])[], number], Tensor>({
  name: 'pad',
  forward(ctx, x, widths, value) {
    Object.assign(ctx.state, { widths, shape: x.shape });
    const out = full(
      x.device,
      x.shape.map((size, i) => size + widths[i][0] + widths[i][1]),
      value,
      x.dtype,
    );
    const offset = widths.reduce((o, [before], i) => o + before * out.strides[i], 0);
    if (x.numel) copyInto(strided(out, x.shape, out.strides, offset), x);
    return out;
  },
  backward(ctx, g) {
    const { widths, shape } = ctx.state as { widths: [number, number][]; shape: number[] };
    return [widths.reduce((t, [before], i) => slice(t, i, before, before + shape[i]), g!)];
  },
});
/** Surrounds a tensor with a value: [before, after] for each dimension. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  if (widths.length !== x.ndim || widths.flat().some((w) => w < 0 || !Number.isInteger(w)))
    throw new ShapeError('pad', `Widths ${JSON.stringify(widths)} don't fit shape ${show(x.shape)}`, {
      expected: 'a pair of whole numbers from 0 on for each dimension',
    });
  return padOp(x, widths, value);
}
