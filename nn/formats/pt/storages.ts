// The storages that the pickle of a file refers to, each once under its key.

import { StorageRef, StorageType, type Item } from './constructors.ts';
import { quoted, refuse } from './errors.ts';
import { ptBytesPerElement, ptStorageBytes, type PtStorage } from './tensor.ts';
import type { PtValue } from './values.ts';

/** What a container of a pickle and storages gives. */
export interface PtContents {
  readonly value: PtValue;
  /** All bytes of a storage. */
  storage(storage: PtStorage): Promise<Uint8Array>;
}

export class Storages {
  readonly byKey = new Map<string, PtStorage>();
  private readonly check: (storage: PtStorage) => void;

  /** @param check refuses a storage that the file does not hold */
  constructor(check: (storage: PtStorage) => void = () => {}) {
    this.check = check;
  }

  /**
   * The storage of a tuple ('storage', type, key, location, length), in legacy files with the part of it that is meant.
   */
  readonly load = (reference: Item[]): StorageRef => {
    const [kind, type, key, , length, part] = reference;
    if (
      kind !== 'storage' ||
      !(type instanceof StorageType) ||
      typeof key !== 'string' ||
      !Number.isSafeInteger(length) ||
      (length as number) < 0
    )
      throw refuse('a reference to a storage is not a type, a key, a location and a length');
    const root: PtStorage = { key, dtype: type.dtype, length: length as number };
    if (!Number.isSafeInteger(ptStorageBytes(root))) throw refuse(`the size of storage ${quoted(key)} overflows`);
    const known = this.byKey.get(key);
    if (known && (known.dtype !== root.dtype || known.length !== root.length))
      throw refuse(`storage ${quoted(key)} has ${length} elements of ${type.dtype}`, {
        expected: `${known.length} of ${known.dtype}, as before`,
      });
    if (!known) {
      this.check(root);
      this.byKey.set(key, root);
    }
    return new StorageRef(part === undefined || part === null ? (known ?? root) : partOf(root, part));
  };
}

function partOf(root: PtStorage, part: Item): PtStorage {
  const [key, offset, length] = Array.isArray(part) ? part : [];
  if (
    typeof key !== 'string' ||
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    (offset as number) < 0 ||
    (length as number) < 0 ||
    (offset as number) + (length as number) > root.length
  )
    throw refuse(`a part of storage ${quoted(root.key)} lies outside of it`, {
      expected: `within ${root.length} elements`,
    });
  return {
    key: `${root.key}/${key}`,
    dtype: root.dtype,
    length: length as number,
    partOf: { key: root.key, offset: offset as number },
  };
}

/** The bytes of a part within those of its whole. */
export function bytesOfPart(storage: PtStorage, whole: Uint8Array): Uint8Array {
  if (!storage.partOf) return whole;
  const size = storage.dtype === 'bytes' ? 1 : ptBytesPerElement(storage.dtype);
  return whole.subarray(storage.partOf.offset * size, (storage.partOf.offset + storage.length) * size);
}
