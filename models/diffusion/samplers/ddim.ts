// Denoising diffusion implicit models: steps that may add no noise at all, and can then be gone backwards.
// Source: Song et al. 2020 (arXiv 2010.02502), eq. 12; guidance: Dhariwal & Nichol 2021 (arXiv 2105.05233), algorithm 2.

import { ValueError } from '../../../core/errors.ts';
import type { Tensor } from '../../../core/index.ts';
import type { DiffusionModel, DiffusionProcess } from '../process.ts';
import { reverseStep, type DenoiseOptions, type GuidanceOptions } from '../reverseProcess.ts';
import type { SampleStep } from './loop.ts';
import { drawNoise, type NoiseOptions } from '../noise.ts';

export interface DdimOptions extends DenoiseOptions, GuidanceOptions, NoiseOptions {
  /** Share of the posterior's noise that a step adds: 0 (default) is deterministic and needs no noise, 1 that of DDPM. */
  readonly eta?: number;
}

/** x_{t-1} = √ᾱ_{t-1} x_0 + √(1 - ᾱ_{t-1} - σ²) ε + σ z with the predicted x_0 and ε, σ = η √β̃_t. */
export function ddimSample(
  process: DiffusionProcess,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  options: DdimOptions = {},
): SampleStep {
  const { eta = 0 } = options;
  if (!(eta >= 0 && eta <= 1)) throw new ValueError('ddimSample', `is ${eta}`, { option: 'eta', expected: '0 to 1' });
  const noise = eta > 0 ? drawNoise('ddimSample', x.shape, options) : undefined;
  const [sample, predXstart] = reverseStep(
    process,
    'ddimSample',
    model,
    x,
    t,
    { ...options, noise, guidance: 'score', table: process.table(eta) },
    (p, x, k, z) => {
      const mean = k('ddimXstart').mul(p.predXstart).add(k('ddimX').mul(x));
      return [z ? mean.add(k('ddimSigma').mul(z)) : mean, p.predXstart];
    },
  );
  return { sample, predXstart };
}

/** x_{t+1} = √ᾱ_{t+1} x_0 + √(1-ᾱ_{t+1}) ε: the step of η = 0 gone backwards, from images to their noise. */
export function ddimReverseSample(
  process: DiffusionProcess,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  options: DenoiseOptions & GuidanceOptions = {},
): SampleStep {
  const [sample, predXstart] = reverseStep(
    process,
    'ddimReverseSample',
    model,
    x,
    t,
    { ...options, guidance: 'score' },
    (p, x, k) => [k('ddimReverseXstart').mul(p.predXstart).add(k('ddimReverseX').mul(x)), p.predXstart],
  );
  return { sample, predXstart };
}
