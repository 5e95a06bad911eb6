// The diffusion process against the official code: forward process, single steps, losses with their gradients, and
// whole loops.

import * as assert from 'uvu/assert';
import { grad, scope, type Device, type Tensor } from '../../core/index.ts';
import { createDiffusion, type DiffusionOptions, type LoopStep } from '../../models/diffusion/index.ts';
import { closedFormModel, diffusionOptions } from './diffusionOptions.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  cases,
  limitOf,
  loadGolden,
  loadSidecar,
  numbers,
  truth,
  type Golden,
  type ReferenceErrors,
} from './support.ts';

interface Sidecar extends ReferenceErrors {
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

/** An input of a case, which may have one of its own or share that of all. */
function readIn(device: Device, tensors: Golden, golden: Golden, name: string): Tensor {
  return read(device, tensors.has(`in.${name}`) ? tensors : golden, `in.${name}`);
}

/** Names of the results in a group. */
function outputs(group: Golden): Set<string> {
  return new Set(
    [...group.keys()].filter((key) => /^out(64)?\./.test(key)).map((key) => key.replace(/^out(64)?\./, '')),
  );
}

/** The settings of a variant, under which the sidecar lists its losses. */
function variantOptions(sidecar: Sidecar, variant: string): DiffusionOptions {
  const settings = sidecar.training_losses.variants[variant];
  assert.ok(settings, `the sidecar has no settings of ${variant}`);
  return diffusionOptions(settings.create_diffusion);
}

gpuFamily(
  'diffusion/forward_process',
  (test) => {
    test('q_sample, q_mean_variance, q_posterior, prior_bpd', async ({ device, own }) => {
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
      for (const name of outputs(golden)) {
        assert.ok(results[name], `nothing of ours is ${name}`);
        assertClose(await results[name].data(), truth(golden, 'out', name), STEP, name);
      }
      for (const result of Object.values(results)) own(result);
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
      test(name, async ({ device, own }) => {
        const [, variant, clip] = /^(.+)\.clip([01])$/.exec(name)!;
        const diffusion = own(createDiffusion(device, variantOptions(sidecar, variant)));
        const clipDenoised = clip === '1';
        const model = closedFormModel(sidecar.model, diffusion.outputParts);
        const [x, t, noise] = ['x', 't', 'noise'].map((input) => own(readIn(device, tensors, golden, input)));
        const p = diffusion.pMeanVariance(model, x, t, { clipDenoised });
        const results: Record<string, Tensor> = {
          mean: p.mean,
          variance: p.variance,
          log_variance: p.logVariance,
          pred_xstart: p.predXstart,
        };
        for (const result of Object.values(results)) own(result);
        for (const key of outputs(tensors)) {
          if (key in results) continue;
          const ddim = /^ddim_eta([\d_.]+)$/.exec(key);
          assert.ok(ddim || key === 'ddim_reverse' || key === 'p_sample', `no step of ours is ${key}`);
          const { sample, predXstart } = ddim
            ? diffusion.ddimSample(model, x, t, { clipDenoised, noise, eta: Number(ddim[1].replace('_', '.')) })
            : key === 'ddim_reverse'
              ? diffusion.ddimReverseSample(model, x, t, { clipDenoised })
              : diffusion.pSample(model, x, t, { clipDenoised, noise });
          results[key] = own(sample);
          assertClose(await own(predXstart).data(), await p.predXstart.data(), 1e-6, `${key} predXstart`);
        }
        for (const key of outputs(tensors))
          assertClose(
            await results[key].data(),
            truth(tensors, 'out', key),
            limitOf(STEP, sidecar, `step.${key}`),
            key,
          );
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
      test(name, async ({ device, own }) => {
        const diffusion = own(createDiffusion(device, variantOptions(sidecar, name)));
        const [xStart, t, noise] = ['x_start', 't', 'noise'].map((key) => own(readIn(device, tensors, golden, key)));
        const output = own(read(device, tensors, 'out.model_output')).requiresGrad_();
        const terms = diffusion.trainingLosses(() => output, xStart, t, { noise });
        const mean = own(scope(() => terms.loss.mean()));
        const [gradient] = grad(mean, [output]);
        for (const term of ['loss', 'mse', 'vb'] as const) {
          const expected = outputs(tensors).has(term) ? truth(tensors, 'out', term) : undefined;
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
        assertGradient(await own(gradient!).data(), tensors, [...(await t.data())], name);
        for (const term of new Set(Object.values(terms) as Tensor[])) own(term);
      });
    }
  },
  ['diffusion/training_losses.safetensors', `${SIDECAR}.json`],
);

/** Sample by sample: t = 0 has a wider limit, and each timestep a gradient of its own size. */
function assertGradient(actual: ArrayLike<number>, tensors: Golden, t: readonly number[], label: string): void {
  const expected = numbers(truth(tensors, 'grad', 'model_output'));
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
        test(`${name}, ${capture ? 'captured' : 'eager'}`, async ({ device, own }) => {
          const settings = sidecar.loops[name];
          const { model: kind, eta, clip_denoised: clipDenoised, timestep_map } = settings;
          const diffusion = own(createDiffusion(device, diffusionOptions(settings, timestep_map)));
          assert.equal([...diffusion.settings.timestepMap], timestep_map);
          const model = closedFormModel(sidecar.loop_models[kind], diffusion.outputParts);
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
          const limit = limitOf(STEP, sidecar, `loop.${name}`);
          for (const [key, values] of Object.entries({ samples, pred_xstart: predicted }))
            if (outputs(tensors).has(key)) assertClose(values, truth(tensors, 'out', key), limit, key);
        });
      }
    }
  },
  ['diffusion/loops.safetensors', `${SIDECAR}.json`],
);
