// Samples of a model that was trained on latents, as pictures.

import { keep, noGrad, scope, tensor, type Device } from '../core/index.ts';
import type { ImageBatch } from '../models/data/grid.ts';
import type { AutoencoderKL } from '../models/vae/index.ts';
import { say } from './progress.ts';
import type { VaeOfRun } from './trainSettings.ts';
import { loadVae } from './vaeFolder.ts';

/** What decodes the latents of a run. The caller disposes of it. */
export interface LatentDecoder {
  decode(images: ImageBatch): Promise<ImageBatch>;
  dispose(): void;
}

/**
 * Loads the autoencoder that a run remembers.
 *
 * @param folder another place of it
 * @throws FileError, FormatError
 */
export async function openDecoder(device: Device, known: VaeOfRun, folder?: string): Promise<LatentDecoder> {
  const { vae, digest } = await loadVae(device, folder ?? known.folder);
  if (digest !== known.digest)
    say(`${folder ?? known.folder} is another autoencoder than the one that the run's latents are of.`);
  return { decode: (images) => decodeBatch(device, vae, known, images), dispose: () => vae.dispose() };
}

/** Pictures decoded at once. */
const TOGETHER = 8;

async function decodeBatch(
  device: Device,
  vae: AutoencoderKL,
  { scalingFactor, shiftFactor }: VaeOfRun,
  { data, shape: [n, c, h, w] }: ImageBatch,
): Promise<ImageBatch> {
  const parts: Float32Array[] = [];
  for (let first = 0; first < n; first += TOGETHER) {
    const count = Math.min(TOGETHER, n - first);
    const y = noGrad(() =>
      scope(() => {
        const latents = data.subarray(first * c * h * w, (first + count) * c * h * w);
        const z = tensor(device, latents, { shape: [count, c, h, w] })
          .div(scalingFactor)
          .add(shiftFactor);
        return keep(vae.decode(z).clamp(-1, 1).cast('f32'));
      }),
    );
    parts.push((await y.data()) as Float32Array);
    y.dispose();
  }
  const { outChannels } = vae.config;
  const shape = [n, outChannels, h * vae.factor, w * vae.factor] as const;
  const all = new Float32Array(shape.reduce((a, b) => a * b, 1));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return { data: all, shape };
}
