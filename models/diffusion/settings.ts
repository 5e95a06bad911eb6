// Which diffusion process: what the model predicts, where its variance comes from, what is minimised, and over which
// steps. Free of tensors, so that a checkpoint's settings can be checked and printed without a GPU.

import { ValueError } from '../../core/errors.ts';
import { betaSchedule, respaceBetas, scheduleTables, spaceTimesteps } from './schedule.ts';
import type { NoiseSchedule, ScheduleTables } from './schedule.ts';

/** What the model's output means: the noise ε, the clean x_0, or the mean of x_{t-1}. */
export type ModelMeanType = 'epsilon' | 'xStart' | 'previousX';

/**
 * Variance of p(x_{t-1} | x_t): the posterior's β̃_t (`fixedSmall`), β_t (`fixedLarge`), the exponential of the model's
 * second half (`learned`), or an interpolation of log β̃_t and log β_t by it (`learnedRange`, Nichol & Dhariwal, eq.
 * 15).
 */
export type ModelVarType = 'fixedSmall' | 'fixedLarge' | 'learned' | 'learnedRange';

/**
 * `mse` (with the variational bound for a learned variance), `rescaledMse` (that bound times T / 1000), `kl` the
 * variational bound, `rescaledKl` the bound times T, which estimates the sum over all steps.
 */
export type LossType = 'mse' | 'rescaledMse' | 'kl' | 'rescaledKl';

const MEAN_TYPES: readonly ModelMeanType[] = ['epsilon', 'xStart', 'previousX'];
const VAR_TYPES: readonly ModelVarType[] = ['fixedSmall', 'fixedLarge', 'learned', 'learnedRange'];
const LOSS_TYPES: readonly LossType[] = ['mse', 'rescaledMse', 'kl', 'rescaledKl'];

/** A process in full. */
export interface DiffusionSettings {
  readonly modelMeanType: ModelMeanType;
  readonly modelVarType: ModelVarType;
  readonly lossType: LossType;
  /** Steps of this process, after respacing. */
  readonly numTimesteps: number;
  /** Steps of the process that the model was trained on. */
  readonly originalTimesteps: number;
  /** Step of this process → timestep that the model is given. */
  readonly timestepMap: Int32Array;
  readonly tables: ScheduleTables;
}

/** Options of the official `create_diffusion`, camelCased, with its defaults. */
export interface DiffusionOptions {
  /** Which steps to keep, see {@link spaceTimesteps}; default `''`, all of them. */
  readonly timestepRespacing?: string | readonly number[];
  /** Default `linear`. */
  readonly noiseSchedule?: NoiseSchedule;
  /** Minimise the rescaled variational bound instead of the squared error. */
  readonly useKl?: boolean;
  /** Without a learned variance: β̃_t instead of β_t. */
  readonly sigmaSmall?: boolean;
  /** The model predicts x_0 instead of ε. */
  readonly predictXstart?: boolean;
  /** The model's second half of channels gives the variance; default true. */
  readonly learnSigma?: boolean;
  /** Scale the variational term of the squared-error loss by T / 1000. */
  readonly rescaleLearnedSigmas?: boolean;
  /** Steps of the process that the model is trained on; default 1000. */
  readonly diffusionSteps?: number;
}

/**
 * Settings of the official `create_diffusion`.
 *
 * @throws ValueError for an unknown schedule, or a respacing that the process cannot be cut into
 */
export function diffusionSettings(options: DiffusionOptions = {}): DiffusionSettings {
  const {
    timestepRespacing = '',
    noiseSchedule = 'linear',
    useKl = false,
    sigmaSmall = false,
    predictXstart = false,
    learnSigma = true,
    rescaleLearnedSigmas = false,
    diffusionSteps = 1000,
  } = options;
  return settingsOfBetas(betaSchedule(noiseSchedule, diffusionSteps), {
    keep: spaceTimesteps(diffusionSteps, timestepRespacing),
    modelMeanType: predictXstart ? 'xStart' : 'epsilon',
    modelVarType: learnSigma ? 'learnedRange' : sigmaSmall ? 'fixedSmall' : 'fixedLarge',
    lossType: useKl ? 'rescaledKl' : rescaleLearnedSigmas ? 'rescaledMse' : 'mse',
  });
}

/** What a process predicts, which variance it has and what its loss is. */
export interface ProcessTypes {
  readonly modelMeanType: ModelMeanType;
  readonly modelVarType: ModelVarType;
  readonly lossType: LossType;
  /** Timesteps to keep; all if left out. */
  readonly keep?: Iterable<number>;
}

/**
 * Settings of any β and any combination of types, also those that `create_diffusion` has no option for.
 *
 * @throws ValueError for an unknown type, or β outside (0, 1]
 */
export function settingsOfBetas(
  betas: Float64Array,
  { modelMeanType, modelVarType, lossType, keep }: ProcessTypes,
): DiffusionSettings {
  oneOf('modelMeanType', modelMeanType, MEAN_TYPES);
  oneOf('modelVarType', modelVarType, VAR_TYPES);
  oneOf('lossType', lossType, LOSS_TYPES);
  const kept = keep === undefined ? undefined : [...keep];
  const whole = kept === undefined || kept.length === betas.length;
  const timestepMap = whole ? Int32Array.from(betas, (_, t) => t) : respaceBetas(betas, kept).timestepMap;
  const tables = scheduleTables(whole ? betas : respaceBetas(betas, kept).betas);
  return {
    modelMeanType,
    modelVarType,
    lossType,
    numTimesteps: timestepMap.length,
    originalTimesteps: betas.length,
    timestepMap,
    tables,
  };
}

/** Whether the model's output has twice the channels of its input. */
export function learnsVariance(settings: Pick<DiffusionSettings, 'modelVarType'>): boolean {
  return settings.modelVarType === 'learned' || settings.modelVarType === 'learnedRange';
}

function oneOf<T extends string>(name: string, value: T, known: readonly T[]): void {
  if (!known.includes(value))
    throw new ValueError('settingsOfBetas', `is ${String(value)}`, {
      option: name,
      expected: `one of ${known.join(', ')}`,
    });
}
