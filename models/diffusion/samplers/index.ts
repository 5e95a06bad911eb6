// The samplers there are: one file each, and its line here. See sampler.ts for what one is.

import { ddim } from './ddim.ts';
import { ddpm } from './ddpm.ts';
import { dpmSolverPlusPlus } from './dpmSolver.ts';

export { ddim, ddimReverse, type DdimOptions } from './ddim.ts';
export { ddpm } from './ddpm.ts';
export { dpmSolverPlusPlus } from './dpmSolver.ts';
export type { Sampler, SampleStep, SamplerStepOptions, StepElements, StepResult } from './sampler.ts';

/** By the names that the command line has for them: how one is made, what to say of it, and which options it takes. */
export const SAMPLERS = {
  ddim: { create: ddim, about: 'deterministic, or with a share of noise', takes: ['eta'] },
  ddpm: { create: ddpm, about: 'ancestral', takes: [] },
  'dpm++': { create: dpmSolverPlusPlus, about: 'DPM-Solver++(2M), for few steps', takes: [] },
} as const;

/** Name of a sampler. */
export type SamplerName = keyof typeof SAMPLERS;
/** The names of all samplers. */
export const SAMPLER_NAMES = Object.keys(SAMPLERS) as readonly SamplerName[];
