// Host arrays to bytes of a dtype and back.

import type { Float16Array } from '@petamoriken/float16';
import { ValueError } from '../errors.ts';
import { rangeOf, type DType, type TypedArray } from './dtype.ts';
import { bitsOf, float16BitsToFloat32, float32ToFloat16Bits, isFloat16Array } from './float16.ts';

/** Values on the host, converted to the tensor's type on the way. A Uint16Array holds numbers, not bits of f16. */
export type HostArray = TypedArray | Float16Array | readonly number[] | readonly boolean[];

/**
 * Bytes as they lie in a buffer, padded to a multiple of 4.
 *
 * @throws ValueError for a number that an integer type can't hold
 */
export function toBytes(data: HostArray, dtype: DType): Uint8Array<ArrayBuffer> {
  if (dtype === 'f16')
    return padded(isFloat16Array(data) ? bitsOf(data) : float32ToFloat16Bits(data as ArrayLike<number>));
  if (dtype === 'f32' && data instanceof Float32Array) return asBytes(data);
  if (dtype === 'i32' && data instanceof Int32Array) return asBytes(data);
  if (dtype === 'u32' && data instanceof Uint32Array) return asBytes(data);
  const numbers: ArrayLike<number> = isFloat16Array(data)
    ? float16BitsToFloat32(bitsOf(data))
    : (data as ArrayLike<number>);
  switch (dtype) {
    case 'f32':
      return asBytes(new Float32Array(numbers));
    case 'i32':
      return asBytes(wholeNumbers(numbers, new Int32Array(numbers.length), dtype));
    case 'u32':
      return asBytes(wholeNumbers(numbers, new Uint32Array(numbers.length), dtype));
    case 'bool':
      // NaN is true, as it is on the GPU.
      return asBytes(Uint32Array.from(numbers, (v) => Number(Number(v) !== 0)));
  }
}

/**
 * A number as a value of an integer type, towards zero.
 *
 * @throws ValueError where the type can't hold it
 */
export function wholeOf(value: number, type: 'i32' | 'u32', op = 'tensor'): number {
  const [least, most] = rangeOf(type);
  const whole = Math.trunc(value);
  if (whole >= least && whole <= most) return whole;
  throw new ValueError(op, `The value ${value} is no ${type}`, {
    expected: `numbers from ${least} to ${most}`,
    remedy: 'use f32',
  });
}

function wholeNumbers<A extends Int32Array | Uint32Array>(from: ArrayLike<number>, to: A, type: 'i32' | 'u32'): A {
  for (let i = 0; i < from.length; i++) to[i] = wholeOf(from[i], type);
  return to;
}

/** Values of a buffer's bytes. */
export function fromBytes(bytes: ArrayBuffer, dtype: DType): Float32Array | Int32Array | Uint32Array | Uint8Array {
  switch (dtype) {
    case 'f32':
      return new Float32Array(bytes);
    case 'f16':
      return float16BitsToFloat32(new Uint16Array(bytes));
    case 'i32':
      return new Int32Array(bytes);
    case 'u32':
      return new Uint32Array(bytes);
    case 'bool':
      return new Uint8Array(new Uint32Array(bytes));
  }
}

function padded(bits: Uint16Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Math.ceil(bits.byteLength / 4) * 4);
  bytes.set(new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength));
  return bytes;
}

function asBytes(data: Float32Array | Int32Array | Uint32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}
