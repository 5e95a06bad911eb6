// Tensors as kernels without strides take them.

import type { Tensor } from '../tensor.ts';

/** Row-major, with an offset that the adapter can bind. */
export function denseOperand(x: Tensor): Tensor {
  const t = x.contiguous();
  return t.byteOffset % x.device.limits.minStorageBufferOffsetAlignment === 0 ? t : t.clone();
}
