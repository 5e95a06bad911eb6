// The training loop against the official one: losses and gradient norms of every step, and the parameters after all of
// them.

import * as assert from 'uvu/assert';
import { Generator, scope } from '../../core/index.ts';
import { createDiffusion, type DiffusionOptions } from '../../models/diffusion/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { StepRecord } from '../../models/train/types.ts';
import { gpuFamily } from './gpu.ts';
import {
  assertClose,
  limitOf,
  loadGolden,
  loadSidecar,
  need,
  numbers,
  subset,
  truth,
  type ReferenceErrors,
} from './support.ts';

const PATH = 'train/trajectory';
const LIMIT = 1e-4;
/** Absolute, in learning rates: Adam turns a gradient near its eps into a step of any size up to that. */
const PARAMETER_LIMITS = { mean: 1e-2, 'q99.9': 0.1, max: 2 } as const;

interface Settings extends ReferenceErrors {
  config: Record<string, unknown>;
  steps: number;
  batch: number;
  optimizer: { name: string; lr: number; weight_decay: number; betas: [number, number]; eps: number };
  clip_grad_norm: number;
  ema_decay: number;
  diffusion: string;
}

/** `create_diffusion('RESPACING') : N steps, SCHEDULE, …`. */
function diffusionOf(description: string): DiffusionOptions {
  const respacing = /create_diffusion\('(.*?)'\)/.exec(description)?.[1];
  const [, steps, schedule] = /(\d+) steps, (\w+)/.exec(description) ?? [];
  return {
    timestepRespacing: respacing ?? '',
    diffusionSteps: steps === undefined ? undefined : Number(steps),
    noiseSchedule: schedule as DiffusionOptions['noiseSchedule'],
  };
}

gpuFamily(
  PATH,
  (test) => {
    const settings = loadSidecar<Settings>(PATH);
    const golden = loadGolden(PATH);
    const { config, steps, batch, optimizer, clip_grad_norm: clip, ema_decay: emaDecay } = settings;

    for (const [title, { capture, microBatches }] of Object.entries({
      captured: { capture: true, microBatches: 1 },
      'eager, one sample at a time': { capture: false, microBatches: batch },
    })) {
      test(title, async ({ device, own }) => {
        assert.is(optimizer.name, 'AdamW');
        const generator = own(new Generator(device));
        const model = own(scope(() => new Dis(generator, disConfig(disOptionsFromOfficial(config)))));
        model.loadStateDict(subset(golden, 'init'));
        const trainer = own(
          new Trainer({
            device,
            model,
            diffusion: own(createDiffusion(device, diffusionOf(settings.diffusion))),
            batchSize: batch,
            microBatches,
            lr: optimizer.lr,
            betas: optimizer.betas,
            eps: optimizer.eps,
            weightDecay: optimizer.weight_decay,
            clip,
            emaDecay,
            capture,
          }),
        );
        // The reference was computed without dropout.
        model.eval();
        const rows = (values: readonly number[], step: number): number[] => {
          const size = values.length / steps;
          return values.slice(step * size, (step + 1) * size);
        };
        const input = (name: string, step: number): number[] => rows(numbers(need(golden, `in.${name}`)), step);
        const shape = need(golden, 'in.x_start').shape.slice(1) as [number, number, number, number];
        const records: StepRecord[] = [];
        for (let step = 0; step < steps; step++) {
          records.push(
            await trainer.trainBatch(
              {
                images: Float32Array.from(input('x_start', step)),
                labels: new Int32Array(batch),
                shape,
                epoch: 0,
              },
              {
                timesteps: Int32Array.from(input('t', step)),
                noise: Float32Array.from(input('noise', step)),
                // Where one is the number of classes, the reference dropped it.
                ...(golden.has('in.labels') && { labels: Int32Array.from(input('labels', step)) }),
              },
            ),
          );
        }
        for (const term of ['loss', 'mse', 'vb'] as const) {
          const samples = numbers(truth(golden, 'out', term));
          assertClose(
            records.map((r) => r[term]!),
            records.map((_, step) => rows(samples, step).reduce((sum, v) => sum + v, 0) / batch),
            limitOf(LIMIT, settings, term),
            term,
          );
        }
        assertClose(
          records.map((r) => r.gradNorm),
          numbers(truth(golden, 'out', 'grad_norm')),
          limitOf(LIMIT, settings, 'grad_norm'),
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
              value <= limit * optimizer.lr,
              `${kind}: ${measure} of the absolute error ${value.toExponential(2)}, limit ${limit * optimizer.lr}`,
            );
          }
        }
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
