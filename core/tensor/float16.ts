// Conversions of whole arrays between f16 and f32 on the host. The rounding is the library's. Its Float16Array isn't used: it is a
// proxy, which is slow to read element by element, and most of the library's size in a page.

import { f16round, type Float16Array } from '@petamoriken/float16';

/** Patterns of f32: infinity, 2⁻¹⁴, and the difference of the exponents' biases. */
const INFINITE = 0x7f800000,
  LEAST_NORMAL = 0x38800000,
  EXPONENTS_APART = 0x38000000;

/** IEEE binary16 patterns to float32, exactly. */
export function float16BitsToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  const table = float16Table();
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

/** Numbers to IEEE binary16 patterns, to nearest, ties to even. */
export function float32ToFloat16Bits(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const rounded = new Float32Array(values.length);
  const words = new Uint32Array(rounded.buffer);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    rounded[i] = f16round(values[i]);
    const sign = (words[i] >>> 16) & 0x8000,
      size = words[i] & 0x7fffffff;
    if (size > INFINITE) out[i] = sign | 0x7e00;
    else if (size === INFINITE) out[i] = sign | 0x7c00;
    // Below the least normal number of f16, the pattern counts its least number.
    else if (size < LEAST_NORMAL) out[i] = sign | (Math.abs(rounded[i]) * 2 ** 24);
    else out[i] = sign | ((size - EXPONENTS_APART) >>> 13);
  }
  return out;
}

/** Whether a value is a Float16Array, of the language or of @petamoriken/float16. */
export function isFloat16Array(value: unknown): value is Float16Array {
  return (
    typeof value === 'object' &&
    value !== null &&
    (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === 'Float16Array'
  );
}

/** The patterns of a Float16Array, on the same memory. */
export function bitsOf(values: Float16Array): Uint16Array<ArrayBuffer> {
  return new Uint16Array(values.buffer as ArrayBuffer, values.byteOffset, values.length);
}

let table: Float32Array | undefined;

function float16Table(): Float32Array {
  return (table ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31,
      fraction = bits & 1023;
    const size =
      exponent === 31
        ? fraction === 0
          ? Infinity
          : NaN
        : exponent === 0
          ? fraction * 2 ** -24
          : (1024 + fraction) * 2 ** (exponent - 25);
    return bits >> 15 ? -size : size;
  }));
}
