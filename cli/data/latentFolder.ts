// A folder of latents that `dis-cli encode` writes and `dis-cli train --latents` reads:
//
//   index.json                 what was encoded, by which autoencoder, and how the latents are laid out
//   shard-00000.safetensors    latents (n, C, h, w), scaled; mirrored, of the mirror images; labels (n)
//   vae/                       the autoencoder, so that samples can be decoded
//
// A shard is whole or absent, so that encoding goes on where it was interrupted.

import { closeSync, openSync, read } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { FormatError } from '../../core/errors.ts';
import { latentDataset } from '../../models/data/latents.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { fileError } from '../files.ts';
import { checked, readJson } from '../jsonFile.ts';
import { readSafetensorsTensor, tensorPlaces } from '../safetensorsFile.ts';

const positive = z
  .int()
  .min(1)
  .max(2 ** 31);

/** index.json. */
export const latentIndexSchema = z.strictObject({
  format: z.literal('dis-latents'),
  version: z.literal(1),
  /** Digest of the autoencoder's weights. */
  vaeDigest: z.string().max(100),
  scalingFactor: z.number().gt(0).max(1e6),
  shiftFactor: z.number().min(-1e6).max(1e6),
  /** Drawn with this seed; null: the most likely latents. */
  sampleSeed: z.int().min(0).nullable(),
  count: positive,
  shard: positive.max(2 ** 20),
  channels: positive.max(1024),
  size: positive.max(4096),
  imageSize: positive.max(8192),
  mirrored: z.boolean(),
  numClasses: z.int().min(0).max(1_000_000),
  classNames: z.array(z.string().max(1000)).max(1_000_000),
  dataFingerprint: z.string().max(1000),
});

export type LatentIndex = z.infer<typeof latentIndexSchema>;

/** @throws FileError, FormatError */
export async function readLatentIndex(folder: string): Promise<LatentIndex> {
  const path = join(folder, 'index.json');
  return checked(latentIndexSchema, await readJson(path), path);
}

/** The name of a shard. */
export function shardName(k: number): string {
  return `shard-${String(k).padStart(5, '0')}.safetensors`;
}

/** Latents in shard k, and names and shapes of its tensors. */
export function shardShapes(index: LatentIndex, k: number): [name: string, shape: readonly number[]][] {
  const n = Math.min(index.shard, index.count - k * index.shard);
  const latents = [n, index.channels, index.size, index.size];
  return [
    ['latents', latents],
    ...(index.mirrored ? [['mirrored', latents] as [string, number[]]] : []),
    ['labels', [n]],
  ];
}

interface Shard {
  readonly fd: number;
  /** Where the values of a tensor begin in the file. */
  readonly places: ReadonlyMap<string, number>;
}

const readInto = promisify(read);

/**
 * Opens a finished folder of latents. All shards are checked, latents are read when they are asked for.
 *
 * @throws FileError; FormatError that names a shard which is missing or belongs to another data set
 */
export async function openLatents(folder: string): Promise<{ readonly dataset: Dataset; readonly index: LatentIndex }> {
  const index = await readLatentIndex(folder);
  const names = new Set(
    await readdir(folder).catch((error: unknown) => {
      throw fileError('openLatents', 'read', folder, error);
    }),
  );
  const shards: Shard[] = [];
  const labels = new Int32Array(index.count);
  const close = (): void => {
    for (const { fd } of shards) closeSync(fd);
  };
  try {
    for (let k = 0; k * index.shard < index.count; k++) {
      const name = shardName(k);
      const path = join(folder, name);
      if (!names.has(name) || !(await stat(path)).isFile())
        throw new FormatError('openLatents', `${folder} has no ${name}`, {
          expected: `${Math.ceil(index.count / index.shard)} shards`,
          remedy: 'run the same dis-cli encode again: it goes on where it was interrupted',
        });
      const places = await tensorPlaces(path, shardShapes(index, k), {
        latents: 'F32',
        mirrored: 'F32',
        labels: 'I32',
      });
      const { data } = await readSafetensorsTensor(path, 'labels');
      labels.set(data as Int32Array, k * index.shard);
      shards.push({ fd: openSync(path, 'r'), places });
    }
    const wrong = labels.find((label) => label < 0 || label >= Math.max(1, index.numClasses));
    if (wrong !== undefined)
      throw new FormatError('openLatents', `${folder} has the label ${wrong}`, {
        expected: `0 to ${Math.max(1, index.numClasses) - 1}`,
        remedy: 'encode the pictures again',
      });
  } catch (error) {
    close();
    throw error;
  }
  const values = index.channels * index.size ** 2;
  const dataset = latentDataset({
    length: index.count,
    size: index.size,
    channels: index.channels,
    numClasses: index.numClasses,
    classNames: index.classNames,
    mirrored: index.mirrored,
    label: (i) => labels[i],
    async latent(i, mirrored) {
      const { fd, places } = shards[Math.floor(i / index.shard)];
      const found = new Float32Array(values);
      const begin = places.get(mirrored ? 'mirrored' : 'latents')! + (i % index.shard) * found.byteLength;
      const { bytesRead } = await readInto(fd, new Uint8Array(found.buffer), 0, found.byteLength, begin);
      if (bytesRead !== found.byteLength || !found.every(Number.isFinite))
        throw new FormatError('openLatents', `Latent ${i} of ${folder} is damaged`, {
          remedy: 'remove its shard and run dis-cli encode again',
        });
      return found;
    },
  });
  return { dataset, index };
}
