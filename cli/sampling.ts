// Images from a model, in batches, and the sheets they are shown on.

import { ValueError } from '../core/errors.ts';
import type { Device, Tensor } from '../core/index.ts';
import { concat, Generator, keep, scope, tensor } from '../core/index.ts';
import type { ImageBatch } from '../models/data/grid.ts';
import { hash32 } from '../models/data/hash.ts';
import type { PixelImage } from '../models/data/image.ts';
import type { DiffusionModel, DiffusionOptions, LoopStep } from '../models/diffusion/index.ts';
import { createDiffusion } from '../models/diffusion/index.ts';
import type { DisConfig } from '../models/dis/config.ts';
import type { Dis } from '../models/dis/dis.ts';
import { comfortableScale, sheet, writeImage } from './pictures.ts';

export type SamplerName = 'ddpm' | 'ddim';

export interface SampleOptions {
  readonly device: Device;
  /** In evaluation mode. */
  readonly model: Dis;
  /** The process that the model was trained on. */
  readonly diffusion: DiffusionOptions;
  /** Labels, one for each row of images; left out for a model without classes. */
  readonly classes?: readonly number[];
  /** Images of each class, or in all. */
  readonly count: number;
  /** Scale of classifier-free guidance: 1 is none, 0 leaves the class out. */
  readonly guidance: number;
  readonly steps: number;
  readonly sampler: SamplerName;
  /** DDIM's share of noise. */
  readonly eta: number;
  /** Image i starts from the same noise whatever the batch. */
  readonly seed: number;
  /** Images at once. */
  readonly batch: number;
  readonly signal?: AbortSignal;
  /** Called after each step of each batch. */
  readonly onStep?: (done: number, total: number) => void;
  /** Keeps so many states on the way, noise to image, for an animation. */
  readonly frames?: number;
}

export interface Samples {
  /** (N, C, H, W) in [-1, 1], class by class. */
  readonly images: ImageBatch;
  /** States on the way, the last of them the images themselves; empty unless asked for. */
  readonly frames: readonly ImageBatch[];
}

/**
 * Draws images.
 * @throws {ValueError} where the model cannot be asked for that; what the signal was aborted with
 */
export async function sampleImages(options: SampleOptions): Promise<Samples> {
  const { device, model, classes, count, guidance, steps, seed, signal, onStep } = options;
  const { config } = model;
  checkSampling({ ...options, model: config });
  const diffusion = createDiffusion(device, { ...options.diffusion, timestepRespacing: [steps] });
  const total = classes ? classes.length * count : count;
  const batches = Math.ceil(total / options.batch),
    batch = Math.ceil(total / batches);
  const each = config.channels * config.imgSize ** 2;
  const shape = [total, config.channels, config.imgSize, config.imgSize] as const;
  const images = { data: new Float32Array(total * each), shape };
  const shown = frameSteps(steps, options.frames ?? 0);
  const frames = shown.map((): ImageBatch => ({ data: new Float32Array(total * each), shape }));
  const noise = new Generator(device, seed),
    generator = new Generator(device, hash32(seed, 1));
  try {
    for (let b = 0; b < batches; b++) {
      // The last batch is filled up, so that its steps are those that were compiled.
      const labels =
        classes &&
        Int32Array.from({ length: batch }, (_, i) => classes[Math.floor(Math.min(b * batch + i, total - 1) / count)]);
      const put = async (into: ImageBatch, from: Tensor): Promise<void> => {
        const values = (await from.data()) as Float32Array;
        into.data.set(
          values.subarray(0, Math.min(values.length, into.data.length - b * batch * each)),
          b * batch * each,
        );
      };
      const start = keep(noise.normal([batch, ...shape.slice(1)]));
      const denoiser = conditioned(model, labels, guidance);
      const loopOptions = { noise: start, generator, signal };
      const loop: AsyncGenerator<LoopStep> =
        options.sampler === 'ddpm'
          ? diffusion.pSampleLoopProgressive(denoiser.model, start.shape, loopOptions)
          : diffusion.ddimSampleLoopProgressive(denoiser.model, start.shape, { ...loopOptions, eta: options.eta });
      try {
        for await (const { sample, index } of loop) {
          const frame = shown.indexOf(index);
          if (frame >= 0) await put(frames[frame], sample);
          if (index === steps - 1) await put(images, sample);
          onStep?.(b * steps + index + 1, batches * steps);
        }
      } finally {
        start.dispose();
        denoiser.dispose();
      }
    }
  } finally {
    noise.dispose();
    generator.dispose();
    diffusion.dispose();
  }
  signal?.throwIfAborted();
  return { images, frames };
}

/**
 * Checks what can be checked without a device.
 * @throws {ValueError} where a model of this configuration cannot be asked for that
 */
export function checkSampling({
  model,
  classes,
  guidance,
  diffusion,
  steps,
}: Pick<SampleOptions, 'classes' | 'guidance' | 'diffusion' | 'steps'> & { readonly model: DisConfig }): void {
  const trained = diffusion.diffusionSteps ?? 1000;
  if (steps > trained)
    throw new ValueError('sampleImages', `is ${steps}`, {
      option: 'steps',
      expected: `at most the ${trained} that the model was trained with`,
    });
  if (model.numClasses > 0 && !classes)
    throw new ValueError('sampleImages', `The model has ${model.numClasses} classes`, { expected: 'some to be named' });
  if (classes && guidance !== 1 && model.classDropoutProb === 0) {
    throw new ValueError('sampleImages', `is ${guidance}`, {
      option: 'guidance',
      expected: '1 for a model that was trained without label dropout',
    });
  }
}

/** The model with its labels and guidance. */
function conditioned(
  model: Dis,
  labels: Int32Array | undefined,
  guidance: number,
): { model: DiffusionModel; dispose(): void } {
  if (!labels) return { model: (x, t) => model.forward(x, t), dispose: () => {} };
  const { device } = model.pos_embed;
  if (guidance === 1) {
    const y = keep(tensor(device, labels));
    return { model: (x, t) => model.forward(x, t, y), dispose: () => y.dispose() };
  }
  const none = new Int32Array(labels.length).fill(model.config.numClasses);
  const y = keep(tensor(device, Int32Array.of(...labels, ...none)));
  const guided: DiffusionModel = (x, t) =>
    scope(() => model.forwardWithCfg(concat([x, x]), concat([t, t]), y, guidance).slice(0, 0, labels.length));
  return { model: guided, dispose: () => y.dispose() };
}

/** Up to `frames` steps out of 0 … steps-1, evenly spread, the last one among them. */
function frameSteps(steps: number, frames: number): number[] {
  const count = Math.min(frames, steps);
  return Array.from({ length: count }, (_, i) => Math.round(((i + 1) * steps) / count) - 1);
}

export interface SheetLayout {
  /** Labels of the rows' images, as they were sampled. */
  readonly classes?: readonly number[];
  readonly classNames: readonly string[];
}

const COLUMNS = 16;

/** A sheet with a row for each class, or several where there are more than sixteen images of it, and the class names beside them. */
export function sampleSheet(images: ImageBatch, { classes, classNames }: SheetLayout): PixelImage {
  const [n, c, h, w] = images.shape;
  const scale = comfortableScale(h);
  if (!classes) return sheet(images, { nrow: Math.min(COLUMNS, Math.ceil(Math.sqrt(n))), scale });
  const count = n / classes.length;
  const columns = Math.min(COLUMNS, count),
    rows = Math.ceil(count / columns);
  // Each class begins a row; places that stay free are black.
  const each = c * h * w;
  const data = new Float32Array(classes.length * rows * columns * each).fill(-1);
  for (let k = 0; k < classes.length; k++)
    data.set(images.data.subarray(k * count * each, (k + 1) * count * each), k * rows * columns * each);
  const rowLabels = classes.flatMap((label) => [
    classNames[label] ?? String(label),
    ...new Array<string>(rows - 1).fill(''),
  ]);
  return sheet({ data, shape: [classes.length * rows * columns, c, h, w] }, { nrow: columns, scale, rowLabels });
}

/** Writes a sheet; see `sampleSheet`. */
export async function writeSamples(path: string, images: ImageBatch, layout: SheetLayout): Promise<void> {
  await writeImage(path, sampleSheet(images, layout));
}
