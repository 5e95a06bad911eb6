// Samples of a checkpoint as a set of pictures: drawn part by part, each part kept on the disk as it comes.

import type { Device } from '../../core/index.ts';
import { batchToPixels } from '../../models/data/grid.ts';
import type { DataSplit } from '../data/split.ts';
import { SAMPLERS, type SamplerName } from '../../models/diffusion/index.ts';
import { sampleImages } from '../../models/sample/index.ts';
import { loadModel, type Weights } from '../checkpoint.ts';
import { isMine, type Share } from '../distributed/workers.ts';
import type { BuiltModel } from '../modelKinds/index.ts';
import type { RunConfig } from '../runConfig.ts';
import type { CheckpointEntry } from '../runFolder.ts';
import { PartStore } from './partStore.ts';
import type { PictureSet } from './pictureSets.ts';

export interface SampleSettings {
  readonly weights: Weights;
  readonly sampler: SamplerName;
  readonly eta: number;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly precision: 'f32' | 'f16';
}

export interface SampledSetOptions {
  readonly device: Device;
  readonly config: RunConfig;
  readonly checkpoint: CheckpointEntry;
  /** SHA-256 of the weights. */
  readonly hash: string;
  readonly settings: SampleSettings;
  readonly count: number;
  /** Label of picture i, where the model has classes, and what decides it. */
  readonly labels?: { readonly about: string; readonly of: (i: number) => Promise<number> };
  readonly batch: number;
  readonly store: string;
  readonly signal: AbortSignal;
  /** With several workers: this one draws only its own parts, so the set that is returned is not complete. */
  readonly share?: Share;
  /** Called with the number of pictures that are done; with `share`, of those that it has drawn. */
  readonly onProgress: (done: number) => void;
}

/** Pictures of a part. */
const PART = 500;

interface Part {
  readonly begin: number;
  readonly end: number;
  readonly name: string;
}

function* partsOf({ count, share }: Pick<SampledSetOptions, 'count' | 'share'>): Generator<Part> {
  for (let begin = 0; begin < count; begin += PART) {
    const end = Math.min(count, begin + PART);
    if (isMine(begin / PART, share)) yield { begin, end, name: `${begin}-${end}.u8` };
  }
}

type Kept = Omit<SampledSetOptions, 'onProgress'>;

/** What decides the samples. */
const aboutOf = ({ hash, settings, labels, config }: Kept): object => ({
  samples: hash,
  ...settings,
  ...(labels && { labels: labels.about }),
  diffusion: config.diffusion,
});

const storeOf = (options: Kept): PartStore => new PartStore(options.store, 'samples', aboutOf(options));

const bytesOf = ({ channels, imgSize }: RunConfig['model']): number => channels * imgSize ** 2;

/** The parts that aren't there yet. */
export async function missingParts(options: Kept): Promise<Part[]> {
  const store = storeOf(options);
  const missing: Part[] = [];
  for (const part of partsOf(options))
    if (!(await store.has(part.name, (part.end - part.begin) * bytesOf(options.config.model)))) missing.push(part);
  return missing;
}

/**
 * Draws the samples that aren't there yet.
 * @throws FileError, FormatError, ValueError; what the signal was aborted with
 */
export async function drawSampledSet(options: SampledSetOptions): Promise<PictureSet> {
  const { device, config, checkpoint, settings, count, labels, batch, share, signal, onProgress } = options;
  const { channels, imgSize, numClasses } = config.model;
  const { sampler, eta, steps, guidance, seed, precision, weights } = settings;
  const store = storeOf(options);
  const each = bytesOf(config.model);
  let drawn = 0;
  const pixels = new Uint8Array(count * each);
  const chosen = new Int32Array(count);
  let model: BuiltModel | undefined;
  try {
    for (const { begin, end, name } of partsOf(options)) {
      const rows = await Promise.all(Array.from({ length: end - begin }, (_, i) => labels?.of(begin + i) ?? 0));
      chosen.set(rows, begin);
      let found = await store.read(name, (end - begin) * each);
      if (found) {
        if (!share) onProgress(end);
      } else {
        const before = share ? drawn : begin;
        model ??= (await loadModel(device, checkpoint.path, config, weights)).to(precision) as BuiltModel;
        const { images } = await sampleImages({
          device,
          model,
          diffusion: config.diffusion,
          ...(numClasses > 0 ? { labels: rows } : { count: end - begin }),
          guidance,
          sampler: SAMPLERS[sampler].create({ eta }),
          steps,
          seed,
          first: begin,
          batch,
          signal,
          onStep: (done, total) => onProgress(before + ((end - begin) * done) / total),
        });
        found = new Uint8Array((end - begin) * each);
        for (const [i, picture] of batchToPixels(images).entries()) found.set(picture.data, i * each);
        await store.write(name, found);
        drawn += end - begin;
      }
      pixels.set(found, begin * each);
    }
  } finally {
    model?.dispose();
  }
  return {
    label: 'samples',
    about: aboutOf(options),
    store: options.store,
    splits: false,
    dataset: {
      length: count,
      size: imgSize,
      channels,
      numClasses,
      classNames: config.classNames,
      item: (i) => ({ pixels: pixels.subarray(i * each, (i + 1) * each), label: chosen[i] }),
    },
  };
}

/** The other part of data that come in two. */
export const otherSplit = (split: DataSplit): DataSplit => (split === 'test' ? 'train' : 'test');
