// Coefficients of the process on the GPU: a table with a row for each timestep. An operation reads the row of each
// sample's timestep itself, so that nothing of t is baked into it and a captured step can be replayed with other
// timesteps. They are computed in float64 and rounded once: 1 - ᾱ of a float32 ᾱ would have no correct digit left at
// small t.

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
] as const;

export type Coefficient = (typeof COEFFICIENTS)[number];

/** Columns by name, a value for each timestep. */
export type Columns = Readonly<Record<string, ArrayLike<number>>>;

/** A table (T, columns), f32, and the names of its columns in order. */
export interface CoefficientTable {
  readonly tensor: Tensor;
  readonly columns: readonly string[];
}

/** The table of a process, with further columns behind its own. */
export function coefficientTable(device: Device, settings: DiffusionSettings, more: Columns = {}): CoefficientTable {
  const steps = settings.numTimesteps;
  const all: Columns = { ...processColumns(settings), ...more };
  const columns = [...COEFFICIENTS, ...Object.keys(more)];
  const data = new Float32Array(steps * columns.length);
  columns.forEach((name, k) => {
    for (let t = 0; t < steps; t++) data[t * columns.length + k] = all[name][t];
  });
  return { tensor: tensor(device, data, { shape: [steps, columns.length] }), columns };
}

function processColumns(settings: DiffusionSettings): Record<Coefficient, Float64Array> {
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
