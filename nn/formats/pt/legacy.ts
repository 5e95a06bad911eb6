// The form before PyTorch 1.6: pickles of a magic number, a protocol, the machine, what was saved and the keys of its
// storages, and then each storage as its length (64 bits) and its bytes.

import type { ByteSource } from '../byteSource.ts';
import { quoted, refuse } from './errors.ts';
import { MAX_PICKLE_BYTES, readPickle } from './pickle.ts';
import { bytesOfPart, Storages, type PtContents } from './storages.ts';
import { ptStorageBytes } from './tensor.ts';

const MAGIC = 0x1950a86a20f9469cfc6cn,
  PROTOCOL = 1001;

export async function openLegacy(source: ByteSource): Promise<PtContents> {
  const head = await source.read(0, Math.min(source.size, MAX_PICKLE_BYTES));
  const none = new Storages(() => {
    throw refuse('a storage is referred to outside of what was saved');
  });
  const magic = readPickle(head, 0, none.load);
  if (magic.value !== MAGIC)
    throw refuse('the file is a pickle, but not one that torch.save wrote', { expected: 'its magic number first' });
  const protocol = readPickle(head, magic.end, none.load);
  if (protocol.value !== PROTOCOL)
    throw refuse(`the file has version ${String(protocol.value)} of the legacy format`, { expected: `${PROTOCOL}` });
  const machine = readPickle(head, protocol.end, none.load);
  if (!(machine.value instanceof Map) || machine.value.get('little_endian') !== true)
    throw refuse('the file was written on a big-endian machine', { expected: 'little_endian to be true' });
  const storages = new Storages();
  const saved = readPickle(head, machine.end, storages.load);
  const keys = readPickle(head, saved.end, none.load);
  if (!Array.isArray(keys.value)) throw refuse('the keys of the storages are no list');

  const places = new Map<string, { begin: number; end: number }>();
  let at = keys.end;
  for (const key of keys.value) {
    const storage = typeof key === 'string' ? storages.byKey.get(key) : undefined;
    if (!storage || places.has(storage.key))
      throw refuse(`the file lists storage ${quoted(String(key))}`, { expected: 'each that a tensor refers to, once' });
    if (at + 8 > source.size) throw refuse(`the file is cut: it ends before storage ${quoted(storage.key)}`);
    const length = new DataView(new Uint8Array(await source.read(at, at + 8)).buffer).getBigInt64(0, true);
    if (length !== BigInt(storage.length))
      throw refuse(`storage ${quoted(storage.key)} has ${length} elements`, { expected: `${storage.length}` });
    const place = { begin: at + 8, end: at + 8 + ptStorageBytes(storage) };
    if (place.end > source.size)
      throw refuse(`the file is cut: storage ${quoted(storage.key)} ends at byte ${place.end} of ${source.size}`);
    places.set(storage.key, place);
    at = place.end;
  }
  for (const key of storages.byKey.keys())
    if (!places.has(key)) throw refuse(`the file lacks storage ${quoted(key)}, to which a tensor refers`);
  return {
    value: saved.value,
    storage: async (storage) => {
      const { begin, end } = places.get(storage.partOf?.key ?? storage.key)!;
      return bytesOfPart(storage, await source.read(begin, end));
    },
  };
}
