// What an autoencoder is made of: the options of diffusers' AutoencoderKL under camelCase names, and their checks.

import { ValueError } from '../../core/errors.ts';

/** A complete, checked configuration; {@link vaeConfig} makes one. */
export interface VaeConfig {
  /** Channels of pictures, 3 for RGB. */
  readonly inChannels: number;
  readonly outChannels: number;
  /** Widths of the blocks, from the picture inwards. Each but the last halves the edges. */
  readonly blockOutChannels: readonly number[];
  /** Residual blocks in each block of the encoder; the decoder has one more. */
  readonly layersPerBlock: number;
  readonly latentChannels: number;
  /** Groups of every GroupNorm. */
  readonly normNumGroups: number;
  /** Edge of the pictures that it was trained on. */
  readonly sampleSize: number;
  /** Latents are multiplied by it, after `shiftFactor` is taken away, so that their variance is near 1. */
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** Attention in the middle of encoder and decoder. */
  readonly midBlockAddAttention: boolean;
  /** 1×1 convolutions behind the encoder and before the decoder. */
  readonly useQuantConv: boolean;
  readonly usePostQuantConv: boolean;
}

/** Everything may be left out. */
export type VaeOptions = Partial<VaeConfig>;

/** Those of Stable Diffusion's autoencoder (arXiv 2112.10752). */
export const VAE_DEFAULTS: VaeConfig = {
  inChannels: 3,
  outChannels: 3,
  blockOutChannels: [128, 256, 512, 512],
  layersPerBlock: 2,
  latentChannels: 4,
  normNumGroups: 32,
  sampleSize: 256,
  scalingFactor: 0.18215,
  shiftFactor: 0,
  midBlockAddAttention: true,
  useQuantConv: true,
  usePostQuantConv: true,
};

/**
 * Completes and checks options; what is left out is as in Stable Diffusion.
 *
 * @throws ValueError naming the option
 */
export function vaeConfig(options: VaeOptions = {}): VaeConfig {
  const config = { ...VAE_DEFAULTS, ...options };
  const bad = (option: string, value: unknown, expected: string): ValueError =>
    new ValueError('vaeConfig', `is ${String(value)}`, { option, expected });
  const { blockOutChannels: widths, normNumGroups: groups, scalingFactor, shiftFactor } = config;
  const counts = [
    'inChannels',
    'outChannels',
    'layersPerBlock',
    'latentChannels',
    'normNumGroups',
    'sampleSize',
  ] as const;
  for (const option of counts)
    if (!(Number.isInteger(config[option]) && config[option] > 0))
      throw bad(option, config[option], 'a whole number from 1 on');
  if (widths.length === 0 || widths.length > 8) throw bad('blockOutChannels', widths.join(','), '1 to 8 widths');
  for (const width of widths)
    if (!(Number.isInteger(width) && width > 0 && width % groups === 0))
      throw bad('blockOutChannels', widths.join(','), `multiples of the ${groups} groups of the norms`);
  if (!(scalingFactor > 0 && Number.isFinite(scalingFactor)))
    throw bad('scalingFactor', scalingFactor, 'a number above 0');
  if (!Number.isFinite(shiftFactor)) throw bad('shiftFactor', shiftFactor, 'a number');
  return config;
}

/** How many pixels of an edge become one of the latent's. */
export function latentFactor({ blockOutChannels }: Pick<VaeConfig, 'blockOutChannels'>): number {
  return 2 ** (blockOutChannels.length - 1);
}
