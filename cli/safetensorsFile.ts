// safetensors files of any size: read and written tensor by tensor.

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { FormatError, errorClause } from '../core/errors.ts';
import { sameShape, show } from '../core/index.ts';
import type { HostTensor, LazyTensors, SafetensorsEntry, SafetensorsHeader } from '../nn/index.ts';
import {
  layoutSafetensors,
  readSafetensorsHeader,
  safetensorsEntry,
  safetensorsHeaderBytes,
  SafetensorsTensors,
} from '../nn/index.ts';
import { fileError } from './files.ts';

/**
 * The pieces of a file, in order; what `writeFileAtomic` takes. They may be gone through again, when a first writing
 * failed.
 */
export function safetensorsPieces(
  tensors: ReadonlyMap<string, SafetensorsEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Iterable<Uint8Array> {
  const layout = layoutSafetensors(tensors, Object.entries(metadata));
  const order = [...layout.tensors].sort(([, a], [, b]) => a.begin - b.begin);
  return {
    *[Symbol.iterator]() {
      yield layout.header;
      for (const [name] of order) {
        const { data } = tensors.get(name)!;
        yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      }
    },
  };
}

/** The same of tensors that are read when their turn comes, so that no two of them are in memory at once. */
export function lazyPieces(
  tensors: LazyTensors,
  metadata: Readonly<Record<string, string>> = {},
): AsyncIterable<Uint8Array> {
  const layout = layoutSafetensors(
    Array.from(tensors, ([name, { shape }]) => [name, { dtype: 'F32', shape }] as const),
    Object.entries(metadata),
  );
  return {
    async *[Symbol.asyncIterator]() {
      yield layout.header;
      for (const [, tensor] of tensors) {
        const { data } = await tensor.read();
        yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      }
    },
  };
}

/** Names and shapes that a file is expected to have. */
export type Shapes = Iterable<readonly [name: string, shape: readonly number[]]>;

/**
 * Checks a file's header against what it is expected to hold; no weights are read.
 * @param rename from a name in the file to the expected one
 * @throws FormatError naming the file and the first tensor that is missing, unknown or of another shape; FileError when
 *   it cannot be read
 */
export function checkSafetensorsFile(
  path: string,
  expected: Shapes,
  rename: (name: string) => string = (name) => name,
): Promise<void> {
  return withHeader(path, async (header) => {
    const tensors = new Map(Array.from(header.tensors, ([name, info]) => [rename(name), info] as const));
    const unknown = new Set(tensors.keys());
    const refuse = (what: string, shape?: readonly number[]): never => {
      throw new WrongWeights('readSafetensors', `${path} holds the weights of another model: ${what}`, {
        expected: shape && show(shape),
        remedy: 'use the files of one checkpoint together',
      });
    };
    for (const [name, shape] of expected) {
      const found = tensors.get(name);
      if (!found) return refuse(`it has no ${name}`);
      if (!sameShape(found.shape, shape)) return refuse(`${name} has shape ${show(found.shape)}`, shape);
      unknown.delete(name);
    }
    for (const name of unknown) return refuse(`it also has ${name.slice(0, 100)}`);
  });
}

/** The file is whole, but another model's. */
class WrongWeights extends FormatError {}

/**
 * Reads a whole file.
 * @throws FormatError naming the file and what is wrong in it; FileError when it cannot be read
 */
export function readSafetensorsFile(path: string): Promise<Map<string, SafetensorsEntry>> {
  return withHeader(path, async (header, file) => {
    const tensors = new SafetensorsTensors(header.unreadable);
    for (const [name, info] of header.tensors)
      tensors.set(
        name,
        safetensorsEntry(info, await readAt(file, header.dataStart + info.begin, info.end - info.begin)),
      );
    return tensors;
  });
}

/** One tensor of a file. @throws FormatError, FileError */
export function readSafetensorsTensor(path: string, name: string): Promise<SafetensorsEntry> {
  return withHeader(path, async ({ tensors, dataStart }, file) => {
    const info = tensors.get(name);
    if (!info) throw new FormatError('readSafetensors', `it has no ${name}`);
    return safetensorsEntry(info, await readAt(file, dataStart + info.begin, info.end - info.begin));
  });
}

/**
 * Where the values of a file's tensors begin, in bytes.
 * @param types of the tensors
 * @throws FormatError where names, shapes or types are others; FileError
 */
export async function tensorPlaces(
  path: string,
  expected: Shapes,
  types: Readonly<Record<string, string>>,
): Promise<Map<string, number>> {
  await checkSafetensorsFile(path, expected);
  return withHeader(path, ({ tensors, dataStart }) => {
    const places = new Map<string, number>();
    for (const [name, info] of tensors) {
      if (info.dtype !== types[name])
        throw new FormatError('readSafetensors', `${name} is ${info.dtype}`, { expected: types[name] });
      places.set(name, dataStart + info.begin);
    }
    return Promise.resolve(places);
  });
}

async function withHeader<T>(
  path: string,
  use: (header: SafetensorsHeader, file: FileHandle) => Promise<T>,
): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fileError('readSafetensors', 'read', path, error);
  }
  try {
    const { size } = await file.stat();
    const first = await readAt(file, 0, Math.min(8, size));
    const header = readSafetensorsHeader(await readAt(file, 0, Math.min(safetensorsHeaderBytes(first), size)), size);
    return await use(header, file);
  } catch (error) {
    if (error instanceof WrongWeights) throw error;
    if (error instanceof FormatError)
      throw new FormatError('readSafetensors', `${path} is damaged: ${errorClause(error)}`, {
        expected: error.expected,
        remedy: error.remedy,
        cause: error,
      });
    throw fileError('readSafetensors', 'read', path, error);
  } finally {
    await file.close();
  }
}

/**
 * Bytes from `begin`, in reads of at most 1 GiB: the system takes no more than 2 GiB at once.
 * @throws FormatError where the file ends before
 */
export async function readAt(file: FileHandle, begin: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(bytes, at, Math.min(length - at, 2 ** 30), begin + at);
    if (bytesRead === 0) throw new FormatError('readSafetensors', `it ends after ${begin + at} bytes while it is read`);
    at += bytesRead;
  }
  return bytes;
}

/** Host values as an entry, by the type of their array. */
export function hostEntry(value: HostTensor | SafetensorsEntry): SafetensorsEntry {
  if ('dtype' in value) return value;
  const { shape, data } = value;
  if (data instanceof Float32Array) return { dtype: 'F32', shape, data };
  if (data instanceof Int32Array) return { dtype: 'I32', shape, data };
  if (data instanceof Uint32Array) return { dtype: 'U32', shape, data };
  return { dtype: 'F32', shape, data: Float32Array.from(data as ArrayLike<number>) };
}
