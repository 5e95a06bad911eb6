// Where the initial values of the official class are other than its layers'.

import { noGrad, scope, type Generator } from '../../core/index.ts';
import { init, Linear, type Mamba } from '../../nn/index.ts';
import type { DisConfig } from './config.ts';

/** A linear layer whose bias begins at zero. */
export function zeroBiasLinear(generator: Generator, inputs: number, outputs: number): Linear {
  const layer = new Linear(generator, inputs, outputs);
  init.zeros(layer.bias!);
  return layer;
}

/**
 * Biases of linear layers become 0, except that of `dt_proj`; that of the reverse direction, `dt_proj_b`, is none of
 * the exceptions, so its step sizes begin at softplus(0) = 0.69. With `rescalePrenormResidual`, `out_proj` is divided
 * by √(residualsPerLayer · depth), to keep the variance of the residual stream (GPT-2's scheme); depth is the option,
 * one less than the blocks where it is even.
 */
export function initialiseMixer(mixer: Mamba, config: DisConfig): void {
  const { rescalePrenormResidual, residualsPerLayer, depth } = config;
  for (const { bias } of [mixer.in_proj, mixer.out_proj, mixer.dt_proj_b]) if (bias) init.zeros(bias);
  if (!rescalePrenormResidual) return;
  const { weight } = mixer.out_proj;
  noGrad(() => scope(() => weight.copy_(weight.div(Math.sqrt(residualsPerLayer * depth)))));
}
