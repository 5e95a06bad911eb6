// Gather and scatter along an axis. Scattered sums loop over the sources of each element instead of adding atomically: WGSL has no
// atomic f32, and a fixed order makes the result the same every time.

import { defineOp } from '../autograd.ts';
import { storageType } from '../dtype.ts';
import { DTypeError, ShapeError } from '../errors.ts';
import { defineKernel, grid1d } from '../kernel.ts';
import { axisOf, numelOf, sameShape, show } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { arange, zeros } from './create.ts';
import { lazyOp } from './lazyOp.ts';
import { expand, reshape } from './movement.ts';
import { denseOperand } from './reduce.ts';

interface Variant { readonly scatter: boolean; readonly type: 'f32' | 'f16' | 'i32' | 'u32'; readonly index: 'i32' | 'u32' }

/** gather: y[o, j, i] = x[o, index[o, j, i], i]; scatter: y[o, k, i] = x[o, k, i] + Σ_j s[o, j, i]·[index[o, j, i] = k]. */
const indexKernel = defineKernel<Variant>('index', ({ scatter, type, index }) => {
  const t = type === 'f16' ? 'f32' : type;
  return {
    bindings: [
      { name: 'x', type: `array<${type}>`, access: 'read' }, { name: 'at', type: `array<${index}>`, access: 'read' },
      ...(scatter ? [{ name: 's', type: `array<${type}>`, access: 'read' as const }] : []), { name: 'y', type: `array<${type}>`, access: 'write' },
    ],
    // `size` along the axis in x, `count` along it in index.
    params: [{ name: 'n', type: 'u32' }, { name: 'size', type: 'u32' }, { name: 'count', type: 'u32' }, { name: 'inner', type: 'u32' }],
    workgroupSize: [64],
    enable: type === 'f16' ? ['f16'] : [],
    body: scatter ? `  if (flat >= p.n) { return; }
  let i = flat % p.inner; let k = (flat / p.inner) % p.size; let o = flat / (p.inner * p.size);
  var acc = ${t}(x[flat]);
  for (var j = 0u; j < p.count; j++) {
    let q = (o * p.count + j) * p.inner + i;
    let to = ${index === 'i32' ? 'select(at[q], at[q] + i32(p.size), at[q] < 0)' : 'at[q]'};
    if (u32(to) == k) { acc += ${t}(s[q]); }
  }
  y[flat] = ${type}(acc);` : `  if (flat >= p.n) { return; }
  let i = flat % p.inner; let o = flat / (p.inner * p.count);
  let from_ = ${index === 'i32' ? 'select(at[flat], at[flat] + i32(p.size), at[flat] < 0)' : 'at[flat]'};
  // An index out of range reads the nearest element: the GPU can't raise an error.
  let k = min(u32(max(from_, ${index === 'i32' ? '0' : '0u'})), p.size - 1u);
  y[flat] = x[(o * p.size + k) * p.inner + i];`,
  };
});

function checkIndex(op: string, x: Tensor, axis: number, index: Tensor): void {
  if (index.dtype !== 'i32' && index.dtype !== 'u32') throw new DTypeError(`[${op}] The index is ${index.dtype}, expected i32 or u32.`);
  if (index.ndim !== x.ndim || index.shape.some((size, i) => i !== axis && size !== x.shape[i])) {
    throw new ShapeError(`[${op}] The index has shape ${show(index.shape)}, expected ${show(x.shape)} except in axis ${axis}.`);
  }
}

const gatherOp = lazyOp(() => defineOp<[Tensor, number, Tensor], Tensor>({
  name: 'gather',
  forward(ctx, x, axis, index) {
    Object.assign(ctx.state, { axis, shape: x.shape });
    ctx.save(index);
    const y = Tensor.empty(x.device, index.shape, x.dtype);
    const type = storageType(x.dtype);
    x.device.run(indexKernel, { scatter: false, type, index: index.dtype as 'i32' }, [denseOperand(x), denseOperand(index), y],
      [y.numel, x.shape[axis], index.shape[axis], numelOf(x.shape.slice(axis + 1))], grid1d(y.numel, 64));
    return y;
  },
  backward(ctx, g) {
    const [index] = ctx.saved;
    return [scatterAdd(zeros(g!.device, ctx.state.shape as number[], g!.dtype), ctx.state.axis as number, index, g!), null, null];
  },
}));
/** y[…, j, …] = x[…, index[…, j, …], …] along an axis; the index has x's other sizes. Negative indices count from the end. */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  const a = axisOf('gather', axis, x.ndim);
  checkIndex('gather', x, a, index);
  return gatherOp(x, a, index);
}

const scatterOp = lazyOp(() => defineOp<[Tensor, number, Tensor, Tensor], Tensor>({
  name: 'scatterAdd',
  forward(ctx, x, axis, index, source) {
    ctx.state.axis = axis;
    ctx.save(index);
    const y = Tensor.empty(x.device, x.shape, x.dtype);
    const type = storageType(x.dtype);
    x.device.run(indexKernel, { scatter: true, type, index: index.dtype as 'i32' }, [denseOperand(x), denseOperand(index), denseOperand(source), y],
      [y.numel, x.shape[axis], index.shape[axis], numelOf(x.shape.slice(axis + 1))], grid1d(y.numel, 64));
    return y;
  },
  backward(ctx, g) {
    const [index] = ctx.saved;
    return [g, null, null, gather(g!, ctx.state.axis as number, index)];
  },
}));
/** A copy of x with source[…, j, …] added at index[…, j, …] along an axis. Deterministic; time grows with the index's length. */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
  const a = axisOf('scatterAdd', axis, x.ndim);
  checkIndex('scatterAdd', x, a, index);
  if (!sameShape(index.shape, source.shape)) throw new ShapeError(`[scatterAdd] The source has shape ${show(source.shape)}, expected the index's ${show(index.shape)}.`);
  return scatterOp(x, a, index, source.cast(x.dtype));
}

/** Whole slices along an axis, by a one-dimensional index: rows of an embedding table. */
export function indexSelect(x: Tensor, axis: number, index: Tensor): Tensor {
  const a = axisOf('indexSelect', axis, x.ndim);
  if (index.ndim !== 1) throw new ShapeError(`[indexSelect] The index has shape ${show(index.shape)}, expected one dimension.`);
  const wide = reshape(index, x.shape.map((_, i) => (i === a ? index.numel : 1)));
  return gather(x, a, expand(wide, x.shape.map((size, i) => (i === a ? index.numel : size))));
}

/** A new last axis of `classes` zeros with a one at the index. */
export function oneHot(index: Tensor, classes: number): Tensor {
  return reshape(index, [...index.shape, 1]).eq(arange(index.device, 0, classes, 1, index.dtype)).cast('f32');
}
