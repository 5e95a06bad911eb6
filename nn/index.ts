// Layers, initialisers, losses, optimizers and state.

export { buffer, parameter, roleOf, type TensorRole } from './parameter.ts';
export { Module, type HostTensor, type LoadReport, type StateEntries } from './module.ts';
export { fromEntry, saveStateDict, toEntries, toEntry } from './stateDict.ts';
export * from './safetensors.ts';
export * from './safetensorsFloat.ts';
export * from './lrSchedule.ts';
