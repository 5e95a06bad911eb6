// DiS, the diffusion process, data and the training loop.

export * from './data/index.ts';
export * from './diffusion/index.ts';
export * from './dis/index.ts';
export * from './train/index.ts';
