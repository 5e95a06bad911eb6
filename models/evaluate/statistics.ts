// Mean and covariance of features, block by block: products in f32 on the GPU, sums of blocks in float64 on the host.

import { ShapeError, ValueError } from '../../core/errors.ts';
import { keep, noGrad, scope, show, tensor, type Device, type Tensor } from '../../core/index.ts';
import { breather } from './breather.ts';
import { rowsOf, type FeatureSet } from './features.ts';

/** What the Fréchet distance knows of a set of pictures. */
export interface FeatureStatistics {
  /** How many pictures they were computed from; with no more than features, the covariance is singular. */
  readonly count: number;
  /** (D) */
  readonly mean: Float64Array;
  /** (D × D), row-major, with divisor count - 1. */
  readonly covariance: Float64Array;
}

/**
 * Gathers statistics from blocks of features of any size. Each block is centred on the first block's mean before it is
 * squared, so that large means cost no accuracy.
 */
export class StatisticsGatherer {
  private readonly dim: number;
  private centre: Tensor | undefined;
  private count = 0;
  /** Sums of the centred features and of their products. */
  private readonly sums: Float64Array;
  private readonly products: Float64Array;

  constructor(dim: number) {
    this.dim = dim;
    this.sums = new Float64Array(dim);
    this.products = new Float64Array(dim * dim);
  }

  /**
   * Adds a block, (N, D). A few hundred rows are right: sums within a block are f32.
   *
   * @throws ShapeError
   */
  async add(features: Tensor): Promise<void> {
    const { dim } = this;
    if (features.ndim !== 2 || features.shape[1] !== dim)
      throw new ShapeError('StatisticsGatherer', `The features have shape ${show(features.shape)}`, {
        expected: `(N,${dim})`,
      });
    this.centre ??= keep(noGrad(() => scope(() => features.cast('f32').mean(0))));
    const centre = this.centre;
    const [sum, product] = noGrad(() =>
      scope(() => {
        const centred = features.cast('f32').sub(centre);
        return [centred.sum(0), centred.T.matmul(centred)];
      }),
    );
    const sums = (await sum.data()) as Float32Array,
      products = (await product.data()) as Float32Array;
    for (const each of [sum, product]) each.dispose();
    for (let i = 0; i < dim; i++) this.sums[i] += sums[i];
    for (let i = 0; i < products.length; i++) this.products[i] += products[i];
    this.count += features.shape[0];
  }

  /**
   * Statistics of all that was added.
   *
   * @throws ValueError with fewer than two pictures
   */
  async result(): Promise<FeatureStatistics> {
    const { count, dim, sums, products } = this;
    if (count < 2 || !this.centre)
      throw new ValueError('StatisticsGatherer', `${count === 1 ? '1 picture was' : 'no pictures were'} added`, {
        expected: 'at least 2 for a covariance',
      });
    const centre = await this.centre.data();
    const mean = Float64Array.from(sums, (sum, i) => centre[i] + sum / count);
    const covariance = new Float64Array(dim * dim);
    for (let i = 0; i < dim; i++)
      for (let j = 0; j <= i; j++) {
        // Both halves, so that the result is symmetric to the last bit.
        const product = (products[i * dim + j] + products[j * dim + i]) / 2;
        covariance[i * dim + j] = covariance[j * dim + i] = (product - (sums[i] * sums[j]) / count) / (count - 1);
      }
    return { count, mean, covariance };
  }

  /** Frees its tensors. */
  dispose(): void {
    this.centre?.dispose();
    this.centre = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Rows of a block. */
const BLOCK = 512;

/**
 * Mean and covariance of a set.
 *
 * @throws ValueError with fewer than two pictures; what the signal was aborted with
 */
export async function featureStatistics(
  device: Device,
  set: FeatureSet,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<FeatureStatistics> {
  const pause = breather(signal);
  using gatherer = new StatisticsGatherer(set.dim);
  for (let begin = 0; begin < set.count; begin += BLOCK) {
    const end = Math.min(set.count, begin + BLOCK);
    using block = keep(tensor(device, rowsOf(set, begin, end), { shape: [end - begin, set.dim] }));
    await gatherer.add(block);
    const wait = pause();
    if (wait) await wait;
  }
  return gatherer.result();
}
