// The parts of the autoencoder. Properties are called as in diffusers, so that names in a state dict are its names.

import { interpolate, scope, type Generator, type Tensor } from '../../core/index.ts';
import { scaledDotProductAttention } from '../../kernels/index.ts';
import { Conv2d, GroupNorm, Linear, Module, ZeroPad2d } from '../../nn/index.ts';
import type { BlockPlan } from './shapes.ts';

const EPS = 1e-6;

/** `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`, on (N, from, H, W); a norm and its SiLU are one pass. */
export class ResnetBlock extends Module {
  readonly norm1: GroupNorm;
  readonly conv1: Conv2d;
  readonly norm2: GroupNorm;
  readonly conv2: Conv2d;
  readonly conv_shortcut: Conv2d | null;

  constructor(generator: Generator, from: number, to: number, groups: number) {
    super();
    this.norm1 = new GroupNorm(generator, groups, from, { eps: EPS, activation: 'silu' });
    this.conv1 = new Conv2d(generator, from, to, 3, { padding: 1 });
    this.norm2 = new GroupNorm(generator, groups, to, { eps: EPS, activation: 'silu' });
    this.conv2 = new Conv2d(generator, to, to, 3, { padding: 1 });
    this.conv_shortcut = from === to ? null : new Conv2d(generator, from, to, 1);
  }

  forward(x: Tensor): Tensor {
    return scope(() => {
      const h = this.conv1.forward(this.norm1.forward(x));
      const y = this.conv2.forward(this.norm2.forward(h));
      return y.add(this.conv_shortcut?.forward(x) ?? x);
    });
  }
}

/** Attention of one head over all positions, added to x. */
export class SpatialAttention extends Module {
  readonly group_norm: GroupNorm;
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  readonly to_out: [Linear];

  constructor(generator: Generator, width: number, groups: number) {
    super();
    this.group_norm = new GroupNorm(generator, groups, width, { eps: EPS });
    this.to_q = new Linear(generator, width, width);
    this.to_k = new Linear(generator, width, width);
    this.to_v = new Linear(generator, width, width);
    this.to_out = [new Linear(generator, width, width)];
  }

  forward(x: Tensor): Tensor {
    const [batch, width, ...places] = x.shape;
    return scope(() => {
      const rows = this.group_norm.forward(x).flatten(2).transpose(1, 2).contiguous();
      const attended = scaledDotProductAttention(
        this.to_q.forward(rows),
        this.to_k.forward(rows),
        this.to_v.forward(rows),
      );
      const y = this.to_out[0].forward(attended);
      return y
        .transpose(1, 2)
        .reshape(batch, width, ...places)
        .add(x);
    });
  }
}

/** A residual block, attention, and another residual block. */
export class MidBlock extends Module {
  readonly attentions: SpatialAttention[];
  readonly resnets: [ResnetBlock, ResnetBlock];

  constructor(generator: Generator, width: number, groups: number, attention: boolean) {
    super();
    this.attentions = attention ? [new SpatialAttention(generator, width, groups)] : [];
    this.resnets = [new ResnetBlock(generator, width, width, groups), new ResnetBlock(generator, width, width, groups)];
  }

  forward(x: Tensor): Tensor {
    return scope(() => {
      const h = this.resnets[0].forward(x);
      return this.resnets[1].forward(this.attentions[0]?.forward(h) ?? h);
    });
  }
}

/** Half the resolution: a row and a column of zeros at the far edges, then a convolution of stride 2. */
export class Downsample extends Module {
  readonly conv: Conv2d;
  private readonly pad = new ZeroPad2d([0, 1, 0, 1]);

  constructor(generator: Generator, width: number) {
    super();
    this.conv = new Conv2d(generator, width, width, 3, { stride: 2 });
  }

  forward(x: Tensor): Tensor {
    return scope(() => this.conv.forward(this.pad.forward(x)));
  }
}

/** Twice the resolution: each value four times, then a convolution. */
export class Upsample extends Module {
  readonly conv: Conv2d;

  constructor(generator: Generator, width: number) {
    super();
    this.conv = new Conv2d(generator, width, width, 3, { padding: 1 });
  }

  forward(x: Tensor): Tensor {
    return scope(() => this.conv.forward(interpolate(x, { scaleFactor: 2 })));
  }
}

/** Residual blocks, then half the resolution except in the last block of the encoder. */
export class DownBlock extends Module {
  readonly resnets: ResnetBlock[];
  readonly downsamplers: Downsample[];

  constructor(generator: Generator, plan: BlockPlan, groups: number) {
    super();
    this.resnets = resnetsOf(generator, plan, groups);
    this.downsamplers = plan.resample ? [new Downsample(generator, plan.to)] : [];
  }

  forward(x: Tensor): Tensor {
    return chain([...this.resnets, ...this.downsamplers], x);
  }
}

/** Residual blocks, then twice the resolution except in the last block of the decoder. */
export class UpBlock extends Module {
  readonly resnets: ResnetBlock[];
  readonly upsamplers: Upsample[];

  constructor(generator: Generator, plan: BlockPlan, groups: number) {
    super();
    this.resnets = resnetsOf(generator, plan, groups);
    this.upsamplers = plan.resample ? [new Upsample(generator, plan.to)] : [];
  }

  forward(x: Tensor): Tensor {
    return chain([...this.resnets, ...this.upsamplers], x);
  }
}

function resnetsOf(generator: Generator, { from, to, layers }: BlockPlan, groups: number): ResnetBlock[] {
  return Array.from({ length: layers }, (_, i) => new ResnetBlock(generator, i === 0 ? from : to, to, groups));
}

/** x through one layer after the other. */
export function chain(layers: readonly { forward(x: Tensor): Tensor }[], x: Tensor): Tensor {
  return scope(() => layers.reduce((y, layer) => layer.forward(y), x));
}
