// PyTorch's names for what is drawn most. There is no global generator: the sequence is the one given.

import type { DType } from '../tensor/dtype.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import type { Generator } from './generator.ts';

/** Normal numbers of mean 0 and variance 1: PyTorch's `randn`. f32 unless a float type is given. */
export function randn(generator: Generator, shape: Shape, dtype: DType = 'f32'): Tensor {
  return generator.normal(shape, { dtype });
}

/** Uniform numbers from 0 (included) to 1 (excluded): PyTorch's `rand`. f32 unless a float type is given. */
export function rand(generator: Generator, shape: Shape, dtype: DType = 'f32'): Tensor {
  return generator.uniform(shape, { dtype });
}
