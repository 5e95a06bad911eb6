// A configuration as diffusers' config.json has it.

import { vaeConfig, type VaeConfig } from './config.ts';

/** The fields of diffusers' AutoencoderKL that matter here; others are ignored. */
export interface DiffusersVae {
  readonly in_channels: number;
  readonly out_channels: number;
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number;
  readonly latent_channels: number;
  readonly norm_num_groups: number;
  readonly sample_size: number;
  readonly scaling_factor: number;
  readonly shift_factor?: number | null | undefined;
  readonly mid_block_add_attention?: boolean | undefined;
  readonly use_quant_conv?: boolean | undefined;
  readonly use_post_quant_conv?: boolean | undefined;
}

/**
 * The configuration of a diffusers autoencoder.
 *
 * @throws ValueError naming the option that makes no sense
 */
export function fromDiffusers(json: DiffusersVae): VaeConfig {
  return vaeConfig({
    inChannels: json.in_channels,
    outChannels: json.out_channels,
    blockOutChannels: json.block_out_channels,
    layersPerBlock: json.layers_per_block,
    latentChannels: json.latent_channels,
    normNumGroups: json.norm_num_groups,
    sampleSize: json.sample_size,
    scalingFactor: json.scaling_factor,
    shiftFactor: json.shift_factor ?? 0,
    midBlockAddAttention: json.mid_block_add_attention ?? true,
    useQuantConv: json.use_quant_conv ?? true,
    usePostQuantConv: json.use_post_quant_conv ?? true,
  });
}

/** What diffusers writes beside the weights. */
export function toDiffusers(config: VaeConfig): Record<string, unknown> {
  const { blockOutChannels } = config;
  return {
    _class_name: 'AutoencoderKL',
    act_fn: 'silu',
    block_out_channels: blockOutChannels,
    down_block_types: blockOutChannels.map(() => 'DownEncoderBlock2D'),
    in_channels: config.inChannels,
    latent_channels: config.latentChannels,
    layers_per_block: config.layersPerBlock,
    norm_num_groups: config.normNumGroups,
    out_channels: config.outChannels,
    sample_size: config.sampleSize,
    scaling_factor: config.scalingFactor,
    ...(config.shiftFactor !== 0 && { shift_factor: config.shiftFactor }),
    ...(!config.midBlockAddAttention && { mid_block_add_attention: false }),
    ...(!config.useQuantConv && { use_quant_conv: false }),
    ...(!config.usePostQuantConv && { use_post_quant_conv: false }),
    up_block_types: blockOutChannels.map(() => 'UpDecoderBlock2D'),
  };
}
