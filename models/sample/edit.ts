// Images that begin with an image: changed as a whole (SDEdit, Meng et al. 2021, arXiv 2108.01073), or drawn anew where
// a mask says so (the replacement of Song et al. 2020, arXiv 2011.13456, §I.2).

import { ShapeError, ValueError } from '../../core/errors.ts';
import { full, keep, scope, show, tensor, type Device, type Tensor } from '../../core/index.ts';
import type { ImageBatch } from '../data/grid.ts';
import type { GaussianDiffusion } from '../diffusion/index.ts';
import { timestepMap } from '../diffusion/timestepOp.ts';
import {
  checkSampling,
  collect,
  sampleProgressive,
  type Beginning,
  type CollectOptions,
  type SampleOptions,
  type Samples,
} from './sample.ts';

/** Options of `imageToImage`. */
export interface ImageToImageOptions extends SampleOptions, CollectOptions {
  /** (N, C, H, W) in [-1, 1]: an image for each that is drawn, or one for all. */
  readonly image: ImageBatch;
  /** How much is changed: 0 leaves hardly any noise to remove, 1 begins with noise alone. */
  readonly strength: number;
}

/** Options of `inpaint`. */
export interface InpaintOptions extends SampleOptions, CollectOptions {
  /** (N, C, H, W) in [-1, 1]: an image for each that is drawn, or one for all. */
  readonly image: ImageBatch;
  /**
   * (N, 1 or C, H, W): 1 where to draw anew, 0 where the image stays; between them a mixture. One for each image, or
   * one for all.
   */
  readonly mask: ImageBatch;
  /** What the masked part begins with, as of `imageToImage`; default 1, noise alone. */
  readonly strength?: number;
}

/**
 * Images like those that are given: each is noised as far as `strength` says, and denoised again under its label.
 *
 * @throws ValueError, ShapeError where something doesn't fit; what the signal was aborted with
 */
export function imageToImage(options: ImageToImageOptions): Promise<Samples> {
  return edit('imageToImage', options, options.strength, undefined);
}

/**
 * Draws the masked part of images, so that it fits the rest, which stays as it is.
 *
 * After each step the part to keep is the image with the noise of that timestep, always the one that the sample began
 * with.
 *
 * @throws ValueError, ShapeError where something doesn't fit; what the signal was aborted with
 */
export function inpaint(options: InpaintOptions): Promise<Samples> {
  return edit('inpaint', options, options.strength ?? 1, options.mask);
}

async function edit(
  name: string,
  options: SampleOptions & CollectOptions & { readonly image: ImageBatch },
  strength: number,
  mask: ImageBatch | undefined,
): Promise<Samples> {
  const { device, model, image } = options;
  const { total } = checkSampling(model.config, options);
  const { channels, imgSize } = model.config;
  if (!(strength >= 0 && strength <= 1))
    throw new ValueError(name, `is ${strength}`, { option: 'strength', expected: '0 to 1' });
  const shape = [total, channels, imgSize, imgSize] as const;
  check(name, 'image', image, shape, [channels]);
  if (mask) check(name, 'mask', mask, shape, [1, channels]);
  const steps = sampleProgressive(options, (diffusion, noise, begin) =>
    scope((): Beginning => {
      const known = keep(rowsOf(device, image, noise.shape, begin));
      const from = Math.max(0, Math.ceil(strength * diffusion.numTimesteps) - 1);
      const t = full(device, [noise.shape[0]], from, 'i32');
      const x = keep(strength === 1 ? noise.clone() : diffusion.qSample(known, t, noise));
      const drawn = mask && keep(rowsOf(device, mask, noise.shape, begin));
      return {
        x,
        from,
        ...(drawn && { afterStep: (sample, t) => keepKnown(diffusion, t, { sample, known, noise, drawn }) }),
        dispose() {
          for (const item of [x, known, drawn]) item?.dispose();
        },
      };
    }),
  );
  return collect(steps, shape, options);
}

/** `sample` where `drawn` is 1, and q(x_{t-1} | x_0 = `known`) with that noise where it is 0. */
function keepKnown(
  diffusion: GaussianDiffusion,
  t: Tensor,
  tensors: Readonly<Record<'sample' | 'known' | 'noise' | 'drawn', Tensor>>,
): Tensor {
  const table = diffusion.tableWith('inpaint', () => {
    const before = diffusion.settings.tables.alphasCumprodPrev;
    return { signalBefore: before.map(Math.sqrt), noiseBefore: before.map((alpha) => Math.sqrt(1 - alpha)) };
  });
  const op = diffusion.operation('inpaint', () =>
    timestepMap<keyof typeof tensors, string>(
      'inpaint',
      { sample: 1, known: 1, noise: 1, drawn: 1 },
      ({ of, k }) => {
        const known = k('signalBefore').mul(of.known[0]).add(k('noiseBefore').mul(of.noise[0]));
        return [known.add(of.drawn[0].mul(of.sample[0].sub(known)))];
      },
      table.columns,
    ),
  );
  return op(table.tensor, t, tensors)[0];
}

function check(
  name: string,
  what: string,
  { data, shape }: ImageBatch,
  [total, , ...edges]: readonly number[],
  channels: readonly number[],
): void {
  const fits =
    (shape[0] === 1 || shape[0] === total) &&
    channels.includes(shape[1]) &&
    shape[2] === edges[0] &&
    shape[3] === edges[1] &&
    data.length === shape.reduce((product, n) => product * n, 1);
  if (!fits)
    throw new ShapeError(name, `${what} has shape ${show(shape)} and ${data.length} values`, {
      expected: `${show([total, channels[channels.length - 1], ...edges])}, or one image for all`,
    });
}

/**
 * The images of a batch's rows, (rows, C, H, W): the only one for all, and the last one where the batch is filled up.
 */
function rowsOf(device: Device, { data, shape }: ImageBatch, to: readonly number[], begin: number): Tensor {
  const [rows, channels] = to;
  const plane = to[2] * to[3];
  const values = new Float32Array(rows * channels * plane);
  for (let i = 0; i < rows; i++) {
    const image = Math.min(shape[0] === 1 ? 0 : begin + i, shape[0] - 1);
    for (let c = 0; c < channels; c++) {
      const at = (image * shape[1] + Math.min(c, shape[1] - 1)) * plane;
      values.set(data.subarray(at, at + plane), (i * channels + c) * plane);
    }
  }
  return tensor(device, values, { shape: to });
}
