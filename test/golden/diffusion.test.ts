// The diffusion process against the official code: forward process, single steps, losses with their gradients, and whole loops.

import * as assert from 'uvu/assert';
import { concat, grad, openDevice, scope, type Device, type Tensor } from '../../core/index.ts';
import {
  createDiffusion,
  type DiffusionModel,
  type DiffusionOptions,
  type LoopStep,
} from '../../models/diffusion/index.ts';
import type { SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { read } from './gpu.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers, type Golden } from './support.ts';

interface Sidecar {
  model: string;
  training_losses: { variants: Record<string, { create_diffusion: Record<string, unknown> }> };
  loops: Record<
    string,
    { model: string; timestep_respacing: string; eta: number | null; clip_denoised: boolean; timestep_map: number[] }
  >;
  loop_models: Record<string, string>;
}

const SIDECAR = 'diffusion/diffusion';
// Suggested limits of the reference set.
const STEP = 1e-4;
const LOSS = { relative: 1e-4, absolute: 1e-6 };
const GRADIENT = { first: 1e-2, other: 1e-4 };

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Options as the sidecar spells them. */
function optionsOf(official: Record<string, unknown>): DiffusionOptions {
  return Object.fromEntries(Object.entries(official).map(([key, value]) => [camelCase(key), value]));
}

/** The closed-form model that a sidecar describes. `parts` is 1 where the variance is fixed: it then has no second half. */
function modelOf(description: string, parts: number): DiffusionModel {
  const match = /concat_channels\(([\d.]+)\*x_t \+ ([\d.]+)\*t\/1000, ([\d.]+)\*x_t\)/.exec(description);
  assert.ok(match, `no formula in "${description}"`);
  const [ofX, ofT, variance] = match!.slice(1).map(Number);
  return (x, t) => {
    const mean = x.mul(ofX).add(
      t
        .cast('f32')
        .mul(ofT / 1000)
        .reshape(-1, 1, 1, 1),
    );
    return parts === 2 ? concat([mean, x.mul(variance)], 1) : mean;
  };
}

/** The float64 run where there is one. */
function truth(tensors: Golden, name: string): SafetensorsEntry | undefined {
  return tensors.get(`out64.${name}`) ?? tensors.get(`out.${name}`);
}

type Own = <T extends { dispose(): void }>(item: T) => T;

/** Tests of one family on one device. Each frees what it owns at its end, and must leave no live tensor. */
function gpuFamily(
  name: string,
  register: (test: (title: string, run: (device: Device, own: Own) => Promise<void>) => void) => void,
  files: readonly string[],
): void {
  family(
    name,
    (test) => {
      let device: Device;
      test.before(async () => {
        device = await openDevice();
      });
      test.after(() => device.destroy());
      register((title, run) =>
        test(title, async () => {
          const owned: { dispose(): void }[] = [];
          try {
            await run(device, (item) => {
              owned.push(item);
              return item;
            });
          } finally {
            for (const item of owned) item.dispose();
          }
          assert.is(device.liveTensors, 0, 'live tensors after the test');
        }),
      );
    },
    files,
  );
}

async function same(actual: Tensor, expected: SafetensorsEntry, limit: number, label: string): Promise<void> {
  assertClose(await actual.data(), expected, limit, label);
  actual.dispose();
}

gpuFamily(
  'diffusion/forward_process',
  (test) => {
    test('q_sample, q_mean_variance, q_posterior, prior_bpd', async (device, own) => {
      const golden = loadGolden('diffusion/forward_process');
      const diffusion = own(createDiffusion(device));
      const [xStart, t, noise] = ['x_start', 't', 'noise'].map((name) => own(read(device, golden, `in.${name}`)));
      const xT = own(diffusion.qSample(xStart, t, noise));
      const q = diffusion.qMeanVariance(xStart, t);
      const posterior = diffusion.qPosteriorMeanVariance(xStart, xT, t);
      const results: Record<string, Tensor> = {
        q_sample: xT.clone(),
        'q_mean_variance.mean': q.mean,
        'q_mean_variance.variance': q.variance,
        'q_mean_variance.log_variance': q.logVariance,
        'q_posterior.mean': posterior.mean,
        'q_posterior.variance': posterior.variance,
        'q_posterior.log_variance_clipped': posterior.logVarianceClipped,
        prior_bpd: diffusion.priorBpd(xStart),
      };
      let compared = 0;
      for (const [name, result] of Object.entries(results)) {
        await same(result, truth(golden, name) ?? need(golden, `out.${name}`), STEP, name);
        compared++;
      }
      assert.is(
        compared,
        new Set([...golden.keys()].filter((key) => key.startsWith('out')).map((key) => key.replace(/^out(64)?\./, '')))
          .size,
        'results compared',
      );
    });
  },
  ['diffusion/forward_process.safetensors'],
);

gpuFamily(
  'diffusion/single_step',
  (test) => {
    const golden = loadGolden('diffusion/single_step');
    const sidecar = loadSidecar<Sidecar>(SIDECAR);
    for (const [name, tensors] of cases(golden)) {
      if (name === '') continue;
      test(name, async (device, own) => {
        const [variant, clip] = name.split('.');
        const diffusion = own(
          createDiffusion(device, optionsOf(sidecar.training_losses.variants[variant].create_diffusion)),
        );
        const clipDenoised = clip === 'clip1';
        const model = modelOf(sidecar.model, diffusion.outputParts);
        const [x, t, noise] = ['x', 't', 'noise'].map((input) => own(read(device, golden, `in.${input}`)));
        const p = diffusion.pMeanVariance(model, x, t, { clipDenoised });
        const results: Record<string, Tensor> = {
          mean: p.mean,
          variance: p.variance,
          log_variance: p.logVariance,
          pred_xstart: p.predXstart,
        };
        for (const key of new Set([...tensors.keys()].map((k) => k.replace(/^out(64)?\./, '')))) {
          if (key in results) continue;
          const ddim = /^ddim_eta([\d_]+)$/.exec(key);
          const { sample, predXstart } = ddim
            ? diffusion.ddimSample(model, x, t, { clipDenoised, noise, eta: Number(ddim[1].replace('_', '.')) })
            : key === 'ddim_reverse'
              ? diffusion.ddimReverseSample(model, x, t, { clipDenoised })
              : diffusion.pSample(model, x, t, { clipDenoised, noise });
          assertClose(await predXstart.data(), await p.predXstart.data(), 1e-6, `${key} predXstart`);
          predXstart.dispose();
          results[key] = sample;
        }
        for (const [key, result] of Object.entries(results))
          await same(result, truth(tensors, key)!, STEP, `${name} ${key}`);
      });
    }
  },
  ['diffusion/single_step.safetensors', `${SIDECAR}.json`],
);

gpuFamily(
  'diffusion/training_losses',
  (test) => {
    const golden = loadGolden('diffusion/training_losses');
    const sidecar = loadSidecar<Sidecar>(SIDECAR);
    for (const [name, tensors] of cases(golden)) {
      if (name === '') continue;
      test(name, async (device, own) => {
        const diffusion = own(
          createDiffusion(device, optionsOf(sidecar.training_losses.variants[name].create_diffusion)),
        );
        // Some cases have timesteps of their own.
        const holder = (key: string): Golden => (tensors.has(`in.${key}`) ? tensors : golden);
        const [xStart, t, noise] = ['x_start', 't', 'noise'].map((key) => own(read(device, holder(key), `in.${key}`)));
        const output = own(read(device, tensors, 'out.model_output')).requiresGrad_();
        const terms = diffusion.trainingLosses(() => output, xStart, t, { noise });
        const mean = own(scope(() => terms.loss.mean()));
        const [gradient] = grad(mean, [output]);
        for (const term of ['loss', 'mse', 'vb'] as const) {
          const expected = truth(tensors, term);
          assert.is(terms[term] === undefined, expected === undefined, `${term} is there`);
          if (!expected) continue;
          const actual = await terms[term]!.data();
          numbers(expected).forEach((value, b) => {
            const error = Math.abs(actual[b] - value);
            assert.ok(
              error <= LOSS.relative * Math.abs(value) || error <= LOSS.absolute,
              `${name} ${term}[${b}]: ${actual[b]}, reference ${value}`,
            );
          });
        }
        assertGradient(await gradient!.data(), tensors, numbers(need(holder('t'), 'in.t')), name);
        gradient!.dispose();
        for (const term of new Set(Object.values(terms) as Tensor[])) term.dispose();
      });
    }
  },
  ['diffusion/training_losses.safetensors', `${SIDECAR}.json`],
);

/** Sample by sample: t = 0 has a wider limit, and each timestep a gradient of its own size. */
function assertGradient(actual: ArrayLike<number>, tensors: Golden, t: readonly number[], label: string): void {
  const expected = numbers(tensors.get('grad64.model_output') ?? need(tensors, 'grad.model_output'));
  const size = expected.length / t.length;
  t.forEach((step, b) => {
    const of = (values: ArrayLike<number>): number[] => Array.from({ length: size }, (_, i) => values[b * size + i]);
    assertClose(
      of(actual),
      of(expected),
      step === 0 ? GRADIENT.first : GRADIENT.other,
      `${label} gradient of sample ${b}, t = ${step}`,
    );
  });
}

gpuFamily(
  'diffusion/loops',
  (test) => {
    const golden = loadGolden('diffusion/loops');
    const sidecar = loadSidecar<Sidecar>(SIDECAR);
    for (const [name, tensors] of cases(golden)) {
      if (name === '') continue;
      for (const capture of [true, false]) {
        test(`${name}, ${capture ? 'captured' : 'eager'}`, async (device, own) => {
          const {
            model: kind,
            timestep_respacing,
            eta,
            clip_denoised: clipDenoised,
            timestep_map,
          } = sidecar.loops[name];
          const diffusion = own(createDiffusion(device, { timestepRespacing: timestep_respacing }));
          assert.equal([...diffusion.settings.timestepMap], timestep_map);
          const model = modelOf(sidecar.loop_models[kind], diffusion.outputParts);
          const noise = own(read(device, golden, 'in.z'));
          const stepNoise = own(read(device, golden, 'in.noise'));
          const options = { clipDenoised, noise, stepNoise, capture };
          const loop: AsyncGenerator<LoopStep> =
            eta === null
              ? diffusion.pSampleLoopProgressive(model, noise.shape, options)
              : diffusion.ddimSampleLoopProgressive(model, noise.shape, { ...options, eta });
          const samples: number[] = [];
          const predicted: number[] = [];
          for await (const step of loop) {
            assert.is(step.t, timestep_map.length - 1 - step.index);
            samples.push(...(await step.sample.data()));
            predicted.push(...(await step.predXstart.data()));
          }
          assertClose(samples, truth(tensors, 'samples')!, STEP, `${name} samples`);
          const expected = truth(tensors, 'pred_xstart');
          if (expected) assertClose(predicted, expected, STEP, `${name} pred_xstart`);
        });
      }
    }
  },
  ['diffusion/loops.safetensors', `${SIDECAR}.json`],
);
