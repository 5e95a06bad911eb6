// The public face of the engine.

export * from './errors.ts';
export { openDevice, type DeviceOptions } from './open.ts';
export { Device, type AdapterSummary, type MemoryReport, type Operand, type Tier } from './device.ts';
export { isFloat, promote, sizeOf, storageType, type DType, type TypedArray } from './dtype.ts';
export type { HostArray } from './hostData.ts';
export { defineKernel, grid1d, type Kernel, type KernelEnv, type KernelSource } from './kernel.ts';
export { Profiler, type ProfileEvent, type ProfileRow } from './profiler.ts';
export { keep, scope } from './scope.ts';
export { adapterName, Tuning, type Tunable, type TuneOptions, type TuningData, type TuningResult } from './tuning.ts';
export { loadTuning, saveTuning } from './tuningStore.ts';
export { broadcastShapes, contiguousStrides, numelOf, sameShape, show, type Shape } from './shape.ts';
export { capture, captureAhead, CapturedStep, type CapturePlan } from './capture.ts';
export { Generator, type GeneratorState } from './random.ts';
export { philox4x32 } from './philox.ts';
export { Tensor, type TensorLike } from './tensor.ts';
export { backward, grad, valueAndGrad, type AccumulateOptions, type BackwardOptions } from './autograd.ts';
export {
  defineOp,
  enableGrad,
  isGradEnabled,
  noGrad,
  observeOps,
  type OpContext,
  type OpDefinition,
  type OpEvent,
} from './tape.ts';
export { detectAnomaly, type AnomalyOptions } from './anomaly.ts';
export { gradcheck, type GradcheckOptions } from './gradcheck.ts';
export { checkpoint, type CheckpointOptions } from './checkpoint.ts';
export { Expr, type ExprLike } from './expr.ts';
export { fuse } from './elementwise.ts';
export { denseOperand as dense } from './ops/reduce.ts';
export { einsum } from './ops/einsum.ts';
export * from './ops/index.ts';
