// Running sums along an axis. A long axis is cut into pieces that are summed side by side; the sums of the pieces are
// then summed in the same way and added.

import { defineOp } from '../autograd/defineOp.ts';
import { wgslMath } from '../expr/wgslMath.ts';
import { storageType } from '../tensor/dtype.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { axisOf, numelOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { flip } from './movement.ts';
import { denseOperand } from '../expr/dense.ts';

interface Variant {
  readonly type: 'f32' | 'f16' | 'i32' | 'u32';
  /** `totals` keeps the sum of each piece beside, `carry` begins each piece with the running sum of those before it. */
  readonly totals: boolean;
  readonly carry: boolean;
}

/** y[o, k, i] = Σ_{j ≤ k} x[o, j, i], an invocation per piece of k. */
export const cumsumKernel = defineKernel<Variant>('cumsum', ({ type, totals, carry }) => {
  const t = type === 'f16' ? 'f32' : type;
  const kahan = t === 'f32';
  const value = kahan ? 'acc.value - acc.lost' : 'acc';
  return {
    bindings: [
      { name: 'x', type: `array<${type}>`, access: 'read' },
      ...(carry ? [{ name: 'before', type: `array<${t}>`, access: 'read' as const }] : []),
      // A pass for the totals writes nothing else.
      totals
        ? { name: 'total', type: `array<${t}>`, access: 'write' }
        : { name: 'y', type: `array<${type}>`, access: 'write' },
    ],
    params: ['n', 'size', 'inner', 'pieces', 'length'].map((name) => ({ name, type: 'u32' as const })),
    workgroupSize: [64],
    enable: type === 'f16' ? ['f16'] : [],
    declarations: kahan ? wgslMath(['accumulate']) : '',
    body: `  if (flat >= p.n) { return; }
  let piece = flat / p.inner % p.pieces;
  var at = (flat / (p.inner * p.pieces) * p.size + piece * p.length) * p.inner + flat % p.inner;
  var acc = ${kahan ? 'Sum(0.0, 0.0)' : `${t}(0)`};
  ${carry ? `if (piece > 0u) { acc${kahan ? '.value' : ''} = before[flat - p.inner]; }` : ''}
  let end = min(p.length, p.size - piece * p.length);
  for (var k = 0u; k < end; k++) {
    acc = ${kahan ? `mathAccumulate(acc, ${t}(x[at]), p.length >> 31u)` : `acc + ${t}(x[at])`};
    ${totals ? '' : `y[at] = ${type}(${value});`}
    at += p.inner;
  }
  ${totals ? `total[flat] = ${value};` : ''}`,
  };
});

/** Running sums over the middle dimension of outer × size × inner. */
function scan(x: Tensor, y: Tensor, outer: number, size: number, inner: number): void {
  const length = size >= 512 && outer * inner < 16384 ? Math.ceil(Math.sqrt(size)) : size;
  const pieces = Math.ceil(size / length),
    rows = outer * pieces * inner;
  const type = storageType(x.dtype);
  const params = [rows, size, inner, pieces, length],
    grid = grid1d(rows, 64);
  const from = denseOperand(x);
  if (pieces === 1) {
    x.device.run(cumsumKernel, { type, totals: false, carry: false }, [from, y], params, grid);
    return;
  }
  const [total, before] = [0, 1].map(() =>
    emptyTensor(x.device, [outer, pieces, inner], x.dtype === 'f16' ? 'f32' : x.dtype),
  );
  x.device.run(cumsumKernel, { type, totals: true, carry: false }, [from, total], params, grid);
  scan(total, before, outer, pieces, inner);
  x.device.run(cumsumKernel, { type, totals: false, carry: true }, [from, before, y], params, grid);
}

const cumsumOp = defineOp({
  name: 'cumsum',
  forward({ x }: { x: Tensor }, { axis }: { axis: number }) {
    const y = emptyTensor(x.device, x.shape, x.dtype);
    if (y.numel) scan(x, y, numelOf(x.shape.slice(0, axis)), x.shape[axis], numelOf(x.shape.slice(axis + 1)));
    return { out: y, saved: { axis } };
  },
  backward: (g, { axis }) => ({ x: flip(cumsum(flip(g, axis), axis), axis) }),
});
/** y[k] = x[0] + … + x[k] along an axis. Accumulates in f32; booleans are counted in i32. */
export function cumsum(x: Tensor, axis: number): Tensor {
  return cumsumOp({ x: x.dtype === 'bool' ? x.cast('i32') : x }, { axis: axisOf('cumsum', axis, x.ndim) });
}
