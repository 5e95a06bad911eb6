// Images from a model: labels, guidance, a sampler, and batches of them, for the library, the command line and the page
// alike.

import { ValueError } from '../../core/errors.ts';
import { keep, type Device, type Tensor } from '../../core/index.ts';
import type { ImageBatch } from '../data/grid.ts';
import {
  createDiffusion,
  ddim,
  type DiffusionOptions,
  type GaussianDiffusion,
  type LoopOptions,
  type Sampler,
} from '../diffusion/index.ts';
import { withLabels, type ClassifierFreeGuidance, type LabelledModel } from './guidance.ts';
import { ImageNoise } from './imageNoise.ts';

/** What is drawn, from what model, and how. */
export interface SampleOptions {
  readonly device: Device;
  /** In evaluation mode. */
  readonly model: LabelledModel;
  /** The process that the model was trained on. */
  readonly diffusion: DiffusionOptions;
  /** A label for each image, from 0 to numClasses, the latter for no class; left out for a model without classes. */
  readonly labels?: ArrayLike<number>;
  /** How many images, where there are no labels; default 1. */
  readonly count?: number;
  /** Classifier-free guidance, or its scale; default 1, none. */
  readonly guidance?: number | ClassifierFreeGuidance;
  /** Default DDIM without noise. */
  readonly sampler?: Sampler;
  /** Steps of the sampler; default 50, or as many as the process has. */
  readonly steps?: number;
  /** Default 0. Image i depends on the seed, its number and its label alone, whatever the batch, but for rounding. */
  readonly seed?: number;
  /** Number of the first image; default 0. */
  readonly first?: number;
  /** Images at once; default 32. */
  readonly batch?: number;
  /** Clip the predicted x_0 to [-1, 1]; default true. Right for pixels, wrong for latents. */
  readonly clipDenoised?: boolean;
  readonly signal?: AbortSignal;
}

/** A step of a batch. Tensors hold these values until the next step is asked for. */
export interface SampledStep {
  /** Place of the batch's first image among all that are drawn, and how many the batch has. */
  readonly begin: number;
  readonly images: number;
  /**
   * (rows, C, H, W) what the step gave, and the images as they are expected now. The last batch may have rows beyond
   * its images.
   */
  readonly sample: Tensor;
  readonly predXstart: Tensor;
  /** Which step of the batch, and how many it has. */
  readonly index: number;
  readonly steps: number;
  /** Steps of all batches made so far, and in all. */
  readonly done: number;
  readonly total: number;
}

/** What a batch begins with, and what is done to it after each step: for images that are not drawn from noise alone. */
export interface Beginning extends Pick<LoopOptions, 'from' | 'afterStep'> {
  readonly x: Tensor;
  dispose?(): void;
}

/** Makes a beginning from a batch's noise; `begin` is the place of its first image. */
export type MakeBeginning = (diffusion: GaussianDiffusion, noise: Tensor, begin: number) => Beginning;

/**
 * Draws images, step by step, batch by batch.
 *
 * @throws ValueError where the model cannot be asked for that; what the signal was aborted with
 */
export async function* sampleProgressive(
  options: SampleOptions,
  makeBeginning: MakeBeginning = (_, noise) => ({ x: noise }),
): AsyncGenerator<SampledStep, void, undefined> {
  const { device, model, labels, sampler = ddim(), seed = 0, first = 0, clipDenoised, signal } = options;
  const { config } = model;
  const { total: count, steps, guidance } = checkSampling(config, options);
  const batches = Math.ceil(count / (options.batch ?? 32)),
    batch = Math.ceil(count / batches);
  const shape = [batch, config.channels, config.imgSize, config.imgSize];
  using diffusion = createDiffusion(device, { ...options.diffusion, timestepRespacing: [steps] });
  using noise = new ImageNoise(device, seed, config.channels * config.imgSize ** 2);
  for (let b = 0; b < batches; b++) {
    const begin = b * batch;
    // The last batch is filled up, so that its steps are those that were compiled.
    const rows = labels && Int32Array.from({ length: batch }, (_, i) => labels[Math.min(begin + i, count - 1)]);
    using start = keep(noise.begin(first + begin, shape));
    const denoiser = withLabels(device, model, rows, guidance);
    let beginning: Beginning | undefined;
    try {
      beginning = makeBeginning(diffusion, start, begin);
      const loop = diffusion.sampleProgressive(denoiser.model, shape, {
        sampler,
        noise: beginning.x,
        generator: noise,
        from: beginning.from,
        afterStep: beginning.afterStep,
        clipDenoised,
        signal,
      });
      for await (const { sample, predXstart, index, count: each } of loop)
        yield {
          begin,
          images: Math.min(batch, count - begin),
          sample,
          predXstart,
          index,
          steps: each,
          done: b * each + index + 1,
          total: batches * each,
        };
    } finally {
      beginning?.dispose?.();
      denoiser.dispose();
    }
  }
  signal?.throwIfAborted();
}

/** What is kept and told on the way. */
export interface CollectOptions {
  /** Keeps so many states on the way, noise to image, for an animation; default 0. */
  readonly frames?: number;
  /** Called after each step of each batch. */
  readonly onStep?: (done: number, total: number) => void;
}

/** Images as they were drawn. */
export interface Samples {
  /** (N, C, H, W) in [-1, 1], in the order of the labels. */
  readonly images: ImageBatch;
  /** States on the way, the last of them the images themselves; empty unless asked for. */
  readonly frames: readonly ImageBatch[];
}

/**
 * Draws images.
 *
 * ```ts
 * const { images } = await sampleImages({ device, model, diffusion: {}, labels: [0, 1, 2], guidance: 1.5, steps: 20 });
 * ```
 *
 * @throws ValueError where the model cannot be asked for that; what the signal was aborted with
 */
export async function sampleImages(options: SampleOptions & CollectOptions): Promise<Samples> {
  const { config } = options.model;
  const { total } = checkSampling(config, options);
  return collect(sampleProgressive(options), [total, config.channels, config.imgSize, config.imgSize], options);
}

/** @internal The images of all batches. */
export async function collect(
  steps: AsyncGenerator<SampledStep>,
  shape: ImageBatch['shape'],
  { frames: wanted = 0, onStep }: CollectOptions,
): Promise<Samples> {
  const size = shape[1] * shape[2] * shape[3];
  const empty = (): ImageBatch => ({ data: new Float32Array(shape[0] * size), shape });
  const images = empty();
  let frames: ImageBatch[] = [];
  let shown: number[] = [];
  for await (const step of steps) {
    const { begin, index } = step;
    if (begin === 0 && index === 0) {
      shown = frameSteps(step.steps, wanted);
      frames = shown.map(empty);
    }
    const targets = [...(index === step.steps - 1 ? [images] : []), ...frames.filter((_, k) => shown[k] === index)];
    if (targets.length > 0) {
      const values = (await step.sample.data()) as Float32Array;
      for (const { data } of targets) data.set(values.subarray(0, step.images * size), begin * size);
    }
    onStep?.(step.done, step.total);
  }
  return { images, frames };
}

/**
 * Completes and checks what can be checked without a device.
 *
 * @throws ValueError where a model of this configuration cannot be asked for that
 */
export function checkSampling(
  { numClasses, classDropoutProb }: LabelledModel['config'],
  options: Pick<SampleOptions, 'labels' | 'count' | 'guidance' | 'diffusion' | 'steps' | 'batch'>,
): { readonly total: number; readonly steps: number; readonly guidance: ClassifierFreeGuidance } {
  const { labels, count = 1, batch = 32, diffusion } = options;
  const trained = diffusion.diffusionSteps ?? 1000;
  const { steps = Math.min(50, trained) } = options;
  const guidance = typeof options.guidance === 'object' ? options.guidance : { scale: options.guidance ?? 1 };
  const refuse = (what: string, fields: { option?: string; expected?: string; remedy?: string }): never => {
    throw new ValueError('sampleImages', what, fields);
  };
  if (!(Number.isInteger(steps) && steps >= 1))
    refuse(`is ${steps}`, { option: 'steps', expected: 'a positive integer' });
  if (steps > trained)
    refuse(`is ${steps}`, { option: 'steps', expected: `at most the ${trained} that the model was trained with` });
  if (!(Number.isInteger(batch) && batch >= 1))
    refuse(`is ${batch}`, { option: 'batch', expected: 'a positive integer' });
  if (numClasses > 0 && !labels) refuse(`The model has ${numClasses} classes`, { expected: 'a label for each image' });
  if (numClasses === 0 && labels) refuse('labels are given to a model without classes', { remedy: 'leave them out' });
  for (const label of Array.from(labels ?? []))
    if (!(Number.isInteger(label) && label >= 0 && label <= numClasses))
      refuse(`a label is ${label}`, { expected: `0 to ${numClasses}, the latter for no class` });
  const total = labels?.length ?? count;
  if (!(Number.isInteger(total) && total >= 1))
    refuse(`is ${total}`, { option: 'count', expected: 'at least one image' });
  if (!Number.isFinite(guidance.scale))
    refuse(`is ${guidance.scale}`, { option: 'guidance', expected: 'a finite number' });
  if (labels && guidance.scale !== 1 && classDropoutProb === 0)
    refuse(`is ${guidance.scale}`, {
      option: 'guidance',
      expected: '1 for a model that was trained without label dropout',
    });
  return { total, steps, guidance };
}

/** Up to `frames` steps out of 0 … steps-1, evenly spread, the last one among them. */
function frameSteps(steps: number, frames: number): number[] {
  const count = Math.min(frames, steps);
  return Array.from({ length: count }, (_, i) => Math.round(((i + 1) * steps) / count) - 1);
}
