// Softmax and its logarithm, along one axis. f16 is computed in f32 and rounded once.

import { defineOp } from '../autograd/defineOp.ts';
import { isFloat } from '../tensor/dtype.ts';
import { DTypeError } from '../errors.ts';
import { axisOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { max, sum } from './reduce.ts';
import { rowSoftmax } from './rowSoftmax.ts';

/** Whether the one-dispatch form applies. */
function isRow(x: Tensor, axis: number): boolean {
  return axis === x.ndim - 1 && x.numel > 0;
}

function ofColumns(x: Tensor, axis: number): Tensor {
  const wide = x.cast('f32');
  const e = wide.sub(max(wide, axis, true)).exp();
  return e.div(sum(e, axis, true)).cast(x.dtype);
}

function logOfColumns(x: Tensor, axis: number): Tensor {
  const wide = x.cast('f32');
  const shifted = wide.sub(max(wide, axis, true));
  return shifted.sub(sum(shifted.exp(), axis, true).log()).cast(x.dtype);
}

const softmaxOp = defineOp({
  name: 'softmax',
  forward({ x }: { x: Tensor }, { axis }: { axis: number }) {
    const y = isRow(x, axis) ? rowSoftmax(x, false) : ofColumns(x, axis);
    return { out: y, saved: { y, axis } };
  },
  backward(g, { y, axis }) {
    // In f32: a sum of f16 may be larger than f16 holds.
    const wide = y.cast('f32');
    const gy = g.cast('f32').mul(wide);
    return { x: gy.sub(wide.mul(sum(gy, axis, true))) };
  },
});
/** eˣ / Σ eˣ along an axis, shifted by the maximum. */
export function softmax(x: Tensor, axis: number): Tensor {
  const along = axisOf('softmax', axis, x.ndim);
  return floatOf('softmax', x).numel ? softmaxOp({ x }, { axis: along }) : x.clone();
}

const logSoftmaxOp = defineOp({
  name: 'logSoftmax',
  forward({ x }: { x: Tensor }, { axis }: { axis: number }) {
    const y = isRow(x, axis) ? rowSoftmax(x, true) : logOfColumns(x, axis);
    return { out: y, saved: { y, axis } };
  },
  backward(g, { y, axis }) {
    const wide = g.cast('f32');
    return {
      x: wide.sub(
        y
          .cast('f32')
          .exp()
          .mul(sum(wide, axis, true)),
      ),
    };
  },
});
/** x − log Σ eˣ along an axis. */
export function logSoftmax(x: Tensor, axis: number): Tensor {
  const along = axisOf('logSoftmax', axis, x.ndim);
  return floatOf('logSoftmax', x).numel ? logSoftmaxOp({ x }, { axis: along }) : x.clone();
}

function floatOf(op: string, x: Tensor): Tensor {
  if (!isFloat(x.dtype))
    throw new DTypeError(op, `The type is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
  return x;
}
