// How operations make tensors without knowing the class that has all operations as methods: it is set when a device is
// opened.

import { EngineError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import { Storage } from '../gpu/storage.ts';
import type { Tensor } from '../tensor.ts';
import { TensorBase, type Edge } from './base.ts';
import { sizeOf, type DType } from './dtype.ts';
import { contiguousStrides, numelOf, show, type Shape } from './shape.ts';

type TensorClass = new (
  device: Device,
  storage: Storage,
  shape: Shape,
  strides: Shape,
  offset: number,
  dtype: DType,
) => Tensor;

let tensorClass: TensorClass | null = null;

/** Sets the class of all tensors that are made from now on. */
export function useTensorClass(Class: TensorClass): void {
  tensorClass = Class;
}

function made(...args: ConstructorParameters<TensorClass>): Tensor {
  if (!tensorClass)
    throw new EngineError('tensor', 'No device was opened yet', { expected: 'openDevice() before tensors' });
  return new tensorClass(...args);
}

/** A tensor on fresh memory whose content is undefined. */
export function emptyTensor(device: Device, shape: Shape, dtype: DType): Tensor {
  // Kernels that read vectors of four bind at least one, also of nothing.
  const bytes = Math.max(16, numelOf(shape) * sizeOf(dtype));
  const storage = new Storage(device, Math.ceil(bytes / 4) * 4, `a ${dtype} tensor of shape ${show(shape)}`);
  return made(device, storage, [...shape], contiguousStrides(shape), 0, dtype);
}

/** What a view has of its own. */
export interface View {
  readonly shape: Shape;
  readonly strides: Shape;
  /** In elements of the storage. */
  readonly offset: number;
  readonly dtype: DType;
}

/** Another view of a storage, at a place on the tape where one is given. */
export function viewOf(
  device: Device,
  storage: Storage,
  { shape, strides, offset, dtype }: View,
  edge: Edge | null = null,
): Tensor {
  const t = made(device, storage.retain(), shape, strides, offset, dtype);
  if (edge) t.attach(edge);
  return t;
}

/** Another handle of the same values and the same place on the tape. */
export function aliasOf(t: TensorBase): Tensor {
  return viewOf(t.device, t.storage, t, t.edge);
}

/** The same values without a history. */
export function detachedOf(t: TensorBase): Tensor {
  return viewOf(t.device, t.storage, t);
}

/** Whether a value is a tensor. */
export function isTensor(value: unknown): value is Tensor {
  return value instanceof TensorBase;
}
