// Conversions between what a safetensors entry holds and the float32 that the engine computes in.

import { Float16Array } from '@petamoriken/float16';
import { ValueError } from '../core/errors.ts';
import type { SafetensorsEntry } from './safetensors.ts';

/**
 * Values of any entry as float32, in row-major order. F32 is returned as it is, without a copy; F64 is rounded to nearest;
 * 64-bit integers beyond 2^24 lose precision as any float32 does; BOOL gives 0 and 1.
 */
export function toFloat32(entry: SafetensorsEntry): Float32Array {
  switch (entry.dtype) {
    case 'F32':
      return entry.data;
    case 'F16':
      return float16BitsToFloat32(entry.data);
    case 'BF16':
      return bfloat16BitsToFloat32(entry.data);
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
 * @throws ValueError if `data` does not hold as many values as `shape` says.
 */
export function fromFloat32(data: Float32Array, shape: readonly number[], dtype: 'F32' | 'F16' | 'BF16' = 'F32'): SafetensorsEntry {
  const length = shape.reduce((product, size) => product * size, 1);
  if (data.length !== length) {
    throw new ValueError(`[fromFloat32] shape (${shape.join(',')}) needs ${length} values, got ${data.length}.`);
  }
  if (dtype === 'F32') return { dtype, shape, data };
  return { dtype, shape, data: dtype === 'F16' ? float32ToFloat16Bits(data) : float32ToBfloat16Bits(data) };
}

/** IEEE binary16 patterns to float32, exactly. */
export function float16BitsToFloat32(bits: Uint16Array): Float32Array {
  const out = new Float32Array(bits.length);
  const table = float16Table();
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

/** Float32 to IEEE binary16 patterns. */
export function float32ToFloat16Bits(values: Float32Array): Uint16Array {
  const half = new Float16Array(values);
  return new Uint16Array(half.buffer as ArrayBuffer, half.byteOffset, half.length);
}

/** bfloat16 is the upper half of a float32. */
export function bfloat16BitsToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
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

let table: Float32Array | undefined;

/** All 65,536 binary16 values: a look-up is an order of magnitude faster than converting through an array proxy. */
function float16Table(): Float32Array {
  if (!table) {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    table = new Float32Array(new Float16Array(bits.buffer));
  }
  return table;
}
