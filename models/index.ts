// DiS, the diffusion process, data and the training loop.

export * from './data/index.ts';
export * from './diffusion/index.ts';
export * from './dis/index.ts';
export * from './train/index.ts';
// The name is the process's; the model has its own.
export type { GuidanceOptions } from './diffusion/index.ts';
export type { GuidanceOptions as DisGuidanceOptions } from './dis/index.ts';
