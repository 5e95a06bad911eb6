// Reductions over any axes. The tensor is seen as outer × reduced × inner; rows are reduced by a workgroup each,
// columns by an invocation each. Few outputs over many elements go in two steps, which keeps the GPU busy and the
// rounding errors small. No atomics: results are the same every time.

import { defineOp } from '../autograd/defineOp.ts';
import { noGrad } from '../autograd/gradMode.ts';
import { isFloat, storageType, type DType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError } from '../errors.ts';
import { denseOperand } from '../expr/dense.ts';
import { fuse } from '../expr/elementwise.ts';
import { wgslMath, type MathName } from '../expr/wgslMath.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { scope } from '../tensor/scope.ts';
import { axesOf, axisOf, numelOf, sameShape, show, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
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

/** Rows that keep a CPU's cores at work without sharing one. */
const ENOUGH_ROWS = 256;

/** Elements that are loaded at a time. */
const TOGETHER = 8;

/**
 * y[o, k, i] = ⊕_r x[o, r, i] over the kth piece of the reduced dimension; `row` has no inner dimension and a workgroup
 * for each (o, k).
 */
export const reduceKernel = defineKernel<Variant>('reduce', ({ op, from, to, row }) => {
  const arg = op === 'argmax' || op === 'argmin';
  const summed = op === 'sum';
  // A mean of integers is summed in f32: a sum of theirs may be larger than they can be.
  const t = from === 'f16' || (summed && (to === 'f32' || to === 'f16')) ? 'f32' : from;
  const float = t === 'f32';
  const kahan = summed && float;
  const extremum = op === 'max' || op === 'argmax' ? 'max' : 'min';
  const beats = `v ${extremum === 'max' ? '>' : '<'} acc${float ? ' || (mathNan(v) && !mathNan(acc))' : ''}`;
  const added = (text: string): string =>
    `acc = ${kahan ? `mathAccumulate(acc, ${text}, p.length >> 31u)` : `join(acc, ${text})`};`;
  const step = (at: string): string =>
    arg ? `let v = ${t}(x[${at}]); if (${beats}) { acc = v; best = r; }` : added(`${t}(x[${at}])`);
  // Infinities can't be written as constants; an ordinary first element can.
  const zero = kahan ? 'Sum(0.0, 0.0)' : `${t}(0)`;
  const begin = `var acc = ${summed ? zero : `${t}(x[base + first * p.inner])`};
  ${arg ? 'var best = first;' : ''}`;
  const total = kahan ? 'acc.value - acc.lost' : 'acc';
  const join = summed
    ? 'a + b'
    : float
      ? `math${extremum === 'max' ? 'Maximum' : 'Minimum'}(a, b)`
      : `${extremum}(a, b)`;
  const result = (value: string): string => `y[at] = ${to}(${arg ? 'best' : value});`;
  const functions: MathName[] = kahan ? ['accumulate'] : ['nan', extremum === 'max' ? 'maximum' : 'minimum'];
  const declarations = `${float ? wgslMath(functions) : ''}
fn join(a: ${t}, b: ${t}) -> ${t} { return ${join}; }`;
  /**
   * All elements from `from` to the end, every `stride`th; where no place is asked for, several are loaded at a time,
   * so that they wait together. Sums of eight are added in pairs, and what rounding loses of the sum of these is kept;
   * else they are joined in their order.
   */
  const loop = (from: string, stride: number, at: (r: string) => string): string => {
    const one = `for (; r < end; r += ${stride}u) { ${step(at('r'))} }`;
    if (arg) return `var r = ${from};\n  ${one}`;
    const eight = Array.from({ length: TOGETHER }, (_, i) => i);
    return `var r = ${from};
  for (; r + ${(TOGETHER - 1) * stride}u < end; r += ${TOGETHER * stride}u) {
    ${eight.map((i) => `let v${i} = ${t}(x[${at(`(r + ${i * stride}u)`)}]);`).join(' ')}
    ${kahan ? added('((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))') : eight.map((i) => added(`v${i}`)).join(' ')}
  }
  ${one}`;
  };
  const common = {
    label: op,
    bindings: [
      { name: 'x', type: `array<${from}>`, access: 'read' as const },
      { name: 'y', type: `array<${to}>`, access: 'write' as const },
    ],
    params: ['outer', 'reduced', 'inner', 'pieces', 'length'].map((name) => ({ name, type: 'u32' as const })),
    workgroupSize: [GROUP] as const,
    enable: from === 'f16' || to === 'f16' ? ['f16' as const] : [],
  };
  const range = (piece: string): string => `let first = (${piece}) * p.length;
  let end = min(first + p.length, p.reduced);`;
  if (!row) {
    return {
      ...common,
      declarations,
      body: `  let at = flat;
  if (at >= p.outer * p.pieces * p.inner) { return; }
  ${range('at / p.inner % p.pieces')}
  let base = at / (p.inner * p.pieces) * p.reduced * p.inner + at % p.inner;
  ${begin}
  ${loop('first', 1, (r) => `base + ${r} * p.inner`)}
  ${result(total)}`,
    };
  }
  return {
    ...common,
    workgroupBytes: GROUP * (arg ? 8 : 4),
    declarations: `${declarations}
var<workgroup> part: array<${t}, ${GROUP}>;${arg ? `\nvar<workgroup> bestOf: array<u32, ${GROUP}>;` : ''}`,
    body: `  let at = wid.y * nwg.x + wid.x;
  if (at >= p.outer * p.pieces) { return; }
  ${range('at % p.pieces')}
  let base = at / p.pieces * p.reduced;
  ${begin}
  ${loop('first + li', GROUP, (r) => `base + ${r}`)}
  part[li] = ${total};
  ${arg ? 'bestOf[li] = best;' : ''}
  workgroupBarrier();
  if (li == 0u) {
    ${
      arg
        ? `for (var k = 1u; k < ${GROUP}u; k++) {
      let v = part[k];
      let same = !(acc ${extremum === 'max' ? '>' : '<'} v)${float ? ' && mathNan(v) == mathNan(acc)' : ''};
      if (${beats} || (same && bestOf[k] < best)) { acc = v; best = bestOf[k]; }
    }`
        : `for (var half = ${GROUP / 2}u; half > 0u; half /= 2u) {
      for (var k = 0u; k < half; k++) { part[k] = join(part[k], part[k + half]); }
    }`
    }
    ${result('part[0]')}
  }`,
  };
});

/** Reduces outer × reduced × inner to outer × inner. */
function reduce3(op: ReduceOp, x: Tensor, outer: number, reduced: number, inner: number, dtype: DType): Tensor {
  const y = emptyTensor(x.device, [outer, inner], dtype);
  if (!y.numel) return y;
  const pieces = op === 'argmax' || op === 'argmin' ? 1 : pieceCount(outer, reduced, inner);
  if (pieces > 1) {
    const parts = emptyTensor(x.device, [outer, pieces, inner], isFloat(dtype) ? 'f32' : dtype);
    launch(op, x, parts, outer, reduced, inner, pieces);
    launch(op, parts, y, outer, pieces, inner, 1);
  } else launch(op, x, y, outer, reduced, inner, 1);
  return y;
}

function launch(
  op: ReduceOp,
  x: Tensor,
  y: Tensor,
  outer: number,
  reduced: number,
  inner: number,
  pieces: number,
): void {
  const length = Math.ceil(reduced / pieces);
  // Where the CPU computes, workgroup memory with its barriers costs more than the row: 2,064 rows of 368 take 0.17 of
  // the time without.
  const row = inner === 1 && length >= 32 && !(x.device.adapter.software && outer * pieces >= ENOUGH_ROWS);
  x.device.run(
    reduceKernel,
    { op, from: storageType(x.dtype), to: storageType(y.dtype), row },
    [denseOperand(x), y],
    [outer, reduced, inner, pieces, length],
    row ? grid1d(outer * pieces, 1) : grid1d(outer * pieces * inner, GROUP),
  );
}

/** Into how many pieces to cut the reduced dimension; none of them is empty. */
function pieceCount(outer: number, reduced: number, inner: number): number {
  let length = reduced;
  if (inner === 1) {
    if (reduced >= 65536 || (reduced >= 8192 && outer < 64)) length = Math.max(1024, Math.ceil(reduced / 256));
  } else if (reduced >= 4096 || (reduced >= 256 && outer * inner < 16384)) length = Math.ceil(Math.sqrt(reduced));
  return Math.ceil(reduced / Math.max(1, length));
}

/**
 * Brings the reduced axes together: a permutation that leaves outer × reduced × inner, without moving data where it
 * can.
 */
function grouped(x: Tensor, axes: readonly number[]): { x: Tensor; outer: number; reduced: number; inner: number } {
  const first = axes[0],
    last = axes.at(-1)!;
  const sizes = (from: number, to: number): number => numelOf(x.shape.slice(from, to));
  if (last - first + 1 === axes.length)
    return { x, outer: sizes(0, first), reduced: sizes(first, last + 1), inner: sizes(last + 1, x.ndim) };
  const rest = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  return {
    x: permute(x, [...rest, ...axes]),
    outer: numelOf(rest.map((i) => x.shape[i])),
    reduced: numelOf(axes.map((i) => x.shape[i])),
    inner: 1,
  };
}

function reducedShape(shape: Shape, axes: readonly number[], keepdim: boolean): number[] {
  return keepdim ? shape.map((size, i) => (axes.includes(i) ? 1 : size)) : shape.filter((_, i) => !axes.includes(i));
}

function reduceForward(op: ReduceOp, x: Tensor, axes: readonly number[], keepdim: boolean, dtype: DType): Tensor {
  if (!axes.length) return op === 'argmax' || op === 'argmin' ? x.zerosLike().cast('i32') : x.cast(dtype);
  const { x: view, outer, reduced, inner } = grouped(x, axes);
  if (reduced === 0 && op !== 'sum')
    throw new ShapeError(op, `Nothing to reduce over axes ${JSON.stringify(axes)} of shape ${show(x.shape)}`);
  return reshape(reduce3(op, view, outer, reduced, inner, dtype), reducedShape(x.shape, axes, keepdim));
}

/** How a reduction is done: over which axes, and the type of the result. */
interface Reduction {
  readonly axes: readonly number[];
  readonly keepdim: boolean;
  readonly dtype: DType;
}

const sumOp = defineOp({
  name: 'sum',
  forward: ({ x }: { x: Tensor }, { axes, keepdim, dtype }: Reduction) => ({
    out: reduceForward('sum', x.dtype === 'bool' ? x.cast('i32') : x, axes, keepdim, dtype),
    saved: { shape: x.shape, axes },
  }),
  backward: (g, { shape, axes }) => ({ x: expand(reshape(g, reducedShape(shape, axes, true)), shape) }),
});
/** Sum over axes (all where none are given). Accumulates in f32; booleans are counted in i32. */
export function sum(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  const dtype = x.dtype === 'bool' ? 'i32' : x.dtype;
  return sumOp({ x }, { axes: axesOf('sum', axes, x.ndim), keepdim, dtype });
}

/**
 * Mean over axes (all where none are given). f16 is summed and divided in f32: the sum may be larger than f16 holds.
 */
export function mean(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  const list = axesOf('mean', axes, x.ndim);
  const count = list.reduce((n, a) => n * x.shape[a], 1);
  return scope(() =>
    sumOp({ x }, { axes: list, keepdim, dtype: 'f32' })
      .div(count)
      .cast(isFloat(x.dtype) ? x.dtype : 'f32'),
  );
}

/** Variance over axes; `correction` 1 (the default) is the unbiased one. f16 is computed in f32. */
export function variance(x: Tensor, axes?: number | readonly number[], keepdim = false, correction = 1): Tensor {
  if (!isFloat(x.dtype))
    throw new DTypeError('var', `The type is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
  const list = axesOf('var', axes, x.ndim);
  const count = list.reduce((n, a) => n * x.shape[a], 1);
  return scope(() => {
    const wide = x.cast('f32');
    return sum(wide.sub(mean(wide, list, true)).square(), list, keepdim)
      .div(Math.max(0, count - correction))
      .cast(x.dtype);
  });
}

const rootOfVariance = fuse((v) => v.eq(0).where(0, v.eq(0).where(1, v).sqrt()), 'std');

/**
 * Standard deviation over axes, the root of `variance`. Where all values are equal its gradient is 0, as in PyTorch.
 *
 * @throws DTypeError for what is no float
 */
export function std(x: Tensor, axes?: number | readonly number[], keepdim = false, correction = 1): Tensor {
  return scope(() => (rootOfVariance(variance(x.cast('f32'), axes, keepdim, correction)) as Tensor).cast(x.dtype));
}

interface Extremum extends Omit<Reduction, 'dtype'> {
  readonly op: 'max' | 'min';
}

const extremumOp = defineOp({
  name: ({ op }: Extremum) => op,
  forward({ x }: { x: Tensor }, { op, axes, keepdim }: Extremum) {
    const y = reduceForward(op, x, axes, keepdim, x.dtype);
    return { out: y, saved: { x, y, axes } };
  },
  // Equal extrema share the gradient.
  backward(g, { x, y, axes }) {
    const shape = reducedShape(x.shape, axes, true);
    // In f32: f16 holds no count above 65,504.
    const mask = x.eq(reshape(y, shape)).cast('f32');
    return { x: mask.mul(reshape(g, shape)).div(sum(mask, axes, true)) };
  },
});
/** Largest value over axes (all where none are given); NaN where there is one. Equal ones share the gradient. */
export function max(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  return extremumOp({ x }, { op: 'max', axes: axesOf('max', axes, x.ndim), keepdim });
}
/** Smallest value over axes (all where none are given); NaN where there is one. Equal ones share the gradient. */
export function min(x: Tensor, axes?: number | readonly number[], keepdim = false): Tensor {
  return extremumOp({ x }, { op: 'min', axes: axesOf('min', axes, x.ndim), keepdim });
}

function argExtremum(op: 'argmax' | 'argmin', x: Tensor, axis: number | undefined, keepdim: boolean): Tensor {
  return scope(() =>
    noGrad(() =>
      axis === undefined
        ? reduceForward(op, reshape(x, [x.numel]), [0], false, 'i32')
        : reduceForward(op, x, [axisOf(op, axis, x.ndim)], keepdim, 'i32'),
    ),
  );
}
/** Index (i32) of the first largest element, along an axis or of all. NaN counts as the largest. */
export function argmax(x: Tensor, axis?: number, keepdim = false): Tensor {
  return argExtremum('argmax', x, axis, keepdim);
}
/** Index (i32) of the first smallest element, along an axis or of all. NaN counts as the smallest. */
export function argmin(x: Tensor, axis?: number, keepdim = false): Tensor {
  return argExtremum('argmin', x, axis, keepdim);
}

/** Sums what broadcasting repeated, so that the result has `shape`: the adjoint of `expand`. */
export function sumToSize(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.ndim - shape.length;
  const axes = x.shape.flatMap((size, i) => (i < lead || (shape[i - lead] === 1 && size !== 1) ? [i] : []));
  return scope(() => reshape(axes.length ? sum(x, axes) : x, shape));
}
