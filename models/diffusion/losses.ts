// What training minimises, per sample: squared error, variational bound, or both. All terms come from one pass over the
// data, their gradient from another.
// Sources: Ho et al. 2020 (arXiv 2006.11239), §3.4; Nichol & Dhariwal 2021 (arXiv 2102.09672), §3.1.

import { GradError } from '../../core/errors.ts';
import { scope, type Expr, type Tensor } from '../../core/index.ts';
import { noisedExpr, posteriorMeanExpr, qSample } from './forwardProcess.ts';
import { discretizedGaussianLogLikelihoodExpr, normalKlExpr } from './likelihood.ts';
import { drawNoise, type NoiseOptions } from './noise.ts';
import type { DiffusionModel, DiffusionProcess } from './process.ts';
import { varianceExpr } from './reverseProcess.ts';
import { learnsVariance, type DiffusionSettings } from './settings.ts';
import { timestepMean, type CoefficientExpr, type Elements } from './timestepOp.ts';

/** Each (batch). The bound is in bits per dimension. */
export interface LossTerms {
  /** What to minimise. */
  readonly loss: Tensor;
  /** Mean squared error of the prediction; absent where the loss is the bound. */
  readonly mse?: Tensor;
  /**
   * The variational bound as it enters the loss, which trains the variance alone; absent where the variance is fixed.
   */
  readonly vb?: Tensor;
}

/**
 * The variational bound of an element in bits: -log p(x_0 | x_1) at t = 0, KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t))
 * before.
 *
 * @param meanError mean of p less mean of q, which is x_0 at t = 0
 */
export function variationalBoundExpr(k: CoefficientExpr, xStart: Expr, meanError: Expr, logVariance: Expr): Expr {
  const kl = normalKlExpr(meanError, k('posteriorLogVarianceClipped'), logVariance);
  const likelihood = discretizedGaussianLogLikelihoodExpr(xStart, meanError.neg(), logVariance.mul(0.5));
  return k('nonzero').gt(0).where(kl, likelihood.neg()).div(Math.LN2);
}

/**
 * Losses of the model at x_t = qSample(x_0, t, ε).
 *
 * `mse` E[‖target - prediction‖²] by the mean type, plus the bound where the variance is learned, through which no
 * gradient reaches the mean; `kl` the bound. Only dispatches, so that a step with it can be captured. Gradients go to
 * the model's parameters; x_0 and ε are data.
 *
 * @param xStart x_0 (batch, channels, …)
 * @param t steps of the process (batch), i32
 * @throws ValueError without noise or a generator; ShapeError, DTypeError for tensors that don't fit
 */
export function trainingLosses(
  process: DiffusionProcess,
  model: DiffusionModel,
  xStart: Tensor,
  t: Tensor,
  options: NoiseOptions,
): LossTerms {
  return scope(() => {
    const noise = drawNoise('trainingLosses', xStart.shape, options);
    for (const [name, x] of [
      ['xStart', xStart],
      ['noise', noise],
    ] as const) {
      if (x.requiresGrad)
        throw new GradError('trainingLosses', `${name} requires a gradient`, {
          expected: 'data',
          remedy: 'detach() it',
        });
    }
    const { settings } = process;
    const modelOutput = process.predict('trainingLosses', model, qSample(process, xStart, t, noise), t);
    const op = process.operation('trainingLosses', () =>
      timestepMean('trainingLosses', { xStart: 1, noise: 1, modelOutput: process.outputParts }, (e) =>
        lossExprs(settings, e),
      ),
    );
    const [loss, mse, vb] = op(process.table(), t, { xStart, noise, modelOutput });
    if (isBound(settings)) return { loss };
    return learnsVariance(settings) ? { loss, mse, vb } : { loss, mse: loss };
  });
}

function isBound({ lossType }: DiffusionSettings): boolean {
  return lossType === 'kl' || lossType === 'rescaledKl';
}

/** Loss, and the terms that it is the sum of. */
function lossExprs(
  settings: DiffusionSettings,
  { of, detached, k }: Elements<'xStart' | 'noise' | 'modelOutput'>,
): Expr[] {
  const { lossType, numTimesteps, modelMeanType } = settings;
  const [[xStart], [noise], [prediction, v]] = [of.xStart, of.noise, of.modelOutput];
  const target = { epsilon: noise, xStart, previousX: posteriorMeanExpr(k, xStart, noisedExpr(k, xStart, noise)) }[
    modelMeanType
  ];
  // Means of p and q are the same function of prediction and target, so their difference needs no difference of near
  // numbers.
  const bound = (predicted: Expr): Expr =>
    variationalBoundExpr(
      k,
      xStart,
      k('posteriorMeanOfOutput').mul(predicted.sub(target)),
      varianceExpr(settings, k, v).logVariance,
    );
  if (isBound(settings)) return [bound(prediction).mul(lossType === 'rescaledKl' ? numTimesteps : 1)];
  const mse = target.sub(prediction).square();
  if (!learnsVariance(settings)) return [mse];
  const vb = bound(detached.modelOutput[0]).mul(lossType === 'rescaledMse' ? numTimesteps / 1000 : 1);
  return [mse.add(vb), mse, vb];
}
