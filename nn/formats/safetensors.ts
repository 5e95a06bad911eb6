// Reads safetensors (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header
// length, a JSON header {name: {dtype, shape, data_offsets}}, then the raw little-endian values. Files come from
// strangers, so the header is checked in full before any value is looked at: sizes are exact integers, every byte of
// the data belongs to exactly one tensor, no name occurs twice. Nothing is allocated beyond what the file really holds.

import { FormatError } from '../../core/errors.ts';
import type { ErrorDetails } from '../../core/errors.ts';
import { parseHeaderJson, type HeaderJson } from './headerJson.ts';

/**
 * How the values of each dtype are held. F16, BF16 and the F8 types are their bit patterns, BOOL is 0 or 1 in a byte.
 */
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
  F8_E4M3: Uint8Array;
  F8_E5M2: Uint8Array;
}

/** Types of the format that are read. */
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

/** A tensor of a type that isn't read, such as F4: where it lies, and nothing more. */
export interface UnreadableInfo {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** What the header of a file tells. */
export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  /** Tensors of types that the format has but that aren't read here. */
  readonly unreadable: ReadonlyMap<string, UnreadableInfo>;
  /** File offset of the first value. */
  readonly dataStart: number;
  /** Bytes of all values; a complete file has exactly `dataStart + dataBytes` bytes. */
  readonly dataBytes: number;
}

/** A file: its metadata and its tensors, by name. */
export interface Safetensors {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: SafetensorsTensors;
}

/** The tensors of a file. Those of a type that isn't read are left out, and refused by name when they are asked for. */
export class SafetensorsTensors extends Map<string, SafetensorsEntry> {
  /** Tensors of types that are not read. */
  readonly unreadable: ReadonlyMap<string, UnreadableInfo>;

  constructor(unreadable: ReadonlyMap<string, UnreadableInfo> = new Map()) {
    super();
    this.unreadable = unreadable;
  }

  /** @throws FormatError for a tensor that the file has, but of a type that isn't read */
  override get(name: string): SafetensorsEntry | undefined {
    const info = this.unreadable.get(name);
    if (info)
      throw bad(`tensor ${quote(name)} has dtype ${info.dtype}, which is not read`, {
        expected: `one of ${dtypeList()}`,
      });
    return super.get(name);
  }
}

type ArrayConstructor<D extends SafetensorsDtype> = {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): SafetensorsData[D];
  readonly BYTES_PER_ELEMENT: number;
};

export const SAFETENSORS_ARRAYS: { readonly [D in SafetensorsDtype]: ArrayConstructor<D> } = {
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
  F8_E4M3: Uint8Array,
  F8_E5M2: Uint8Array,
};

export const SAFETENSORS_LENGTH_BYTES = 8;
/**
 * The reference implementation takes 100 MB of header, of which a reader makes gigabytes. The largest models have some
 * 10,000 tensors a file, in 1 MB.
 */
const MAX_HEADER_BYTES = 2 ** 24;
/**
 * Types that the format has or may get, beside those that are read: parts of bytes, scales, complex numbers. They tell
 * their bits.
 */
const FOREIGN_DTYPE = /^(?:[FIU](4)|F(4|6|8)_E\d+M\d+[A-Z]*|C(32|64|128))$/;
const MAX_RANK = 64;
export const SAFETENSORS_METADATA = '__metadata__';

/** Bytes of one value of `dtype`. */
export function safetensorsBytesPerElement(dtype: SafetensorsDtype): number {
  return SAFETENSORS_ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/**
 * How many bytes from the start of a file hold the length field and the header, told from its first 8 bytes: read 8
 * bytes, ask here, read that many, and hand them to {@link readSafetensorsHeader}.
 *
 * @throws FormatError if fewer than 8 bytes are given or the announced length is beyond 16 MiB
 */
export function safetensorsHeaderBytes(first: Uint8Array | ArrayBuffer): number {
  const bytes = asBytes(first);
  if (bytes.length < SAFETENSORS_LENGTH_BYTES) {
    throw bad(`the file has ${bytes.length} bytes`, {
      expected: `at least ${SAFETENSORS_LENGTH_BYTES} for the header length`,
      remedy: 'it is empty or cut',
    });
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, SAFETENSORS_LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw bad(`the header length is ${length} bytes`, {
      expected: `at most ${MAX_HEADER_BYTES}`,
      remedy: 'this is not a safetensors file, or one of too many tensors',
    });
  }
  return SAFETENSORS_LENGTH_BYTES + Number(length);
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
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(SAFETENSORS_LENGTH_BYTES, dataStart),
    );
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
  const unreadable = new Map<string, UnreadableInfo>();
  for (const [name, value] of root) {
    if (name === SAFETENSORS_METADATA) {
      metadata = readMetadata(value);
      continue;
    }
    const info = readInfo(name, value);
    if (isReadable(info)) tensors.set(name, info);
    else unreadable.set(name, info);
  }
  const dataBytes = checkTiling([...tensors, ...unreadable]);
  if (fileBytes !== undefined && dataStart + dataBytes !== fileBytes) {
    const has = fileBytes - dataStart;
    throw bad(`the tensors take ${dataBytes} bytes but ${has} follow the header`, {
      remedy: has < dataBytes ? 'the file is cut' : 'the bytes after the last tensor belong to none',
    });
  }
  return { metadata, tensors, unreadable, dataStart, dataBytes };
}

/**
 * Reads a complete file. Values are views of `file` where its alignment allows, copies otherwise.
 *
 * @throws FormatError naming what is wrong, as {@link readSafetensorsHeader}
 */
export function readSafetensors(file: Uint8Array | ArrayBuffer): Safetensors {
  const bytes = asBytes(file);
  const header = readSafetensorsHeader(bytes, bytes.length);
  const tensors = new SafetensorsTensors(header.unreadable);
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
  const array = SAFETENSORS_ARRAYS[dtype];
  const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  const data = new array(aligned.buffer, aligned.byteOffset, aligned.length / array.BYTES_PER_ELEMENT);
  return { dtype, shape, data } as SafetensorsEntry;
}

function readMetadata(value: HeaderJson): Map<string, string> {
  if (!(value instanceof Map))
    throw bad(`${SAFETENSORS_METADATA} is ${describe(value)}`, { expected: 'an object of strings' });
  const metadata = new Map<string, string>();
  for (const [key, text] of value) {
    if (typeof text !== 'string')
      throw bad(`${SAFETENSORS_METADATA} entry ${quote(key)} is ${describe(text)}`, { expected: 'a string' });
    metadata.set(key, text);
  }
  return metadata;
}

const isReadable = (info: UnreadableInfo): info is SafetensorsInfo => Object.hasOwn(SAFETENSORS_ARRAYS, info.dtype);

function readInfo(name: string, value: HeaderJson): UnreadableInfo {
  const label = `tensor ${quote(name)}`;
  if (!(value instanceof Map))
    throw bad(`${label} is ${describe(value)}`, { expected: 'an object with dtype, shape and data_offsets' });
  for (const key of ['dtype', 'shape', 'data_offsets']) {
    if (!value.has(key)) throw bad(`${label} has no ${key}`);
  }
  for (const key of value.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets')
      throw bad(`${label} has an unknown field ${quote(key)}`);
  }
  const dtype = value.get('dtype');
  const bits = typeof dtype === 'string' ? bitsPerElement(dtype) : undefined;
  if (bits === undefined) throw bad(`${label} has dtype ${describe(dtype)}`, { expected: `one of ${dtypeList()}` });
  const shape = value.get('shape');
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount)) {
    throw bad(`${label} has shape ${describe(shape)}`, {
      expected: `an array of non-negative integers, ${MAX_RANK} at most`,
    });
  }
  const offsets = value.get('data_offsets');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw bad(`${label} has data_offsets ${describe(offsets)}`, { expected: 'two non-negative integers' });
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw bad(`${label} has data_offsets [${begin},${end}]`, { expected: 'begin <= end' });
  const size = productOf(shape, bits);
  if (size === undefined) throw bad(`${label} has shape (${shape.join(',')}), whose size overflows`);
  if (size !== 8 * (end - begin)) {
    throw bad(
      `${label} of dtype ${describe(dtype)} and shape (${shape.join(',')}) needs ${size / 8} bytes, its data_offsets ` +
        `[${begin},${end}] give ${end - begin}`,
    );
  }
  return { dtype: dtype as string, shape: shape as number[], begin, end };
}

/** Bits of one value, also of a type that isn't read; undefined for what is no type. */
function bitsPerElement(dtype: string): number | undefined {
  if (Object.hasOwn(SAFETENSORS_ARRAYS, dtype)) return 8 * safetensorsBytesPerElement(dtype as SafetensorsDtype);
  const bits = FOREIGN_DTYPE.exec(dtype)
    ?.slice(1)
    .find((digits) => digits !== undefined);
  return bits === undefined ? undefined : Number(bits);
}

/** Every byte must belong to exactly one tensor; returns how many there are. */
function checkTiling(tensors: [string, UnreadableInfo][]): number {
  let last = 0;
  const ordered = tensors.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, { begin, end }] of ordered) {
    if (begin > last)
      throw bad(`tensor ${quote(name)} begins at ${begin}`, {
        expected: `${last}: bytes ${last} to ${begin} belong to no tensor`,
      });
    if (begin < last)
      throw bad(`tensor ${quote(name)} begins at ${begin}`, {
        expected: `${last}: it overlaps the tensor before it`,
      });
    last = end;
  }
  return last;
}

/** Bytes of a tensor, or undefined where the shape is none or the size overflows. */
export function safetensorsByteSize(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  return productOf(shape, safetensorsBytesPerElement(dtype));
}

function productOf(shape: readonly unknown[], unit: number): number | undefined {
  let product = unit;
  for (const size of shape) {
    if (!isCount(size)) return undefined;
    product *= size;
    if (!Number.isSafeInteger(product)) return undefined;
  }
  return product;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function asBytes(source: Uint8Array | ArrayBuffer): Uint8Array {
  return source instanceof Uint8Array ? source : new Uint8Array(source);
}

function describe(value: HeaderJson | undefined): string {
  if (value instanceof Map) return 'an object';
  const part = Array.isArray(value) ? value.slice(0, 40) : typeof value === 'string' ? value.slice(0, 80) : value;
  const text = JSON.stringify(part, (_, item: unknown) => (item instanceof Map ? {} : item)) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}

function dtypeList(): string {
  return Object.keys(SAFETENSORS_ARRAYS).join(', ');
}

function bad(what: string, options?: ErrorDetails): FormatError {
  return new FormatError('readSafetensors', what, options);
}
