// Ancestral sampling: a step draws x_{t-1} from p(x_{t-1} | x_t). Source: Ho et al. 2020 (arXiv 2006.11239), algorithm
// 2.

import type { Sampler } from './sampler.ts';

/** x_{t-1} = μ + σ z, without noise at t = 0; with a `condFn` μ + σ² ∇ log p(y | x_t). */
export function ddpm(): Sampler<never, never> {
  return {
    name: 'ddpm',
    noisy: true,
    guidance: 'mean',
    memory: [],
    step: ({ p, k, noise }) => ({ sample: p.mean.add(k('nonzero').mul(p.logVariance.mul(0.5).exp()).mul(noise)) }),
  };
}
