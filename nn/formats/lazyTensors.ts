// Tensors of a file that are read one by one, when they are asked for.

import type { SafetensorsEntry } from './safetensors.ts';

/** A tensor of a file. */
export interface LazyTensor {
  readonly shape: readonly number[];
  /** Its values as float32. */
  read(): Promise<SafetensorsEntry>;
}

/** Tensors by name. */
export type LazyTensors = ReadonlyMap<string, LazyTensor>;
