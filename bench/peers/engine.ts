// What an engine has to offer to be compared.

import type { Kind } from './works.ts';

/** Inputs of a work as numbers with shapes. */
export type Given = Readonly<Record<string, { readonly data: Float32Array; readonly shape: readonly number[] }>>;

/** A work made ready. */
export interface Ready {
  /** Does it so many times, waiting for the GPU once at the end. */
  run(count: number): Promise<void>;
  /** Its results, in the order that works.ts gives. Asked for once, before anything is timed. */
  result(): Promise<readonly ArrayLike<number>[]>;
  dispose(): void;
}

export interface Engine {
  readonly version: string;
  readonly adapter: string;
  /** A kind that is missing is one that the engine cannot do. */
  readonly works: Readonly<Partial<Record<Kind, (given: Given) => Ready | Promise<Ready>>>>;
  close(): void;
}

/** The peers by name, and what each process imports. `ours` is this project; PyTorch has its own program. */
export const ENGINES = {
  ours: './ours.ts',
  'TensorFlow.js': './tfjs.mjs',
  'jax-js': './jax.mjs',
  'onnxruntime-web': './ort.mjs',
} as const;

export type EngineName = keyof typeof ENGINES;
