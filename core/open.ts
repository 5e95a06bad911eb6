// The composition root: a device with all that belongs to it, and the class of its tensors.

import type { Device } from './gpu/device.ts';
import { openGpu, type AdapterOptions } from './gpu/open.ts';
import { Tensor } from './tensor.ts';
import { useTensorClass } from './tensor/make.ts';
import { useShippedTuning } from './tuning/shipped.ts';
import { tuningOf } from './tuning/tuning.ts';

/** How `openDevice` chooses an adapter and what it asks of it. */
export interface DeviceOptions extends AdapterOptions {
  /** Compute with the kernel configurations that come with the engine for adapters that were measured; default true. */
  shippedTuning?: boolean;
}

/**
 * Opens a device with the adapter's largest limits and all features that the engine can use.
 *
 * @throws AdapterError where there is no WebGPU, or no adapter that fits
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  useTensorClass(Tensor);
  const device = await openGpu(options);
  tuningOf(device); // chooses configurations from now on
  if (options.shippedTuning ?? true) await useShippedTuning(device);
  return device;
}
