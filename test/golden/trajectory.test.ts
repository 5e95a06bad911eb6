// The training loop against the official one: losses and gradient norms of every step, and the parameters after all of them.

import * as assert from 'uvu/assert';
import { Generator, openDevice, scope, type Device } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { Trainer, type StepRecord } from '../../models/train/trainer.ts';
import { assertClose, family, loadGolden, loadSidecar, need, numbers, subset } from './support.ts';

const LIMIT = 1e-4;
/** Absolute; Adam turns a gradient near its eps into a step of any size up to lr. */
const PARAMETER_LIMITS = { mean: 1e-5, 'q99.9': 1e-4, max: 2e-3 } as const;

interface Settings {
  config: Record<string, unknown>;
  steps: number;
  batch: number;
  optimizer: { name: string; lr: number; weight_decay: number; betas: [number, number]; eps: number };
  clip_grad_norm: number;
  ema_decay: number;
}

family(
  'train/trajectory',
  (test) => {
    const settings = loadSidecar<Settings>('train/trajectory');
    const golden = loadGolden('train/trajectory');
    let device: Device;
    test.before(async () => {
      device = await openDevice();
    });
    test.after(() => device.destroy());

    for (const [title, { capture, microBatches }] of Object.entries({
      captured: { capture: true, microBatches: 1 },
      'eager, one sample at a time': { capture: false, microBatches: settings.batch },
    })) {
      test(title, async () => {
        const { config, steps, batch, optimizer, clip_grad_norm: clip, ema_decay: emaDecay } = settings;
        assert.is(optimizer.name, 'AdamW');
        const model = scope(() => new Dis(new Generator(device), disConfig(disOptionsFromOfficial(config))));
        model.loadStateDict(subset(golden, 'init'));
        const trainer = new Trainer({
          device,
          model,
          diffusion: createDiffusion(device),
          batchSize: batch,
          microBatches,
          lr: optimizer.lr,
          betas: optimizer.betas,
          eps: optimizer.eps,
          weightDecay: optimizer.weight_decay,
          clip,
          emaDecay,
          capture,
        });
        // The reference was computed without dropout.
        model.eval();
        const rows = <T extends Float32Array | Int32Array>(
          name: string,
          type: new (values: number[]) => T,
          step: number,
        ): T => {
          const { shape } = need(golden, name);
          const size = shape.slice(1).reduce((product, n) => product * n, 1);
          return new type(numbers(need(golden, name)).slice(step * size, (step + 1) * size));
        };
        const records: StepRecord[] = [];
        for (let step = 0; step < steps; step++) {
          const shape = need(golden, 'in.x_start').shape.slice(1) as [number, number, number, number];
          records.push(
            await trainer.trainBatch(
              {
                images: rows('in.x_start', Float32Array, step),
                labels: rows('in.labels', Int32Array, step),
                shape,
                epoch: 0,
              },
              { timesteps: rows('in.t', Int32Array, step), noise: rows('in.noise', Float32Array, step) },
            ),
          );
        }
        const means = (name: string): number[] =>
          Array.from(
            { length: steps },
            (_, step) => rows(name, Float32Array, step).reduce((sum, v) => sum + v, 0) / batch,
          );
        for (const term of ['loss', 'mse', 'vb'] as const)
          assertClose(
            records.map((r) => r[term]!),
            means(`out64.${term}`),
            LIMIT,
            term,
          );
        assertClose(
          records.map((r) => r.gradNorm),
          numbers(need(golden, 'out64.grad_norm')),
          LIMIT,
          'gradient norm',
        );
        const state = await trainer.state();
        for (const [kind, part] of [
          ['final', 'model'],
          ['ema', 'ema'],
        ] as const) {
          const errors: number[] = [];
          for (const [name, entry] of subset(golden, kind)) {
            const values = state[part].get(name)!.data as Float32Array;
            numbers(entry).forEach((v, i) => errors.push(Math.abs(v - values[i])));
          }
          errors.sort((a, b) => a - b);
          const measured = {
            mean: errors.reduce((sum, e) => sum + e, 0) / errors.length,
            'q99.9': errors[Math.floor(errors.length * 0.999)],
            max: errors[errors.length - 1],
          };
          for (const [measure, limit] of Object.entries(PARAMETER_LIMITS)) {
            const value = measured[measure as keyof typeof measured];
            assert.ok(
              value <= limit,
              `${kind}: ${measure} of the absolute error ${value.toExponential(2)}, limit ${limit}`,
            );
          }
        }
        trainer.dispose();
      });
    }
  },
  ['train/trajectory.safetensors', 'train/trajectory.json'],
);
