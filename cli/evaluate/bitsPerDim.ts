// Bits per dimension of pictures under a run's model, batch by batch; each batch is kept on the disk.

import { Generator, keep, tensor, type Device, type Tensor } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../../models/data/dataset.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { withLabels } from '../../models/sample/index.ts';
import { loadModel, type Weights } from '../checkpoint.ts';
import { UsageError } from '../errors.ts';
import type { BuiltModel } from '../modelKinds/index.ts';
import type { RunConfig } from '../runConfig.ts';
import type { CheckpointEntry } from '../runFolder.ts';
import { bytesOf, floatsOf, PartStore } from './partStore.ts';
import type { PictureSet } from './pictureSets.ts';

export interface BitsPerDimOptions {
  readonly device: Device;
  readonly config: RunConfig;
  readonly checkpoint: CheckpointEntry;
  /** SHA-256 of the weights. */
  readonly hash: string;
  readonly weights: Weights;
  readonly precision: 'f32' | 'f16';
  /** Pictures at once. */
  readonly batch: number;
  readonly store: string;
  readonly signal: AbortSignal;
  /** Called with the number of pictures done. */
  readonly onProgress: (done: number) => void;
}

export interface BitsPerDimResult {
  readonly mean: number;
  /** Standard error of the mean. */
  readonly error: number;
  readonly pictures: number;
}

/**
 * The whole variational bound over all timesteps, of all pictures of a set. Noise is drawn from one seed.
 * @throws FileError, FormatError; what the signal was aborted with
 */
export async function bitsPerDim(set: PictureSet, options: BitsPerDimOptions): Promise<BitsPerDimResult> {
  const { device, config, checkpoint, hash, weights, precision, signal, onProgress } = options;
  const { dataset } = set;
  const batch = Math.min(options.batch, dataset.length);
  const about = { ...set.about, bpd: hash, weights, precision, batch, diffusion: config.diffusion };
  const store = new PartStore(options.store, 'bpd', about);
  const found = new Float32Array(dataset.length);
  let model: BuiltModel | undefined;
  using diffusion = createDiffusion(device, config.diffusion);
  try {
    for (let begin = 0; begin < dataset.length; begin += batch) {
      const end = Math.min(dataset.length, begin + batch);
      const name = `${begin}-${end}.f32`;
      const kept = await store.read(name, (end - begin) * 4);
      if (kept) found.set(floatsOf(kept), begin);
      else {
        model ??= (await loadModel(device, checkpoint.path, config, weights)).to(precision) as BuiltModel;
        const part = { ...dataset, length: end - begin, item: (i: number) => dataset.item(begin + i) };
        const loader = new DataLoader(part, { batchSize: end - begin, shuffle: false, epochs: 1, signal });
        const { images, labels, shape } = (await loader.next()).value!;
        using generator = new Generator(device, begin);
        using x = keep(tensor(device, images, { shape }));
        const given = labelsFor(config, dataset, labels);
        const denoiser = withLabels(device, model, given, { scale: 1 });
        try {
          const terms = await diffusion.calcBpdLoop(denoiser.model, x, { generator, signal });
          const total = (await terms.totalBpd.data()) as Float32Array;
          for (const each of Object.values(terms) as Tensor[]) each.dispose();
          found.set(total, begin);
          await store.write(name, bytesOf(total));
        } finally {
          denoiser.dispose();
        }
      }
      onProgress(end);
    }
  } finally {
    model?.dispose();
  }
  const mean = found.reduce((sum, value) => sum + value, 0) / found.length;
  const variance = found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, found.length - 1);
  return { mean, error: Math.sqrt(variance / found.length), pictures: found.length };
}

/** The pictures' labels where they are the model's classes, else the label of no class. */
function labelsFor({ model, classNames }: RunConfig, dataset: Dataset, labels: Int32Array): Int32Array | undefined {
  if (model.numClasses === 0) return undefined;
  if (dataset.numClasses === model.numClasses && String(dataset.classNames) === String(classNames)) return labels;
  if (model.classDropoutProb > 0) return labels.map(() => model.numClasses);
  throw new UsageError(
    `The model has ${model.numClasses} classes and was never trained without one, but the reference has others; ` +
      'leave bpd out of --metrics.',
  );
}
