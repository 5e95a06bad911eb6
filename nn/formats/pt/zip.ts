// The records of a zip archive, read one by one: stored or deflated, with zip64 sizes. A zip library would unpack all
// of a file of gigabytes at once, or trust its sizes; here the directory is checked first and each record's size, name
// and CRC-32 when it is read. Source: PKWARE, APPNOTE.TXT 6.3.10.

import type { ByteSource } from '../byteSource.ts';
import { crc32 } from './crc32.ts';
import { quoted, refuse } from './errors.ts';

const END = 0x06054b50,
  END_64 = 0x06064b50,
  LOCATOR_64 = 0x07064b50,
  ENTRY = 0x02014b50,
  LOCAL = 0x04034b50;
const END_BYTES = 22,
  ENTRY_BYTES = 46,
  LOCAL_BYTES = 30;
const MAX_COMMENT = 0xffff;
const MAX_RECORDS = 200_000;
/** PyTorch deflates nothing, so that a deflated record comes from a tool; what it may grow to is bounded. */
const MAX_INFLATED = 64 * 2 ** 20,
  MAX_RATIO = 20;

export interface ZipRecord {
  readonly name: string;
  /** Bytes of the contents. */
  readonly size: number;
  readonly deflated: boolean;
  readonly storedSize: number;
  readonly crc: number;
  readonly headerAt: number;
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * The directory of an archive: name → record.
 *
 * @throws FormatError for a cut file, a directory that contradicts itself, encryption, or several disks
 */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipRecord>> {
  const { count, begin, end } = await findDirectory(source);
  if (count > MAX_RECORDS || count * ENTRY_BYTES > end - begin)
    throw refuse(`the zip directory of ${end - begin} bytes is said to have ${count} records`, {
      expected: `at most ${Math.min(MAX_RECORDS, Math.floor((end - begin) / ENTRY_BYTES))}`,
    });
  const bytes = await source.read(begin, end);
  const data = view(bytes);
  const records = new Map<string, ZipRecord>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_BYTES > bytes.length || data.getUint32(at, true) !== ENTRY)
      throw refuse(`record ${i} of the zip directory is damaged`);
    const nameBytes = data.getUint16(at + 28, true),
      extraBytes = data.getUint16(at + 30, true);
    const next = at + ENTRY_BYTES + nameBytes + extraBytes + data.getUint16(at + 32, true);
    if (next > bytes.length) throw refuse(`record ${i} of the zip directory is cut`);
    const nameEnd = at + ENTRY_BYTES + nameBytes;
    const name = new TextDecoder().decode(bytes.subarray(at + ENTRY_BYTES, nameEnd));
    const sizes = longSizes(bytes.subarray(nameEnd, nameEnd + extraBytes), [
      data.getUint32(at + 24, true),
      data.getUint32(at + 20, true),
      data.getUint32(at + 42, true),
    ]);
    const method = data.getUint16(at + 10, true);
    if (data.getUint16(at + 8, true) & 1) throw refuse(`record ${quoted(name)} of the zip archive is encrypted`);
    if (method !== 0 && method !== 8)
      throw refuse(`record ${quoted(name)} is compressed by method ${method}`, {
        expected: '0 (stored) or 8 (deflated)',
      });
    if (records.has(name)) throw refuse(`the zip archive has two records called ${quoted(name)}`);
    const [size, storedSize, headerAt] = sizes;
    if (headerAt + LOCAL_BYTES + storedSize > begin || (method === 0 && size !== storedSize))
      throw refuse(`record ${quoted(name)} is said to have ${storedSize} bytes at ${headerAt}`, {
        expected: `${size} bytes within the ${begin} before the zip directory`,
      });
    records.set(name, { name, size, deflated: method === 8, storedSize, crc: data.getUint32(at + 16, true), headerAt });
    at = next;
  }
  return records;
}

async function findDirectory(source: ByteSource): Promise<{ count: number; begin: number; end: number }> {
  const tailAt = Math.max(0, source.size - END_BYTES - MAX_COMMENT);
  const tail = await source.read(tailAt, source.size);
  const data = view(tail);
  let at = tail.length - END_BYTES;
  while (
    at >= 0 &&
    !(data.getUint32(at, true) === END && at + END_BYTES + data.getUint16(at + 20, true) === tail.length)
  )
    at--;
  if (at < 0) throw refuse('the zip archive has no end-of-directory record; the file is cut');
  let found = {
    count: data.getUint16(at + 10, true),
    bytes: data.getUint32(at + 12, true),
    begin: data.getUint32(at + 16, true),
    end: tailAt + at,
  };
  if (found.count === 0xffff || found.bytes === 0xffffffff || found.begin === 0xffffffff)
    found = await findLongDirectory(source, tailAt + at);
  if (found.begin + found.bytes > found.end)
    throw refuse(`the zip directory is said to have ${found.bytes} bytes from ${found.begin}`, {
      expected: `an end before byte ${found.end}`,
    });
  return { count: found.count, begin: found.begin, end: found.begin + found.bytes };
}

/** The directory of an archive that is too large for 32-bit numbers. */
async function findLongDirectory(
  source: ByteSource,
  endAt: number,
): Promise<{ count: number; bytes: number; begin: number; end: number }> {
  if (endAt < 20 + 56) throw refuse('the zip archive has no zip64 directory where its end refers to one');
  const locator = view(await source.read(endAt - 20, endAt));
  const at = locator.getUint32(0, true) === LOCATOR_64 ? long(locator, 8) : -1;
  if (at < 0 || at + 56 > endAt) throw refuse('the zip64 locator of the zip archive is damaged');
  const data = view(await source.read(at, at + 56));
  if (data.getUint32(0, true) !== END_64) throw refuse('the zip64 end of the zip archive is damaged');
  return { count: long(data, 32), bytes: long(data, 40), begin: long(data, 48), end: at };
}

function long(data: DataView, at: number): number {
  const value = data.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`the zip archive has a size or offset of ${value}`);
  return Number(value);
}

/** Sizes and offset with those that are too large for 32 bits taken from the zip64 field. */
function longSizes(extra: Uint8Array, short: readonly [number, number, number]): number[] {
  if (!short.includes(0xffffffff)) return [...short];
  const data = view(extra);
  for (let at = 0; at + 4 <= extra.length;) {
    const end = at + 4 + data.getUint16(at + 2, true);
    if (data.getUint16(at, true) === 1 && end <= extra.length) {
      let from = at + 4;
      return short.map((size) => {
        if (size !== 0xffffffff) return size;
        if (from + 8 > end) throw refuse('a zip64 field is cut');
        from += 8;
        return long(data, from - 8);
      });
    }
    at = end;
  }
  throw refuse('a record of the zip archive lacks its zip64 field');
}

/**
 * The contents of a record.
 *
 * @throws FormatError where the record's own header, its size or its CRC-32 contradict the directory, or where it grows
 *   beyond bounds
 */
export async function readZipRecord(source: ByteSource, record: ZipRecord): Promise<Uint8Array> {
  const { name, size, deflated, storedSize, crc, headerAt } = record;
  const header = view(await source.read(headerAt, headerAt + LOCAL_BYTES));
  const nameBytes = header.getUint16(26, true);
  const begin = headerAt + LOCAL_BYTES + nameBytes + header.getUint16(28, true);
  if (
    header.getUint32(0, true) !== LOCAL ||
    header.getUint16(8, true) !== (deflated ? 8 : 0) ||
    begin + storedSize > source.size
  )
    throw refuse(`the header of record ${quoted(name)} does not agree with the zip directory`);
  const own = await source.read(headerAt + LOCAL_BYTES, headerAt + LOCAL_BYTES + nameBytes);
  if (new TextDecoder().decode(own) !== name)
    throw refuse(
      `record ${quoted(name)} of the zip directory is called ${quoted(new TextDecoder().decode(own))} in place`,
    );
  const stored = await source.read(begin, begin + storedSize);
  const contents = deflated ? await inflate(stored, size, name) : stored;
  const found = crc32(contents);
  if (found !== crc)
    throw refuse(`record ${quoted(name)} has the CRC-32 ${hex(found)}; it is damaged`, { expected: hex(crc) });
  return contents;
}

const hex = (value: number): string => value.toString(16).padStart(8, '0');

async function inflate(stored: Uint8Array, size: number, name: string): Promise<Uint8Array> {
  const most = Math.max(MAX_INFLATED, MAX_RATIO * stored.length);
  if (size > most)
    throw refuse(`record ${quoted(name)} of ${stored.length} bytes inflates to ${size}`, {
      expected: `at most ${most}`,
    });
  const contents = new Uint8Array(size);
  let length = 0;
  try {
    const stream = new Blob([stored as Uint8Array<ArrayBuffer>])
      .stream()
      .pipeThrough(new DecompressionStream('deflate-raw'));
    for (const reader = stream.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (length + value.length > size) {
        await reader.cancel();
        length = Infinity;
        break;
      }
      contents.set(value, length);
      length += value.length;
    }
  } catch (error) {
    throw refuse(`record ${quoted(name)} is not deflated data`, { cause: error });
  }
  if (length !== size)
    throw refuse(`record ${quoted(name)} inflates to ${length === Infinity ? 'more' : length} bytes`, {
      expected: `${size}`,
    });
  return contents;
}
