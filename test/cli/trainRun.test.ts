// What ends a run other than its plan, in this process, where the device can be taken away.

import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openData } from '../../cli/data/openData.ts';
import { TrainingError } from '../../cli/errors.ts';
import { makeRunConfig, type TrainPlan, type TrainSettings } from '../../cli/runConfig.ts';
import { createRun } from '../../cli/runFolder.ts';
import { trainRun, type TrainRunOptions } from '../../cli/trainRun.ts';
import { DeviceLostError } from '../../core/errors.ts';
import { openDevice } from '../../core/index.ts';
import { checkpoints, metrics, withFolder } from './support.ts';

const test = suite('trainRun');

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

async function prepare(
  folder: string,
  settings: Partial<TrainSettings>,
  plan: Partial<TrainPlan>,
): Promise<TrainRunOptions> {
  process.env.DIS_CACHE_DIR = join(folder, 'cache');
  const data = await openData('shapes', { size: 8 });
  const run = await createRun(join(folder, 'run'));
  return {
    device: await openDevice(),
    folder: run,
    config: makeRunConfig({ ...SETTINGS, ...settings }, { ...PLAN, ...plan }, data),
    data,
    style: 'none',
  };
}

/** Waits for so many steps of a run. What ends the run ends the wait. */
async function reach(steps: number, { folder }: TrainRunOptions, running: Promise<unknown>): Promise<void> {
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  running.then(end, end);
  while (!ended && (await metrics(folder.path)).length < steps) await sleep(5);
}

const failure = async (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => {
      throw new Error('nothing failed');
    },
    (error: Error) => error,
  );

test('a device that is lost says which checkpoint to go on from', () =>
  withFolder(async (folder) => {
    const options = await prepare(folder, {}, {});
    const running = failure(trainRun(options));
    await reach(5, options, running);
    // Not by Device.destroy: to the engine this comes as a surprise.
    options.device.gpu.destroy();
    const error = await running;
    assert.instance(error, DeviceLostError);
    const last = Number((await checkpoints(options.folder.path)).at(-1)!.slice('step-'.length));
    assert.ok(last >= 3);
    assert.match(
      error.message,
      new RegExp(
        `The GPU device was lost, .*; the last checkpoint is step ${last.toLocaleString('en-US')}, go on with .* train --resume `,
      ),
    );
    options.device.destroy();
  }));

test('a signal ends a run after its step, with a checkpoint, and leaves no tensor behind', () =>
  withFolder(async (folder) => {
    const abort = new AbortController();
    const options = { ...(await prepare(folder, {}, { checkpointEvery: 0 })), signal: abort.signal };
    const live = options.device.liveTensors;
    const running = trainRun(options);
    await reach(3, options, running);
    abort.abort();
    const { step, done, checkpoint } = await running;
    assert.equal([done, checkpoint?.step, (await metrics(options.folder.path)).length], [false, step, step]);
    assert.is(options.device.liveTensors, live);
    options.device.destroy();
  }));

test('a gradient that stays infinite ends the run with advice', () =>
  withFolder(async (folder) => {
    const options = await prepare(folder, { lr: 1e30 }, { checkpointEvery: 0 });
    const error = await failure(trainRun(options));
    assert.instance(error, TrainingError);
    assert.match(error.message, /^The gradient was not finite for 100 steps up to step \d+; .* a lower --lr/);
    options.device.destroy();
  }));

test('a sheet that cannot be written stops nothing; one of a model without label dropout is not guided', () =>
  withFolder(async (folder) => {
    const options = await prepare(folder, {}, { steps: 2, sampleEvery: 1 });
    await mkdir(join(options.folder.samples, 'step-00000001.png'), { recursive: true });
    await writeFile(join(options.folder.samples, 'step-00000001.png', 'x'), '');
    assert.is((await trainRun(options)).done, true);
    assert.ok(existsSync(join(options.folder.samples, 'step-00000002.png')));
    options.device.destroy();
  }));

test.run();
