// Layers, initialisers, losses, optimizers and state.

export { buffer, parameter, roleOf, type TensorRole } from './parameter.ts';
export { Module, type HostTensor, type LoadReport, type StateEntries } from './module.ts';
export { fromEntry, saveStateDict, toEntries, toEntry } from './stateDict.ts';
export * from './safetensors.ts';
export * from './safetensorsFloat.ts';
export * from './lrSchedule.ts';
export { Mamba, type MambaOptions } from './mamba.ts';
export { Projection, projection, Weights } from './weights.ts';
export { FusedAdamW, type AdamWCounters, type FusedAdamWOptions, type FusedAdamWState } from './optim/fusedAdamW.ts';
