// Layers, initialisers, losses, optimizers and state.

export { buffer, parameter, roleOf, type TensorRole } from './parameter.ts';
export { Module, type HostTensor, type LoadReport, type StateEntries } from './module.ts';
export { fromEntry, loadEntries, saveStateDict, toEntries, toEntry } from './stateDict.ts';
export {
  readSafetensors,
  readSafetensorsHeader,
  safetensorsBytesPerElement,
  safetensorsEntry,
  safetensorsHeaderBytes,
  SafetensorsTensors,
  type Safetensors,
  type SafetensorsData,
  type SafetensorsDtype,
  type SafetensorsEntry,
  type SafetensorsHeader,
  type SafetensorsInfo,
  type UnreadableInfo,
} from './formats/safetensors.ts';
export * from './formats/safetensorsWrite.ts';
export * from './formats/byteSource.ts';
export type { LazyTensor, LazyTensors } from './formats/lazyTensors.ts';
export * from './formats/pt/index.ts';
export * from './formats/safetensorsFloat.ts';
export * from './lrSchedule.ts';
export * from './activations.ts';
export { BatchNorm1d, BatchNorm2d, type BatchNormOptions } from './batchNorm.ts';
export { Conv1d, type Conv1dLayerOptions } from './conv1d.ts';
export { Conv2d, type Conv2dLayerOptions } from './conv2d.ts';
export { ConvTranspose2d, type ConvTranspose2dLayerOptions } from './convTranspose2d.ts';
export { Dropout, DropPath, type DropPathOptions } from './dropout.ts';
export { Embedding, type EmbeddingOptions } from './embedding.ts';
export { Flatten } from './flatten.ts';
export { GroupNorm, type GroupNormOptions } from './groupNorm.ts';
export { LayerNorm, type LayerNormOptions } from './layerNorm.ts';
export { Linear, type LinearOptions } from './linear.ts';
export {
  MultiheadAttention,
  type MultiheadAttentionForwardOptions,
  type MultiheadAttentionOptions,
} from './multiheadAttention.ts';
export { AdaptiveAvgPool2d, AvgPool2d, MaxPool2d } from './pooling.ts';
export { RMSNorm, type RMSNormOptions } from './rmsNorm.ts';
export { Sequential, type Layer } from './sequential.ts';
export { Upsample } from './upsample.ts';
export { ZeroPad2d } from './zeroPad2d.ts';
export { Mamba, type MambaOptions } from './mamba.ts';
/** What fills tensors before training, PyTorch's `nn.init`. */
export * as init from './init.ts';
export * from './losses.ts';
export { ExponentialMovingAverage } from './ema.ts';
export { emaInitialShare, warmupEmaDecay, type EmaDecaySchedule } from './emaDecay.ts';
export { Optimizer, type Parameters } from './optim/optimizer.ts';
export { SGD, type SGDOptions } from './optim/sgd.ts';
export { Adam, AdamW, type AdamOptions } from './optim/adam.ts';
export { OuterStep, type OuterStepOptions } from './optim/outerStep.ts';
export { clipGradNorm } from './optim/clipGradNorm.ts';
export {
  FusedAdamW,
  type AdamWCounters,
  type FusedAdamWOptions,
  type FusedAdamWState,
  type GradientRun,
  type StateTensors,
} from './optim/fusedAdamW.ts';
