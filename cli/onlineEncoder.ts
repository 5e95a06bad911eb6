// `dis-cli train --vae`: pictures become latents on the device, batch by batch, while the step before is computed.

import { Generator, keep, noGrad, scope, tensor, type Device } from '../core/index.ts';
import type { Batch, BatchEncoder } from '../models/data/dataset.ts';
import type { AutoencoderKL } from '../models/vae/index.ts';
import { readVaeOf } from './latentSpace.ts';
import type { VaeOfRun } from './trainSettings.ts';
import { buildVae } from './vaeFolder.ts';

/** Pixels encoded at once: 8 pictures of 256², whose activations take some GB in a large autoencoder. */
const TOGETHER = 8 * 256 ** 2;

/**
 * Encodes batches with the autoencoder of a run, which is read when the first one comes. What is drawn for a picture
 * depends on the seed and its place in the order of all epochs, so that a run that goes on draws the same.
 */
export class OnlineEncoder {
  private readonly device: Device;
  private readonly known: VaeOfRun;
  private readonly generator: Generator;
  private readonly seed: number;
  private readonly length: number;
  private vae: Promise<AutoencoderKL> | undefined;

  /** @param length pictures of an epoch */
  constructor(device: Device, known: VaeOfRun, seed: number, length: number) {
    this.device = device;
    this.known = known;
    this.generator = new Generator(device, seed);
    this.seed = seed;
    this.length = length;
  }

  /** (B, C, H, W) in [-1, 1] to scaled latents. @throws UsageError, FileError, FormatError where the weights can't be had */
  readonly encode: BatchEncoder = async ({ images, shape: [n, ...picture] }, { epoch, index }) => {
    const vae = await (this.vae ??= this.load());
    const [c, h, w] = picture;
    const { latentChannels } = vae.config;
    const shape = [n, latentChannels, h / vae.factor, w / vae.factor] as const;
    const each = shape[1] * shape[2] * shape[3];
    const out = new Float32Array(n * each);
    const together = Math.max(1, Math.floor(TOGETHER / (h * w)));
    for (let first = 0; first < n; first += together) {
      const count = Math.min(together, n - first);
      const part = images.subarray(first * c * h * w, (first + count) * c * h * w);
      const place = (epoch * this.length + index + first) * Math.ceil(each / 4);
      out.set(await this.latents(vae, part, [count, c, h, w], place), first * each);
    }
    return { images: out, shape };
  };

  /** Ends it; a batch that is being encoded comes to nothing. */
  dispose(): void {
    this.generator.dispose();
    void this.vae?.then(
      (vae) => vae.dispose(),
      () => undefined,
    );
  }

  private async load(): Promise<AutoencoderKL> {
    return buildVae(this.device, await readVaeOf(this.known));
  }

  private async latents(
    vae: AutoencoderKL,
    images: Float32Array,
    shape: Batch['shape'],
    position: number,
  ): Promise<Float32Array> {
    const { device, generator, seed, known } = this;
    const t = noGrad(() =>
      scope(() => {
        const posterior = vae.encode(tensor(device, images, { shape }));
        generator.setState({ seed, position });
        return keep(vae.toLatents(known.online?.posterior === 'mode' ? posterior.mode() : posterior.sample(generator)));
      }),
    );
    try {
      return (await t.data()) as Float32Array;
    } finally {
      t.dispose();
    }
  }
}
