// What a training run is told: settings, which stay as they are, and the plan, which may change when it is resumed.

import type { Channels } from '../models/data/channels.ts';
import type { NoiseSchedule } from '../models/diffusion/schedule.ts';
import type { TimestepSamplerState } from '../models/diffusion/timestepSampler.ts';
import type { DataSplit } from './data/split.ts';
import type { ModelFlags } from './modelFlags.ts';

/** The autoencoder that a run's latents are of. */
export interface VaeOfRun {
  /** Where it was when the run was begun. */
  readonly folder: string;
  /** Of its weights. */
  readonly digest: string;
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** Of a run that encodes its pictures while it trains. */
  readonly online?: {
    /** Pixels of an edge for one of the latent's. */
    readonly factor: number;
    /** Of the pictures. */
    readonly inChannels: Channels;
    readonly latentChannels: number;
    readonly posterior: Posterior;
  };
}

/** Which latents of a picture: `sample`, drawn anew each time, or `mode`, the most likely ones. */
export const POSTERIORS = ['sample', 'mode'] as const;
export type Posterior = (typeof POSTERIORS)[number];

/** Settings that stay as they are for a run's whole life, under the names of their flags. */
export interface TrainSettings extends ModelFlags {
  readonly data: string;
  /** Of a run on latents. */
  readonly vae?: VaeOfRun;
  readonly unlabelled: boolean;
  readonly flip: boolean;
  readonly background?: string;
  readonly cifarLabels: 'fine' | 'coarse';
  /** Default train. */
  readonly split?: DataSplit;
  /** Of the images; a run that begins without takes what the data have. */
  readonly channels?: Channels;
  /** The weights that the run was begun with, as they were named; the model's own initialisation where there is none. */
  readonly initFrom?: string;

  readonly diffusionSteps: number;
  readonly noiseSchedule: NoiseSchedule;
  readonly predict: 'epsilon' | 'xstart';
  readonly learnSigma: boolean;
  readonly sigmaSmall: boolean;
  readonly loss: 'mse' | 'rescaled-mse' | 'rescaled-kl';
  readonly timestepSampler: TimestepSamplerState['kind'];

  readonly batch: number;
  readonly microBatches: number;
  readonly lr: number;
  readonly minLr: number;
  readonly schedule: 'constant' | 'cosine';
  readonly warmup: number;
  /** Whether the warm-up's first step has a rate of 0, as in the official code. */
  readonly warmupFromZero?: boolean;
  /** Steps that the cosine takes; the steps that the run was begun with where it isn't given. */
  readonly scheduleSteps?: number;
  readonly betas: readonly number[];
  readonly weightDecay: number;
  readonly clip: number;
  readonly ema: number;
  /**
   * Whether the decay of the average rises to `ema` (`warmupEmaDecay`); runs that were begun before there was a choice
   * kept it constant.
   */
  readonly emaWarmup?: boolean;
  readonly precision: 'f32' | 'f16';
  /** Steps that ranks take by themselves between two exchanges; not given where they exchange gradients. */
  readonly syncEvery?: number;
  readonly seed: number;
}

/** What a resumed run may do differently. */
export interface TrainPlan {
  /** Step at which the run is done. */
  readonly steps: number;
  readonly checkpointEvery: number;
  /** How many checkpoints stay; 0 is all. */
  readonly keep: number;
  /** 0 is never. */
  readonly sampleEvery: number;
  readonly sampleSteps: number;
  readonly guidance: number;
  /** Steps between evaluations; 0, or left out, is never. */
  readonly evalEvery?: number;
  readonly evalMetric?: EvalMetric;
  /** Samples of an evaluation. */
  readonly evalSamples?: number;
  readonly evalNetwork?: 'classifier' | 'nsfwjs';
}

/** What `--eval-metric` may be; less is better for both. */
export const EVAL_METRICS = ['fd', 'kid'] as const;
export type EvalMetric = (typeof EVAL_METRICS)[number];

export const EVAL_NETWORKS = ['classifier', 'nsfwjs'] as const;
