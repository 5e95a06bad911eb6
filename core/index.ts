// The public face of the engine.

export * from './errors.ts';
export { openDevice, type DeviceOptions } from './open.ts';
export { Device, type MemoryReport } from './gpu/device.ts';
export type { AdapterSummary, Tier } from './gpu/adapter.ts';
export type { Operand } from './gpu/dispatcher.ts';
export { isFloat, promote, sizeOf, storageType, type DType, type FloatDType, type TypedArray } from './tensor/dtype.ts';
export type { HostArray } from './tensor/hostData.ts';
export { HostBuffer } from './gpu/hostBuffer.ts';
export { defineKernel, type Kernel, type KernelEnv, type KernelSource } from './gpu/kernel.ts';
export { grid1d } from './gpu/grid.ts';
export { Profiler, type ProfileEvent, type ProfileRow } from './profile/profiler.ts';
export { keep, scope } from './tensor/scope.ts';
export {
  adapterKey,
  namesAdapter,
  Tuning,
  tuningOf,
  type TuneOptions,
  type TuningData,
  type TuningResult,
} from './tuning/tuning.ts';
export { choose, type Tunable } from './gpu/tunable.ts';
export { loadTuning, saveTuning } from './tuning/store.ts';
export { broadcastShapes, contiguousStrides, numelOf, sameShape, show, type Shape } from './tensor/shape.ts';
export { capture, captureAhead, CapturedStep, cut, type CapturePlan } from './capture/capture.ts';
export { Generator, type GeneratorState, type SampleRange } from './random/generator.ts';
export { rand, randn } from './random/draw.ts';
export { philox4x32 } from './random/philox.ts';
export { Tensor, type TensorLike } from './tensor.ts';
export {
  backward,
  grad,
  valueAndGrad,
  type AccumulateOptions,
  type BackwardOptions,
  type GradOptions,
} from './autograd/backward.ts';
export { defineOp, type GradientsOf, type Needs, type Op, type OpDefinition } from './autograd/defineOp.ts';
export { enableGrad, isGradEnabled, noGrad } from './autograd/gradMode.ts';
export { observeOps, type OpEvent } from './autograd/observe.ts';
export { detectAnomaly, type AnomalyOptions } from './autograd/anomaly.ts';
export { gradcheck, type GradcheckOptions } from './autograd/gradcheck.ts';
export { checkpoint, type CheckpointOptions } from './autograd/checkpoint.ts';
export { Expr, type ExprLike } from './expr/expr.ts';
export { fuse, fuseInPlace } from './expr/elementwise.ts';
export { emptyTensor, isTensor, viewOf, type View } from './tensor/make.ts';
export { Storage } from './gpu/storage.ts';
export { denseOperand as dense } from './expr/dense.ts';
export { einsum } from './ops/einsum.ts';
export * from './ops/index.ts';
