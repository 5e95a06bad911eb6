// The zip form of a .pt file: NAME/data.pkl, and a record NAME/data/KEY for each storage.

import type { ByteSource } from '../byteSource.ts';
import { quoted, refuse } from './errors.ts';
import { MAX_PICKLE_BYTES, readPickle } from './pickle.ts';
import { bytesOfPart, Storages, type PtContents } from './storages.ts';
import { ptStorageBytes } from './tensor.ts';
import { readZipDirectory, readZipRecord, type ZipRecord } from './zip.ts';

export async function openZip(source: ByteSource): Promise<PtContents> {
  const records = await readZipDirectory(source);
  const pickles = [...records.values()].filter(({ name }) => /^[^/]*\/data\.pkl$|^data\.pkl$/.test(name));
  if (pickles.length !== 1)
    throw refuse(`the zip archive has ${pickles.length} records called data.pkl`, {
      expected: 'one, as torch.save writes',
    });
  const [pickle] = pickles;
  const folder = pickle.name.slice(0, -'data.pkl'.length);
  if (pickle.size > MAX_PICKLE_BYTES)
    throw refuse(`data.pkl has ${pickle.size} bytes`, { expected: `at most ${MAX_PICKLE_BYTES}` });
  const order = records.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(await readSmall(source, order)).trim() !== 'little')
    throw refuse('the file was written on a big-endian machine', { expected: 'little' });

  const recordOf = (key: string): ZipRecord => {
    const record = records.get(`${folder}data/${key}`);
    if (!record) throw refuse(`storage record ${quoted(`data/${key}`)} is not in the archive`);
    return record;
  };
  const storages = new Storages((storage) => {
    const { size } = recordOf(storage.key);
    if (size !== ptStorageBytes(storage))
      throw refuse(`storage ${quoted(storage.key)} has ${storage.length} elements, but its record ${size} bytes`, {
        expected: `${ptStorageBytes(storage)}`,
      });
  });
  const { value } = readPickle(await readZipRecord(source, pickle), 0, storages.load);
  return {
    value,
    storage: async (storage) =>
      bytesOfPart(storage, await readZipRecord(source, recordOf(storage.partOf?.key ?? storage.key))),
  };
}

async function readSmall(source: ByteSource, record: ZipRecord): Promise<Uint8Array> {
  if (record.size > 64) throw refuse(`record ${quoted(record.name)} has ${record.size} bytes`, { expected: 'a word' });
  return readZipRecord(source, record);
}
