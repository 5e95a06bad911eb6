// Products of matrices.

export { chooseConfig, configs, type GemmAdapter } from './config.ts';
export { gemm } from './gemm.ts';
export type { GemmActivation, GemmBias, GemmConfig, GemmDType, GemmMatrix, GemmSpec } from './spec.ts';
