// The public face of the engine.

export * from './errors.ts';
export { openDevice, type DeviceOptions } from './open.ts';
export { Device, type AdapterSummary, type MemoryReport, type Operand, type Tier } from './gpu/device.ts';
export { isFloat, promote, sizeOf, storageType, type DType, type FloatDType, type TypedArray } from './tensor/dtype.ts';
export type { HostArray } from './tensor/hostData.ts';
export { defineKernel, grid1d, type Kernel, type KernelEnv, type KernelSource } from './gpu/kernel.ts';
export { Profiler, type ProfileEvent, type ProfileRow } from './profile/profiler.ts';
export { keep, scope } from './tensor/scope.ts';
export {
  adapterKey,
  Tuning,
  type Tunable,
  type TuneOptions,
  type TuningData,
  type TuningResult,
} from './tuning/tuning.ts';
export { loadTuning, saveTuning } from './tuning/store.ts';
export { broadcastShapes, contiguousStrides, numelOf, sameShape, show, type Shape } from './tensor/shape.ts';
export { capture, captureAhead, CapturedStep, type CapturePlan } from './capture/capture.ts';
export { Generator, type GeneratorState } from './random/generator.ts';
export { philox4x32 } from './random/philox.ts';
export { Tensor, type TensorLike } from './tensor.ts';
export { backward, grad, valueAndGrad, type AccumulateOptions, type BackwardOptions } from './autograd/backward.ts';
export {
  defineOp,
  enableGrad,
  isGradEnabled,
  noGrad,
  observeOps,
  type OpContext,
  type OpDefinition,
  type OpEvent,
} from './autograd/tape.ts';
export { detectAnomaly, type AnomalyOptions } from './autograd/anomaly.ts';
export { gradcheck, type GradcheckOptions } from './autograd/gradcheck.ts';
export { checkpoint, type CheckpointOptions } from './autograd/checkpoint.ts';
export { Expr, type ExprLike } from './expr/expr.ts';
export { fuse } from './expr/elementwise.ts';
export { denseOperand as dense } from './ops/reduce.ts';
export { einsum } from './ops/einsum.ts';
export * from './ops/index.ts';
