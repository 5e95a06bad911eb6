// The diffusion process in plain float64, one sample and one value at a time: what the tensor implementation is checked against
// where the reference set has no case. Written from the papers' equations; checked itself against that set.

import { learnsVariance } from '../../models/diffusion/settings.ts';
import type { DiffusionSettings } from '../../models/diffusion/settings.ts';

type Values = ArrayLike<number>;

/** x_t, t, and what the model gave for them. Samples lie one after the other, `size` values each (twice as many in a learned-variance output). */
export interface Prediction {
  readonly x: Values;
  readonly t: Values;
  readonly modelOutput: Values;
}

export interface MeanVariance {
  readonly mean: Float64Array;
  readonly variance: Float64Array;
  readonly logVariance: Float64Array;
  readonly predXstart: Float64Array;
}

/** p(x_{t-1} | x_t). */
export function pMeanVariance(
  s: DiffusionSettings,
  { x, t, modelOutput }: Prediction,
  clipDenoised: boolean,
): MeanVariance {
  const batch = t.length;
  const size = x.length / batch;
  const stride = learnsVariance(s) ? 2 * size : size;
  const out = {
    mean: new Float64Array(x.length),
    variance: new Float64Array(x.length),
    logVariance: new Float64Array(x.length),
    predXstart: new Float64Array(x.length),
  };
  for (let i = 0; i < x.length; i++) {
    const b = Math.floor(i / size);
    const step = t[b];
    const k = s.tables;
    const prediction = modelOutput[b * stride + (i % size)];
    const v = learnsVariance(s) ? modelOutput[b * stride + size + (i % size)] : NaN;
    out.logVariance[i] = logVariance(s, step, v);
    out.variance[i] = s.modelVarType === 'fixedSmall' ? k.posteriorVariance[step] : Math.exp(out.logVariance[i]);

    let x0 = prediction;
    if (s.modelMeanType === 'epsilon')
      x0 = k.sqrtRecipAlphasCumprod[step] * x[i] - k.sqrtRecipm1AlphasCumprod[step] * prediction;
    if (s.modelMeanType === 'previousX')
      x0 = (prediction - k.posteriorMeanCoef2[step] * x[i]) / k.posteriorMeanCoef1[step];
    out.predXstart[i] = clipDenoised ? Math.min(1, Math.max(-1, x0)) : x0;
    out.mean[i] =
      s.modelMeanType === 'previousX'
        ? prediction
        : k.posteriorMeanCoef1[step] * out.predXstart[i] + k.posteriorMeanCoef2[step] * x[i];
  }
  return out;
}

function logVariance({ modelVarType, tables }: DiffusionSettings, step: number, v: number): number {
  if (modelVarType === 'learned') return v;
  if (modelVarType === 'fixedSmall') return tables.posteriorLogVarianceClipped[step];
  if (modelVarType === 'fixedLarge') return tables.fixedLargeLogVariance[step];
  const share = (v + 1) / 2;
  return share * tables.logBetas[step] + (1 - share) * tables.posteriorLogVarianceClipped[step];
}

/** KL(N(mean1, e^logVar1) || N(mean2, e^logVar2)) in nats. */
export function normalKl(mean1: number, logVar1: number, mean2: number, logVar2: number): number {
  return 0.5 * (-1 + logVar2 - logVar1 + Math.exp(logVar1 - logVar2) + (mean1 - mean2) ** 2 * Math.exp(-logVar2));
}

/** log of the mass that N(mean, e^(2 logScale)) gives to the bin of one of 256 grey levels in [-1, 1]. */
export function discretizedGaussianLogLikelihood(x: number, mean: number, logScale: number): number {
  const inverse = Math.exp(-logScale);
  const cdf = (z: number): number => 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)));
  const above = cdf(inverse * (x - mean + 1 / 255));
  const below = cdf(inverse * (x - mean - 1 / 255));
  const mass = x < -0.999 ? above : x > 0.999 ? 1 - below : above - below;
  return Math.log(Math.max(mass, 1e-12));
}

/** The variational bound of each sample in bits per dimension. */
export function vbTermsBpd(
  s: DiffusionSettings,
  xStart: Values,
  prediction: Prediction,
  clipDenoised: boolean,
): Float64Array {
  const { x, t } = prediction;
  const p = pMeanVariance(s, prediction, clipDenoised);
  const size = x.length / t.length;
  const sums = new Float64Array(t.length);
  for (let i = 0; i < x.length; i++) {
    const b = Math.floor(i / size);
    const step = t[b];
    const trueMean = s.tables.posteriorMeanCoef1[step] * xStart[i] + s.tables.posteriorMeanCoef2[step] * x[i];
    sums[b] +=
      step === 0
        ? -discretizedGaussianLogLikelihood(xStart[i], p.mean[i], 0.5 * p.logVariance[i])
        : normalKl(trueMean, s.tables.posteriorLogVarianceClipped[step], p.mean[i], p.logVariance[i]);
  }
  return sums.map((sum) => sum / size / Math.LN2);
}

export function qSample(s: DiffusionSettings, xStart: Values, t: Values, noise: Values): Float64Array {
  const size = xStart.length / t.length;
  return Float64Array.from({ length: xStart.length }, (_, i) => {
    const step = t[Math.floor(i / size)];
    return s.tables.sqrtAlphasCumprod[step] * xStart[i] + s.tables.sqrtOneMinusAlphasCumprod[step] * noise[i];
  });
}

export interface LossTerms {
  readonly loss: Float64Array;
  readonly mse?: Float64Array;
  readonly vb?: Float64Array;
}

/**
 * Per-sample losses. `frozen` stands for the model's output in the mean of the variational term, through which no gradient
 * flows: hold it while differentiating numerically by `modelOutput`.
 */
export function trainingLosses(
  s: DiffusionSettings,
  xStart: Values,
  noise: Values,
  t: Values,
  modelOutput: Values,
  frozen: Values = modelOutput,
): LossTerms {
  const x = qSample(s, xStart, t, noise);
  if (s.lossType === 'kl' || s.lossType === 'rescaledKl') {
    const scale = s.lossType === 'rescaledKl' ? s.numTimesteps : 1;
    return { loss: vbTermsBpd(s, xStart, { x, t, modelOutput }, false).map((bits) => bits * scale) };
  }
  const size = xStart.length / t.length;
  const stride = learnsVariance(s) ? 2 * size : size;
  const mse = new Float64Array(t.length);
  for (let i = 0; i < xStart.length; i++) {
    const b = Math.floor(i / size);
    const step = t[b];
    const targets = {
      epsilon: noise[i],
      xStart: xStart[i],
      previousX: s.tables.posteriorMeanCoef1[step] * xStart[i] + s.tables.posteriorMeanCoef2[step] * x[i],
    };
    mse[b] += (targets[s.modelMeanType] - modelOutput[b * stride + (i % size)]) ** 2 / size;
  }
  if (!learnsVariance(s)) return { loss: mse, mse };
  const mixed = Float64Array.from({ length: modelOutput.length }, (_, i) =>
    i % stride < size ? frozen[i] : modelOutput[i],
  );
  const scale = s.lossType === 'rescaledMse' ? s.numTimesteps / 1000 : 1;
  const vb = vbTermsBpd(s, xStart, { x, t, modelOutput: mixed }, false).map((bits) => bits * scale);
  return { loss: mse.map((value, b) => value + vb[b]), mse, vb };
}

/**
 * DPM-Solver++(2M) of Lu et al. 2022 (arXiv 2211.01095), algorithm 2, as it is written there: times are those of λ = log(α/σ), from
 * timestep `from` down to 0 and then to σ = 0, where the limit of a first-order step is the prediction itself.
 *
 * @param predictXstart x_0 for x at a timestep of the process
 * @returns x after each step
 */
export function dpmSolver2M(
  { tables }: DiffusionSettings,
  predictXstart: (x: Float64Array, t: number) => Float64Array,
  noise: Values,
  from: number,
): Float64Array[] {
  const alpha = (t: number): number => Math.sqrt(tables.alphasCumprod[t]);
  const sigma = (t: number): number => Math.sqrt(1 - tables.alphasCumprod[t]);
  const lambda = (t: number): number => Math.log(alpha(t) / sigma(t));
  const states: Float64Array[] = [];
  let x: Float64Array = Float64Array.from(noise);
  let before: Float64Array | undefined;
  for (let t = from; t >= 0; t--) {
    const now = predictXstart(x, t);
    if (t === 0) x = now;
    else {
      const h = lambda(t - 1) - lambda(t);
      const r = t < from ? (lambda(t) - lambda(t + 1)) / h : NaN;
      const d = now.map((v, i) => (before ? (1 + 1 / (2 * r)) * v - before[i] / (2 * r) : v));
      x = x.map((v, i) => (sigma(t - 1) / sigma(t)) * v - alpha(t - 1) * (Math.exp(-h) - 1) * d[i]);
    }
    before = now;
    states.push(x);
  }
  return states;
}
