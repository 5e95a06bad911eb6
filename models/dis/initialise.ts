// What the official class changes of its mixers' initial values.

import { noGrad, scope } from '../../core/index.ts';
import type { Mamba } from '../../nn/mamba.ts';
import type { DisConfig } from './config.ts';

/**
 * Biases of linear layers become 0, except that of `dt_proj`; that of the reverse direction, `dt_proj_b`, is none of the exceptions, so
 * its step sizes begin at softplus(0) = 0.69. With `rescalePrenormResidual`, `out_proj` is divided by √(residualsPerLayer · depth), to
 * keep the variance of the residual stream (GPT-2's scheme); depth is the option, one less than the blocks where it is even.
 */
export function initialiseMixer(mixer: Mamba, config: DisConfig): void {
  const { rescalePrenormResidual, residualsPerLayer, depth } = config;
  noGrad(() => scope(() => {
    for (const { bias } of [mixer.in_proj, mixer.out_proj, mixer.dt_proj_b]) bias?.copy_(bias.zerosLike());
    const { weight } = mixer.out_proj;
    if (rescalePrenormResidual) weight.copy_(weight.div(Math.sqrt(residualsPerLayer * depth)));
  }));
}
