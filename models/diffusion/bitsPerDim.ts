// The variational bound of data over all timesteps, in bits per dimension. Source: Ho et al. 2020 (arXiv 2006.11239),
// eq. 5 and §4.

import { full, keep, noGrad, scope, stack, zeros, type Generator, type Tensor } from '../../core/index.ts';
import { noisedExpr, posteriorMeanExpr, priorBpd, qSample } from './forwardProcess.ts';
import { variationalBoundExpr } from './losses.ts';
import { drawNoise } from './noise.ts';
import type { DiffusionModel, DiffusionProcess } from './process.ts';
import { RepeatedStep } from './repeatedStep.ts';
import { reverseExpr } from './reverseProcess.ts';
import { descending } from './samplers/loop.ts';
import { timestepMean } from './timestepOp.ts';

/** Options of `calcBpdLoop`. */
export interface BpdOptions {
  /** Clip the predicted x_0 to [-1, 1]; default true. */
  readonly clipDenoised?: boolean;
  /** ε of each timestep in the order T-1 … 0, (T, …shape of x_0); drawn by `generator` where it isn't given. */
  readonly stepNoise?: Tensor;
  readonly generator?: Generator;
  /** Checked before each timestep; the loop throws its reason. */
  readonly signal?: AbortSignal;
  /** Record the work of a timestep once and replay it, default true; see {@link LoopOptions.capture}. */
  readonly capture?: boolean;
}

/**
 * Bits per dimension of each sample, and what they are made of. Columns are timesteps in the order T-1 … 0. The caller
 * owns all.
 */
export interface BitsPerDim {
  /** (batch) the bound: `priorBpd` and the sum of `vb`. */
  readonly totalBpd: Tensor;
  /** (batch) what remains of the data at t = T. */
  readonly priorBpd: Tensor;
  /** (batch, T) terms of the bound. */
  readonly vb: Tensor;
  /** (batch, T) mean squared error of the predicted x_0. */
  readonly xstartMse: Tensor;
  /** (batch, T) mean squared error of the predicted ε. */
  readonly mse: Tensor;
}

/**
 * The whole variational bound of x_0 (batch, channels, …): the model at every timestep.
 *
 * @throws what `signal` was aborted with
 */
export async function calcBpdLoop(
  process: DiffusionProcess,
  model: DiffusionModel,
  xStart: Tensor,
  options: BpdOptions = {},
): Promise<BitsPerDim> {
  const { clipDenoised = true, stepNoise, generator, signal, capture = true } = options;
  const { device, numTimesteps } = process;
  const [batch] = xStart.shape;
  const t = keep(full(device, [batch], numTimesteps - 1, 'i32'));
  const given = stepNoise && keep(zeros(device, xStart.shape));
  // (step, term, batch)
  const terms = keep(zeros(device, [numTimesteps, 3, batch]));
  const repeated = new RepeatedStep(
    device,
    () =>
      scope(() =>
        noGrad(() => {
          const noise = drawNoise('calcBpdLoop', xStart.shape, { noise: given, generator });
          return stack(bpdTerms(process, model, xStart, t, noise, clipDenoised));
        }),
      ),
    numTimesteps,
    capture,
  );
  try {
    const prior = scope(() => priorBpd(process, xStart, t));
    keep(prior);
    for (const [index, step] of descending(numTimesteps).entries()) {
      signal?.throwIfAborted();
      t.write(new Int32Array(batch).fill(step));
      if (given)
        scope(() => {
          given.copy_(stepNoise!.select(0, index));
        });
      const found = await repeated.run();
      scope(() => {
        terms.select(0, index).copy_(found);
      });
    }
    const [vb, xstartMse, mse] = scope(() => [0, 1, 2].map((term) => terms.select(1, term).T.clone()));
    const totalBpd = scope(() => prior.add(vb.sum(1)));
    const result = { totalBpd, priorBpd: prior, vb, xstartMse, mse };
    for (const tensor of Object.values(result)) keep(tensor);
    return result;
  } finally {
    repeated.dispose();
    for (const tensor of [t, given, terms]) tensor?.dispose();
  }
}

/** Term of the bound, squared error of x_0 and of ε, each (batch). */
function bpdTerms(
  process: DiffusionProcess,
  model: DiffusionModel,
  xStart: Tensor,
  t: Tensor,
  noise: Tensor,
  clipDenoised: boolean,
): Tensor[] {
  const modelOutput = process.predict('calcBpdLoop', model, qSample(process, xStart, t, noise), t);
  const op = process.operation(`bpdTerms|${clipDenoised}`, () =>
    timestepMean('bpdTerms', { xStart: 1, noise: 1, modelOutput: process.outputParts }, ({ of, k }) => {
      const [[original], [epsilon]] = [of.xStart, of.noise];
      const x = noisedExpr(k, original, epsilon);
      const p = reverseExpr(process.settings, k, x, of.modelOutput, clipDenoised);
      const error = p.predXstart.sub(original);
      const meanError =
        process.settings.modelMeanType === 'previousX'
          ? p.mean.sub(posteriorMeanExpr(k, original, x))
          : k('posteriorMeanCoef1').mul(error);
      // The ε that belongs to x_t and the predicted x_0 is off by the error of x_0 times √(ᾱ / (1-ᾱ)).
      return [
        variationalBoundExpr(k, original, meanError, p.logVariance),
        error.square(),
        error.square().mul(k('signalToNoise')),
      ];
    }),
  );
  return op(process.table(), t, { xStart, noise, modelOutput });
}
