// What config.json of a run holds: everything that decides what the run computes, and beside it the plan, which may change when
// the run is resumed.

import type { ErrorDetails } from '../core/errors.ts';
import { FormatError, ValueError, errorClause } from '../core/errors.ts';
import type { DiffusionOptions } from '../models/diffusion/settings.ts';
import { diffusionSettings } from '../models/diffusion/settings.ts';
import type { NoiseSchedule } from '../models/diffusion/schedule.ts';
import type { TimestepSamplerState } from '../models/diffusion/timestepSampler.ts';
import type { LrSchedule } from '../nn/index.ts';
import { constantLr, warmupCosine } from '../nn/index.ts';
import type { OpenedData } from './data/openData.ts';
import { modelOfFlags, type ModelFlags } from './modelFlags.ts';
import { kindNamed, type ModelConfig } from './modelKinds/index.ts';

/** Settings that stay as they are for a run's whole life, under the names of their flags. */
export interface TrainSettings extends ModelFlags {
  readonly data: string;
  readonly unlabelled: boolean;
  readonly flip: boolean;
  readonly background?: string;
  readonly cifarLabels: 'fine' | 'coarse';

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
  /** Steps that the cosine takes; the steps that the run was begun with where it isn't given. */
  readonly scheduleSteps?: number;
  readonly betas: readonly number[];
  readonly weightDecay: number;
  readonly clip: number;
  readonly ema: number;
  readonly precision: 'f32' | 'f16';
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
}

export interface RunConfig {
  readonly format: 'dis-run';
  readonly version: 1;
  readonly settings: TrainSettings;
  readonly plan: TrainPlan;
  /** See modelKinds; left out in runs that were begun before there were kinds. */
  readonly kind: string;
  readonly model: ModelConfig;
  readonly diffusion: DiffusionOptions;
  readonly classNames: readonly string[];
  /** See OpenedData.fingerprint. */
  readonly dataFingerprint: string;
}

/**
 * Completes a configuration from settings and the data they name.
 * @throws ValueError for settings that make no model or no process
 */
export function makeRunConfig(settings: TrainSettings, plan: TrainPlan, data: OpenedData): RunConfig {
  const { dataset } = data;
  const { kind, model } = modelOfFlags(settings, dataset);
  const diffusion: DiffusionOptions = {
    noiseSchedule: settings.noiseSchedule,
    diffusionSteps: settings.diffusionSteps,
    predictXstart: settings.predict === 'xstart',
    learnSigma: settings.learnSigma,
    sigmaSmall: settings.sigmaSmall,
    useKl: settings.loss === 'rescaled-kl',
    rescaleLearnedSigmas: settings.loss === 'rescaled-mse',
  };
  diffusionSettings(diffusion); // throws what is wrong
  return {
    format: 'dis-run',
    version: 1,
    settings:
      settings.schedule === 'cosine' ? { ...settings, scheduleSteps: settings.scheduleSteps ?? plan.steps } : settings,
    plan,
    kind,
    model,
    diffusion,
    classNames: dataset.classNames,
    dataFingerprint: data.fingerprint,
  };
}

/** Learning rate by steps taken. The warm-up's first step is not wasted on a rate of 0. */
export function learningRate({ lr, minLr, schedule, warmup, scheduleSteps }: TrainSettings): LrSchedule {
  const rate =
    schedule === 'cosine'
      ? warmupCosine({ lr, minLr, warmup, total: scheduleSteps ?? Infinity })
      : constantLr(lr, warmup);
  return (step) => rate(step < warmup ? step + 1 : step);
}

const DAMAGED: ErrorDetails = { remedy: 'it is damaged, use another checkpoint' };

/** Checks what was read from a config.json. @throws FormatError naming the file */
export function parseRunConfig(value: Readonly<Record<string, unknown>>, path: string): RunConfig {
  const config = value as unknown as RunConfig;
  const bad = (what: string, options?: ErrorDetails): FormatError =>
    new FormatError('readRunConfig', `${path} ${what}`, options);
  if (config.format !== 'dis-run')
    throw bad('is not the configuration of a run', { remedy: 'give the folder of a run or of a checkpoint' });
  if (config.version !== 1)
    throw bad(`has version ${String(config.version)}`, {
      expected: '1',
      remedy: 'use the version of dis-cli that wrote it',
    });
  for (const key of ['settings', 'plan', 'model', 'diffusion'] as const) {
    if (typeof config[key] !== 'object' || config[key] === null) throw bad(`has no ${key}`, DAMAGED);
  }
  if (!Array.isArray(config.classNames)) throw bad('has no classNames', DAMAGED);
  try {
    const kind = kindNamed(config.kind);
    return { ...config, kind: kind.name, model: kind.fromStored(config.model) };
  } catch (error) {
    if (error instanceof ValueError)
      throw bad(`describes no model: ${errorClause(error)}`, {
        expected: error.expected,
        remedy: error.remedy,
        cause: error,
      });
    throw error;
  }
}
