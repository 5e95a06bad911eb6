// The tensors that a captured step reads: a micro-batch and, where the caller gives them, its timesteps, weights and
// noise.

import { ShapeError, ValueError } from '../../core/errors.ts';
import { keep, numelOf, show, zeros, type Device, type Generator, type Tensor } from '../../core/index.ts';
import type { Batch } from '../data/dataset.ts';
import type { Denoiser, GivenDraws } from './types.ts';

/** How a batch is divided: among ranks, of which this is one, and in micro-batches. */
export interface BatchDivision {
  /** Images in an optimizer step, of all ranks together. */
  readonly batchSize: number;
  readonly microBatches: number;
  readonly ranks: number;
  readonly rank: number;
}

export class StepInputs {
  /** Samples of a micro-batch. */
  readonly count: number;
  readonly images: Tensor;
  readonly labels: Tensor | undefined;
  readonly timesteps: Tensor;
  readonly weights: Tensor;
  readonly noise: Tensor;
  private readonly generator: Generator;
  private readonly division: BatchDivision;
  private readonly numClasses: number;

  constructor(device: Device, config: Denoiser['config'], generator: Generator, division: BatchDivision) {
    const { imgSize, channels, numClasses } = config;
    const { batchSize, microBatches, ranks } = division;
    const count = batchSize / ranks / microBatches;
    const input = (shape: readonly number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => keep(zeros(device, shape, dtype));
    this.count = count;
    this.generator = generator;
    this.division = division;
    this.numClasses = numClasses;
    this.images = input([count, channels, imgSize, imgSize]);
    this.noise = input(this.images.shape);
    this.labels = numClasses > 0 ? input([count], 'i32') : undefined;
    this.timesteps = input([count], 'i32');
    this.weights = input([count]);
    this.drawFor(0);
  }

  /**
   * Whether a batch, or this rank's part of it, can be fed.
   *
   * @throws ShapeError, or ValueError for a label that is no class of the model
   */
  check(batch: Pick<Batch, 'shape' | 'labels'>, given: GivenDraws): void {
    const expected = [this.division.batchSize / this.division.ranks, ...this.images.shape.slice(1)];
    if (batch.shape.join() !== expected.join())
      throw new ShapeError('Trainer', `The batch has shape ${show(batch.shape)}`, { expected: show(expected) });
    if (this.labels && !given.labels) checkLabels(batch.labels, this.numClasses);
  }

  /** Uploads micro-batch `k`, and has the generator draw its samples' numbers. */
  feed(batch: Pick<Batch, 'images' | 'labels'>, draws: GivenDraws, k: number): void {
    const count = this.count,
      values = numelOf(this.images.shape) / count;
    const first = this.drawFor(k);
    const part = <T extends Float32Array | Int32Array>(all: T, from: number, each = 1): T =>
      all.subarray(from * each, (from + count) * each) as T;
    this.images.write(part(batch.images, k * count, values));
    this.labels?.write(part(draws.labels ?? batch.labels, k * count));
    if (draws.timesteps) this.timesteps.write(part(draws.timesteps, first));
    if (draws.weights) this.weights.write(part(draws.weights, first));
    if (draws.noise) this.noise.write(part(draws.noise, first, values));
  }

  dispose(): void {
    for (const t of [this.images, this.labels, this.timesteps, this.weights, this.noise]) t?.dispose();
  }

  /** Has the generator draw the numbers of micro-batch `k`; gives the place of its first sample in the whole batch. */
  private drawFor(k: number): number {
    const { rank, microBatches, batchSize } = this.division;
    const count = this.count;
    const first = (rank * microBatches + k) * count;
    if (count < batchSize) this.generator.samples = { first, count, total: batchSize };
    return first;
  }
}

/**
 * The label after the last class is the model's own, for no class: training draws it, and data that have it count
 * from 1.
 */
function checkLabels(labels: Int32Array, numClasses: number): void {
  const wrong = labels.find((label) => label < 0 || label >= numClasses);
  if (wrong !== undefined)
    throw new ValueError('Trainer', `A label is ${wrong}`, {
      expected: `0 to ${numClasses - 1} for a model of ${numClasses} classes`,
      remedy: wrong === numClasses ? 'count classes from 0' : undefined,
    });
}
