// Reductions over any axes. The tensor is seen as outer × reduced × inner; rows are reduced by a workgroup each, columns by an
// invocation each. Sums of few outputs over many elements go in two steps. No atomics: results are the same every time.

import { defineOp } from '../autograd.ts';
import { isFloat, storageType, type DType } from '../dtype.ts';
import { ShapeError } from '../errors.ts';
import { defineKernel, grid1d } from '../kernel.ts';
import { axesOf, axisOf, numelOf, sameShape, show, type Shape } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { contiguous } from './elementwise.ts';
import { lazyOp } from './lazyOp.ts';
import { expand, permute, reshape } from './movement.ts';

type ReduceOp = 'sum' | 'max' | 'min' | 'argmax' | 'argmin';

interface Variant {
  readonly op: ReduceOp;
  readonly from: 'f32' | 'f16' | 'i32' | 'u32';
  readonly to: 'f32' | 'f16' | 'i32' | 'u32';
  /** Whether a workgroup shares a row. */
  readonly row: boolean;
}

const GROUP = 64;

/** y[o, i] = ⊕_r x[o, r, i]; `row` has no inner dimension and a workgroup for each o. */
const reduceKernel = defineKernel<Variant>('reduce', ({ op, from, to, row }) => {
  const arg = op === 'argmax' || op === 'argmin';
  const t = from === 'f16' ? 'f32' : from;
  const smaller = op === 'min' || op === 'argmin';
  // Infinities can't be written as constants; an ordinary first element can.
  const begin = op === 'sum' ? `${t}(0)` : `${t}(x[base])`;
  const join = (acc: string, v: string): string => (op === 'sum' ? `${acc} + ${v}` : op === 'max' ? `max(${acc}, ${v})` : `min(${acc}, ${v})`);
  const step = (at: string): string => (arg
    ? `let v = ${t}(x[${at}]); if (v ${smaller ? '<' : '>'} acc) { acc = v; best = r; }`
    : `acc = ${join('acc', `${t}(x[${at}])`)};`);
  const params = [{ name: 'outer', type: 'u32' as const }, { name: 'reduced', type: 'u32' as const }, { name: 'inner', type: 'u32' as const }];
  const common = {
    bindings: [{ name: 'x', type: `array<${from}>`, access: 'read' as const }, { name: 'y', type: `array<${to}>`, access: 'write' as const }],
    params, workgroupSize: [GROUP] as const, enable: from === 'f16' || to === 'f16' ? ['f16' as const] : [],
  };
  if (!row) {
    return {
      ...common,
      body: `  if (flat >= p.outer * p.inner) { return; }
  let base = (flat / p.inner) * p.reduced * p.inner + flat % p.inner;
  var acc = ${begin};
  ${arg ? 'var best = 0u;' : ''}
  for (var r = 0u; r < p.reduced; r++) { ${step('base + r * p.inner')} }
  y[flat] = ${to}(${arg ? 'best' : 'acc'});`,
    };
  }
  return {
    ...common,
    workgroupBytes: GROUP * (arg ? 8 : 4),
    declarations: `var<workgroup> part: array<${t}, ${GROUP}>;${arg ? `\nvar<workgroup> where_: array<u32, ${GROUP}>;` : ''}`,
    body: `  let o = wid.y * nwg.x + wid.x;
  if (o >= p.outer) { return; }
  let base = o * p.reduced;
  var acc = ${begin};
  ${arg ? 'var best = 0u;' : ''}
  for (var r = li; r < p.reduced; r += ${GROUP}u) { ${step('base + r')} }
  part[li] = acc;
  ${arg ? 'where_[li] = best;' : ''}
  workgroupBarrier();
  if (li == 0u) {
    for (var k = 1u; k < ${GROUP}u; k++) {
      ${arg ? `let v = part[k]; if (v ${smaller ? '<' : '>'} acc || (v == acc && where_[k] < best)) { acc = v; best = where_[k]; }` : `acc = ${join('acc', 'part[k]')};`}
    }
    y[o] = ${to}(${arg ? 'best' : 'acc'});
  }`,
  };
});

/** Reduces outer × reduced × inner to outer × inner. */
function reduce3(op: ReduceOp, x: Tensor, outer: number, reduced: number, inner: number, dtype: DType): Tensor {
  const y = Tensor.empty(x.device, [outer, inner], dtype);
  if (!y.numel) return y;
  const from = storageType(x.dtype), to = storageType(dtype);
  // A column of many elements and few of its kind is cut into pieces, which are then reduced again.
  const pieces = op === 'sum' && inner > 1 && outer * inner < 16384 && reduced >= 256 ? pieceCount(reduced) : 1;
  if (pieces > 1) {
    const parts = reduce3(op, x, outer * pieces, reduced / pieces, inner, isFloat(dtype) ? 'f32' : dtype);
    return reduce3(op, parts, outer, pieces, inner, dtype);
  }
  const dense = denseOperand(x);
  if (inner === 1 && reduced >= 32) {
    const [gx, gy] = grid1d(outer, 1);
    x.device.run(reduceKernel, { op, from, to, row: true }, [dense, y], [outer, reduced, 1], [gx, gy]);
  } else {
    x.device.run(reduceKernel, { op, from, to, row: false }, [dense, y], [outer, reduced, inner], grid1d(outer * inner, GROUP));
  }
  return y;
}

/** The divisor of `n` nearest to its root: the number of equal pieces to cut a column into. */
function pieceCount(n: number): number {
  for (let k = Math.floor(Math.sqrt(n)); k > 1; k--) if (n % k === 0) return k;
  return 1;
}

/** Row-major, with an offset that the adapter can bind. */
export function denseOperand(x: Tensor): Tensor {
  const t = contiguous(x);
  return t.byteOffset % x.device.limits.minStorageBufferOffsetAlignment === 0 ? t : t.clone();
}

/** Brings the reduced axes together: a permutation that leaves outer × reduced × inner, without moving data where it can. */
function grouped(x: Tensor, axes: readonly number[]): { x: Tensor; outer: number; reduced: number; inner: number } {
  const first = axes[0], last = axes.at(-1)!;
  const sizes = (from: number, to: number): number => numelOf(x.shape.slice(from, to));
  if (last - first + 1 === axes.length) return { x, outer: sizes(0, first), reduced: sizes(first, last + 1), inner: sizes(last + 1, x.ndim) };
  const rest = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  return { x: permute(x, [...rest, ...axes]), outer: numelOf(rest.map((i) => x.shape[i])), reduced: numelOf(axes.map((i) => x.shape[i])), inner: 1 };
}

function reducedShape(shape: Shape, axes: readonly number[], keepdim: boolean): number[] {
  return keepdim ? shape.map((size, i) => (axes.includes(i) ? 1 : size)) : shape.filter((_, i) => !axes.includes(i));
}

function reduceForward(op: ReduceOp, x: Tensor, axes: readonly number[], keepdim: boolean, dtype: DType): Tensor {
  if (!axes.length) return x;
  const { x: view, outer, reduced, inner } = grouped(x, axes);
  if (reduced === 0 && op !== 'sum') throw new ShapeError(`[${op}] Nothing to reduce over axes ${JSON.stringify(axes)} of shape ${show(x.shape)}.`);
  return reshape(reduce3(op, view, outer, reduced, inner, dtype), reducedShape(x.shape, axes, keepdim));
}

const sumOp = lazyOp(() => defineOp<[Tensor, readonly number[], boolean], Tensor>({
  name: 'sum',
  forward(ctx, x, axes, keepdim) {
    Object.assign(ctx.state, { shape: x.shape, axes });
    return reduceForward('sum', x, axes, keepdim, x.dtype === 'bool' ? 'i32' : x.dtype);
  },
  backward(ctx, g) {
    const { shape, axes } = ctx.state as { shape: Shape; axes: number[] };
    return [expand(reshape(g!, reducedShape(shape, axes, true)), shape)];
  },
}));
/** Sum over axes (all where none are given). Accumulates in f32. */
export function sum(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  return sumOp(x, axesOf('sum', axes, x.ndim), keepdim);
}

export function mean(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  const list = axesOf('mean', axes, x.ndim);
  return sum(x, list, keepdim).div(list.reduce((n, a) => n * x.shape[a], 1));
}

/** Variance; `correction` 1 (the default) is the unbiased one. */
export function variance(x: Tensor, axes?: number | readonly number[], options: { correction?: number; keepdim?: boolean } = {}): Tensor {
  const list = axesOf('var', axes, x.ndim);
  const n = list.reduce((k, a) => k * x.shape[a], 1);
  return sum(x.sub(mean(x, list, true)).square(), list, options.keepdim).div(Math.max(0, n - (options.correction ?? 1)));
}

const extremumOp = lazyOp(() => defineOp<[Tensor, readonly number[], boolean, 'max' | 'min'], Tensor>({
  name: 'extremum',
  forward(ctx, x, axes, keepdim, op) {
    const y = reduceForward(op, x, axes, keepdim, x.dtype);
    Object.assign(ctx.state, { axes });
    ctx.save(x, y);
    return y;
  },
  backward(ctx, g) {
    const { axes } = ctx.state as { axes: number[] };
    const [x, y] = ctx.saved;
    const shape = reducedShape(x.shape, axes, true);
    // Equal extrema share the gradient.
    const mask = x.eq(reshape(y, shape)).cast(g!.dtype);
    return [mask.mul(reshape(g!, shape)).div(sum(mask, axes, true))];
  },
}));
export function max(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  return extremumOp(x, axesOf('max', axes, x.ndim), keepdim, 'max');
}
export function min(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  return extremumOp(x, axesOf('min', axes, x.ndim), keepdim, 'min');
}

function argExtremum(op: 'argmax' | 'argmin', x: Tensor, axis: number | undefined, keepdim: boolean): Tensor {
  const flat = x.detach();
  if (axis === undefined) return reduceForward(op, reshape(flat, [x.numel]), [0], keepdim, 'i32');
  return reduceForward(op, flat, [axisOf(op, axis, x.ndim)], keepdim, 'i32');
}
/** Index (i32) of the first largest element, along an axis or of all. */
export function argmax(x: Tensor, axis?: number, keepdim = false): Tensor {
  return argExtremum('argmax', x, axis, keepdim);
}
export function argmin(x: Tensor, axis?: number, keepdim = false): Tensor {
  return argExtremum('argmin', x, axis, keepdim);
}

/** Sums what broadcasting repeated: the adjoint of `expand`. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.ndim - shape.length;
  const axes = x.shape.flatMap((size, i) => (i < lead || (shape[i - lead] === 1 && size !== 1) ? [i] : []));
  return reshape(axes.length ? sum(x, axes) : x, shape);
}
