// Operands for kernels tested without tensors: storages filled from and read into host arrays.

import type { FloatDType } from '../../core/index.ts';
import { Float16Array } from '@petamoriken/float16';
import type { Device } from '../../core/gpu/device.ts';
import { Storage } from '../../core/gpu/storage.ts';

export interface TestOperand {
  readonly storage: Storage;
  readonly byteOffset: number;
  readonly dtype: FloatDType;
  readonly numel: number;
}

export function emptyOperand(device: Device, length: number, dtype: FloatDType = 'f32'): TestOperand {
  return {
    storage: new Storage(device, Math.ceil((length * (dtype === 'f16' ? 2 : 4)) / 16) * 16, 'test'),
    byteOffset: 0,
    dtype,
    numel: length,
  };
}

export function operand(device: Device, values: ArrayLike<number>, dtype: FloatDType = 'f32'): TestOperand {
  const made = emptyOperand(device, values.length, dtype);
  const bytes = new Uint8Array(made.storage.bytes);
  const array = dtype === 'f16' ? new Float16Array(Array.from(values)) : Float32Array.from(values);
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  device.gpu.queue.writeBuffer(made.storage.buffer.gpu, 0, bytes);
  return made;
}

export async function values(device: Device, { storage, dtype, numel }: TestOperand): Promise<Float64Array> {
  const bytes = await device.readBytes(storage, 0, storage.bytes);
  return Float64Array.from(dtype === 'f16' ? new Float16Array(bytes, 0, numel) : new Float32Array(bytes, 0, numel));
}

/** What a kernel sees of a value stored as `dtype`. */
export function rounded(array: ArrayLike<number>, dtype: FloatDType): Float64Array {
  return Float64Array.from(dtype === 'f16' ? new Float16Array(Array.from(array)) : Float32Array.from(array));
}

/** Repeatable values in [-1, 1). */
export function noise(length: number, salt: number): Float64Array {
  return Float64Array.from({ length }, (_, j) => {
    let h = (Math.imul(j, 0x9e3779b1) + Math.imul(salt, 0x85ebca77)) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
    h = Math.imul(h ^ (h >>> 15), 0x735a2d97);
    return ((h ^ (h >>> 15)) >>> 0) / 2 ** 31 - 1;
  });
}
