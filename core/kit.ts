// What kernels are built with: the built-in ones in kernels/ use this and the public face (index.ts) alone, and so can
// yours.

export {
  defineKernel,
  type Kernel,
  type KernelBinding,
  type KernelEnv,
  type KernelExtension,
  type KernelParam,
  type KernelSource,
} from './gpu/kernel.ts';
export type { Operand } from './gpu/dispatcher.ts';
export { grid1d } from './gpu/grid.ts';
export { Storage } from './gpu/storage.ts';
export { choose, type Tunable } from './gpu/tunable.ts';
export { emptyTensor, isTensor, viewOf, type View } from './tensor/make.ts';
export { defineOp, type GradientsOf, type Needs, type Op, type OpDefinition } from './autograd/defineOp.ts';
export { denseOperand as dense } from './expr/dense.ts';
export { mathName, wgslMath, type MathName } from './expr/wgslMath.ts';
export { gemm, type GemmActivation, type GemmBias, type GemmMatrix, type GemmSpec } from './gemm/index.ts';
