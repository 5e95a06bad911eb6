// The package's root: everything that the subpaths export. Bundlers take of it what is used.

export * from './core/index.ts';
export * from './kernels/index.ts';
export * from './nn/index.ts';
export * from './models/index.ts';
