// Products of matrices.

export { chooseConfig, configs, type GemmAdapter } from './config.ts';
export { gemm } from './gemm.ts';
export { gemmTunable } from './tunable.ts';
export type { GemmActivation, GemmBias, GemmConfig, GemmLayout, GemmMatrix, GemmProblem, GemmSpec } from './spec.ts';
export { imageProduct, imageTunable } from './image/tunable.ts';
export type { ImageSpec, WindowGrid } from './image/spec.ts';
