// Whether numbers are finite. Weights that aren't give nothing but black pictures, and nothing brings them back.

import type { HostTensor, SafetensorsEntry } from '../nn/index.ts';

/** The first tensor that holds an infinity or a NaN. */
export function firstNotFinite(
  tensors: Iterable<readonly [string, HostTensor | SafetensorsEntry]>,
): string | undefined {
  for (const [name, entry] of tensors) if (!allFinite(entry)) return name;
  return undefined;
}

function allFinite(entry: HostTensor | SafetensorsEntry): boolean {
  const { data } = entry;
  // Half precision comes as bits: an exponent of all ones is an infinity or a NaN.
  const exponent = 'dtype' in entry ? { F16: 0x7c00, BF16: 0x7f80 }[entry.dtype as string] : undefined;
  for (let i = 0; i < data.length; i++) {
    const value: number | bigint = data[i] as number | bigint;
    if (typeof value === 'bigint') return true;
    if (exponent === undefined ? !Number.isFinite(value) : (value & exponent) === exponent) return false;
  }
  return true;
}
