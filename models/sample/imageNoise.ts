// Noise of images that does not depend on the batch: image i takes the same numbers at the same step, however many are
// drawn at once.

import { Generator, scope, type Device, type Shape, type Tensor } from '../../core/index.ts';
import { hash32 } from '../data/hash.ts';
import type { NoiseSource } from '../diffusion/noise.ts';

/** Blocks of four numbers that lie between two steps: more than all images of a step take. */
const STEP = 2 ** 34;
const STEP_KEY = 1;

/** Noise of a batch of images, to begin with and for each step. */
export class ImageNoise implements NoiseSource {
  private readonly generator: Generator;
  private readonly seed: number;
  /** Blocks of an image. */
  private readonly blocks: number;
  private first = 0;

  /** @param size values of an image */
  constructor(device: Device, seed: number, size: number) {
    this.generator = new Generator(device, seed);
    this.seed = seed;
    this.blocks = Math.ceil(size / 4);
  }

  /** What the images from number `first` on begin with; steps are then drawn for them. */
  begin(first: number, shape: Shape): Tensor {
    this.first = first;
    this.generator.setState({ seed: this.seed, position: first * this.blocks });
    return this.normal(shape);
  }

  beginStep(index: number): void {
    this.generator.setState({ seed: hash32(this.seed, STEP_KEY), position: index * STEP + this.first * this.blocks });
  }

  /**
   * Numbers of N(0, 1) for the images begun with.
   *
   * @param shape (images, …)
   */
  normal(shape: Shape): Tensor {
    const [count, ...rest] = shape;
    const size = rest.reduce((product, n) => product * n, 1);
    if (size === 4 * this.blocks) return this.generator.normal(shape);
    // An image begins with a block of its own.
    return scope(() =>
      this.generator
        .normal([count, 4 * this.blocks])
        .slice(1, 0, size)
        .reshape(...shape),
    );
  }

  /** Frees its generator. */
  dispose(): void {
    this.generator.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
