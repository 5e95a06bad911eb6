// Conversions between what a safetensors entry holds and the float32 that the engine computes in.

import { ValueError } from '../../core/errors.ts';
import { float16BitsToFloat32, float32ToFloat16Bits } from '../../core/tensor/float16.ts';
import type { SafetensorsEntry } from './safetensors.ts';

/**
 * Values of any entry as float32, in row-major order. F32 is returned as it is, without a copy; F64 is rounded to
 * nearest; 64-bit integers beyond 2^24 lose precision as any float32 does; BOOL gives 0 and 1;
 * F8 types give their numbers.
 */
export function toFloat32(entry: SafetensorsEntry): Float32Array {
  switch (entry.dtype) {
    case 'F32':
      return entry.data;
    case 'F16':
      return float16BitsToFloat32(entry.data);
    case 'BF16':
      return bfloat16BitsToFloat32(entry.data);
    case 'F8_E4M3':
    case 'F8_E5M2':
      return float8BitsToFloat32(entry.data, entry.dtype);
    case 'I64':
    case 'U64':
      return Float32Array.from(entry.data as ArrayLike<bigint>, Number);
    default:
      return new Float32Array(entry.data);
  }
}

/**
 * An entry of dtype F32, F16 or BF16 from float32 values; the 16-bit types round to nearest, ties to even.
 *
 * @throws ValueError if `data` does not hold as many values as `shape` says
 */
export function fromFloat32(
  data: Float32Array,
  shape: readonly number[],
  dtype: 'F32' | 'F16' | 'BF16' = 'F32',
): SafetensorsEntry {
  const length = shape.reduce((product, size) => product * size, 1);
  if (data.length !== length) {
    throw new ValueError('fromFloat32', `shape (${shape.join(',')}) needs ${length} values, got ${data.length}`);
  }
  if (dtype === 'F32') return { dtype, shape, data };
  return { dtype, shape, data: dtype === 'F16' ? float32ToFloat16Bits(data) : float32ToBfloat16Bits(data) };
}

export { float16BitsToFloat32, float32ToFloat16Bits };

/** bfloat16 is the upper half of a float32. */
export function bfloat16BitsToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}

/**
 * Numbers of 8-bit floats (Micikevicius et al. 2022, arXiv 2209.05433). E5M2 is the upper half of a float16. E4M3 has
 * no infinity: its largest pattern is NaN, and what would be infinities are numbers up to 448.
 */
export function float8BitsToFloat32(bits: Uint8Array, dtype: 'F8_E4M3' | 'F8_E5M2'): Float32Array {
  if (dtype === 'F8_E5M2') return float16BitsToFloat32(Uint16Array.from(bits, (b) => b << 8));
  return Float32Array.from(bits, (b) => {
    const exponent = (b >> 3) & 15,
      fraction = b & 7;
    const size =
      (b & 0x7f) === 0x7f ? NaN : exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
    return b & 0x80 ? -size : size;
  });
}

/** Float32 to bfloat16 patterns. A NaN stays a NaN: rounding its payload could otherwise carry into infinity. */
export function float32ToBfloat16Bits(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    bits[i] = (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}
