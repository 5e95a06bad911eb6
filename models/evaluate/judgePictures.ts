// Features of a data set's pictures, batch by batch, in one captured step.

import { capture, keep, noGrad, scope, zeros, type CapturedStep, type Device, type Tensor } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../data/dataset.ts';
import type { FeatureSet } from './features.ts';
import type { ClassProbabilities } from './inceptionScore.ts';
import type { FeatureNetwork } from './networks/network.ts';

/** Which pictures are judged, and how many at once. */
export interface JudgeOptions {
  /** First and last picture, the latter not included. Default all. */
  readonly begin?: number;
  readonly end?: number;
  /** Pictures at once; default what the network proposes. */
  readonly batch?: number;
  readonly signal?: AbortSignal;
  /** Called after each batch with the number of pictures done. */
  readonly onProgress?: (done: number) => void;
}

/** What a network makes of pictures. */
export interface JudgedPictures {
  readonly features: FeatureSet;
  /** Absent where the network doesn't classify. */
  readonly probabilities?: ClassProbabilities;
}

/** Judges sets of pictures of one shape; the step is recorded once. */
export class PictureJudge {
  /** What it judges by. */
  readonly network: FeatureNetwork;
  private readonly device: Device;
  private readonly batch: number;
  private images: Tensor | undefined;
  private step: CapturedStep<{ features: Tensor; probabilities?: Tensor }> | undefined;

  constructor(device: Device, network: FeatureNetwork, { batch = network.batch }: { batch?: number } = {}) {
    this.device = device;
    this.network = network;
    this.batch = batch;
  }

  /**
   * Features and class probabilities of pictures of a data set, in its order. All data sets have one shape.
   *
   * @throws ShapeError where the network can't take the pictures; what the signal was aborted with
   */
  async judge(dataset: Dataset, options: Omit<JudgeOptions, 'batch'> = {}): Promise<JudgedPictures> {
    const { begin = 0, end = dataset.length, signal, onProgress } = options;
    const { features: dim, classes } = this.network;
    const count = end - begin;
    const features = new Float32Array(count * dim),
      probabilities = new Float32Array(count * classes);
    const part: Dataset = { ...about(dataset), length: count, item: (i) => dataset.item(begin + i) };
    const loader = new DataLoader(part, {
      batchSize: Math.min(this.batch, count),
      shuffle: false,
      dropLast: false,
      epochs: 1,
      signal,
    });
    let done = 0;
    for await (const { images, shape } of loader) {
      const found = this.run(images, shape);
      const rows = (await found.features.data()) as Float32Array;
      features.set(rows.subarray(0, shape[0] * dim), done * dim);
      if (found.probabilities) {
        const shares = (await found.probabilities.data()) as Float32Array;
        probabilities.set(shares.subarray(0, shape[0] * classes), done * classes);
      }
      done += shape[0];
      onProgress?.(done);
    }
    return {
      features: { count, dim, data: features },
      ...(classes > 0 && { probabilities: { count, classes, data: probabilities } }),
    };
  }

  /** Rows beyond those given hold what an earlier batch left there. */
  private run(data: Float32Array, [rows, ...shape]: readonly number[]): { features: Tensor; probabilities?: Tensor } {
    this.images ??= keep(zeros(this.device, [this.batch, ...shape]));
    const { images, network } = this;
    if (rows === this.batch) images.write(data);
    else
      scope(() => {
        images.slice(0, 0, rows).write(data);
      });
    if (this.step) this.step.replay();
    else
      this.step = capture(this.device, () =>
        noGrad(() =>
          scope(() => {
            const { features, logits } = network.judge(images);
            return {
              features: keep(features.cast('f32')),
              ...(logits && { probabilities: keep(logits.cast('f32').softmax(1)) }),
            };
          }),
        ),
      );
    return this.step.result;
  }

  /** Frees what its step holds; the network stays. */
  dispose(): void {
    this.step?.result.features.dispose();
    this.step?.result.probabilities?.dispose();
    this.step?.dispose();
    this.images?.dispose();
    this.step = undefined;
    this.images = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const about = ({ size, channels, numClasses, classNames }: Dataset): Omit<Dataset, 'length' | 'item'> => ({
  size,
  channels,
  numClasses,
  classNames,
});

/**
 * Features and class probabilities of a data set's pictures.
 *
 * @throws ShapeError where the network can't take the pictures; what the signal was aborted with
 */
export async function judgePictures(
  device: Device,
  network: FeatureNetwork,
  dataset: Dataset,
  options: JudgeOptions = {},
): Promise<JudgedPictures> {
  const { begin = 0, end = dataset.length, batch = network.batch } = options;
  using judge = new PictureJudge(device, network, { batch: Math.min(batch, Math.max(1, end - begin)) });
  return await judge.judge(dataset, options);
}
