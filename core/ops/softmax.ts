// Softmax and its logarithm, along one axis.

import { defineOp } from '../autograd.ts';
import { axisOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { lazyOp } from './lazyOp.ts';
import { max, sum } from './reduce.ts';

const softmaxOp = lazyOp(() => defineOp<[Tensor, number], Tensor>({
  name: 'softmax',
  forward(ctx, x, axis) {
    const e = x.sub(max(x, axis, true)).exp();
    const y = e.div(sum(e, axis, true));
    ctx.state.axis = axis;
    ctx.save(y);
    return y;
  },
  backward(ctx, g) {
    const [y] = ctx.saved;
    const gy = g!.mul(y);
    return [gy.sub(y.mul(sum(gy, ctx.state.axis as number, true)))];
  },
}));
/** eˣ / Σ eˣ along an axis, shifted by the maximum. */
export function softmax(x: Tensor, axis: number): Tensor {
  return softmaxOp(x, axisOf('softmax', axis, x.ndim));
}

const logSoftmaxOp = lazyOp(() => defineOp<[Tensor, number], Tensor>({
  name: 'logSoftmax',
  forward(ctx, x, axis) {
    const shifted = x.sub(max(x, axis, true));
    const y = shifted.sub(sum(shifted.exp(), axis, true).log());
    ctx.state.axis = axis;
    ctx.save(y);
    return y;
  },
  backward(ctx, g) {
    const [y] = ctx.saved;
    return [g!.sub(y.exp().mul(sum(g!, ctx.state.axis as number, true)))];
  },
}));
/** x − log Σ eˣ along an axis. */
export function logSoftmax(x: Tensor, axis: number): Tensor {
  return logSoftmaxOp(x, axisOf('logSoftmax', axis, x.ndim));
}
