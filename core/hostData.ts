// Host arrays to bytes of a dtype and back.

import { Float16Array } from '@petamoriken/float16';
import type { DType, TypedArray } from './dtype.ts';

/** Values on the host, converted to the tensor's type on the way. A Uint16Array holds numbers, not bits of f16. */
export type HostArray = TypedArray | readonly number[] | readonly boolean[];

/** Bytes as they lie in a buffer, padded to a multiple of 4. */
export function toBytes(data: HostArray, dtype: DType): Uint8Array<ArrayBuffer> {
  if (dtype === 'f32' && data instanceof Float32Array) return asBytes(data);
  if (dtype === 'i32' && data instanceof Int32Array) return asBytes(data);
  if (dtype === 'u32' && data instanceof Uint32Array) return asBytes(data);
  const numbers = data as ArrayLike<number>;
  if (dtype === 'f16') {
    const half = Float16Array.from(numbers);
    const padded = new Uint8Array((half.byteLength + 3) & ~3);
    padded.set(new Uint8Array(half.buffer as ArrayBuffer));
    return padded;
  }
  if (dtype === 'f32') return asBytes(Float32Array.from(numbers));
  if (dtype === 'i32') return asBytes(Int32Array.from(numbers));
  if (dtype === 'bool') return asBytes(Uint32Array.from(numbers, (v) => Number(Boolean(v))));
  return asBytes(Uint32Array.from(numbers));
}

/** Values of a buffer's bytes. */
export function fromBytes(bytes: ArrayBuffer, dtype: DType): Float32Array | Int32Array | Uint32Array | Uint8Array {
  switch (dtype) {
    case 'f32': return new Float32Array(bytes);
    case 'f16': return Float32Array.from(new Float16Array(bytes) as unknown as ArrayLike<number>);
    case 'i32': return new Int32Array(bytes);
    case 'u32': return new Uint32Array(bytes);
    case 'bool': return Uint8Array.from(new Uint32Array(bytes));
  }
}

function asBytes(data: Float32Array | Int32Array | Uint32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}
