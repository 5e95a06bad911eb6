// The diffusion process: schedules, losses and samplers. It knows nothing of the model that it is given.

export {
  betaSchedule,
  betasForAlphaBar,
  NOISE_SCHEDULES,
  respaceBetas,
  scheduleTables,
  spaceTimesteps,
  type BetaRange,
  type NoiseSchedule,
  type ScheduleTables,
} from './schedule.ts';
export {
  diffusionSettings,
  learnsVariance,
  settingsOfBetas,
  type DiffusionOptions,
  type DiffusionSettings,
  type LossType,
  type ModelMeanType,
  type ModelVarType,
  type ProcessTypes,
} from './settings.ts';
export * from './timestepSampler.ts';
export { approxStandardNormalCdf, discretizedGaussianLogLikelihood, normalKl, standardNormalKl } from './likelihood.ts';
export {
  createDiffusion,
  GaussianDiffusion,
  type DdimReverseLoopOptions,
  type StepOptions,
} from './gaussianDiffusion.ts';
export type { DiffusionModel, ProcessOptions } from './process.ts';
export type { NoiseOptions, NoiseSource } from './noise.ts';
export type { LossTerms } from './losses.ts';
export type { DenoiseOptions, GuidanceOptions, MeanVariance } from './reverseProcess.ts';
export type { BitsPerDim, BpdOptions } from './bitsPerDim.ts';
export * from './samplers/index.ts';
export type { LoopOptions, LoopStep } from './samplers/loop.ts';
