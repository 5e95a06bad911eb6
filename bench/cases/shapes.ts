// The sizes at which kernels are measured: the widths of DiS-S, B and L, the tokens of 16², 32² and 64² latents, three batches.

import { Generator, keep, scope, type Device, type DType, type Tensor, type FloatDType } from '../../core/index.ts';
import type { Prepared } from '../case.ts';

/** Shapes inside a block of DiS. */
export interface DisShape {
  readonly label: string;
  readonly batch: number;
  readonly tokens: number;
  /** Width of the residual stream. */
  readonly width: number;
  /** Width inside the mixer. */
  readonly inner: number;
  readonly states: number;
  /** Rank of the step-size projection. */
  readonly rank: number;
  /** Distance from the size that every run measures. */
  readonly priority: number;
}

const WIDTHS = [
  ['S', 368],
  ['B', 768],
  ['L', 1024],
] as const;
const TOKENS = [
  [258, 0],
  [66, 1],
  [1026, 1],
] as const;
const BATCHES = [
  [8, 0],
  [1, 1],
  [64, 1],
] as const;

export function disShapes(): DisShape[] {
  return WIDTHS.flatMap(([name, width], far) =>
    TOKENS.flatMap(([tokens, fewer]) =>
      BATCHES.map(([batch, other]) => ({
        label: `${name} ${batch}×${tokens}`,
        batch,
        tokens,
        width,
        inner: 2 * width,
        states: 16,
        rank: Math.ceil(width / 16),
        priority: far + fewer + other,
      })),
    ),
  );
}

export const bytesOf = (type: FloatDType): number => (type === 'f16' ? 2 : 4);

/** Inputs that stay until they are disposed of together. */
export class Inputs {
  readonly device: Device;
  private readonly generator: Generator;
  private readonly all: { dispose(): void }[] = [];

  constructor(device: Device) {
    this.device = device;
    this.generator = new Generator(device, 1);
    this.all.push(this.generator);
  }

  /** Uniform in [low, high). */
  random(shape: readonly number[], options: { dtype?: DType; low?: number; high?: number } = {}): Tensor {
    return this.keep(this.generator.uniform(shape, { low: -1, high: 1, ...options }));
  }

  keep<T extends { dispose(): void }>(tensor: T): T {
    this.all.push(tensor);
    return keep(tensor);
  }

  /** Something that is no tensor, such as a model. */
  own<T extends { dispose(): void }>(item: T): T {
    this.all.push(item);
    return item;
  }

  dispose(): void {
    for (const item of this.all.splice(0)) item.dispose();
  }
}

/** Prepares a computation without gradients. */
export function forwardOf(device: Device, make: (inputs: Inputs) => () => unknown): Prepared {
  const inputs = new Inputs(device);
  try {
    return { step: make(inputs), dispose: () => inputs.dispose() };
  } catch (error) {
    inputs.dispose();
    throw error;
  }
}

/** Prepares the backward pass alone: the forward pass runs once, and its tape is kept. */
export function backwardOf(
  device: Device,
  make: (inputs: Inputs) => { of: readonly Tensor[]; compute: (of: readonly Tensor[]) => Tensor | readonly Tensor[] },
  grad: (roots: readonly Tensor[], inputs: readonly Tensor[], gradients: readonly Tensor[]) => unknown,
): Prepared {
  return forwardOf(device, (inputs) => {
    const { of, compute } = make(inputs);
    const leaves = of.map((t) => t.requiresGrad_());
    const result = scope(() => compute(leaves));
    const roots = (Array.isArray(result) ? result : [result]) as Tensor[];
    for (const root of roots) inputs.keep(root);
    const gradients = roots.map((root) => inputs.random(root.shape, { dtype: root.dtype }));
    return () => grad(roots, leaves, gradients);
  });
}
