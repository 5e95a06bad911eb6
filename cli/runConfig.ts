// What config.json of a run holds: everything that decides what the run computes, and beside it the plan, which may
// change when the run is resumed.

import type { ErrorDetails } from '../core/errors.ts';
import { FormatError, ValueError, errorClause } from '../core/errors.ts';
import type { DiffusionOptions } from '../models/diffusion/settings.ts';
import { diffusionSettings } from '../models/diffusion/settings.ts';
import type { EmaDecaySchedule, LrSchedule } from '../nn/index.ts';
import { constantLr, warmupCosine, warmupEmaDecay } from '../nn/index.ts';
import { trainedOn, type OpenedData } from './data/openData.ts';
import { modelOfFlags } from './modelFlags.ts';
import { checked } from './jsonFile.ts';
import { kindNamed, type ModelConfig } from './modelKinds/index.ts';
import { configSchema } from './schemas.ts';
import type { TrainPlan, TrainSettings } from './trainSettings.ts';

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
  /** See OpenedData.fingerprint; empty where the data aren't known yet. */
  readonly dataFingerprint: string;
  /** Of a run of the official code whose data aren't known yet: what its arguments count in epochs. */
  readonly official?: { readonly epochs: number; readonly warmupEpochs: number };
}

/**
 * Completes a configuration from settings and the data they name.
 * @throws ValueError for settings that make no model or no process
 */
export function makeRunConfig(settings: TrainSettings, plan: TrainPlan, data: OpenedData): RunConfig {
  const dataset = trainedOn(data);
  const { kind, model } = modelOfFlags(settings, dataset);
  const diffusion = diffusionOf(settings);
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

/** The process that settings describe. */
export function diffusionOf(
  settings: Pick<TrainSettings, 'noiseSchedule' | 'diffusionSteps' | 'predict' | 'learnSigma' | 'sigmaSmall' | 'loss'>,
): DiffusionOptions {
  return {
    noiseSchedule: settings.noiseSchedule,
    diffusionSteps: settings.diffusionSteps,
    predictXstart: settings.predict === 'xstart',
    learnSigma: settings.learnSigma,
    sigmaSmall: settings.sigmaSmall,
    useKl: settings.loss === 'rescaled-kl',
    rescaleLearnedSigmas: settings.loss === 'rescaled-mse',
  };
}

/** Learning rate by steps taken. The warm-up's first step is not wasted on a rate of 0, but by the official code. */
export function learningRate(settings: TrainSettings): LrSchedule {
  const { lr, minLr, schedule, warmup, scheduleSteps, warmupFromZero = false } = settings;
  const rate =
    schedule === 'cosine'
      ? warmupCosine({ lr, minLr, warmup, total: scheduleSteps ?? Infinity })
      : constantLr(lr, warmup);
  return warmupFromZero ? rate : (step) => rate(step < warmup ? step + 1 : step);
}

/** Side of the largest pictures that are trained on, in pixels. */
const LARGEST_PICTURE = 8192;
const DAMAGED = 'it is damaged, use another checkpoint';

/** Decay of the moving average by steps taken. */
export function emaDecay({ ema, emaWarmup = false }: Pick<TrainSettings, 'ema' | 'emaWarmup'>): EmaDecaySchedule {
  return emaWarmup ? warmupEmaDecay(ema) : () => ema;
}

/** Checks what was read from a config.json. @throws FormatError naming the file and the field */
export function parseRunConfig(value: Readonly<Record<string, unknown>>, path: string): RunConfig {
  const bad = (what: string, details: ErrorDetails): FormatError =>
    new FormatError('readRunConfig', `${path} ${what}`, details);
  if (value.format !== 'dis-run')
    throw bad('is not the configuration of a run', { remedy: 'give the folder of a run or of a checkpoint' });
  if (typeof value.version === 'number' && value.version !== 1)
    throw bad(`has version ${value.version}`, {
      expected: '1',
      remedy: 'use the version of dis-cli that wrote it',
    });
  const config = checked(configSchema, value, path);
  const kind = kindNamed(config.kind);
  checked(kind.stored, config.model, path, { under: 'model' });
  try {
    const model = kind.fromStored(config.model);
    diffusionSettings(config.diffusion);
    learningRate(config.settings);
    agree(config, model, path);
    return { ...config, model };
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw bad(`describes no run: ${errorClause(error)}`, {
      expected: error.expected,
      remedy: error.remedy ?? DAMAGED,
      cause: error,
    });
  }
}

/** What is said twice must be the same. */
function agree(
  { settings, diffusion }: Pick<RunConfig, 'settings' | 'diffusion'>,
  model: ModelConfig,
  path: string,
): void {
  const { online } = settings.vae ?? {};
  const { learnSigma = diffusion.learnSigma } = model as { readonly learnSigma?: boolean };
  const pairs: readonly (readonly [field: string, is: unknown, expected: unknown])[] = [
    ['model.imgSize', model.imgSize, settings.imageSize],
    ['model.channels', model.channels, settings.channels ?? model.channels],
    ['model.learnSigma', learnSigma, diffusion.learnSigma],
    ...Object.entries(diffusionOf(settings)).map(
      ([key, expected]) => [`diffusion.${key}`, diffusion[key as keyof DiffusionOptions], expected] as const,
    ),
    ...(online
      ? ([
          ['settings.vae.online.latentChannels', online.latentChannels, model.channels],
          ['settings.vae.online.factor', online.factor, Math.min(online.factor, LARGEST_PICTURE / settings.imageSize)],
        ] as const)
      : []),
    ['settings.microBatches', settings.batch % settings.microBatches, 0],
  ];
  for (const [field, is, expected] of pairs)
    if (is !== expected)
      throw new FormatError('readRunConfig', `${path}: ${field} is ${String(is)}`, {
        expected: `${String(expected)}, as the rest of the file says`,
        remedy: DAMAGED,
      });
}
