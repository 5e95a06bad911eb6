// Gather and scatter along an axis. Scattered sums loop over the sources of each element instead of adding atomically:
// WGSL has no atomic f32, and a fixed order makes the result the same every time.

import { defineOp } from '../autograd/defineOp.ts';
import { storageType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError } from '../errors.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { scope } from '../tensor/scope.ts';
import { axisOf, numelOf, show, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { arange, zeros } from './create.ts';
import { pad } from './join.ts';
import { reshape, slice } from './movement.ts';
import { mathName, wgslMath, type MathName } from '../expr/wgslMath.ts';
import { denseOperand } from '../expr/dense.ts';

interface Variant {
  readonly scatter: boolean;
  readonly type: 'f32' | 'f16' | 'i32' | 'u32';
  readonly index: 'i32' | 'u32';
  /** The index has one dimension and holds for every other: whole slices are taken. */
  readonly slices: boolean;
  /** Whether slices are whole vec4s: n and inner count these. */
  readonly vec: boolean;
}

/**
 * gather: y[o, j, i] = x[o, index[o, j, i], i]; scatter: y[o, k, i] = x[o, k, i] + Σ_j s[o, j, i]·[index[o, j, i] = k].
 */
export const indexKernel = defineKernel<Variant>('index', ({ scatter, type, index, slices, vec }) => {
  const float = type === 'f32' || type === 'f16';
  const functions: MathName[] = [scatter ? 'accumulate' : 'special'];
  const vector = (element: string): string => (vec ? `vec4<${element}>` : element);
  const stored = vector(type),
    t = vector(type === 'f16' ? 'f32' : type);
  // Negative indices count from the end.
  const wrapped = (q: string): string =>
    index === 'i32' ? `select(at[${q}], at[${q}] + i32(p.size), at[${q}] < 0)` : `at[${q}]`;
  return {
    label: scatter ? 'scatterAdd' : 'gather',
    bindings: [
      { name: 'x', type: `array<${stored}>`, access: 'read' },
      { name: 'at', type: `array<${index}>`, access: 'read' },
      ...(scatter ? [{ name: 's', type: `array<${stored}>`, access: 'read' as const }] : []),
      { name: 'y', type: `array<${stored}>`, access: 'write' },
    ],
    // `size` along the axis in x, `count` along it in index.
    params: [
      { name: 'n', type: 'u32' },
      { name: 'size', type: 'u32' },
      { name: 'count', type: 'u32' },
      { name: 'inner', type: 'u32' },
    ],
    workgroupSize: [64],
    coarsenable: !scatter,
    enable: type === 'f16' ? ['f16'] : [],
    declarations: wgslMath(vec ? [] : functions, vec ? functions : []),
    body: scatter
      ? `  if (flat >= p.n) { return; }
  let i = flat % p.inner; let k = (flat / p.inner) % p.size; let o = flat / (p.inner * p.size);
  var acc = ${float ? `Sum${vec ? '4' : ''}(${t}(x[flat]), ${t}(0))` : `${t}(x[flat])`};
  for (var j = 0u; j < p.count; j++) {
    let q = (o * p.count + j) * p.inner + i;
    if (u32(${wrapped(slices ? 'j' : 'q')}) == k) {
      acc = ${float ? `${mathName('accumulate', vec)}(acc, ${t}(s[q]), p.size >> 31u)` : `acc + ${t}(s[q])`}; }
  }
  y[flat] = ${stored}(${float ? 'acc.value - acc.lost' : 'acc'});`
      : `  if (flat >= p.n) { return; }
  let i = flat % p.inner; let j = flat / p.inner % p.count; let o = flat / (p.inner * p.count);
  // The GPU can't raise an error: what an index out of range reads is NaN, or 0 of integers.
  let k = u32(${wrapped(slices ? 'j' : 'flat')});
  let found = x[(o * p.size + min(k, p.size - 1u)) * p.inner + i];
  y[flat] = select(${stored}(${type === 'f32' || type === 'f16' ? `${mathName('special', vec)}(0x7fc00000u)` : '0'}), found, k < p.size);`,
  };
});

function checkIndexType(op: string, index: Tensor): void {
  if (index.dtype !== 'i32' && index.dtype !== 'u32')
    throw new DTypeError(op, `The index is ${index.dtype}`, { expected: 'i32 or u32' });
}

function checkIndex(op: string, x: Tensor, axis: number, index: Tensor): void {
  checkIndexType(op, index);
  if (index.ndim !== x.ndim || index.shape.some((size, i) => i !== axis && size > x.shape[i])) {
    throw new ShapeError(op, `The index has shape ${show(index.shape)}`, {
      expected: `at most ${show(x.shape)} except in axis ${axis}`,
    });
  }
  if (index.numel && !x.shape[axis])
    throw new ShapeError(op, `Axis ${axis} of shape ${show(x.shape)} is empty, there is nothing to index`);
}

/** The part of x that an index reaches: its own sizes, except along the axis. */
function reached(x: Tensor, axis: number, index: Shape): Tensor {
  return index.reduce((t, size, i) => (i === axis || size === t.shape[i] ? t : slice(t, i, 0, size)), x);
}

/** Runs the kernel; `source` is what is scattered. */
function launch(x: Tensor, { axis, index, slices }: Picking, source: Tensor | null): Tensor {
  const count = slices ? index.numel : index.shape[axis];
  const y = emptyTensor(x.device, source ? x.shape : x.shape.map((size, i) => (i === axis ? count : size)), x.dtype);
  if (y.numel) {
    const operands = [x, index, ...(source ? [source] : [])].map(denseOperand);
    const inner = numelOf(x.shape.slice(axis + 1)),
      vec = slices && inner % 4 === 0,
      width = vec ? 4 : 1;
    x.device.run(
      indexKernel,
      { scatter: source !== null, type: storageType(x.dtype), index: index.dtype as 'i32' | 'u32', slices, vec },
      [...operands, y],
      [y.numel / width, x.shape[axis], count, inner / width],
      grid1d(y.numel / width, 64),
    );
  }
  return y;
}

/** Whether `index` picks whole slices or elements, and along which axis. */
interface Picking {
  readonly axis: number;
  readonly index: Tensor;
  readonly slices: boolean;
}

const gatherOp = defineOp({
  name: 'gather',
  forward: ({ x }: { x: Tensor }, picking: Picking) => ({
    out: launch(x, picking, null),
    saved: { shape: x.shape, picking },
  }),
  backward: (g, { shape, picking }) => ({
    x: scatterOp({ x: zeros(g.device, shape, g.dtype), source: g }, picking),
  }),
});
/**
 * y[…, j, …] = x[…, index[…, j, …], …] along an axis. Sizes of the index are at most those of x in the other
 * dimensions. Negative indices count from the end; what one out of range reads is NaN, or 0 of integers, since the GPU
 * can't raise an error.
 */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  const a = axisOf('gather', axis, x.ndim);
  checkIndex('gather', x, a, index);
  return scope(() => gatherOp({ x: reached(x, a, index.shape) }, { axis: a, index, slices: false }));
}

const scatterOp = defineOp({
  name: 'scatterAdd',
  forward: ({ x, source }: { x: Tensor; source: Tensor }, picking: Picking) => ({
    out: launch(x, picking, source),
    saved: { picking },
  }),
  backward: (g, { picking }, needs): { x: Tensor; source: Tensor | null } => ({
    x: g,
    source: needs.source ? gatherOp({ x: g }, picking) : null,
  }),
});
/**
 * A copy of x with source[…, j, …] added at index[…, j, …] along an axis. Sizes of the index are at most those of
 * source, and of x in the other dimensions; indices out of range are left out. Deterministic; time grows with the
 * index's length.
 */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
  const a = axisOf('scatterAdd', axis, x.ndim);
  checkIndex('scatterAdd', x, a, index);
  if (source.ndim !== index.ndim || index.shape.some((size, i) => size > source.shape[i])) {
    throw new ShapeError('scatterAdd', `The source has shape ${show(source.shape)}`, {
      expected: `at least the index's ${show(index.shape)}`,
    });
  }
  return scope(() => {
    const added = reached(source, -1, index.shape).cast(x.dtype);
    const part = reached(x, a, index.shape);
    const picking = { axis: a, index, slices: false };
    if (part === x) return scatterOp({ x, source: added }, picking);
    const rest = x.shape.map((size, i): [number, number] => [0, size - part.shape[i]]);
    return x.add(pad(scatterOp({ x: part.zerosLike(), source: added }, picking), rest));
  });
}

/**
 * Whole slices along an axis, by a one-dimensional index: rows of an embedding table. Indices are those of `gather`.
 */
export function indexSelect(x: Tensor, axis: number, index: Tensor): Tensor {
  const a = axisOf('indexSelect', axis, x.ndim);
  checkIndexType('indexSelect', index);
  if (index.ndim !== 1)
    throw new ShapeError('indexSelect', `The index has shape ${show(index.shape)}`, { expected: 'one dimension' });
  if (index.numel && !x.shape[a])
    throw new ShapeError('indexSelect', `Axis ${a} of shape ${show(x.shape)} is empty, there is nothing to index`);
  return gatherOp({ x }, { axis: a, index, slices: true });
}

/** A new last axis of `classes` zeros with a one (f32) at the index; all zeros where the index is out of range. */
export function oneHot(index: Tensor, classes: number): Tensor {
  checkIndexType('oneHot', index);
  return scope(() =>
    reshape(index, [...index.shape, 1])
      .eq(arange(index.device, 0, classes, 1, index.dtype))
      .cast('f32'),
  );
}
