// One block of DiS (arXiv 2402.05608, §3.2): the residual stream's addition and norm, then the bidirectional mixer; in
// the second half of the model a long skip connection comes first.

import { checkpoint, ones, scope, zeros, type Generator, type Tensor } from '../../core/index.ts';
import { addLayerNorm, addRmsNorm, type AddNormArgs, type PrenormResult } from '../../kernels/add-norm/index.ts';
import { concatLinear } from '../../kernels/concat-linear/index.ts';
import { Mamba, Module, parameter, type Linear } from '../../nn/index.ts';
import type { DisConfig } from './config.ts';
import { initialiseMixer, zeroBiasLinear } from './initialise.ts';

/** RMSNorm or LayerNorm with weight (and bias), on factors · x + residual. */
export class DisNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  private readonly rms: boolean;
  private readonly eps: number;

  constructor(generator: Generator, config: DisConfig) {
    const { device } = generator;
    super();
    this.weight = parameter(ones(device, [config.embedDim]));
    this.bias = config.rmsNorm ? null : parameter(zeros(device, [config.embedDim]));
    this.rms = config.rmsNorm;
    this.eps = config.normEpsilon;
  }

  /** norm(factors · x + residual), of x's type. */
  forward(x: Tensor, residual: Tensor | null, factors: Tensor | null): Tensor {
    const args = this.arguments(x, residual, factors);
    return this.rms ? addRmsNorm(args) : addLayerNorm(args);
  }

  /** The same, and factors · x + residual in f32. */
  prenorm(x: Tensor, residual: Tensor | null, factors: Tensor | null): PrenormResult {
    const args = { ...this.arguments(x, residual, factors), prenorm: true, residualInF32: true } as const;
    return this.rms ? addRmsNorm(args) : addLayerNorm(args);
  }

  private arguments(x: Tensor, residual: Tensor | null, factors: Tensor | null): Omit<AddNormArgs, 'prenorm'> {
    return { x, residual, factors, weight: this.weight, bias: this.bias, eps: this.eps };
  }
}

export interface BlockInput {
  /** What the block before added to the residual stream, not yet added: (B, L, D). */
  readonly hidden: Tensor;
  /** The residual stream without it; null in front of the first block. */
  readonly residual: Tensor | null;
  /** Output of the block's mirror image in the first half. */
  readonly skip?: Tensor | null;
  /** Drop path, (B) f32: 0 where a sample's branch is dropped, else 1 / the probability of keeping it. */
  readonly factors?: Tensor | null;
  /** Keep only the mixer's input for the backward pass and compute the mixer again there. */
  readonly recompute?: boolean;
}

/**
 *     hidden = skip_linear([hidden, skip])                     in the second half; nothing is concatenated
 *     residual = residual + factors · hidden                   drop path, in training
 *     hidden = mixer(norm(residual))
 *
 * The residual stream is f32 whatever the type of the matrices.
 */
export class DisBlock extends Module {
  readonly mixer: Mamba;
  readonly norm: DisNorm;
  readonly skip_linear: Linear | null;

  constructor(generator: Generator, config: DisConfig, options: { readonly skip: boolean }) {
    super();
    const { embedDim, ssm } = config;
    this.mixer = new Mamba(generator, { dModel: embedDim, ...ssm });
    initialiseMixer(this.mixer, config);
    this.norm = new DisNorm(generator, config);
    this.skip_linear = options.skip ? zeroBiasLinear(generator, 2 * embedDim, embedDim) : null;
  }

  forward({ hidden, residual, skip = null, factors = null, recompute = false }: BlockInput): {
    hidden: Tensor;
    residual: Tensor;
  } {
    return scope(() => {
      const branch = this.skip_linear && skip ? this.joined(this.skip_linear, hidden, skip) : hidden;
      const { y, residualOut } = this.norm.prenorm(branch, residual, factors);
      const mixed = recompute
        ? checkpoint((x) => this.mixer.forward(x), [y], { parameters: this.mixer.parameters() })
        : this.mixer.forward(y);
      return { hidden: mixed, residual: residualOut };
    });
  }

  private joined({ weight, bias }: Linear, hidden: Tensor, skip: Tensor): Tensor {
    return concatLinear([hidden.cast(weight.dtype), skip.cast(weight.dtype)], weight, bias);
  }
}
