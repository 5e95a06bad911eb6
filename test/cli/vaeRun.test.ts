// A run of train-vae whose data or disk fail: it ends and goes on as every other run does.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FileError } from '../../cli/files.ts';
import { createRun } from '../../cli/runFolder.ts';
import { trainVae, type VaeRun, type VaeRunConfig } from '../../cli/vaeRun.ts';
import { openDevice, type Device } from '../../core/index.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { shapesDataset } from '../../models/data/shapes.ts';
import { said } from './runSupport.ts';
import { withFault } from './faultyDisk.ts';
import { metrics, withFolder } from './support.ts';

const test = suite('train-vae in its folder');

const STEPS = 8;
const config: VaeRunConfig = {
  format: 'dis-vae-run',
  version: 1,
  settings: {
    ...{ data: 'shapes', imageSize: 8, flip: false, widths: [4, 4], layers: 1, groups: 2, latentChannels: 2 },
    ...{ batch: 4, lr: 1e-3, warmup: 0, ema: 0.9, klWeight: 1e-6, edgeWeight: 0.5, heldOut: 4, precision: 'f32' },
    ...{ perceptual: 'none', perceptualWeight: 0, seed: 1, scheduleSteps: STEPS },
  },
  plan: { steps: STEPS, checkpointEvery: 0, keep: 0, sampleEvery: 0 },
  channels: 3,
  dataFingerprint: '',
};

/** Pictures that cannot be read any more after so many were. */
function pictures(readable: number): Dataset {
  const dataset = shapesDataset({ size: 8, length: 64 });
  let read = 0;
  return {
    ...dataset,
    item: (index) => {
      if (++read > readable)
        throw new FileError('data', 'Cannot read photos/a.png: it is not there', { path: 'photos/a.png' });
      return dataset.item(index);
    },
  };
}

async function begin(device: Device, path: string, more: Partial<VaeRun> = {}): Promise<VaeRun> {
  return {
    ...{ device, config, folder: await createRun(path), rest: pictures(Infinity), heldOut: pictures(Infinity) },
    ...{ resume: undefined, style: 'none', signal: new AbortController().signal },
    ...more,
  };
}

const weights = (folder: string): Promise<Buffer> =>
  readFile(join(folder, `checkpoints/step-0000000${STEPS}/model.safetensors`));

test('data that vanish, the held-out ones too, leave a checkpoint to go on from', () =>
  withFolder(async (root) => {
    const device = await openDevice();
    try {
      const whole = await begin(device, join(root, 'whole'));
      await trainVae(whole);

      const cut = await begin(device, join(root, 'cut'), { rest: pictures(20), heldOut: pictures(0) });
      let error: Error | undefined;
      const text = await said(async () => {
        error = await trainVae(cut).then(
          () => undefined,
          (e: Error) => e,
        );
      });
      assert.instance(error, FileError);
      const [checkpoint] = await cut.folder.checkpoints();
      assert.ok(checkpoint.step > 0 && checkpoint.step < STEPS, String(checkpoint.step));
      assert.match(
        text,
        new RegExp(`Step ${checkpoint.step} is in a checkpoint; go on from it with .* train-vae --resume `),
      );
      assert.match(text, /Nothing was measured; the scaling factor is taken to be 1\./);

      await trainVae({ ...cut, rest: pictures(Infinity), heldOut: pictures(Infinity), resume: checkpoint });
      assert.ok((await weights(cut.folder.path)).equals(await weights(whole.folder.path)));
      for (const { folder } of [whole, cut]) await folder.leave();
    } finally {
      device.destroy();
    }
  }));

test('a disk that is full at a checkpoint ends no run', () =>
  withFolder(async (root) => {
    const device = await openDevice();
    try {
      const run = await begin(device, join(root, 'run'), {
        config: { ...config, plan: { ...config.plan, checkpointEvery: 4 } },
      });
      let refused = 0;
      const fault = { path: /optimizer\.safetensors/, code: 'ENOSPC', when: () => ++refused === 1 } as const;
      const text = await said(() => withFault(fault, () => trainVae(run)));
      assert.match(text, /The disk is full: no checkpoint of step 4, there is none yet; training goes on/);
      assert.equal(
        (await run.folder.checkpoints()).map(({ step }) => step),
        [STEPS],
      );
      assert.is((await metrics(run.folder.path)).filter((line) => 'loss' in line).length, STEPS);
      await run.folder.leave();
    } finally {
      device.destroy();
    }
  }));

test.run();
