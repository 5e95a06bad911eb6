// The reverse process p(x_{t-1} | x_t): from the model's output to a mean and a variance, with guidance by a
// classifier's gradient.
// Sources: Ho et al. 2020 (arXiv 2006.11239), §3.2; Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 15; Dhariwal &
// Nichol 2021 (arXiv 2105.05233), algorithms 1 and 2.

import { scope, type Expr, type Tensor } from '../../core/index.ts';
import { posteriorMeanExpr } from './forwardProcess.ts';
import type { CoefficientTable } from './coefficients.ts';
import type { DiffusionModel, DiffusionProcess } from './process.ts';
import type { DiffusionSettings } from './settings.ts';
import { timestepMap, type CoefficientExpr, type Inputs, type TimestepOp } from './timestepOp.ts';

/** What is done with the predicted x_0. */
export interface DenoiseOptions {
  /** Clip the predicted x_0 to [-1, 1]; default true. Right for pixels, wrong for latents. */
  readonly clipDenoised?: boolean;
  /** Applied to the predicted x_0, before it is clipped. */
  readonly denoisedFn?: (xStart: Tensor) => Tensor;
}

/** Guidance by a classifier. */
export interface GuidanceOptions {
  /**
   * ∇ log p(y | x_t) for x_t and the model's timesteps, as of a classifier of noisy images; it moves the mean of each
   * step.
   */
  readonly condFn?: (x: Tensor, timesteps: Tensor) => Tensor;
}

/** p(x_{t-1} | x_t) of an element. */
export interface ReverseExpr {
  readonly mean: Expr;
  readonly variance: Expr;
  readonly logVariance: Expr;
  readonly predXstart: Expr;
}

/**
 * p(x_{t-1} | x_t) from x_t and the parts of the model's output.
 *
 * @param predXstart the predicted x_0 where something else than the model says it
 */
export function reverseExpr(
  settings: DiffusionSettings,
  k: CoefficientExpr,
  x: Expr,
  [prediction, v]: readonly Expr[],
  clipDenoised: boolean,
  predXstart?: Expr,
): ReverseExpr {
  const { modelMeanType } = settings;
  const xStart =
    predXstart ??
    (modelMeanType === 'xStart' ? prediction : k('xStartOfX').mul(x).add(k('xStartOfOutput').mul(prediction)));
  const clipped = clipDenoised ? xStart.clamp(-1, 1) : xStart;
  const mean = modelMeanType === 'previousX' ? prediction : posteriorMeanExpr(k, clipped, x);
  return { mean, ...varianceExpr(settings, k, v), predXstart: clipped };
}

/** Variance of p and its logarithm, from the second part of the model's output where it is learned. */
export function varianceExpr(
  { modelVarType }: DiffusionSettings,
  k: CoefficientExpr,
  v: Expr,
): Pick<ReverseExpr, 'variance' | 'logVariance'> {
  if (modelVarType === 'fixedSmall' || modelVarType === 'fixedLarge')
    return { variance: k('fixedVariance'), logVariance: k('fixedLogVariance') };
  const low = k('posteriorLogVarianceClipped');
  const logVariance = modelVarType === 'learned' ? v : low.add(v.add(1).mul(0.5).mul(k('logBeta').sub(low)));
  return { variance: logVariance.exp(), logVariance };
}

/** How guidance enters: by the mean (algorithm 1), or by ε and with it x_0 (algorithm 2, for DDIM). */
export type Guidance = 'mean' | 'score';

export function guidedExpr(
  k: CoefficientExpr,
  p: ReverseExpr,
  x: Expr,
  gradient: Expr,
  guidance: Guidance,
): ReverseExpr {
  if (guidance === 'mean') return { ...p, mean: p.mean.add(p.variance.mul(gradient)) };
  const predXstart = p.predXstart.add(k('xStartOfScore').mul(gradient));
  return { ...p, predXstart, mean: posteriorMeanExpr(k, predXstart, x) };
}

export interface ReverseStepOptions extends DenoiseOptions, GuidanceOptions {
  /** How `condFn` enters; default `mean`. */
  readonly guidance?: Guidance;
  /** Further tensors of x's shape that the step reads, by name. */
  readonly given?: Readonly<Record<string, Tensor>>;
  /** Default: the coefficients of the process alone. */
  readonly table?: CoefficientTable;
}

/** What the results of a reverse step are made of. */
export interface ReverseElements {
  readonly p: ReverseExpr;
  readonly x: Expr;
  readonly k: CoefficientExpr<string>;
  /** The tensors given. */
  readonly of: Readonly<Record<string, Expr>>;
}

/**
 * Calls the model, `denoisedFn` and `condFn`, and makes p(x_{t-1} | x_t) and what `build` makes of it in one dispatch.
 *
 * @param name of the operation; `build` must be the same whenever the name and the presence of options are
 */
export function reverseStep(
  process: DiffusionProcess,
  name: string,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  options: ReverseStepOptions,
  build: (elements: ReverseElements) => readonly Expr[],
): Tensor[] {
  const { clipDenoised = true, denoisedFn, condFn, guidance = 'mean', given = {} } = options;
  const table = options.table ?? process.tableWith('', () => ({}));
  return scope(() => {
    const modelOutput = process.predict(name, model, x, t);
    const extras: Record<string, Tensor> = { ...given };
    if (denoisedFn) extras.predXstart = denoisedFn(predictXstart(process, x, t, modelOutput));
    if (condFn) extras.gradient = condFn(x, process.modelTimesteps(t));
    const names = Object.keys(extras);
    const op: TimestepOp<string> = process.operation(`${name}|${clipDenoised}|${names.join()}`, () => {
      const inputs: Inputs<string> = {
        x: 1,
        modelOutput: process.outputParts,
        ...Object.fromEntries(names.map((e) => [e, 1])),
      };
      return timestepMap<string, string>(
        name,
        inputs,
        ({ of, k }) => {
          const [at] = of.x;
          const first = Object.fromEntries(names.map((e) => [e, of[e][0]]));
          const p = reverseExpr(process.settings, k, at, of.modelOutput, clipDenoised, first.predXstart);
          return build({ p: condFn ? guidedExpr(k, p, at, first.gradient, guidance) : p, x: at, k, of: first });
        },
        table.columns,
      );
    });
    return op(table.tensor, t, { x, modelOutput, ...extras });
  });
}

/** The predicted x_0 as it is before `denoisedFn`. */
export function predictXstart(process: DiffusionProcess, x: Tensor, t: Tensor, modelOutput: Tensor): Tensor {
  const op: TimestepOp<'x' | 'modelOutput'> = process.operation('predictXstart', () =>
    timestepMap('predictXstart', { x: 1, modelOutput: process.outputParts }, ({ of, k }) => [
      reverseExpr(process.settings, k, of.x[0], of.modelOutput, false).predXstart,
    ]),
  );
  return op(process.table(), t, { x, modelOutput })[0];
}

/** p(x_{t-1} | x_t), each tensor of x's shape. */
export interface MeanVariance {
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly logVariance: Tensor;
  readonly predXstart: Tensor;
}

/** Mean, variance and log variance of p(x_{t-1} | x_t), and the predicted x_0, each of x's shape. */
export function pMeanVariance(
  process: DiffusionProcess,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  { clipDenoised, denoisedFn }: DenoiseOptions = {},
): MeanVariance {
  const [mean, variance, logVariance, predXstart] = reverseStep(
    process,
    'pMeanVariance',
    model,
    x,
    t,
    { clipDenoised, denoisedFn },
    ({ p }) => [p.mean, p.variance, p.logVariance, p.predXstart],
  );
  return { mean, variance, logVariance, predXstart };
}
