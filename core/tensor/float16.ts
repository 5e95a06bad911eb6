// Conversions of whole arrays between f16 and f32 on the host. A Float16Array of the library is a proxy: reading it
// element by element costs twenty times as much as a table.

import { Float16Array } from '@petamoriken/float16';

/** IEEE binary16 patterns to float32, exactly. */
export function float16BitsToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  const table = float16Table();
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

/** Numbers to IEEE binary16 patterns, to nearest, ties to even. */
export function float32ToFloat16Bits(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  return bitsOf(new Float16Array(values));
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
  if (!table) {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    table = new Float32Array(new Float16Array(bits.buffer));
  }
  return table;
}
