// Ancestral sampling: a step draws x_{t-1} from p(x_{t-1} | x_t). Source: Ho et al. 2020 (arXiv 2006.11239), algorithm 2.

import type { Tensor } from '../../../core/index.ts';
import type { DiffusionModel, DiffusionProcess } from '../process.ts';
import { reverseStep, type DenoiseOptions, type GuidanceOptions } from '../reverseProcess.ts';
import type { SampleStep } from './loop.ts';
import { drawNoise, type NoiseOptions } from '../noise.ts';

export type PSampleOptions = DenoiseOptions & GuidanceOptions & NoiseOptions;

/** x_{t-1} = μ + σ z, without noise at t = 0; with guidance μ + σ² ∇ log p(y | x_t). */
export function pSample(
  process: DiffusionProcess,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  options: PSampleOptions,
): SampleStep {
  const noise = drawNoise('pSample', x.shape, options);
  const [sample, predXstart] = reverseStep(
    process,
    'pSample',
    model,
    x,
    t,
    { ...options, noise, guidance: 'mean' },
    (p, _x, k, z) => [p.mean.add(k('nonzero').mul(p.logVariance.mul(0.5).exp()).mul(z!)), p.predXstart],
  );
  return { sample, predXstart };
}
