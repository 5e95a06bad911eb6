// Names and shapes of an autoencoder's parameters, as diffusers has them, and what its decoder computes. No tensor is
// made, so that a file can be compared with its configuration before any memory is taken.

import type { VaeConfig } from './config.ts';

export type NamedShape = readonly [name: string, shape: readonly number[]];

const conv = (name: string, from: number, to: number, edge: number): NamedShape[] => [
  [`${name}.weight`, [to, from, edge, edge]],
  [`${name}.bias`, [to]],
];
const norm = (name: string, width: number): NamedShape[] => [
  [`${name}.weight`, [width]],
  [`${name}.bias`, [width]],
];
const linear = (name: string, width: number): NamedShape[] => [
  [`${name}.weight`, [width, width]],
  [`${name}.bias`, [width]],
];

const resnet = (name: string, from: number, to: number): NamedShape[] => [
  ...norm(`${name}.norm1`, from),
  ...conv(`${name}.conv1`, from, to, 3),
  ...norm(`${name}.norm2`, to),
  ...conv(`${name}.conv2`, to, to, 3),
  ...(from === to ? [] : conv(`${name}.conv_shortcut`, from, to, 1)),
];

const middle = (name: string, width: number, attention: boolean): NamedShape[] => [
  ...(attention
    ? [
        ...norm(`${name}.attentions.0.group_norm`, width),
        ...['to_q', 'to_k', 'to_v', 'to_out.0'].flatMap((part) => linear(`${name}.attentions.0.${part}`, width)),
      ]
    : []),
  ...[0, 1].flatMap((i) => resnet(`${name}.resnets.${i}`, width, width)),
];

/** A block of residual layers: its width before and after, and whether it changes the resolution behind them. */
export interface BlockPlan {
  readonly from: number;
  readonly to: number;
  readonly layers: number;
  readonly resample: boolean;
}

/** The blocks of the encoder, in order. */
export function downBlocks({ blockOutChannels: widths, layersPerBlock }: VaeConfig): BlockPlan[] {
  return widths.map((to, i) => ({
    from: widths[Math.max(0, i - 1)],
    to,
    layers: layersPerBlock,
    resample: i < widths.length - 1,
  }));
}

/** The blocks of the decoder, in order. */
export function upBlocks({ blockOutChannels, layersPerBlock }: VaeConfig): BlockPlan[] {
  const widths = [...blockOutChannels].reverse();
  return widths.map((to, i) => ({
    from: widths[Math.max(0, i - 1)],
    to,
    layers: layersPerBlock + 1,
    resample: i < widths.length - 1,
  }));
}

const blocks = (name: string, plans: readonly BlockPlan[], resampler: string): NamedShape[] =>
  plans.flatMap(({ from, to, layers, resample }, i) => [
    ...Array.from({ length: layers }, (_, j) => resnet(`${name}.${i}.resnets.${j}`, j === 0 ? from : to, to)).flat(),
    ...(resample ? conv(`${name}.${i}.${resampler}.0.conv`, to, to, 3) : []),
  ]);

/** Names and shapes of all parameters, in the order of the state dict. */
export function vaeShapes(config: VaeConfig): NamedShape[] {
  const { blockOutChannels: widths, latentChannels: latent, midBlockAddAttention: attention } = config;
  const [first, last] = [widths[0], widths.at(-1)!];
  return [
    ...conv('encoder.conv_in', config.inChannels, first, 3),
    ...blocks('encoder.down_blocks', downBlocks(config), 'downsamplers'),
    ...middle('encoder.mid_block', last, attention),
    ...norm('encoder.conv_norm_out', last),
    ...conv('encoder.conv_out', last, 2 * latent, 3),
    ...conv('decoder.conv_in', latent, last, 3),
    ...blocks('decoder.up_blocks', upBlocks(config), 'upsamplers'),
    ...middle('decoder.mid_block', last, attention),
    ...norm('decoder.conv_norm_out', first),
    ...conv('decoder.conv_out', first, config.outChannels, 3),
    ...(config.useQuantConv ? conv('quant_conv', 2 * latent, 2 * latent, 1) : []),
    ...(config.usePostQuantConv ? conv('post_quant_conv', latent, latent, 1) : []),
  ];
}

/** Values in all parameters. */
export function vaeParameterCount(config: VaeConfig): number {
  return vaeShapes(config).reduce((sum, [, shape]) => sum + shape.reduce((product, n) => product * n, 1), 0);
}

/** Multiply-adds of decoding a latent of height × width: convolutions, projections and attention. */
export function decoderMultiplyAdds(config: VaeConfig, height: number, width: number): number {
  const { blockOutChannels: widths, latentChannels: latent } = config;
  const last = widths.at(-1)!;
  const block = (from: number, to: number): number => 9 * to * (from + to) + (from === to ? 0 : from * to);
  let places = height * width;
  let sum = places * ((config.usePostQuantConv ? latent ** 2 : 0) + 9 * latent * last + 2 * block(last, last));
  if (config.midBlockAddAttention) sum += places * (4 * last ** 2 + 2 * places * last);
  for (const { from, to, layers, resample } of upBlocks(config)) {
    sum += places * (block(from, to) + (layers - 1) * block(to, to));
    if (!resample) continue;
    places *= 4;
    sum += places * 9 * to * to;
  }
  return sum + places * 9 * widths[0] * config.outChannels;
}
