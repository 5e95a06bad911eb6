// What ends a run other than its plan, in this process, where the device can be taken away.

import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TrainingError } from '../../cli/errors.ts';
import { trainRun } from '../../cli/trainRun.ts';
import { DeviceLostError } from '../../core/errors.ts';
import { failure, prepare, reach } from './runSupport.ts';
import { checkpoints, metrics, withFolder } from './support.ts';

const test = suite('trainRun');

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
    assert.match(error.message, /^The gradient was not finite for 100 steps up to step \d+, .* a lower --lr/);
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

test('a diffusion that is refused leaves no tensor and no file open', () =>
  withFolder(async (folder) => {
    const options = await prepare(folder, {}, { steps: 1 });
    const live = options.device.liveTensors;
    const config = { ...options.config, diffusion: { ...options.config.diffusion, diffusionSteps: -1 } };
    await failure(trainRun({ ...options, config }));
    assert.is(options.device.liveTensors, live);
    // The handle of the metrics, too: the folder can be begun again.
    assert.is((await trainRun(options)).done, true);
    options.device.destroy();
  }));

test.run();
