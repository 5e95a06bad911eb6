// Coefficients of the process on the GPU: a table with a row for each timestep. An operation reads the row of each sample's timestep
// itself, so that nothing of t is baked into it and a captured step can be replayed with other timesteps. They are computed in
// float64 and rounded once: 1 - ᾱ of a float32 ᾱ would have no correct digit left at small t.

import { tensor, type Device, type Tensor } from '../../core/index.ts';
import type { DiffusionSettings } from './settings.ts';

/** Columns of the table, in order. */
export const COEFFICIENTS = [
  'sqrtAlphasCumprod',
  'oneMinusAlphasCumprod',
  'sqrtOneMinusAlphasCumprod',
  'logOneMinusAlphasCumprod',
  'posteriorMeanCoef1',
  'posteriorMeanCoef2',
  'posteriorVariance',
  'posteriorLogVarianceClipped',
  /** Of a fixed variance, its value and logarithm; log β is the upper end of a learned range. */
  'fixedVariance',
  'fixedLogVariance',
  'logBeta',
  /** x_0 is linear in x_t and the model's output, whatever it predicts, and shifted by a guiding score. */
  'xStartOfX',
  'xStartOfOutput',
  'xStartOfScore',
  /** How far the mean of x_{t-1} moves with the model's output at a given x_t. */
  'posteriorMeanOfOutput',
  /** Squared error of ε over that of x_0: ᾱ / (1-ᾱ). */
  'signalToNoise',
  /** 0 at t = 0, else 1: the last step adds no noise. */
  'nonzero',
  'ddimXstart',
  'ddimX',
  'ddimSigma',
  'ddimReverseXstart',
  'ddimReverseX',
] as const;

export type Coefficient = (typeof COEFFICIENTS)[number];

/**
 * The table (T, columns) of a process and an η of DDIM.
 *
 * DDIM (Song et al. 2020, eq. 12) is here with ε eliminated: x_{t-1} = `ddimXstart` x_0 + `ddimX` x_t + `ddimSigma` z, where
 * σ = η √β̃_t, d = √(1 - ᾱ_{t-1} - σ²), `ddimX` = d / √(1-ᾱ_t) and `ddimXstart` = √ᾱ_{t-1} - `ddimX` √ᾱ_t.
 */
export function coefficientTable(device: Device, settings: DiffusionSettings, eta = 0): Tensor {
  const steps = settings.numTimesteps;
  const width = COEFFICIENTS.length;
  const columns: Readonly<Record<Coefficient, ArrayLike<number>>> = {
    ...processColumns(settings),
    ...ddimColumns(settings, eta),
  };
  const data = new Float32Array(steps * width);
  COEFFICIENTS.forEach((name, k) => {
    for (let t = 0; t < steps; t++) data[t * width + k] = columns[name][t];
  });
  return tensor(device, data, { shape: [steps, width] });
}

type DdimCoefficient = Extract<Coefficient, `ddim${string}`>;

function processColumns(settings: DiffusionSettings): Record<Exclude<Coefficient, DdimCoefficient>, Float64Array> {
  const k = settings.tables;
  const large = settings.modelVarType === 'fixedLarge';
  const constant = (value: number): Float64Array => new Float64Array(k.betas.length).fill(value);
  const ofX = {
    epsilon: k.sqrtRecipAlphasCumprod,
    xStart: constant(0),
    previousX: k.posteriorMeanCoef2.map((c, t) => -c / k.posteriorMeanCoef1[t]),
  };
  const ofOutputs = {
    epsilon: k.sqrtRecipm1AlphasCumprod.map((c) => -c),
    xStart: constant(1),
    previousX: k.posteriorMeanCoef1.map((c) => 1 / c),
  };
  const ofOutput = ofOutputs[settings.modelMeanType];
  return {
    sqrtAlphasCumprod: k.sqrtAlphasCumprod,
    oneMinusAlphasCumprod: k.oneMinusAlphasCumprod,
    sqrtOneMinusAlphasCumprod: k.sqrtOneMinusAlphasCumprod,
    logOneMinusAlphasCumprod: k.logOneMinusAlphasCumprod,
    posteriorMeanCoef1: k.posteriorMeanCoef1,
    posteriorMeanCoef2: k.posteriorMeanCoef2,
    posteriorVariance: k.posteriorVariance,
    posteriorLogVarianceClipped: k.posteriorLogVarianceClipped,
    fixedVariance: large ? k.fixedLargeVariance : k.posteriorVariance,
    fixedLogVariance: large ? k.fixedLargeLogVariance : k.posteriorLogVarianceClipped,
    logBeta: k.logBetas,
    xStartOfX: ofX[settings.modelMeanType],
    xStartOfOutput: ofOutput,
    xStartOfScore: k.oneMinusAlphasCumprod.map((v, t) => v / k.sqrtAlphasCumprod[t]),
    posteriorMeanOfOutput: k.posteriorMeanCoef1.map((c, t) => c * ofOutput[t]),
    signalToNoise: k.alphasCumprod.map((v, t) => v / k.oneMinusAlphasCumprod[t]),
    nonzero: constant(1).fill(0, 0, 1),
  };
}

function ddimColumns({ tables: k }: DiffusionSettings, eta: number): Record<DdimCoefficient, Float64Array> {
  // 1 - ᾱ_{t-1} - σ² = (1 - ᾱ_{t-1}) (1 - η² + η² α_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t)), without a difference of near numbers.
  const towards = k.betas.map((beta, t) => {
    const before = 1 - k.alphasCumprodPrev[t];
    return Math.sqrt(before * (1 - eta * eta + (eta * eta * (1 - beta) * before) / k.oneMinusAlphasCumprod[t]));
  });
  const step = affine(k.alphasCumprodPrev.map(Math.sqrt), towards, k);
  const reverse = affine(
    k.alphasCumprodNext.map(Math.sqrt),
    k.alphasCumprodNext.map((alpha) => Math.sqrt(1 - alpha)),
    k,
  );
  return {
    ddimXstart: step.ofXstart,
    ddimX: step.ofX,
    ddimSigma: k.posteriorVariance.map((variance) => eta * Math.sqrt(variance)),
    ddimReverseXstart: reverse.ofXstart,
    ddimReverseX: reverse.ofX,
  };
}

/** √ᾱ' x_0 + d ε as a combination of x_0 and x_t, by ε = (x_t - √ᾱ_t x_0) / √(1-ᾱ_t). */
function affine(
  sqrtAlpha: Float64Array,
  towards: Float64Array,
  k: DiffusionSettings['tables'],
): { ofXstart: Float64Array; ofX: Float64Array } {
  const ofX = towards.map((d, t) => d / k.sqrtOneMinusAlphasCumprod[t]);
  return { ofX, ofXstart: sqrtAlpha.map((root, t) => root - ofX[t] * k.sqrtAlphasCumprod[t]) };
}
