// The hand-tuned operations.

export * from './add-norm/index.ts';
export * from './attention/index.ts';
export * from './causal-conv1d/index.ts';
export * from './concat-linear/index.ts';
export type { Direction } from './direction.ts';
export * from './fused-adamw/index.ts';
export * from './gradient-exchange/index.ts';
export * from './group-norm/index.ts';
export * from './mamba-inner/index.ts';
export * from './selective-scan/index.ts';
