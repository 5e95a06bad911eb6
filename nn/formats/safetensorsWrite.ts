// Writes safetensors (https://github.com/huggingface/safetensors, "Format"), at once or tensor by tensor.

import { ValueError, type ErrorDetails } from '../../core/errors.ts';
import {
  SAFETENSORS_ARRAYS,
  SAFETENSORS_LENGTH_BYTES,
  SAFETENSORS_METADATA,
  safetensorsByteSize,
  safetensorsBytesPerElement,
  type SafetensorsDtype,
  type SafetensorsEntry,
  type SafetensorsInfo,
} from './safetensors.ts';

/** A header ready to be written, and the order in which the tensors' bytes follow it. */
export interface SafetensorsLayout {
  /** Length field and padded JSON; a multiple of 8 bytes. */
  readonly header: Uint8Array;
  /** Name → place, in file order, so that a writer can stream tensor after tensor. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  readonly fileBytes: number;
}

/**
 * Plans a file without its values, so that a checkpoint larger than memory can be written tensor by tensor. The header
 * keeps the order given; the data is laid out by falling element size, so that every tensor is aligned to its own type.
 *
 * @throws ValueError for a repeated or reserved name, an unknown dtype, or a shape that is not of non-negative
 *   integers.
 */
export function layoutSafetensors(
  tensors: Iterable<readonly [string, { readonly dtype: SafetensorsDtype; readonly shape: readonly number[] }]>,
  metadata: Iterable<readonly [string, string]> = [],
): SafetensorsLayout {
  const entries: { name: string; dtype: SafetensorsDtype; shape: readonly number[]; bytes: number }[] = [];
  const names = new Set<string>();
  for (const [name, { dtype, shape }] of tensors) {
    if (name === SAFETENSORS_METADATA)
      throw refuse(`a tensor is called ${SAFETENSORS_METADATA}, which the format reserves`, { remedy: 'rename it' });
    if (names.has(name)) throw refuse(`two tensors are called ${JSON.stringify(name)}`, { expected: 'each name once' });
    if (!Object.hasOwn(SAFETENSORS_ARRAYS, dtype))
      throw refuse(`${JSON.stringify(name)} has dtype ${dtype}`, {
        expected: `one of ${Object.keys(SAFETENSORS_ARRAYS).join(', ')}`,
      });
    const bytes = safetensorsByteSize(dtype, shape);
    if (bytes === undefined)
      throw refuse(`${JSON.stringify(name)} has shape (${shape.join(',')})`, {
        expected: 'non-negative integers of a countable product',
      });
    names.add(name);
    entries.push({ name, dtype, shape: [...shape], bytes });
  }

  const placed = new Map<string, SafetensorsInfo>();
  let end = 0;
  for (const { name, dtype, shape, bytes } of [...entries].sort(
    (a, b) => safetensorsBytesPerElement(b.dtype) - safetensorsBytesPerElement(a.dtype),
  )) {
    placed.set(name, { dtype, shape, begin: end, end: end + bytes });
    end += bytes;
  }

  const members: string[] = [];
  const pairs = metadataMembers(metadata);
  if (pairs.length > 0) members.push(`${JSON.stringify(SAFETENSORS_METADATA)}:{${pairs.join(',')}}`);
  for (const { name } of entries) {
    const { dtype, shape, begin, end: last } = placed.get(name) as SafetensorsInfo;
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, last] })}`);
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(SAFETENSORS_LENGTH_BYTES + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, SAFETENSORS_LENGTH_BYTES);
  return { header, tensors: placed, fileBytes: header.length + end };
}

/**
 * Writes a complete file.
 *
 * @param tensors name → entry, as a Map or any iterable of pairs; `data.length` must be the product of `shape`.
 * @param metadata strings kept under `__metadata__`.
 * @throws ValueError as {@link layoutSafetensors}, or when values do not fit the shape or the dtype
 */
export function writeSafetensors(
  tensors: Iterable<readonly [string, SafetensorsEntry]>,
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array {
  const entries = [...tensors];
  for (const [name, { dtype, shape, data }] of entries) {
    if (
      Object.hasOwn(SAFETENSORS_ARRAYS, dtype) &&
      !(data instanceof (SAFETENSORS_ARRAYS[dtype] as unknown as new () => object))
    ) {
      throw refuse(`${JSON.stringify(name)} of dtype ${dtype} holds a ${data.constructor.name}`, {
        expected: `a ${(SAFETENSORS_ARRAYS[dtype] as unknown as { name: string }).name}`,
      });
    }
    const length = shape.reduce((product, size) => product * size, 1);
    if (data.length !== length) {
      throw refuse(`${JSON.stringify(name)} of shape (${shape.join(',')}) holds ${data.length} values`, {
        expected: `${length}`,
      });
    }
  }
  const layout = layoutSafetensors(entries, metadata);
  const file = new Uint8Array(layout.fileBytes);
  file.set(layout.header, 0);
  for (const [name, { data }] of entries) {
    const { begin } = layout.tensors.get(name) as SafetensorsInfo;
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), layout.header.length + begin);
  }
  return file;
}

function metadataMembers(metadata: Iterable<readonly [string, string]>): string[] {
  const seen = new Set<string>();
  return [...metadata].map(([key, text]) => {
    if (seen.has(key)) throw refuse(`metadata key ${JSON.stringify(key)} is given twice`);
    if (typeof text !== 'string')
      throw refuse(`metadata ${JSON.stringify(key)} is a ${typeof text}`, { expected: 'a string' });
    seen.add(key);
    return `${JSON.stringify(key)}:${JSON.stringify(text)}`;
  });
}

function refuse(what: string, options?: ErrorDetails): ValueError {
  return new ValueError('writeSafetensors', what, options);
}
