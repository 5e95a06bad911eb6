// A run of the smallest model in this process, where its device, its disk and its data can be taken away.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openData, type OpenedData } from '../../cli/data/openData.ts';
import { makeRunConfig } from '../../cli/runConfig.ts';
import type { TrainPlan, TrainSettings } from '../../cli/trainSettings.ts';
import { createRun, openRun } from '../../cli/runFolder.ts';
import type { TrainRunOptions } from '../../cli/trainRun.ts';
import { openDevice } from '../../core/index.ts';
import { metrics } from './support.ts';

const SETTINGS: TrainSettings = {
  data: 'shapes',
  imageSize: 8,
  unlabelled: false,
  flip: false,
  cifarLabels: 'fine',
  model: 'DiS-N/4',
  embedDim: 8,
  depth: 2,
  dState: 2,
  dropPath: 0,
  labelDropout: 0,
  learnSigma: false,
  skip: true,
  mlpTimeEmbed: true,
  norm: 'rms',
  diffusionSteps: 20,
  noiseSchedule: 'linear',
  predict: 'epsilon',
  sigmaSmall: false,
  loss: 'mse',
  timestepSampler: 'uniform',
  batch: 2,
  microBatches: 1,
  lr: 1e-3,
  minLr: 0,
  schedule: 'constant',
  warmup: 0,
  betas: [0.9, 0.999],
  weightDecay: 0,
  clip: 0,
  ema: 0.9,
  precision: 'f32',
  seed: 0,
};
const PLAN: TrainPlan = {
  steps: 1_000_000,
  checkpointEvery: 3,
  keep: 2,
  sampleEvery: 0,
  sampleSteps: 50,
  guidance: 1.5,
};

/** A new run in `folder`, on a device of its own. */
export async function prepare(
  folder: string,
  settings: Partial<TrainSettings>,
  plan: Partial<TrainPlan>,
  given?: OpenedData,
): Promise<TrainRunOptions> {
  process.env.DIS_CACHE_DIR = join(folder, 'cache');
  const data = given ?? (await openData('shapes', { size: 8 }));
  const run = await createRun(join(folder, 'run'));
  return {
    device: await openDevice(),
    folder: run,
    config: makeRunConfig({ ...SETTINGS, ...settings }, { ...PLAN, ...plan }, data),
    data,
    style: 'none',
  };
}

/** The same run from its newest checkpoint, in another process as far as it can tell. */
export async function goOn(options: TrainRunOptions, data: OpenedData = options.data): Promise<TrainRunOptions> {
  await options.folder.close();
  const folder = await openRun(options.folder.path);
  return { ...options, data, folder, resume: (await folder.checkpoints()).at(-1) };
}

/** Waits for so many steps of a run. What ends the run ends the wait. */
export async function reach(steps: number, { folder }: TrainRunOptions, running: Promise<unknown>): Promise<void> {
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  running.then(end, end);
  while (!ended && (await metrics(folder.path)).length < steps) await sleep(5);
}

/** What a promise fails with. */
export const failure = async (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => {
      throw new Error('nothing failed');
    },
    (error: Error) => error,
  );

/** What is said to people while `body` runs. */
export async function said(body: () => Promise<unknown>): Promise<string> {
  const { write } = process.stderr;
  let text = '';
  process.stderr.write = ((chunk: string) => {
    text += chunk;
    return true;
  }) as typeof write;
  try {
    await body();
  } finally {
    process.stderr.write = write;
  }
  return text;
}
