// A data set of latents: pictures that an autoencoder has encoded once, with their mirror images where they were
// encoded too.

import type { Dataset } from './dataset.ts';

/** Where latents come from: an index for each picture, mirrored or not. */
export interface LatentSource {
  readonly length: number;
  /** Side of the square latents. */
  readonly size: number;
  readonly channels: number;
  readonly numClasses: number;
  readonly classNames: readonly string[];
  /** Whether mirrored pictures were encoded too. */
  readonly mirrored: boolean;
  /** (channels, size, size), scaled. */
  latent(index: number, mirrored: boolean): Promise<Float32Array>;
  label(index: number): number;
}

/** The latents as a data set, whose items are f32 values instead of pixels. */
export function latentDataset(source: LatentSource): Dataset {
  const { length, size, channels, numClasses, classNames } = source;
  return {
    ...{ length, size, channels, numClasses, classNames },
    item: async (index) => ({
      pixels: EMPTY,
      values: await source.latent(index, false),
      ...(source.mirrored && { mirrored: () => source.latent(index, true) }),
      label: source.label(index),
    }),
  };
}

const EMPTY = new Uint8Array(0);
