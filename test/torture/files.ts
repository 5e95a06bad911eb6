// Every kind of file that a run reads, damaged: nothing but equal results or one of our errors may come of it, in bounded time and memory.

import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { ZipFile } from 'yazl';
import { checkWeights, readCheckpoint, readRunConfig } from '../../cli/checkpoint.ts';
import { openData } from '../../cli/data/openData.ts';
import { readIndex, writeIndex } from '../../cli/data/pictureIndex.ts';
import { describeFailure } from '../../cli/errors.ts';
import { acquireLock } from '../../cli/lock.ts';
import { truncateMetrics } from '../../cli/metricsFile.ts';
import { locateCheckpoint } from '../../cli/runFolder.ts';
import { readJson, checked } from '../../cli/jsonFile.ts';
import { tuningSchema } from '../../cli/schemas.ts';
import { HashStream } from '../../models/data/hash.ts';
import { mutate } from './mutate.ts';

/** Bounds for one file. */
const SECONDS = 2,
  BYTES = 300e6;

export interface MutationResult {
  readonly kind: string;
  readonly accepted: number;
  readonly refused: number;
  /** What ended in another way, or took too long or too much. */
  readonly wrong: readonly string[];
  readonly slowest: number;
}

/** Reads `count` damaged copies of each kind of file of the run in `run`. */
export async function* mutateFiles(run: string, count: number, seed: number): AsyncGenerator<MutationResult> {
  const { checkpoint } = await locateCheckpoint(run);
  const inCheckpoint = (name: string): string => join(checkpoint.path, name);
  const photos = join(run, '..', 'photos');
  await makePhotos(photos);
  const packed = join(run, '..', 'packed');
  await makePacked(packed, photos);
  await writeIndex(join(run, 'data.jsonl'), (await openData(photos, { size: 8 })).index!);
  await writeFile(join(run, 'run.lock'), JSON.stringify({ pid: 2 ** 30, host: 'elsewhere' }));
  const resume = async (): Promise<unknown> => {
    const config = await readRunConfig(checkpoint.path);
    await checkWeights(checkpoint.path, config, 'ema');
    return readCheckpoint(checkpoint, config);
  };
  const kinds: [path: string, read: () => Promise<unknown>][] = [
    [inCheckpoint('config.json'), resume],
    [inCheckpoint('state.json'), resume],
    [inCheckpoint('model.safetensors'), resume],
    [inCheckpoint('ema.safetensors'), resume],
    [inCheckpoint('optimizer.safetensors'), resume],
    [join(run, 'config.json'), () => readRunConfig(run)],
    [
      join(run, 'tuning.json'),
      async () => checked(tuningSchema, await readJson(join(run, 'tuning.json')), 'tuning.json'),
    ],
    [join(run, 'metrics.jsonl'), () => truncateMetrics(join(run, 'metrics.jsonl'), 3)],
    [join(run, 'data.jsonl'), () => readIndex(join(run, 'data.jsonl'))],
    [join(run, 'run.lock'), async () => (await acquireLock(join(run, 'run.lock'), run)).release()],
    ...['a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.tif', 'f.avif'].map((name): [string, () => Promise<unknown>] => [
      join(photos, name),
      async () => {
        const { dataset } = await openData(photos, { size: 8, pauses: [] });
        for (let i = 0; i < dataset.length; i++) await dataset.item(i);
      },
    ]),
    ...[
      join(packed, 'photos.zip'),
      join(packed, 'labelled', 'dataset.json'),
      ...idxNames.map((name) => join(packed, 'idx', name)),
    ].map((path): [string, () => Promise<unknown>] => [
      path,
      async () => {
        const spec = path.endsWith('.zip')
          ? `zip:${path}`
          : path.endsWith('.json')
            ? dirname(path)
            : `idx:${dirname(path)}`;
        const { dataset } = await openData(spec, { size: 8, pauses: [] });
        for (let i = 0; i < dataset.length; i++) await dataset.item(i);
      },
    ]),
  ];
  for (const [path, read] of kinds) yield await mutateFile(path, read, count, seed);
}

async function mutateFile(
  path: string,
  read: () => Promise<unknown>,
  count: number,
  seed: number,
): Promise<MutationResult> {
  const kind = basename(path);
  const original = await readFile(path);
  const kept = join(dirname(path), `.kept-${kind}`);
  await copyFile(path, kept);
  let accepted = 0,
    refused = 0,
    slowest = 0;
  const wrong: string[] = [];
  for (let i = 0; i < count; i++) {
    await rm(path, { force: true });
    await writeFile(path, mutate(original, new HashStream(seed, i)));
    const memory = process.memoryUsage().rss,
      began = performance.now();
    try {
      await read();
      accepted++;
    } catch (error) {
      const { message, unexpected } = describeFailure(error);
      if (unexpected) wrong.push(`mutation ${i}: ${message}`);
      else refused++;
    }
    const seconds = (performance.now() - began) / 1000,
      grown = process.memoryUsage().rss - memory;
    slowest = Math.max(slowest, seconds);
    if (seconds > SECONDS) wrong.push(`mutation ${i} took ${seconds.toFixed(1)} s`);
    if (grown > BYTES) wrong.push(`mutation ${i} took ${Math.round(grown / 1e6)} MB`);
  }
  await copyFile(kept, path);
  await rm(kept);
  return { kind, accepted, refused, wrong, slowest };
}

const idxNames = ['train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte'];

/** The same photos in an archive and with labels, and IDX files. */
async function makePacked(folder: string, photos: string): Promise<void> {
  for (const name of ['labelled', 'idx']) await mkdir(join(folder, name), { recursive: true });
  const zip = new ZipFile();
  for (const name of ['a.png', 'b.jpg']) {
    zip.addFile(join(photos, name), `class/${name}`);
    await copyFile(join(photos, name), join(folder, 'labelled', name));
  }
  const labels = JSON.stringify({
    labels: [
      ['a.png', 1],
      ['b.jpg', 0],
    ],
  });
  zip.addBuffer(Buffer.from(labels), 'class/dataset.json');
  zip.end();
  await writeFile(join(folder, 'photos.zip'), await buffer(zip.outputStream));
  await writeFile(join(folder, 'labelled', 'dataset.json'), labels);
  const [images, classes] = idxNames.map((name) => join(folder, 'idx', name));
  await writeFile(
    images,
    gzipSync(Buffer.concat([Buffer.from([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 7]), Buffer.alloc(196, 9)])),
  );
  await writeFile(classes, Buffer.from([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 3]));
}

async function makePhotos(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const data = Uint8Array.from({ length: 40 * 30 * 3 }, (_, i) => (i * i * 7919) >> 5);
  for (const name of ['a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.tif', 'f.avif', 'whole.png'])
    await sharp(data, { raw: { width: 40, height: 30, channels: 3 } }).toFile(join(folder, name));
}
