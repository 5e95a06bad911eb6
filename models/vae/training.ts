// Training an autoencoder with the trainer of diffusion models: what it minimises, in the form of an objective. There are
// no timesteps; the noise of the sampled latents is a part of that which the trainer draws.

import { fuse, numelOf, scope, ValueError, type Generator, type Tensor } from '../../core/index.ts';
import type { Denoiser, TrainingObjective } from '../train/types.ts';
import { AutoencoderKL } from './autoencoderKL.ts';
import type { VaeConfig, VaeOptions } from './config.ts';

/** An autoencoder that a `Trainer` takes. */
export class TrainableVae extends AutoencoderKL {
  /** With what a trainer asks of a model. */
  declare readonly config: VaeConfig & Denoiser['config'];

  /**
   * @param generator draws the initial values
   * @param options with `sampleSize`, the edge of the pictures
   * @throws ValueError
   */
  constructor(generator: Generator, options: VaeOptions) {
    super(generator, options);
    const { sampleSize, inChannels, outChannels, latentChannels } = this.config;
    const bad = (option: string, value: number, expected: string): ValueError =>
      new ValueError('TrainableVae', `is ${value}`, { option, expected });
    if (sampleSize % this.factor) throw bad('sampleSize', sampleSize, `a multiple of ${this.factor}`);
    if (inChannels !== outChannels) throw bad('outChannels', outChannels, `${inChannels}, as pictures have`);
    if (latentChannels > inChannels * this.factor ** 2)
      throw bad('latentChannels', latentChannels, `at most ${inChannels * this.factor ** 2}, or nothing is compressed`);
    Object.assign(this, { config: { ...this.config, imgSize: sampleSize, channels: inChannels, numClasses: 0 } });
  }

  /** Pictures from the most likely latents of pictures. */
  forward(x: Tensor): Tensor {
    return scope(() => this.decode(this.encode(x).mode()));
  }

  /** What `precision: 'f16'` stores in f16. */
  matrices(): Tensor[] {
    return this.parameters().filter((p) => p.ndim > 1);
  }
}

/** Weights of the terms. */
export interface VaeLossOptions {
  /** Of the divergence of the latents from N(0, 1), per value of the picture. Default 1e-6. */
  readonly klWeight?: number;
  /** Of differences of neighbouring pixels, at three scales. Default 0.5. */
  readonly edgeWeight?: number;
  /** Of `perceptual`. Default 0.1. */
  readonly perceptualWeight?: number;
  /** Features of pictures (N, …), whose mean absolute differences are added. */
  readonly perceptual?: (x: Tensor) => readonly Tensor[];
}

const absolute = /* @__PURE__ */ fuse((x, y) => x.sub(y).abs(), 'absoluteError');
const SCALES = 3;

/** Mean over everything but the batch, (N). */
const perSample = (x: Tensor): Tensor => x.flatten(1).mean(1);

/** Mean absolute difference of the gradients of two pictures: edges that are blurred cost, whatever their place. */
function edges(x: Tensor, y: Tensor): Tensor {
  const parts: Tensor[] = [];
  let error = x.sub(y);
  for (let scale = 0; scale < SCALES && Math.min(...error.shape.slice(2)) >= 2; scale++) {
    const [height, width] = error.shape.slice(2);
    const down = error.slice(2, 1).sub(error.slice(2, 0, height - 1));
    const across = error.slice(3, 1).sub(error.slice(3, 0, width - 1));
    parts.push(perSample(down.abs()), perSample(across.abs()));
    if (height % 2 || width % 2) break;
    error = error.reshape(...error.shape.slice(0, 2), height / 2, 2, width / 2, 2).mean([3, 5]);
  }
  return parts.reduce((sum, part) => sum.add(part)).div(parts.length);
}

/**
 * `mean |x - x̂| + edges + perceptual + klWeight · KL / values`, per sample: the reconstruction of a sample of the
 * latents (Rombach et al., arXiv 2112.10752, without a discriminator). Of the records, `mse` is the mean squared error
 * and `vb` the divergence in nats.
 */
export class VaeObjective implements TrainingObjective {
  /** There is one, 0. */
  readonly numTimesteps = 1;
  private readonly vae: AutoencoderKL;
  private readonly options: Required<Omit<VaeLossOptions, 'perceptual'>> & Pick<VaeLossOptions, 'perceptual'>;

  constructor(
    vae: AutoencoderKL,
    { klWeight = 1e-6, edgeWeight = 0.5, perceptualWeight = 0.1, perceptual }: VaeLossOptions = {},
  ) {
    this.vae = vae;
    this.options = { klWeight, edgeWeight, perceptualWeight, perceptual };
  }

  /** Terms per sample. */
  trainingLosses(
    _: unknown,
    x: Tensor,
    __: Tensor,
    { noise }: { noise: Tensor },
  ): { loss: Tensor; mse: Tensor; vb: Tensor } {
    const { klWeight, edgeWeight, perceptualWeight, perceptual } = this.options;
    const posterior = this.vae.encode(x);
    const { shape } = posterior.mean;
    const values = numelOf(shape.slice(1));
    const part = noise
      .flatten(1)
      .slice(1, 0, values)
      .reshape(...shape);
    const y = this.vae.decode(posterior.sample(part)).cast('f32');
    const kl = posterior.kl();
    let loss = perSample(absolute(x, y)).add(kl.mul(klWeight / numelOf(x.shape.slice(1))));
    if (edgeWeight > 0) loss = loss.add(edges(x, y).mul(edgeWeight));
    const wanted = perceptualWeight > 0 && perceptual ? perceptual(x) : [];
    if (wanted.length > 0)
      perceptual!(y).forEach((features, i) => {
        loss = loss.add(perSample(absolute(features, wanted[i])).mul(perceptualWeight / wanted.length));
      });
    return { loss, mse: perSample(x.sub(y).square()), vb: kl };
  }
}

/** Peak signal-to-noise ratio in dB of a mean squared error between pictures from -1 to 1. */
export function psnr(mse: number): number {
  return 10 * Math.log10(4 / mse);
}
