// Running sums along an axis.

import { defineOp } from '../autograd.ts';
import { storageType } from '../dtype.ts';
import { defineKernel, grid1d } from '../kernel.ts';
import { axisOf, numelOf } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { lazyOp } from './lazyOp.ts';
import { flip } from './movement.ts';
import { denseOperand } from './reduce.ts';

const cumsumKernel = defineKernel<{ type: 'f32' | 'f16' | 'i32' | 'u32' }>('cumsum', ({ type }) => ({
  bindings: [{ name: 'x', type: `array<${type}>`, access: 'read' }, { name: 'y', type: `array<${type}>`, access: 'write' }],
  params: [{ name: 'n', type: 'u32' }, { name: 'size', type: 'u32' }, { name: 'inner', type: 'u32' }],
  workgroupSize: [64],
  enable: type === 'f16' ? ['f16'] : [],
  body: `  if (flat >= p.n) { return; }
  var at = (flat / p.inner) * p.size * p.inner + flat % p.inner;
  var acc = ${type === 'f16' ? 'f32' : type}(0);
  for (var k = 0u; k < p.size; k++) { acc += ${type === 'f16' ? 'f32' : type}(x[at]); y[at] = ${type}(acc); at += p.inner; }`,
}));

const cumsumOp = lazyOp(() => defineOp<[Tensor, number], Tensor>({
  name: 'cumsum',
  forward(ctx, x, axis) {
    ctx.state.axis = axis;
    const y = Tensor.empty(x.device, x.shape, x.dtype);
    const rows = x.numel / Math.max(1, x.shape[axis]);
    x.device.run(cumsumKernel, { type: storageType(x.dtype) }, [denseOperand(x), y], [rows, x.shape[axis], numelOf(x.shape.slice(axis + 1))], grid1d(rows, 64));
    return y;
  },
  backward(ctx, g) {
    const axis = ctx.state.axis as number;
    return [flip(cumsum(flip(g!, axis), axis), axis)];
  },
}));
/** y[k] = x[0] + … + x[k] along an axis. */
export function cumsum(x: Tensor, axis: number): Tensor {
  return cumsumOp(x, axisOf('cumsum', axis, x.ndim));
}
