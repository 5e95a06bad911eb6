// The autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752), with diffusers' structure and names.

import { scope, ShapeError, show, type Generator, type Tensor } from '../../core/index.ts';
import { Conv2d, GroupNorm, Module, type LoadReport, type StateEntries } from '../../nn/index.ts';
import { chain, DownBlock, MidBlock, UpBlock } from './blocks.ts';
import { latentFactor, vaeConfig, type VaeConfig, type VaeOptions } from './config.ts';
import { currentNames } from './names.ts';
import { DiagonalGaussian } from './posterior.ts';
import { downBlocks, upBlocks } from './shapes.ts';
import { inTiles, type TileOptions } from './tiles.ts';

/** Pictures to moments, (N, inChannels, H, W) to (N, 2 · latentChannels, H/f, W/f). */
class Encoder extends Module {
  readonly conv_in: Conv2d;
  readonly down_blocks: DownBlock[];
  readonly mid_block: MidBlock;
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;

  constructor(generator: Generator, config: VaeConfig) {
    super();
    const { blockOutChannels: widths, normNumGroups: groups } = config;
    const last = widths.at(-1)!;
    this.conv_in = new Conv2d(generator, config.inChannels, widths[0], 3, { padding: 1 });
    this.down_blocks = downBlocks(config).map((plan) => new DownBlock(generator, plan, groups));
    this.mid_block = new MidBlock(generator, last, groups, config.midBlockAddAttention);
    this.conv_norm_out = new GroupNorm(generator, groups, last, { eps: 1e-6, activation: 'silu' });
    this.conv_out = new Conv2d(generator, last, 2 * config.latentChannels, 3, { padding: 1 });
  }

  forward(x: Tensor): Tensor {
    return scope(() => {
      const h = chain([this.conv_in, ...this.down_blocks, this.mid_block], x);
      return this.conv_out.forward(this.conv_norm_out.forward(h));
    });
  }
}

/** Latents to pictures, (N, latentChannels, h, w) to (N, outChannels, f·h, f·w). */
class Decoder extends Module {
  readonly conv_in: Conv2d;
  readonly up_blocks: UpBlock[];
  readonly mid_block: MidBlock;
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;

  constructor(generator: Generator, config: VaeConfig) {
    super();
    const { blockOutChannels: widths, normNumGroups: groups } = config;
    const last = widths.at(-1)!;
    this.conv_in = new Conv2d(generator, config.latentChannels, last, 3, { padding: 1 });
    this.up_blocks = upBlocks(config).map((plan) => new UpBlock(generator, plan, groups));
    this.mid_block = new MidBlock(generator, last, groups, config.midBlockAddAttention);
    this.conv_norm_out = new GroupNorm(generator, groups, widths[0], { eps: 1e-6, activation: 'silu' });
    this.conv_out = new Conv2d(generator, widths[0], config.outChannels, 3, { padding: 1 });
  }

  forward(z: Tensor): Tensor {
    return scope(() => {
      const h = chain([this.conv_in, this.mid_block, ...this.up_blocks], z);
      return this.conv_out.forward(this.conv_norm_out.forward(h));
    });
  }
}

/**
 * A variational autoencoder with diffusers' structure, parameter names and configuration. Pictures are (N, 3, H, W)
 * from -1 to 1 with edges divisible by f = 2^(blocks - 1); latents are (N, latentChannels, H/f, W/f).
 *
 * `encode` and `decode` know of no scaling, as in diffusers; `toLatents` and `fromLatents` give and take what a
 * diffusion model is trained on. Initialisation: PyTorch's of convolutions and linear layers.
 */
export class AutoencoderKL extends Module {
  /** Pictures to moments. */
  readonly encoder: Encoder;
  /** Latents to pictures. */
  readonly decoder: Decoder;
  /** 1×1 convolution behind the encoder. */
  readonly quant_conv: Conv2d | null;
  /** 1×1 convolution before the decoder. */
  readonly post_quant_conv: Conv2d | null;
  /** Complete and checked. */
  readonly config: VaeConfig;

  /** @throws ValueError for a configuration that makes no sense */
  constructor(generator: Generator, options: VaeOptions = {}) {
    super();
    const config = vaeConfig(options);
    const { latentChannels: latent } = config;
    this.config = config;
    this.encoder = new Encoder(generator, config);
    this.decoder = new Decoder(generator, config);
    this.quant_conv = config.useQuantConv ? new Conv2d(generator, 2 * latent, 2 * latent, 1) : null;
    this.post_quant_conv = config.usePostQuantConv ? new Conv2d(generator, latent, latent, 1) : null;
  }

  /** Pixels of an edge for one of the latent's. */
  get factor(): number {
    return latentFactor(this.config);
  }

  /** Takes both namings of the attention's weights. */
  override loadStateDict(entries: StateEntries, options: { strict?: boolean } = {}): LoadReport {
    return super.loadStateDict(currentNames(entries), options);
  }

  /**
   * The distribution of a picture's latents.
   *
   * @throws ShapeError
   */
  encode(x: Tensor): DiagonalGaussian {
    return new DiagonalGaussian(this.moments(x));
  }

  /** (N, 2 · latentChannels, H/f, W/f): means and logarithms of variances. */
  private moments(x: Tensor): Tensor {
    const { inChannels } = this.config;
    if (x.ndim !== 4 || x.shape[1] !== inChannels || x.shape[2] % this.factor || x.shape[3] % this.factor)
      throw new ShapeError('AutoencoderKL', `pictures have shape ${show(x.shape)}`, {
        expected: `(N, ${inChannels}, H, W) with edges divisible by ${this.factor}`,
        remedy: 'crop or resize them',
      });
    return scope(() => {
      const h = this.encoder.forward(x);
      return this.quant_conv?.forward(h) ?? h;
    });
  }

  /**
   * Pictures from latents that are not scaled.
   *
   * @throws ShapeError
   */
  decode(z: Tensor): Tensor {
    const { latentChannels } = this.config;
    if (z.ndim !== 4 || z.shape[1] !== latentChannels)
      throw new ShapeError('AutoencoderKL', `latents have shape ${show(z.shape)}`, {
        expected: `(N, ${latentChannels}, h, w)`,
      });
    return scope(() => this.decoder.forward(this.post_quant_conv?.forward(z) ?? z));
  }

  /** `encode` in overlapping tiles of `tile` latents an edge, blended: for pictures beyond memory. */
  encodeTiled(x: Tensor, options: TileOptions = {}): DiagonalGaussian {
    return new DiagonalGaussian(inTiles(x, (part) => this.moments(part), { from: this.factor, to: 1 }, options));
  }

  /**
   * `decode` in overlapping tiles of `tile` latents an edge, blended. Norms and attention see a tile, not the picture:
   * the result differs a little from `decode`'s, without a seam.
   */
  decodeTiled(z: Tensor, options: TileOptions = {}): Tensor {
    return inTiles(z, (part) => this.decode(part), { from: 1, to: this.factor }, options);
  }

  /** `(z - shiftFactor) · scalingFactor` in f32: what a diffusion model is trained on. */
  toLatents(z: Tensor): Tensor {
    return scope(() => z.cast('f32').sub(this.config.shiftFactor).mul(this.config.scalingFactor));
  }

  /** Pictures from a diffusion model's latents. */
  fromLatents(latents: Tensor): Tensor {
    return scope(() => this.decode(latents.div(this.config.scalingFactor).add(this.config.shiftFactor)));
  }
}
