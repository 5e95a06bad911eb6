// What `dis-cli train` is told of a latent space: --latents, which were encoded before, or --vae, which encodes the
// pictures of --data at each step. Either way the run works on latents and remembers their autoencoder.

import { resolve } from 'node:path';
import { CHANNELS, type Channels } from '../models/data/channels.ts';
import { latentFactor } from '../models/vae/index.ts';
import { readLatentIndex } from './data/latentFolder.ts';
import { UsageError } from './errors.ts';
import type { Given, TrainOptions } from './trainOptions.ts';
import type { VaeOfRun } from './trainSettings.ts';
import { readVae, type StoredVae } from './vaeFolder.ts';

/** Options of a run, of latents where it has an autoencoder: `imageSize` is then their side. */
export type SpaceOptions = Omit<TrainOptions, 'vae' | 'posterior'> & { readonly vae?: VaeOfRun };

/** @throws UsageError for flags that don't go together; FileError, FormatError for what can't be read */
export async function inLatentSpace(
  { vae: folder, posterior, ...options }: TrainOptions,
  given: Given,
): Promise<SpaceOptions> {
  const { latents, data, imageSize, channels } = options;
  if (folder === undefined && given('posterior'))
    throw new UsageError('--posterior says how --vae encodes pictures; give --vae with it, or leave it out.');
  if (latents !== undefined) {
    const other = data !== undefined ? '--data' : folder !== undefined ? '--vae' : undefined;
    if (other !== undefined)
      throw new UsageError(
        `Both ${other} and --latents are given; the latents are what is trained on, leave ${other} out.`,
      );
    const { size, vaeDigest: digest, scalingFactor, shiftFactor } = await readLatentIndex(latents);
    const vae = { folder: resolve(latents, 'vae'), digest, scalingFactor, shiftFactor };
    return { ...options, data: `latents:${latents}`, imageSize: size, vae };
  }
  if (folder === undefined) return options;
  const { config, digest, folder: found } = await readVae(folder);
  const { scalingFactor, shiftFactor, inChannels, latentChannels } = config;
  const factor = latentFactor(config);
  if (!CHANNELS.includes(inChannels as Channels))
    throw new UsageError(`The autoencoder in ${folder} takes pictures of ${inChannels} channels, expected 1, 3 or 4.`);
  if (channels !== undefined && channels !== (inChannels as Channels))
    throw new UsageError(
      `--channels is ${channels}, but the autoencoder in ${folder} takes ${inChannels}; leave it out.`,
    );
  if (imageSize % factor !== 0)
    throw new UsageError(`--image-size is ${imageSize}, expected a multiple of the ${factor} pixels of a latent.`);
  const online = { factor, inChannels: inChannels as Channels, latentChannels, posterior };
  const vae = { folder: resolve(found), digest, scalingFactor, shiftFactor, online };
  return { ...options, channels: undefined, imageSize: imageSize / factor, vae };
}

/**
 * The autoencoder of a run that goes on, by where it lies now.
 *
 * @param place another place of it
 * @throws UsageError where it is another one; FileError, FormatError
 */
export async function requireVae(known: VaeOfRun | undefined, place?: string): Promise<VaeOfRun | undefined> {
  if (!known) {
    if (place !== undefined) throw new UsageError('--vae is given, but the run is on pixels; leave it out.');
    return undefined;
  }
  if (!known.online && place === undefined) return known;
  const { folder } = await readVaeOf({ ...known, folder: place ?? known.folder });
  return { ...known, folder: resolve(folder) };
}

/** Reads the autoencoder that a run remembers. @throws UsageError where it is another one; FileError, FormatError */
export async function readVaeOf({ folder, digest }: VaeOfRun): Promise<StoredVae> {
  const stored = await readVae(folder);
  if (stored.digest !== digest)
    throw new UsageError(
      `${folder} is another autoencoder than the one that the run was begun with; say with --vae where that is now.`,
    );
  return stored;
}
