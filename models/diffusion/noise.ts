// Where the random numbers of a process come from.

import { ValueError } from '../../core/errors.ts';
import type { Shape, Tensor } from '../../core/index.ts';

/** What draws standard normal noise: a `Generator`, or anything of this form. */
export interface NoiseSource {
  normal(shape: Shape): Tensor;
  /** Called before each step of a loop, so that the numbers of a step can depend on its place in the loop alone. */
  beginStep?(index: number): void;
}

/** One of the two. */
export interface NoiseOptions {
  /** Standard normal noise of x's shape. */
  readonly noise?: Tensor;
  /** Draws the noise. */
  readonly generator?: NoiseSource;
}

/** Noise that is given, or drawn. @throws ValueError if there is neither */
export function drawNoise(name: string, shape: Shape, { noise, generator }: NoiseOptions): Tensor {
  if (noise) return noise;
  if (!generator) throw new ValueError(name, 'Neither noise nor a generator is given', { expected: 'one of them' });
  return generator.normal(shape);
}
