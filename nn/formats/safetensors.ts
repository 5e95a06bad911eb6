// Reads and writes safetensors (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header
// length, a JSON header {name: {dtype, shape, data_offsets}}, then the raw little-endian values. Files come from
// strangers, so the header is checked in full before any value is looked at: sizes are exact integers, every byte of
// the data belongs to exactly one tensor, no name occurs twice. Nothing is allocated beyond what the file really holds.

import { FormatError, ValueError } from '../../core/errors.ts';
import type { ErrorDetails } from '../../core/errors.ts';
import { parseHeaderJson, type HeaderJson } from './headerJson.ts';

/** How the values of each dtype are held. F16 and BF16 are their 16-bit patterns, BOOL is 0 or 1 in a byte. */
export interface SafetensorsData {
  F64: Float64Array;
  F32: Float32Array;
  F16: Uint16Array;
  BF16: Uint16Array;
  I64: BigInt64Array;
  I32: Int32Array;
  I16: Int16Array;
  I8: Int8Array;
  U64: BigUint64Array;
  U32: Uint32Array;
  U16: Uint16Array;
  U8: Uint8Array;
  BOOL: Uint8Array;
}

export type SafetensorsDtype = keyof SafetensorsData;

/** One tensor: row-major values of `shape`. A scalar has shape `[]`. */
export type SafetensorsEntry = {
  [D in SafetensorsDtype]: { readonly dtype: D; readonly shape: readonly number[]; readonly data: SafetensorsData[D] };
}[SafetensorsDtype];

/** Where one tensor lies: byte offsets relative to the first byte after the header. */
export interface SafetensorsInfo {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  /** File offset of the first value. */
  readonly dataStart: number;
  /** Bytes of all values; a complete file has exactly `dataStart + dataBytes` bytes. */
  readonly dataBytes: number;
}

export interface Safetensors {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
}

type ArrayConstructor<D extends SafetensorsDtype> = {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): SafetensorsData[D];
  readonly BYTES_PER_ELEMENT: number;
};

const ARRAYS: { readonly [D in SafetensorsDtype]: ArrayConstructor<D> } = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

const LENGTH_BYTES = 8;
/** The reference implementation's own bound on the header. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = '__metadata__';

/** Bytes of one value of `dtype`. */
export function safetensorsBytesPerElement(dtype: SafetensorsDtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/**
 * How many bytes from the start of a file hold the length field and the header, told from its first 8 bytes: read 8
 * bytes, ask here, read that many, and hand them to {@link readSafetensorsHeader}.
 *
 * @throws FormatError if fewer than 8 bytes are given or the announced length is beyond 100 MB
 */
export function safetensorsHeaderBytes(first: Uint8Array | ArrayBuffer): number {
  const bytes = asBytes(first);
  if (bytes.length < LENGTH_BYTES) {
    throw bad(`the file has ${bytes.length} bytes`, {
      expected: `at least ${LENGTH_BYTES} for the header length`,
      remedy: 'it is empty or cut',
    });
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw bad(`the header length is ${length} bytes`, {
      expected: `at most ${MAX_HEADER_BYTES}`,
      remedy: 'this is not a safetensors file',
    });
  }
  return LENGTH_BYTES + Number(length);
}

/**
 * Reads and checks the header alone, so that a large file need not be held in memory.
 *
 * @param first at least the first `safetensorsHeaderBytes(first)` bytes of the file.
 * @param fileBytes size of the whole file, if known; the data must then end exactly there.
 * @throws FormatError naming what is wrong: length, UTF-8, JSON, repeated names, dtype, shape, offsets, holes,
 *   overlaps.
 */
export function readSafetensorsHeader(first: Uint8Array | ArrayBuffer, fileBytes?: number): SafetensorsHeader {
  const bytes = asBytes(first);
  const dataStart = safetensorsHeaderBytes(bytes);
  if (fileBytes !== undefined && dataStart > fileBytes) {
    throw bad(`the header ends at byte ${dataStart} but the file has ${fileBytes} bytes`, {
      remedy: 'it is cut, or not a safetensors file',
    });
  }
  if (bytes.length < dataStart)
    throw bad(`${bytes.length} bytes were given`, { expected: `the whole header of ${dataStart} bytes` });

  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(LENGTH_BYTES, dataStart));
  } catch {
    throw bad('the header is not UTF-8');
  }
  let root: HeaderJson;
  try {
    root = parseHeaderJson(text);
  } catch (error) {
    throw bad(`the header is not valid JSON: ${(error as Error).message}`);
  }
  if (!(root instanceof Map)) throw bad(`the header is ${describe(root)}`, { expected: 'a JSON object of tensors' });

  let metadata = new Map<string, string>();
  const tensors = new Map<string, SafetensorsInfo>();
  for (const [name, value] of root) {
    if (name === METADATA) metadata = readMetadata(value);
    else tensors.set(name, readInfo(name, value));
  }
  const dataBytes = checkTiling(tensors);
  if (fileBytes !== undefined && dataStart + dataBytes !== fileBytes) {
    const has = fileBytes - dataStart;
    throw bad(`the tensors take ${dataBytes} bytes but ${has} follow the header`, {
      remedy: has < dataBytes ? 'the file is cut' : 'the bytes after the last tensor belong to none',
    });
  }
  return { metadata, tensors, dataStart, dataBytes };
}

/**
 * Reads a complete file. Values are views of `file` where its alignment allows, copies otherwise.
 *
 * @throws FormatError naming what is wrong, as {@link readSafetensorsHeader}
 */
export function readSafetensors(file: Uint8Array | ArrayBuffer): Safetensors {
  const bytes = asBytes(file);
  const header = readSafetensorsHeader(bytes, bytes.length);
  const tensors = new Map<string, SafetensorsEntry>();
  for (const [name, info] of header.tensors) {
    tensors.set(
      name,
      safetensorsEntry(info, bytes.subarray(header.dataStart + info.begin, header.dataStart + info.end)),
    );
  }
  return { metadata: header.metadata, tensors };
}

/**
 * Gives the bytes of one tensor, read from `[dataStart + begin, dataStart + end)` of its file, their type and shape.
 *
 * @throws FormatError if `bytes` has not the size that `info` says
 */
export function safetensorsEntry(info: SafetensorsInfo, bytes: Uint8Array): SafetensorsEntry {
  const { dtype, shape } = info;
  if (bytes.length !== info.end - info.begin) {
    throw bad(`a tensor of shape (${shape.join(',')}) got ${bytes.length} bytes`, {
      expected: `${info.end - info.begin}`,
    });
  }
  const array = ARRAYS[dtype];
  const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  const data = new array(aligned.buffer, aligned.byteOffset, aligned.length / array.BYTES_PER_ELEMENT);
  return { dtype, shape, data } as SafetensorsEntry;
}

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
    if (name === METADATA)
      throw refuse(`a tensor is called ${METADATA}, which the format reserves`, { remedy: 'rename it' });
    if (names.has(name)) throw refuse(`two tensors are called ${JSON.stringify(name)}`, { expected: 'each name once' });
    if (!Object.hasOwn(ARRAYS, dtype))
      throw refuse(`${JSON.stringify(name)} has dtype ${dtype}`, { expected: `one of ${dtypeList()}` });
    const bytes = byteSize(dtype, shape);
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
  if (pairs.length > 0) members.push(`${JSON.stringify(METADATA)}:{${pairs.join(',')}}`);
  for (const { name } of entries) {
    const { dtype, shape, begin, end: last } = placed.get(name) as SafetensorsInfo;
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, last] })}`);
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, LENGTH_BYTES);
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
    if (Object.hasOwn(ARRAYS, dtype) && !(data instanceof (ARRAYS[dtype] as unknown as new () => object))) {
      throw refuse(`${JSON.stringify(name)} of dtype ${dtype} holds a ${data.constructor.name}`, {
        expected: `a ${(ARRAYS[dtype] as unknown as { name: string }).name}`,
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

function readMetadata(value: HeaderJson): Map<string, string> {
  if (!(value instanceof Map)) throw bad(`${METADATA} is ${describe(value)}`, { expected: 'an object of strings' });
  const metadata = new Map<string, string>();
  for (const [key, text] of value) {
    if (typeof text !== 'string')
      throw bad(`${METADATA} entry ${JSON.stringify(key)} is ${describe(text)}`, { expected: 'a string' });
    metadata.set(key, text);
  }
  return metadata;
}

function readInfo(name: string, value: HeaderJson): SafetensorsInfo {
  const label = `tensor ${JSON.stringify(name)}`;
  if (!(value instanceof Map))
    throw bad(`${label} is ${describe(value)}`, { expected: 'an object with dtype, shape and data_offsets' });
  for (const key of ['dtype', 'shape', 'data_offsets']) {
    if (!value.has(key)) throw bad(`${label} has no ${key}`);
  }
  for (const key of value.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets')
      throw bad(`${label} has an unknown field ${JSON.stringify(key)}`);
  }
  const dtype = value.get('dtype');
  if (typeof dtype !== 'string' || !Object.hasOwn(ARRAYS, dtype)) {
    throw bad(`${label} has dtype ${JSON.stringify(dtype)}`, { expected: `one of ${dtypeList()}` });
  }
  const shape = value.get('shape');
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw bad(`${label} has shape ${describe(shape)}`, { expected: 'an array of non-negative integers' });
  }
  const offsets = value.get('data_offsets');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw bad(`${label} has data_offsets ${describe(offsets)}`, { expected: 'two non-negative integers' });
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw bad(`${label} has data_offsets [${begin},${end}]`, { expected: 'begin <= end' });
  const bytes = byteSize(dtype as SafetensorsDtype, shape as number[]);
  if (bytes === undefined) throw bad(`${label} has shape (${shape.join(',')}), whose size overflows`);
  if (bytes !== end - begin) {
    throw bad(
      `${label} of dtype ${dtype} and shape (${shape.join(',')}) needs ${bytes} bytes, its data_offsets [${begin},${end}] ` +
        `give ${end - begin}`,
    );
  }
  return { dtype: dtype as SafetensorsDtype, shape: shape as number[], begin, end };
}

/** Every byte must belong to exactly one tensor; returns how many there are. */
function checkTiling(tensors: ReadonlyMap<string, SafetensorsInfo>): number {
  let last = 0;
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, { begin, end }] of ordered) {
    if (begin > last)
      throw bad(`tensor ${JSON.stringify(name)} begins at ${begin}`, {
        expected: `${last}: bytes ${last} to ${begin} belong to no tensor`,
      });
    if (begin < last)
      throw bad(`tensor ${JSON.stringify(name)} begins at ${begin}`, {
        expected: `${last}: it overlaps the tensor before it`,
      });
    last = end;
  }
  return last;
}

function byteSize(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  let bytes = safetensorsBytesPerElement(dtype);
  for (const size of shape) {
    if (!isCount(size)) return undefined;
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return bytes;
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

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function asBytes(source: Uint8Array | ArrayBuffer): Uint8Array {
  return source instanceof Uint8Array ? source : new Uint8Array(source);
}

function describe(value: HeaderJson | undefined): string {
  if (value instanceof Map) return 'an object';
  const text = JSON.stringify(value, (_, item: unknown) => (item instanceof Map ? {} : item)) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function dtypeList(): string {
  return Object.keys(ARRAYS).join(', ');
}

function bad(what: string, options?: ErrorDetails): FormatError {
  return new FormatError('readSafetensors', what, options);
}

function refuse(what: string, options?: ErrorDetails): ValueError {
  return new ValueError('writeSafetensors', what, options);
}
