// What a trainer is given and what it gives: options, the model and objective that it trains, records of steps, its
// state.

import type { Device, FloatDType, Generator, GeneratorState, Tensor } from '../../core/index.ts';
import type { EmaDecaySchedule, Module, StateTensors } from '../../nn/index.ts';
import type { DataCursor } from '../data/dataset.ts';
import type { TimestepSampler, TimestepSamplerState } from '../diffusion/timestepSampler.ts';
import type { ExchangeTimes, GradientExchange } from './exchange.ts';

/** A model that can be trained: `Dis`, or any module of this shape. */
export interface Denoiser extends Module {
  readonly config: { readonly imgSize: number; readonly channels: number; readonly numClasses: number };
  forward(x: Tensor, timesteps: Tensor, labels: Tensor | undefined, options: { generator: Generator }): Tensor;
  /** Parameters that `precision: 'f16'` stores in f16. */
  matrices(): Tensor[];
  /** Names of parameters that weight decay leaves alone. */
  noWeightDecay?(): ReadonlySet<string>;
}

/** What is minimised: `GaussianDiffusion`. Values are per sample. */
export interface TrainingObjective {
  readonly numTimesteps: number;
  trainingLosses(
    model: (x: Tensor, t: Tensor) => Tensor,
    xStart: Tensor,
    t: Tensor,
    options: { noise: Tensor },
  ): { loss: Tensor; mse?: Tensor; vb?: Tensor };
}

/** What is trained, on what objective, and how. */
export interface TrainerOptions {
  readonly device: Device;
  readonly model: Denoiser;
  readonly diffusion: TrainingObjective;
  /** Images in an optimizer step, of all ranks together. */
  readonly batchSize: number;
  /**
   * Parts that a batch, or a rank's part of it, is computed in, one after the other, for less memory; default 1.
   * The result is the whole batch's.
   */
  readonly microBatches?: number;
  /** Learning rate, or a function of the number of steps taken; default 1e-4. */
  readonly lr?: number | ((step: number) => number);
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled weight decay, default 0. */
  readonly weightDecay?: number;
  /** Global gradient norm to clip to, default 1; 0 turns it off. */
  readonly clip?: number;
  /**
   * Decay of the parameters' moving average, or a function of the number of steps taken (`warmupEmaDecay`); default
   * 0.9999.
   */
  readonly emaDecay?: number | EmaDecaySchedule;
  /** Seed of timesteps, noise and dropout, default 0. */
  readonly seed?: number;
  /** `f16` stores matrices and activations in f16, keeps f32 masters and scales the loss. Default f32. */
  readonly precision?: FloatDType;
  /** Record the step once and replay it, default true. */
  readonly capture?: boolean;
  /** Default: every timestep with the same probability, drawn on the GPU. */
  readonly timestepSampler?: TimestepSampler;
  /**
   * Other ranks to train together with, each with an equal part of every batch: rank r has the samples from
   * r × batchSize / ranks on. Whatever the number of ranks, a run sees the same samples, timesteps, noise and dropout.
   */
  readonly exchange?: GradientExchange;
  /**
   * Ranks exchange no gradients but take steps by themselves, and meet after some of them (DiLoCo, arXiv 2311.08105).
   * State is saved only where they have just met.
   */
  readonly localSteps?: LocalStepsOptions;
}

/** How ranks that take steps by themselves meet. */
export interface LocalStepsOptions {
  /** Steps between two meetings. */
  readonly every: number;
  /** Learning rate of the step that is taken where they meet, default 0.7. */
  readonly outerLr?: number;
  /** Its Nesterov momentum, default 0.9. */
  readonly outerMomentum?: number;
}

/** What one step did. Losses are means over the batch, before weighting by the timestep sampler. */
export interface StepRecord {
  /** Steps taken, this one included. */
  readonly step: number;
  readonly loss: number;
  readonly mse?: number;
  readonly vb?: number;
  /** Global gradient norm before clipping; with local steps that of this rank. */
  readonly gradNorm: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** The gradient was not finite and the parameters were left alone. */
  readonly skipped: boolean;
  readonly epoch: number;
  /** What the exchange of gradients took; only with several ranks. */
  readonly exchange?: ExchangeTimes;
}

/** Everything that a run needs to go on bit for bit. */
export interface TrainerState {
  /** Parameters by name. */
  readonly model: StateTensors;
  /** Their moving averages. */
  readonly ema: StateTensors;
  /** First and second moments, `m.NAME` and `v.NAME`; with local steps also the outer momentum, `outer.NAME`. */
  readonly optimizer: StateTensors;
  /** Plain JSON. */
  readonly json: {
    readonly step: number;
    readonly generator: GeneratorState;
    /** Where the data loader goes on. */
    readonly cursor: DataCursor;
    readonly optimizer: readonly number[];
    readonly timestepSampler?: TimestepSamplerState;
  };
}

/** How far a run goes. */
export interface RunOptions {
  /** Go on until so many steps are taken in all. */
  readonly steps: number;
  /** Stops after the step that runs. */
  readonly signal?: AbortSignal;
  /**
   * After every so many steps nothing is under way when the record is given, so that `state()` is exactly that step's.
   */
  readonly pauseEvery?: number;
}

/** Numbers of the caller's instead of drawn ones, for the whole batch. */
export interface GivenDraws {
  /** (batch) timesteps. */
  readonly timesteps?: Int32Array;
  /** (batch) classes in place of the batch's, after dropout: the model's number of classes stands for none. */
  readonly labels?: Int32Array;
  /** (batch) importance weights; default 1. */
  readonly weights?: Float32Array;
  /** The noise, of the images' shape. */
  readonly noise?: Float32Array;
}
