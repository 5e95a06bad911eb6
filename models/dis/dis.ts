// DiS, a diffusion model whose backbone are state-space blocks (arXiv 2402.05608): patches, timestep and label are
// tokens of one sequence; half of the blocks, one in the middle, and the other half with long skip connections.
// Parameters have the official names and order, so that official checkpoints load as they are.

import {
  concat,
  DTypeError,
  noGrad,
  sameShape,
  scope,
  ShapeError,
  show,
  tensor,
  ValueError,
  zeros,
  type DType,
  type Generator,
  type Tensor,
} from '../../core/index.ts';
import { buffer, Linear, Module, parameter } from '../../nn/index.ts';
import { DisBlock, DisNorm } from './block.ts';
import { guide } from '../sample/guidance.ts';
import type { DisConfig } from './config.ts';
import { checkDraws, drawDecisions, dropPathPlan, type DisDraws, type DropPathPlan } from './draws.ts';
import { FinalLayer } from './finalLayer.ts';
import { zeroBiasLinear } from './initialise.ts';
import { LabelEmbedder } from './labelEmbedder.ts';
import { PatchEmbed, unpatchify } from './patchEmbed.ts';
import { disDimensions, type DisDimensions } from './shapes.ts';
import { embedTimesteps, timestepFrequencies } from './timestepEmbedding.ts';

/** Numbers of the caller's in place of drawn ones. */
export interface DisForwardOptions {
  /** Source of the random decisions of training mode. */
  readonly generator?: Generator;
  /** The random decisions themselves. */
  readonly draws?: DisDraws;
  /**
   * Is shown intermediate values under the names of the modules that made them, `in_blocks.0.hidden` and the like. A
   * tensor is valid during the call; keep() a clone of it to have it later.
   */
  readonly tap?: (name: string, value: Tensor) => void;
}

/** How far a model is guided. */
export interface DisGuidanceOptions extends DisForwardOptions {
  /**
   * How many channels of the noise estimate are guided. Default all of them; the official code guides 3 even where a
   * latent has 4.
   */
  readonly channels?: number;
}

/**
 * Estimates noise (and, with `learnSigma`, values for the variance) of noisy pictures or latents.
 *
 *     tokens = [label,] time, patches; each + its row of pos_embed
 *     2 ⌊depth/2⌋ + 1 blocks; block i of the second half also reads what the block that mirrors it gave
 *     y = unpatchify(final_layer(norm_f(tokens)))
 *
 * Initialisation is the official one; see initialise.ts and the layers.
 */
export class Dis extends Module {
  /** (1, tokens, embedDim), learned. */
  readonly pos_embed: Tensor;
  /** Images → tokens. */
  readonly patch_embed: PatchEmbed;
  /** Linear, SiLU, linear; empty without `mlpTimeEmbed`. */
  readonly time_embed: readonly (Linear | null)[];
  /** Classes → tokens; null without classes. */
  readonly label_emb: LabelEmbedder | null;
  /** Blocks of the first half; their outputs are skip connections. */
  readonly in_blocks: readonly DisBlock[];
  /** The block between the halves. */
  readonly mid_block: DisBlock;
  /** Blocks of the second half, each with a skip connection. */
  readonly out_blocks: readonly DisBlock[];
  /** The norm before the last layer. */
  readonly norm_f: DisNorm;
  /** Tokens → images. */
  readonly final_layer: FinalLayer;
  /** Its widths, depth and options. */
  readonly config: DisConfig;
  /** Recompute mixers in the backward pass: about a quarter of the memory for a third more time. */
  checkpointBlocks = false;

  private readonly dims: DisDimensions;
  private readonly plan: DropPathPlan;
  private readonly frequencies: Tensor;
  private readonly keepProbs: Tensor | null;

  /** @param generator draws the initial values; its device holds them. */
  constructor(generator: Generator, config: DisConfig) {
    super();
    const { device } = generator;
    const { embedDim } = config;
    this.config = config;
    this.dims = disDimensions(config);
    const { halfDepth, tokens, labelRows, patchDim } = this.dims;
    const block = (skip: boolean): DisBlock => new DisBlock(generator, config, { skip });
    this.pos_embed = parameter(zeros(device, [1, tokens, embedDim]));
    this.patch_embed = new PatchEmbed(generator, config);
    this.time_embed = config.mlpTimeEmbed
      ? [zeroBiasLinear(generator, embedDim, 4 * embedDim), null, zeroBiasLinear(generator, 4 * embedDim, embedDim)]
      : [];
    this.label_emb = labelRows > 0 ? new LabelEmbedder(generator, config) : null;
    this.in_blocks = Array.from({ length: halfDepth }, () => block(false));
    this.mid_block = block(false);
    this.out_blocks = Array.from({ length: halfDepth }, () => block(config.skip));
    this.norm_f = new DisNorm(generator, config);
    this.final_layer = new FinalLayer(generator, { embedDim, outputs: patchDim, conditional: labelRows > 0 });

    this.plan = dropPathPlan(config);
    const { keepProbs } = this.plan;
    this.keepProbs =
      keepProbs.length > 0
        ? buffer(tensor(device, Float32Array.from(keepProbs), { shape: [keepProbs.length, 1] }), { persistent: false })
        : null;
    this.frequencies = buffer(tensor(device, timestepFrequencies(embedDim)), { persistent: false });
  }

  /**
   * x (B, C, H, W), timesteps (B), labels (B) of i32 → (B, C, H, W), or twice the channels where the variance is
   * learned.
   *
   * @param x (B, channels, imgSize, imgSize), f32
   * @param timesteps (B), i32 or f32
   * @param labels (B), i32 from 0 to numClasses, the latter for no class; for models with classes, and only for them
   * @param options in training mode a generator or decisions, where the configuration drops branches or labels
   * @returns (B, channels, imgSize, imgSize) noise, with `learnSigma` followed by as many channels of variance values;
   *   f32
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(x: Tensor, timesteps: Tensor, labels: Tensor | null = null, options: DisForwardOptions = {}): Tensor {
    this.check(x, timesteps, labels);
    const { tap = () => {} } = options;
    return scope(() => {
      const draws = this.training ? this.decisions(x.shape[0], options) : null;
      const keep = draws?.keep && this.keepProbs ? draws.keep.div(this.keepProbs) : null;
      const factors = (row: number): Tensor | null => (keep && row >= 0 ? keep.select(0, row) : null);

      const time = this.timeToken(timesteps);
      const label = this.label_emb && labels ? this.label_emb.forward(labels, draws?.labels ?? null) : null;
      const patches = this.patch_embed.forward(x);
      tap('patch_embed', patches);
      tap('time_embed', time);
      if (label) tap('label_emb', label);
      const front = (label ? [label, time] : [time]).map((t) => t.unsqueeze(1));
      let hidden = concat([...front, patches], 1).add(this.pos_embed);
      let residual: Tensor | null = null;

      let index = 0;
      const skips: Tensor[] = [];
      // What no later block reads is freed at once, for the memory of sampling; in training the tape holds what it
      // needs.
      const run = (name: string, block: DisBlock, skip: Tensor | null): void => {
        const used = [skips.at(-1) === hidden ? null : hidden, residual, skip];
        ({ hidden, residual } = block.forward({
          hidden,
          residual,
          skip,
          factors: factors(this.plan.blocks[index++]),
          recompute: this.checkpointBlocks,
        }));
        for (const t of used) t?.dispose();
        tap(`${name}.hidden`, hidden);
        tap(`${name}.residual`, residual);
      };
      this.in_blocks.forEach((block, i) => {
        run(`in_blocks.${i}`, block, null);
        if (this.config.skip) skips.push(hidden);
      });
      run('mid_block', this.mid_block, null);
      this.out_blocks.forEach((block, i) => run(`out_blocks.${i}`, block, skips.pop() ?? null));

      const normed = this.norm_f.forward(hidden, residual, factors(this.plan.final));
      tap('norm_f', normed);
      const out = this.final_layer.forward(normed, time, label);
      tap('final_layer', out);
      return unpatchify(out.slice(1, this.dims.extras), this.config.patchSize, this.dims.outChannels).cast('f32');
    });
  }

  /**
   * Classifier-free guidance (arXiv 2207.12598): with the noise e of each sample for its class (first half of the
   * batch) and for no class (second half), both halves give `e_none + scale (e_class - e_none)`. Variance values, and
   * channels beyond `options.channels`, stay each half's own. x is taken from the first half.
   *
   * Shapes: x (2n, channels, imgSize, imgSize), timesteps and labels (2n).
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forwardWithCfg(
    x: Tensor,
    timesteps: Tensor,
    labels: Tensor | null,
    scale: number,
    options: DisGuidanceOptions = {},
  ): Tensor {
    const { channels = this.config.channels } = options;
    if (x.ndim < 1 || x.shape[0] % 2)
      throw new ShapeError('Dis', `x has shape ${show(x.shape)}`, {
        expected: 'an even batch for guidance: the second half of labels is for no class',
      });
    if (!Number.isInteger(channels) || channels < 0 || channels > this.dims.outChannels)
      throw new ValueError('Dis', `${channels} channels are to be guided`, {
        expected: `0 to ${this.dims.outChannels}`,
      });
    return scope(() => {
      const half = x.slice(0, 0, x.shape[0] / 2);
      const out = this.forward(concat([half, half]), timesteps, labels, options);
      const guided = guide(out, { scale, channels });
      return concat([concat([guided, guided]), out.slice(1, channels)], 1);
    });
  }

  /** Draws the random decisions of a training step for a batch, to be given to `forward`. */
  draw(generator: Generator, batch: number): DisDraws {
    return scope(() => drawDecisions(generator, this.config, this.keepProbs, batch));
  }

  /**
   * The matrices that `to('f16')` stores in f16: those of the blocks' products. Everything else needs f32's range or
   * accuracy.
   */
  matrices(): Tensor[] {
    const found: Tensor[] = [];
    for (const block of [...this.in_blocks, this.mid_block, ...this.out_blocks]) {
      for (const [, module] of block.namedModules()) if (module instanceof Linear) found.push(module.weight);
    }
    return found;
  }

  /**
   * Names of the parameters that the official code exempts from weight decay: positions, and what drives the
   * state-space models.
   */
  noWeightDecay(): ReadonlySet<string> {
    const driving = /\.mixer\.(A_log|D|A_b_log|D_b)$/;
    return new Set(
      Array.from(this.namedParameters(), ([name]) => name).filter((name) => name === 'pos_embed' || driving.test(name)),
    );
  }

  /**
   * Stores the matrices of the blocks in a type, `f32` or `f16`; activations inside of blocks then have it too.
   * Embeddings, norms, state-space parameters, the residual stream and the final layer stay f32. Converted tensors are
   * new ones: make optimizers after it.
   */
  override to(dtype: DType): this {
    const casts = new Map(
      this.matrices()
        .filter((t) => t.dtype !== dtype)
        .map((t) => [t, noGrad(() => t.cast(dtype))]),
    );
    this.replaceTensors(casts);
    for (const old of casts.keys()) old.dispose();
    return this;
  }

  private timeToken(timesteps: Tensor): Tensor {
    const embedding = embedTimesteps(timesteps, this.frequencies, this.config.embedDim);
    const [first, , second] = this.time_embed;
    return first && second ? second.forward(first.forward(embedding).silu()) : embedding;
  }

  private decisions(batch: number, { generator, draws }: DisForwardOptions): DisDraws | null {
    const labels = this.label_emb !== null && this.config.classDropoutProb > 0;
    if (!this.keepProbs && !labels) return null;
    if (draws) checkDraws(draws, this.plan.keepProbs.length, labels, batch);
    if (!draws && !generator)
      throw new ValueError('Dis', 'In training mode branches and labels are dropped at random', {
        remedy: 'pass a generator or draws, or call eval()',
      });
    return draws ?? this.draw(generator!, batch);
  }

  private check(x: Tensor, timesteps: Tensor, labels: Tensor | null): void {
    const { channels, imgSize, numClasses } = this.config;
    const expected = [channels, imgSize, imgSize];
    if (x.ndim !== 4 || !sameShape(x.shape.slice(1), expected))
      throw new ShapeError('Dis', `x has shape ${show(x.shape)}`, {
        expected: `(batch, ${expected.join(', ')}) as in the configuration`,
      });
    if (x.dtype !== 'f32') throw new DTypeError('Dis', `x is ${x.dtype}`, { expected: 'f32', remedy: 'cast it' });
    const [batch] = x.shape;
    if (!sameShape(timesteps.shape, [batch]))
      throw new ShapeError('Dis', `timesteps have shape ${show(timesteps.shape)}`, {
        expected: `(${batch},), one for each sample`,
      });
    if (numClasses > 0 && !labels)
      throw new ValueError('Dis', 'labels are missing', {
        expected: `(${batch},) for a model of ${numClasses} classes`,
        remedy: `give label ${numClasses} where there is no class`,
      });
    if (numClasses === 0 && labels)
      throw new ValueError('Dis', 'labels are given to a model without classes', { remedy: 'leave them out' });
    if (labels && !sameShape(labels.shape, [batch]))
      throw new ShapeError('Dis', `labels have shape ${show(labels.shape)}`, {
        expected: `(${batch},), one for each sample`,
      });
    if (labels && labels.dtype !== 'i32' && labels.dtype !== 'u32')
      throw new DTypeError('Dis', `labels are ${labels.dtype}`, { expected: 'i32', remedy: 'cast them' });
  }
}
