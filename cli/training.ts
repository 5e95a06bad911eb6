// What a run trains, the same on every rank: the model, its trainer and the batches, all decided by the run's config.

import { Generator, type Device } from '../core/index.ts';
import { DataLoader } from '../models/data/dataset.ts';
import { hash32 } from '../models/data/hash.ts';
import { createDiffusion, createTimestepSampler, type GaussianDiffusion } from '../models/diffusion/index.ts';
import { Trainer } from '../models/train/trainer.ts';
import type { OpenedData } from './data/openData.ts';
import type { Ranks } from './distributed/ranks.ts';
import { kindNamed, type BuiltModel } from './modelKinds/index.ts';
import { OnlineEncoder } from './onlineEncoder.ts';
import { emaDecay, learningRate, type RunConfig } from './runConfig.ts';
import type { TrainPlan } from './trainSettings.ts';

// Separate the uses of a run's seed.
export const INIT_KEY = 1,
  DATA_KEY = 2,
  TRAIN_KEY = 3,
  SHEET_KEY = 4,
  EVAL_KEY = 5,
  VAE_KEY = 6;

/** What decides what is trained. */
export interface TrainingParts {
  readonly device: Device;
  readonly config: RunConfig;
  readonly data: OpenedData;
  /** The ranks that train together. */
  readonly ranks?: Ranks;
}

function newModel({ device, config }: TrainingParts): BuiltModel {
  const generator = new Generator(device, hash32(config.settings.seed, INIT_KEY));
  const model = kindNamed(config.kind).build(generator, config.model);
  generator.dispose();
  return model;
}

function newTrainer(
  { device, config: { settings }, ranks }: TrainingParts,
  model: BuiltModel,
  diffusion: GaussianDiffusion,
): Trainer {
  return new Trainer({
    device,
    model,
    diffusion,
    batchSize: settings.batch,
    microBatches: settings.microBatches,
    lr: learningRate(settings),
    betas: [settings.betas[0], settings.betas[1]],
    weightDecay: settings.weightDecay,
    clip: settings.clip,
    emaDecay: emaDecay(settings),
    precision: settings.precision,
    seed: hash32(settings.seed, TRAIN_KEY),
    exchange: ranks,
    ...(settings.syncEvery !== undefined && { localSteps: { every: settings.syncEvery } }),
    ...(settings.timestepSampler !== 'uniform' && {
      timestepSampler: createTimestepSampler(settings.timestepSampler, diffusion.numTimesteps),
    }),
  });
}

/** The model, its trainer and the batches, which begin where the trainer stands when `loader` is called. */
export function buildTraining(parts: TrainingParts): {
  readonly model: BuiltModel;
  readonly trainer: Trainer;
  loader(): DataLoader;
  dispose(): void;
} {
  const { device, config, data, ranks } = parts;
  const { settings } = config;
  const made: { dispose(): void }[] = [];
  const dispose = (): void => {
    for (const each of made.reverse()) each.dispose();
  };
  try {
    const model = newModel(parts);
    made.push(model);
    const diffusion = createDiffusion(device, config.diffusion);
    made.push(diffusion);
    const trainer = newTrainer(parts, model, diffusion);
    made.push(trainer);
    const { vae, seed } = settings;
    const encoder = vae?.online && new OnlineEncoder(device, vae, hash32(seed, VAE_KEY), data.dataset.length);
    if (encoder) made.push(encoder);
    return {
      model,
      trainer,
      loader: () =>
        new DataLoader(data.dataset, {
          batchSize: settings.batch,
          seed: hash32(settings.seed, DATA_KEY),
          flip: settings.flip,
          cursor: trainer.cursor,
          encode: encoder?.encode,
          ...(ranks && { part: { index: ranks.rank, of: ranks.ranks } }),
        }),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Steps at which something is written, the next of each kind. */
export function stopsAfter(
  step: number,
  { checkpointEvery, sampleEvery, evalEvery = 0 }: Pick<TrainPlan, 'checkpointEvery' | 'sampleEvery' | 'evalEvery'>,
): number[] {
  return [checkpointEvery, sampleEvery, evalEvery]
    .filter((every) => every > 0)
    .map((every) => (Math.floor(step / every) + 1) * every);
}
