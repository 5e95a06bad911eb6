// A diffusion process with all that is done with it, as the official code names it. Each method is a function of its
// own file.

import { full, scope, type Device, type Shape, type Tensor } from '../../core/index.ts';
import { calcBpdLoop, type BitsPerDim, type BpdOptions } from './bitsPerDim.ts';
import { priorBpd, qMeanVariance, qPosteriorMeanVariance, qSample } from './forwardProcess.ts';
import { trainingLosses, type LossTerms } from './losses.ts';
import type { NoiseOptions } from './noise.ts';
import { DiffusionProcess, type DiffusionModel, type ProcessOptions } from './process.ts';
import { pMeanVariance, type DenoiseOptions, type GuidanceOptions, type MeanVariance } from './reverseProcess.ts';
import { ddim, ddimReverse, type DdimOptions } from './samplers/ddim.ts';
import { ddpm } from './samplers/ddpm.ts';
import { ascending, lastSample, loopOver, sampleLoop, type LoopOptions, type LoopStep } from './samplers/loop.ts';
import { samplerStep, type Sampler, type SampleStep } from './samplers/sampler.ts';
import { diffusionSettings, type DiffusionOptions } from './settings.ts';

/** Options of one step. */
export type StepOptions = DenoiseOptions & GuidanceOptions & NoiseOptions;
/** Options of `ddimReverseSampleLoop`. */
export type DdimReverseLoopOptions = Omit<LoopOptions, 'noise' | 'stepNoise' | 'generator' | 'from'>;

/**
 * A Gaussian diffusion process on a device.
 *
 * x has the shape (batch, channels, …), f32; t is (batch), i32, steps of this process (0 … numTimesteps-1), read on the
 * GPU: a step with other timesteps is the same dispatches. The model is given the timesteps that it was trained with.
 * Methods compute in f32, also with a model whose output is f16. `dispose()` frees the tables.
 */
export class GaussianDiffusion extends DiffusionProcess {
  /** x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε. */
  qSample(xStart: Tensor, t: Tensor, noise: Tensor): Tensor {
    return qSample(this, xStart, t, noise);
  }

  /** Mean, variance and log variance of q(x_t | x_0). */
  qMeanVariance(xStart: Tensor, t: Tensor): ReturnType<typeof qMeanVariance> {
    return qMeanVariance(this, xStart, t);
  }

  /** Mean, variance and clipped log variance of q(x_{t-1} | x_t, x_0). */
  qPosteriorMeanVariance(xStart: Tensor, x: Tensor, t: Tensor): ReturnType<typeof qPosteriorMeanVariance> {
    return qPosteriorMeanVariance(this, xStart, x, t);
  }

  /** Mean, variance and log variance of p(x_{t-1} | x_t), and the predicted x_0. */
  pMeanVariance(model: DiffusionModel, x: Tensor, t: Tensor, options?: DenoiseOptions): MeanVariance {
    return pMeanVariance(this, model, x, t, options);
  }

  /** Samples of a shape by a sampler, step by step. */
  sampleProgressive(
    model: DiffusionModel,
    shape: Shape,
    { sampler, ...options }: LoopOptions & { readonly sampler: Sampler },
  ): AsyncGenerator<LoopStep, void, undefined> {
    return sampleLoop(this, sampler, model, shape, options);
  }

  /** Samples of a shape by a sampler, `dpmSolverPlusPlus()` or another. The caller owns the result. */
  sample(model: DiffusionModel, shape: Shape, options: LoopOptions & { readonly sampler: Sampler }): Promise<Tensor> {
    return lastSample(this.sampleProgressive(model, shape, options));
  }

  /** A step of ancestral sampling: x_{t-1} drawn from p(x_{t-1} | x_t). */
  pSample(model: DiffusionModel, x: Tensor, t: Tensor, options: StepOptions): SampleStep {
    return samplerStep(this, ddpm(), model, x, t, options);
  }

  /** A step of DDIM. */
  ddimSample(model: DiffusionModel, x: Tensor, t: Tensor, options: StepOptions & DdimOptions = {}): SampleStep {
    return samplerStep(this, ddim(options), model, x, t, options);
  }

  /** A step of deterministic DDIM from t to t + 1. */
  ddimReverseSample(
    model: DiffusionModel,
    x: Tensor,
    t: Tensor,
    options?: DenoiseOptions & GuidanceOptions,
  ): SampleStep {
    return samplerStep(this, ddimReverse(), model, x, t, options);
  }

  /** Samples of a shape by ancestral sampling, step by step from noise. */
  pSampleLoopProgressive(
    model: DiffusionModel,
    shape: Shape,
    options: LoopOptions,
  ): AsyncGenerator<LoopStep, void, undefined> {
    return sampleLoop(this, ddpm(), model, shape, options);
  }

  /** Samples of a shape by ancestral sampling, from noise. The caller owns the result. */
  pSampleLoop(model: DiffusionModel, shape: Shape, options: LoopOptions): Promise<Tensor> {
    return lastSample(this.pSampleLoopProgressive(model, shape, options));
  }

  /** Samples of a shape by DDIM, step by step from noise. */
  ddimSampleLoopProgressive(
    model: DiffusionModel,
    shape: Shape,
    options: LoopOptions & DdimOptions,
  ): AsyncGenerator<LoopStep, void, undefined> {
    return sampleLoop(this, ddim(options), model, shape, options);
  }

  /** Samples of a shape by DDIM, from noise. The caller owns the result. */
  ddimSampleLoop(model: DiffusionModel, shape: Shape, options: LoopOptions & DdimOptions): Promise<Tensor> {
    return lastSample(this.ddimSampleLoopProgressive(model, shape, options));
  }

  /** The noise from which deterministic DDIM makes x_0, step by step. */
  ddimReverseSampleLoopProgressive(
    model: DiffusionModel,
    xStart: Tensor,
    options: DdimReverseLoopOptions = {},
  ): AsyncGenerator<LoopStep, void, undefined> {
    // The last timestep has no successor.
    const timesteps = ascending(this.numTimesteps - 1);
    return loopOver(this, ddimReverse(), model, xStart.shape, timesteps, { ...options, noise: xStart });
  }

  /** The noise from which deterministic DDIM makes x_0. The caller owns the result. */
  ddimReverseSampleLoop(model: DiffusionModel, xStart: Tensor, options: DdimReverseLoopOptions = {}): Promise<Tensor> {
    return lastSample(this.ddimReverseSampleLoopProgressive(model, xStart, options));
  }

  /** Losses per sample at x_t = qSample(x_0, t, ε), on the tape. */
  trainingLosses(model: DiffusionModel, xStart: Tensor, t: Tensor, options: NoiseOptions): LossTerms {
    return trainingLosses(this, model, xStart, t, options);
  }

  /** KL(q(x_T | x_0) ‖ N(0, 1)) in bits per dimension (batch). */
  priorBpd(xStart: Tensor): Tensor {
    return scope(() => priorBpd(this, xStart, full(this.device, [xStart.shape[0]], this.numTimesteps - 1, 'i32')));
  }

  /** The whole variational bound of data, in bits per dimension. */
  calcBpdLoop(model: DiffusionModel, xStart: Tensor, options?: BpdOptions): Promise<BitsPerDim> {
    return calcBpdLoop(this, model, xStart, options);
  }
}

/** A process by the official options. */
export function createDiffusion(device: Device, options?: DiffusionOptions & ProcessOptions): GaussianDiffusion {
  return new GaussianDiffusion(device, diffusionSettings(options), options);
}
