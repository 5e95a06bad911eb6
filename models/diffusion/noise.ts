// Where the random numbers of a process come from.

import { ValueError } from '../../core/errors.ts';
import type { Generator, Shape, Tensor } from '../../core/index.ts';

/** One of the two. */
export interface NoiseOptions {
  /** Standard normal noise of x's shape. */
  readonly noise?: Tensor;
  /** Draws the noise. */
  readonly generator?: Generator;
}

/** Noise that is given, or drawn. @throws ValueError if there is neither */
export function drawNoise(name: string, shape: Shape, { noise, generator }: NoiseOptions): Tensor {
  if (noise) return noise;
  if (!generator) throw new ValueError(name, 'Neither noise nor a generator is given', { expected: 'one of them' });
  return generator.normal(shape);
}
