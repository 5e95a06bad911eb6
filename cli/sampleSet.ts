// Many samples for an evaluation, drawn in groups of one batch: a group is whole on the disk or not there, so that a set
// that was interrupted goes on, and groups can be drawn by several processes. What a group holds follows from the
// seed and the numbers of its images alone.

import { mkdir, readFile, readdir, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Device } from '../core/index.ts';
import { batchToPixels, type ImageBatch } from '../models/data/grid.ts';
import { hash32 } from '../models/data/hash.ts';
import type { PixelImage } from '../models/data/image.ts';
import { sampleImages, type SampleOptions } from '../models/sample/index.ts';
import { isMine, type Share } from './distributed/workers.ts';
import { UsageError } from './errors.ts';
import { FileError, writeFileAtomic } from './files.ts';
import { bytes, grouped } from './format.ts';
import { checked, readJson } from './jsonFile.ts';
import { npyHeader, writeNpz } from './npz.ts';
import { writeImage } from './pictures.ts';
import type { SampleSetIdentity } from './sampleSetIdentity.ts';
import { sampleSetSchema } from './schemas.ts';

export interface SampleSet {
  /** A `.npz` file, or a folder for PNGs. */
  readonly out: string;
  readonly count: number;
  readonly identity: SampleSetIdentity;
}

/** More than any evaluation takes, and few enough to be listed. */
export const MOST_SAMPLES = 10_000_000;
const LABEL_KEY = 5;
const FOLDER = 1000;

/** The label of image `index`; undefined for a model without classes. */
export function labelOfSample(index: number, { classes, labels, seed }: SampleSetIdentity): number | undefined {
  if (!classes) return undefined;
  const at = labels === 'cycle' ? index : hash32(seed, LABEL_KEY, index);
  return classes[at % classes.length];
}

/** Whether `--out` asks for a set in one file. */
export const isNpz = (path: string): boolean => path.toLowerCase().endsWith('.npz');
/** Where groups wait until all are there: the folder itself for PNGs. */
const placeOf = ({ out }: SampleSet): string => (isNpz(out) ? `${out}.parts` : out);
const groupPath = (set: SampleSet, group: number): string =>
  join(placeOf(set), `${String(group).padStart(6, '0')}.bin`);
const digits = (n: number, width: number): string => String(n).padStart(width, '0');
const pictureName = (index: number): string => `${digits(Math.floor(index / FOLDER), 5)}/img${digits(index, 8)}.png`;

/** Numbers of the images of a group that are wanted. */
function imagesOf({ count, identity: { batch } }: SampleSet, group: number): number[] {
  const first = group * batch;
  return Array.from({ length: Math.min(batch, count - first) }, (_, i) => first + i);
}

/**
 * Makes the place of a set, or finds what is there of it.
 *
 * @returns the groups that are missing
 * @throws UsageError where another set is there; FileError where the disk has no room for this one
 */
export async function beginSampleSet(set: SampleSet): Promise<number[]> {
  const place = placeOf(set);
  const state = join(place, 'set.json');
  const there = await readdir(place).catch(() => [] as string[]);
  if (there.includes('set.json')) {
    const before = checked(sampleSetSchema, await readJson(state), state, {
      remedy: 'remove the folder, and begin again',
    });
    const given: Readonly<Record<string, unknown>> = { ...set.identity };
    const other = Object.entries(before).find(([name, value]) => JSON.stringify(value) !== JSON.stringify(given[name]));
    if (other)
      throw new UsageError(
        `${place} holds samples of another kind: ${other[0]} was ${JSON.stringify(other[1])} and is ` +
          `${JSON.stringify(given[other[0]])}; ask for the same, or remove it.`,
      );
  } else if (there.length > 0)
    throw new UsageError(`${place} is not empty and holds no set of samples; give another place.`);
  const missing = await missingGroups(set);
  await checkRoom(set, missing.length / groupsOf(set));
  await mkdir(place, { recursive: true });
  if (!there.includes('set.json')) await writeFileAtomic(state, `${JSON.stringify(set.identity, null, 2)}\n`);
  return missing;
}

const groupsOf = ({ count, identity: { batch } }: SampleSet): number => Math.ceil(count / batch);

/** Images of some groups that are wanted. */
export const imagesIn = (set: SampleSet, groups: readonly number[]): number =>
  groups.reduce((sum, group) => sum + imagesOf(set, group).length, 0);

/** The groups that are not whole. @param share looks at those of one worker alone */
export async function missingGroups(set: SampleSet, share?: Share): Promise<number[]> {
  const missing: number[] = [];
  for (let group = 0; group < groupsOf(set); group++)
    if (isMine(group, share) && !(await isWhole(set, group))) missing.push(group);
  return missing;
}

const sizeOf = ({ identity: { shape } }: SampleSet): number => shape[0] * shape[1] * shape[2];

async function isWhole(set: SampleSet, group: number): Promise<boolean> {
  const size = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
  // A group of a file is kept whole, also beyond the images that are wanted, so that more can be asked for later.
  if (isNpz(set.out)) return (await size(groupPath(set, group))) === set.identity.batch * sizeOf(set);
  for (const index of imagesOf(set, group)) if ((await size(join(set.out, pictureName(index)))) === 0) return false;
  return true;
}

async function checkRoom(set: SampleSet, share: number): Promise<void> {
  const folder = dirname(placeOf(set));
  const space = await statfs(folder).catch(() => undefined);
  if (!space || space.blocks === 0) return;
  // Of a file, the groups and then the file beside them.
  const needed = set.count * sizeOf(set) * (share + (isNpz(set.out) ? 1 : 0));
  const free = space.bavail * space.bsize;
  if (needed > free)
    throw new FileError('sample', `${set.out} takes up to ${bytes(needed)}, and the disk has ${bytes(free)} free`, {
      path: set.out,
      remedy: 'free some space, or lower --count',
    });
}

/** What draws the images; the rest is the set's. */
export interface DrawOptions extends Pick<
  SampleOptions,
  'model' | 'diffusion' | 'guidance' | 'sampler' | 'steps' | 'signal'
> {
  readonly device: Device;
  /** Makes pictures of what is drawn. Default nothing, for a model of pixels. */
  readonly decode?: (latents: ImageBatch) => Promise<ImageBatch>;
  /** Called after each step of a group, with the images done, in parts. */
  readonly onProgress?: (images: number) => void;
}

/** Draws groups of a set and writes each as it is done. @throws what the signal was aborted with; FileError */
export async function drawGroups(set: SampleSet, groups: readonly number[], options: DrawOptions): Promise<void> {
  const { onProgress, decode, ...sampling } = options;
  const { batch, seed } = set.identity;
  let done = 0;
  for (const group of groups) {
    const first = group * batch;
    // Always a whole batch: an image has the same companions however many are asked for.
    const labels = Array.from({ length: batch }, (_, i) => labelOfSample(first + i, set.identity));
    const known = labels.filter((label) => label !== undefined);
    const wanted = imagesOf(set, group);
    const { images } = await sampleImages({
      ...sampling,
      labels: known.length > 0 ? known : undefined,
      count: batch,
      seed,
      first,
      batch,
      onStep: (step, total) => onProgress?.(done + (wanted.length * step) / total),
    });
    await writeGroup(set, group, batchToPixels(decode ? await decode(images) : images));
    done += wanted.length;
  }
}

async function writeGroup(set: SampleSet, group: number, images: readonly PixelImage[]): Promise<void> {
  if (isNpz(set.out)) {
    await writeFileAtomic(
      groupPath(set, group),
      images.map(({ data }) => data),
    );
    return;
  }
  for (const [i, index] of imagesOf(set, group).entries()) {
    const path = join(set.out, pictureName(index));
    await mkdir(dirname(path), { recursive: true });
    await writeImage(path, images[i]);
  }
}

/** Puts the groups together: the `.npz` file, whose groups then go, or a folder's dataset.json. */
export async function finishSampleSet(set: SampleSet): Promise<void> {
  const { out, count, identity } = set;
  const labels = Array.from({ length: count }, (_, index) => labelOfSample(index, identity));
  if (!isNpz(out)) {
    const rows = labels.map((label, index) => [pictureName(index), label]);
    await writeFileAtomic(join(out, 'dataset.json'), JSON.stringify({ labels: identity.classes ? rows : null }));
    return;
  }
  const each = sizeOf(set);
  async function* pixels(): AsyncGenerator<Uint8Array> {
    for (let group = 0; group * identity.batch < count; group++) {
      const wanted = imagesOf(set, group).length * each;
      yield (await readFile(groupPath(set, group))).subarray(0, wanted);
    }
  }
  const words = identity.classes && BigInt64Array.from(labels, (label) => BigInt(label!));
  await writeNpz(out, [
    { name: 'arr_0', header: npyHeader('|u1', [count, ...identity.shape]), size: count * each, data: pixels() },
    ...(words
      ? [
          {
            name: 'arr_1',
            header: npyHeader('<i8', [count]),
            size: words.byteLength,
            data: [new Uint8Array(words.buffer)],
          },
        ]
      : []),
  ]);
  await rm(placeOf(set), { recursive: true, force: true });
}

/** What a set is, in words. */
export const describeSet = ({ out, count }: SampleSet): string => `${grouped(count)} images in ${out}`;
