// Golden families that need a device, and reference tensors on it.

import { tensor, type Device, type DeviceOptions, type Tensor } from '../../core/index.ts';
import { onDevices, type GpuTests } from '../support.ts';
import { family, need, numbers, type Golden } from './support.ts';

/** As `family`, with tests that get a device and must leave no tensor behind. */
export function gpuFamily(
  name: string,
  register: (test: GpuTests) => void,
  files?: readonly string[],
  options: DeviceOptions = {},
): void {
  family(name, (test) => register(onDevices(test, `golden ${name}`, { device: options })), files);
}

/** The reference tensor `name`: i32 for integers, else f32. */
export function read(device: Device, golden: Golden, name: string): Tensor {
  const entry = need(golden, name);
  const values = numbers(entry);
  return tensor(device, /^[IU]\d/.test(entry.dtype) ? Int32Array.from(values) : Float32Array.from(values), {
    shape: entry.shape,
  });
}
