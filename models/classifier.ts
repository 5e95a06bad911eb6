// A small convolutional classifier, and its training on the shapes or any labelled data set. It judges samples of a
// class-conditional model, whether a picture shows what was asked for, and gives features to compare sets of pictures.

import {
  capture,
  Generator,
  keep,
  noGrad,
  scope,
  ShapeError,
  show,
  tensor,
  ValueError,
  zeros,
  type CapturedStep,
  type Device,
  type Tensor,
} from '../core/index.ts';
import {
  Adam,
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  Module,
  Sequential,
  SiLU,
  warmupCosine,
  type Layer,
} from '../nn/index.ts';
import { DataLoader, type Dataset } from './data/dataset.ts';
import { shapesDataset } from './data/shapes.ts';

/** Sizes of a classifier. */
export interface ClassifierOptions {
  /** Image side in pixels. */
  readonly size: number;
  readonly numClasses: number;
  /** Default 3. */
  readonly channels?: number;
  /** Channels after the first convolution; each further one has twice as many. Default 24. */
  readonly width?: number;
}

/** Side of the feature maps that the last layer reads. */
const LAST_SIDE = 4;

/**
 * 3×3 convolutions of stride 2 with SiLU, as many as it takes to come down to 4×4, and a linear layer: images (N,
 * channels, size, size) in [-1, 1] → logits (N, numClasses).
 */
export class Classifier extends Module {
  /** Convolutions, and their last maps flattened. */
  readonly features: Sequential;
  /** From the flattened maps to logits. */
  readonly head: Linear;
  /** (channels, height, width) of its images. */
  readonly imageShape: readonly [number, number, number];
  /** Channels of the last feature maps. */
  readonly depth: number;

  /**
   * @param generator draws the initial values; its device holds them
   * @throws ValueError
   */
  constructor(generator: Generator, { size, numClasses, channels = 3, width = 24 }: ClassifierOptions) {
    super();
    if (!Number.isInteger(size) || size < LAST_SIDE)
      throw new ValueError('Classifier', `is ${size}`, {
        option: 'size',
        expected: `a whole number from ${LAST_SIDE} on`,
      });
    const layers: Layer[] = [];
    let side = size,
      depth = channels;
    for (let next = width; side > LAST_SIDE; side = Math.ceil(side / 2), depth = next, next *= 2) {
      layers.push(new Conv2d(generator, depth, next, 3, { stride: 2, padding: 1 }), new SiLU());
    }
    this.features = new Sequential(...layers, new Flatten());
    this.head = new Linear(generator, depth * side * side, numClasses);
    this.imageShape = [channels, size, size];
    this.depth = depth;
  }

  /**
   * Images (N, channels, size, size) in [-1, 1] → logits (N, numClasses).
   *
   * @throws ShapeError
   */
  forward(images: Tensor): Tensor {
    this.check(images);
    return scope(() => this.head.forward(this.features.forward(images)));
  }

  /**
   * Logits, (N, numClasses), and the mean over positions of the last feature maps, (N, depth).
   *
   * @throws ShapeError
   */
  judge(images: Tensor): { logits: Tensor; features: Tensor } {
    this.check(images);
    const { depth } = this;
    return scope(() => {
      const maps = this.features.forward(images);
      const [n, values] = maps.shape;
      return { logits: this.head.forward(maps), features: maps.reshape(n, depth, values / depth).mean(2) };
    });
  }

  private check(images: Tensor): void {
    const [channels, height, width] = this.imageShape;
    if (images.ndim !== 4 || this.imageShape.some((n, i) => images.shape[i + 1] !== n))
      throw new ShapeError('Classifier', `The images have shape ${show(images.shape)}`, {
        expected: `(N,${channels},${height},${width})`,
      });
  }

  /** The likeliest class of each image. */
  async classify(images: Tensor): Promise<Int32Array> {
    const classes = noGrad(() => scope(() => this.forward(images).argmax(1)));
    const found = await classes.data();
    classes.dispose();
    return found as Int32Array;
  }
}

/** What a classifier learns from, and how long. */
export interface ClassifierTraining {
  /** What it learns from; default shapes of `size`, drawn anew for each step. */
  readonly dataset?: Dataset;
  /** Image side in pixels; needed where no data set is given. */
  readonly size?: number;
  /** Default 300. */
  readonly steps?: number;
  /** Default 64. */
  readonly batchSize?: number;
  /** Highest learning rate; it warms up, and falls to 0 along half a cosine. Default 3e-3. */
  readonly lr?: number;
  /** Default 0. */
  readonly seed?: number;
  /**
   * Variation of the drawings, see `ShapeStyle`. Default 0.6, more than that of the data set: samples may be off the
   * data a little.
   */
  readonly variation?: number;
  /** Largest standard deviation of the noise laid over an image: samples aren't clean. Default 0.3. */
  readonly noise?: number;
  /** Ends training: the promise is rejected with its reason. */
  readonly signal?: AbortSignal;
  /** Called now and then with the number of steps taken and the loss of the last one. */
  readonly onProgress?: (step: number, loss: number) => void;
}

/** Steps between looks at the loss: so few that work doesn't pile up, so many that the GPU doesn't wait. */
const PROGRESS_EVERY = 20;

/**
 * Trains a classifier by Adam on cross entropy, in a captured step.
 *
 * @returns the classifier in evaluation mode; the caller disposes of it
 * @throws ValueError
 */
export async function trainClassifier(device: Device, options: ClassifierTraining): Promise<Classifier> {
  const {
    steps = 300,
    batchSize = 64,
    lr = 3e-3,
    seed = 0,
    variation = 0.6,
    noise = 0.3,
    signal,
    onProgress,
  } = options;
  const schedule = warmupCosine({ lr, warmup: steps / 10, total: steps });
  const dataset = options.dataset ?? drawn(options.size, { length: steps * batchSize, seed, variation });
  const { size, channels, numClasses } = dataset;
  if (numClasses < 2)
    throw new ValueError('trainClassifier', `The data set has ${numClasses === 1 ? '1 class' : 'no classes'}`, {
      expected: 'at least 2',
      remedy: 'give labelled data, or use another network',
    });
  const loader = new DataLoader(dataset, { batchSize: Math.min(batchSize, dataset.length), seed, signal });
  const generator = new Generator(device, seed);
  const classifier = new Classifier(generator, { size, numClasses, channels });
  const optimizer = new Adam(classifier);
  const rows = Math.min(batchSize, dataset.length);
  const images = keep(zeros(device, [rows, channels, size, size])),
    labels = keep(zeros(device, [rows], 'i32'));
  const train = (): Tensor =>
    scope(() => {
      const strength = generator.uniform([rows, 1, 1, 1], { high: noise });
      const noisy = images.add(generator.normal(images.shape).mul(strength));
      const loss = crossEntropy(classifier.forward(noisy), labels);
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return keep(loss.detach());
    });
  let step: CapturedStep<Tensor> | null = null;
  try {
    let taken = 0;
    for await (const batch of loader) {
      images.write(batch.images);
      labels.write(batch.labels);
      optimizer.lr = schedule(taken++);
      if (step) step.replay();
      else step = capture(device, train);
      if (taken % PROGRESS_EVERY === 0) {
        const loss = await step.result.item();
        onProgress?.(taken, loss);
      }
      if (taken === steps) break;
    }
    return classifier.eval();
  } catch (error) {
    classifier.dispose();
    throw error;
  } finally {
    for (const part of [images, labels, step?.result, step, optimizer, generator]) part?.dispose();
  }
}

function drawn(size: number | undefined, style: { length: number; seed: number; variation: number }): Dataset {
  if (size === undefined)
    throw new ValueError('trainClassifier', 'is not given', { option: 'size', expected: 'a size, or a data set' });
  return shapesDataset({ size, ...style });
}

/** Share of a data set's images whose class is found. */
export async function accuracy(classifier: Classifier, dataset: Dataset): Promise<number> {
  let right = 0;
  for await (const { images, labels, shape } of new DataLoader(dataset, {
    batchSize: 128,
    shuffle: false,
    dropLast: false,
    epochs: 1,
  })) {
    using batch = keep(tensor(classifier.head.weight.device, images, { shape }));
    const found = await classifier.classify(batch);
    right += found.filter((label, i) => label === labels[i]).length;
  }
  return right / dataset.length;
}
