// DPM-Solver++(2M), a multistep solver of the probability-flow ODE: one call of the model a step, as DDIM, but of
// second order, for it also knows what the step before predicted. 15 to 25 steps give what takes DDIM 50 to 100.
// Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2.

import { moveColumns, type Sampler } from './sampler.ts';

/**
 * x_{t-1} = (σ_{t-1}/σ_t) x_t - α_{t-1} (e^{-h} - 1) D with D = x_0 + (x_0 - x_0') h / 2h', where x_0' is what the step
 * before predicted, α² = ᾱ, σ² = 1 - ᾱ, and h = λ_{t-1} - λ_t, h' = λ_t - λ_{t+1} are the steps in λ = log(α/σ).
 *
 * That is DDIM's step with D in place of x_0. The first step and the last, which ends at σ = 0, are DDIM's.
 */
export function dpmSolverPlusPlus(): Sampler<'ofXstart' | 'ofX' | 'extrapolation', 'xStart'> {
  return {
    name: 'dpm++',
    noisy: false,
    guidance: 'score',
    memory: ['xStart'],
    coefficients(settings, first) {
      const { tables: k } = settings;
      const lambda = k.alphasCumprod.map((alpha, t) => 0.5 * Math.log(alpha / k.oneMinusAlphasCumprod[t]));
      return {
        ...moveColumns(
          settings,
          k.alphasCumprodPrev,
          k.alphasCumprodPrev.map((alpha) => Math.sqrt(1 - alpha)),
        ),
        // h / 2h'.
        extrapolation: lambda.map((at, t) =>
          t === 0 || t >= first ? 0 : (lambda[t - 1] - at) / (2 * (at - lambda[t + 1])),
        ),
      };
    },
    step({ x, p, k, memory }) {
      const d = p.predXstart.add(p.predXstart.sub(memory.xStart).mul(k('extrapolation')));
      return { sample: k('ofXstart').mul(d).add(k('ofX').mul(x)), memory: { xStart: p.predXstart } };
    },
  };
}
