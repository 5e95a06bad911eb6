// The forward process: what noise makes of an image. It has no parameters and depends on the schedule alone.
// Source: Ho et al. 2020 (arXiv 2006.11239), §2.

import type { Expr, Tensor } from '../../core/index.ts';
import { standardNormalKlExpr } from './likelihood.ts';
import type { DiffusionProcess } from './process.ts';
import { timestepMap, timestepMean, type CoefficientExpr } from './timestepOp.ts';

/** √ᾱ_t x_0 + √(1-ᾱ_t) ε of an element. */
export function noisedExpr(k: CoefficientExpr, xStart: Expr, noise: Expr): Expr {
  return k('sqrtAlphasCumprod').mul(xStart).add(k('sqrtOneMinusAlphasCumprod').mul(noise));
}

/** Mean of q(x_{t-1} | x_t, x_0), eq. 7. */
export function posteriorMeanExpr(k: CoefficientExpr, xStart: Expr, x: Expr): Expr {
  return k('posteriorMeanCoef1').mul(xStart).add(k('posteriorMeanCoef2').mul(x));
}

/** x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, a sample of q(x_t | x_0), eq. 4. */
export function qSample(process: DiffusionProcess, xStart: Tensor, t: Tensor, noise: Tensor): Tensor {
  const op = process.operation('qSample', () =>
    timestepMap('qSample', { xStart: 1, noise: 1 }, ({ of, k }) => [noisedExpr(k, of.xStart[0], of.noise[0])]),
  );
  return op(process.table(), t, { xStart, noise })[0];
}

/** Mean, variance and log variance of q(x_t | x_0), each of x_0's shape. */
export function qMeanVariance(
  process: DiffusionProcess,
  xStart: Tensor,
  t: Tensor,
): { mean: Tensor; variance: Tensor; logVariance: Tensor } {
  const op = process.operation('qMeanVariance', () =>
    timestepMap('qMeanVariance', { xStart: 1 }, ({ of, k }) => [
      k('sqrtAlphasCumprod').mul(of.xStart[0]),
      k('oneMinusAlphasCumprod'),
      k('logOneMinusAlphasCumprod'),
    ]),
  );
  const [mean, variance, logVariance] = op(process.table(), t, { xStart });
  return { mean, variance, logVariance };
}

/** Mean, variance and clipped log variance of the posterior q(x_{t-1} | x_t, x_0), each of x_0's shape, eq. 6–7. */
export function qPosteriorMeanVariance(
  process: DiffusionProcess,
  xStart: Tensor,
  x: Tensor,
  t: Tensor,
): { mean: Tensor; variance: Tensor; logVarianceClipped: Tensor } {
  const op = process.operation('qPosteriorMeanVariance', () =>
    timestepMap('qPosteriorMeanVariance', { xStart: 1, x: 1 }, ({ of, k }) => [
      posteriorMeanExpr(k, of.xStart[0], of.x[0]),
      k('posteriorVariance'),
      k('posteriorLogVarianceClipped'),
    ]),
  );
  const [mean, variance, logVarianceClipped] = op(process.table(), t, { xStart, x });
  return { mean, variance, logVarianceClipped };
}

/**
 * The part of the variational bound that no model changes, KL(q(x_T | x_0) ‖ N(0, 1)), in bits per dimension (batch).
 */
export function priorBpd(process: DiffusionProcess, xStart: Tensor, t: Tensor): Tensor {
  const op = process.operation('priorBpd', () =>
    timestepMean('priorBpd', { xStart: 1 }, ({ of, k }) => [
      standardNormalKlExpr(k('sqrtAlphasCumprod').mul(of.xStart[0]), k('logOneMinusAlphasCumprod')).div(Math.LN2),
    ]),
  );
  return op(process.table(), t, { xStart })[0];
}
