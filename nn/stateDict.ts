// Converts between the tensors of a state and the entries of a safetensors file.

import { DTypeError, ShapeError, ValueError } from '../core/errors.ts';
import { noGrad, sameShape, show, Tensor, tensor, type Device, type DType, type HostArray } from '../core/index.ts';
import type { SafetensorsEntry } from './formats/safetensors.ts';
import { writeSafetensors } from './formats/safetensorsWrite.ts';
import { fromFloat32, toFloat32 } from './formats/safetensorsFloat.ts';

/** Row-major values on the host. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: HostArray;
}

/** What a state can be loaded from: tensors, host values, or entries of a safetensors file. */
export type StateEntries = ReadonlyMap<string, Tensor | HostTensor | SafetensorsEntry>;

/** Names that did not fit, when `strict` is false. */
export interface LoadReport {
  /** The module has it, the entries don't. */
  readonly missing: readonly string[];
  /** The entries have it, the module doesn't. */
  readonly unexpected: readonly string[];
}

/**
 * Values of host data as numbers that `Tensor.write` takes. Bits of F16 and BF16 are decoded; 64-bit integers become
 * doubles, exact up to 2^53.
 */
export function hostValues(entry: SafetensorsEntry | { readonly data: HostArray }): HostArray {
  if (!('dtype' in entry)) return entry.data;
  switch (entry.dtype) {
    case 'F16':
    case 'BF16':
      return toFloat32(entry);
    case 'I64':
    case 'U64':
      return Float64Array.from(entry.data as ArrayLike<bigint>, Number);
    default:
      return entry.data;
  }
}

/** The tensor type that holds an entry's values; null where there is none. */
function tensorType(entry: SafetensorsEntry): DType | null {
  switch (entry.dtype) {
    case 'F64':
    case 'F32':
    case 'BF16':
      return 'f32';
    case 'F16':
      return 'f16';
    case 'BOOL':
      return 'bool';
    case 'U8':
    case 'U16':
    case 'U32':
      return 'u32';
    case 'I8':
    case 'I16':
    case 'I32':
      return 'i32';
    default:
      return null;
  }
}

/** Reads a tensor's values into an entry: f32 → F32, f16 → F16, i32 → I32, u32 → U32, bool → BOOL. */
export async function toEntry(t: Tensor): Promise<SafetensorsEntry> {
  const data = await t.data();
  const shape = [...t.shape];
  switch (t.dtype) {
    case 'f32':
      return { dtype: 'F32', shape, data: data as Float32Array };
    case 'f16':
      return fromFloat32(data as Float32Array, shape, 'F16');
    case 'i32':
      return { dtype: 'I32', shape, data: data as Int32Array };
    case 'u32':
      return { dtype: 'U32', shape, data: data as Uint32Array };
    case 'bool':
      return { dtype: 'BOOL', shape, data: data as Uint8Array };
  }
}

/**
 * A tensor of an entry's values: F64, F32 and BF16 → f32, F16 → f16, BOOL → bool, smaller integers → i32 or u32, unless
 * a type is given.
 *
 * @throws DTypeError for 64-bit integers without a given type
 */
export function fromEntry(device: Device, entry: SafetensorsEntry, dtype?: DType): Tensor {
  const type = dtype ?? tensorType(entry);
  if (!type)
    throw new DTypeError('fromEntry', `${entry.dtype} values have no tensor type of their own`, {
      expected: 'at most 32 bits',
      remedy: 'pass the type to convert to',
    });
  return tensor(device, hostValues(entry) as HostArray & ArrayBufferView, { shape: entry.shape, dtype: type });
}

/** Reads a whole state, tensor by tensor, in order. */
export async function toEntries(state: ReadonlyMap<string, Tensor>): Promise<Map<string, SafetensorsEntry>> {
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, t] of state) entries.set(name, await toEntry(t));
  return entries;
}

/** A safetensors file of a state, e.g. `saveStateDict(model.stateDict(), { step: '1000' })`. */
export async function saveStateDict(
  state: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<Uint8Array> {
  return writeSafetensors(await toEntries(state), Object.entries(metadata));
}

/**
 * Overwrites tensors in place, cast to their types. Nothing is written unless everything fits; with `strict` false,
 * names on one side only are left alone and reported.
 *
 * @throws ShapeError naming every tensor whose shape differs
 * @throws ValueError naming every missing and unexpected tensor, when `strict`
 */
export function loadEntries(
  state: ReadonlyMap<string, Tensor>,
  entries: StateEntries,
  options: { readonly strict?: boolean } = {},
): LoadReport {
  const missing = [...state.keys()].filter((name) => !entries.has(name));
  const unexpected = [...entries.keys()].filter((name) => !state.has(name));
  const misshapen = [...state].flatMap(([name, t]) => {
    const entry = entries.get(name);
    return entry && !sameShape(entry.shape, t.shape)
      ? [`${name} ${show(entry.shape)} instead of ${show(t.shape)}`]
      : [];
  });
  if (misshapen.length)
    throw new ShapeError('loadStateDict', `Shapes differ: ${misshapen.join(', ')}`, {
      remedy: 'load into a model of the same configuration',
    });
  if ((options.strict ?? true) && missing.length + unexpected.length) {
    const parts = [
      missing.length && `missing: ${missing.join(', ')}`,
      unexpected.length && `unexpected: ${unexpected.join(', ')}`,
    ];
    throw new ValueError('loadStateDict', `Names differ; ${parts.filter(Boolean).join('; ')}`, {
      remedy: 'pass strict: false to load what fits',
    });
  }
  noGrad(() => {
    for (const [name, t] of state) {
      const entry = entries.get(name);
      if (entry instanceof Tensor) t.copy_(entry);
      else if (entry && t.numel) t.write(hostValues(entry));
    }
  });
  return { missing, unexpected };
}
