// DiS, the diffusion process, data, the training loop and sampling.

export * from './classifier.ts';
export * from './data/index.ts';
export * from './diffusion/index.ts';
export * from './dis/index.ts';
export * from './evaluate/index.ts';
export * from './sample/index.ts';
export * from './train/index.ts';
export * from './vae/index.ts';
