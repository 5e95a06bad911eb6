// Reference tensors on the GPU.

import { tensor, type Device, type Tensor } from '../../core/index.ts';
import { need, numbers, type Golden } from './support.ts';

/** The reference tensor `name`: i32 for integers, else f32. */
export function read(device: Device, golden: Golden, name: string): Tensor {
  const entry = need(golden, name);
  const values = numbers(entry);
  return tensor(device, entry.dtype === 'I32' ? Int32Array.from(values) : Float32Array.from(values), {
    shape: entry.shape,
  });
}
