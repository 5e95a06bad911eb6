// Denoising diffusion implicit models: steps that may add no noise at all, and can then be taken in reverse.
// Source: Song et al. 2020 (arXiv 2010.02502), eq. 12; a `condFn` enters as in Dhariwal & Nichol 2021 (arXiv
// 2105.05233), algorithm 2.

import { ValueError } from '../../../core/errors.ts';
import { moveColumns, type Sampler } from './sampler.ts';

/** Options of `ddim`. */
export interface DdimOptions {
  /**
   * Share of the posterior's noise that a step adds: 0 (default) is deterministic and needs no noise, 1 that of DDPM.
   */
  readonly eta?: number;
}

/**
 * x_{t-1} = √ᾱ_{t-1} x_0 + √(1 - ᾱ_{t-1} - σ²) ε + σ z with the predicted x_0 and ε, σ = η √β̃_t.
 *
 * @throws ValueError for an η outside 0 to 1
 */
export function ddim({ eta = 0 }: DdimOptions = {}): Sampler<'ofXstart' | 'ofX' | 'sigma', never> {
  if (!(eta >= 0 && eta <= 1)) throw new ValueError('ddim', `is ${eta}`, { option: 'eta', expected: '0 to 1' });
  return {
    name: eta > 0 ? `ddim(${eta})` : 'ddim',
    noisy: eta > 0,
    guidance: 'score',
    memory: [],
    coefficients(settings) {
      const { tables: k } = settings;
      // 1 - ᾱ_{t-1} - σ² = (1 - ᾱ_{t-1}) (1 - η² + η² α_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t)), without a difference of near
      // numbers.
      const towards = k.betas.map((beta, t) => {
        const before = 1 - k.alphasCumprodPrev[t];
        return Math.sqrt(before * (1 - eta * eta + (eta * eta * (1 - beta) * before) / k.oneMinusAlphasCumprod[t]));
      });
      return {
        ...moveColumns(settings, k.alphasCumprodPrev, towards),
        sigma: k.posteriorVariance.map((variance) => eta * Math.sqrt(variance)),
      };
    },
    step({ x, p, k, noise }) {
      const mean = k('ofXstart').mul(p.predXstart).add(k('ofX').mul(x));
      return { sample: eta > 0 ? mean.add(k('sigma').mul(noise)) : mean };
    },
  };
}

/**
 * x_{t+1} = √ᾱ_{t+1} x_0 + √(1-ᾱ_{t+1}) ε: the step of η = 0 in reverse, from images to their noise. Timesteps go
 * upwards.
 */
export function ddimReverse(): Sampler<'ofXstart' | 'ofX', never> {
  return {
    name: 'ddimReverse',
    noisy: false,
    guidance: 'score',
    memory: [],
    coefficients(settings) {
      const next = settings.tables.alphasCumprodNext;
      return moveColumns(
        settings,
        next,
        next.map((alpha) => Math.sqrt(1 - alpha)),
      );
    },
    step: ({ x, p, k }) => ({ sample: k('ofXstart').mul(p.predXstart).add(k('ofX').mul(x)) }),
  };
}
