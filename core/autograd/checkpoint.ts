// Recomputation: memory for time. What a function computes on the way is not kept for the backward pass but computed again there.

import { grad } from './backward.ts';
import { defineOp } from './tape.ts';
import { enableGrad } from './gradMode.ts';
import type { Tensor } from '../tensor.ts';

/** A source of random numbers that can go back: a `Generator`. */
export interface Rewindable {
  getState(): { readonly position: number };
  rewind(to: { readonly position: number }): void;
}

export interface CheckpointOptions {
  /** Tensors that `fn` reads besides its inputs and that need gradients, usually a module's parameters. */
  parameters?: readonly Tensor[];
  /** Source of the random numbers that `fn` draws: the second run draws the same ones. */
  generator?: Rewindable;
}

/**
 * Runs `fn(...inputs)` keeping only its inputs for the backward pass, which runs it again. `fn` must give the same result both
 * times: draw random numbers from the `generator` given. First derivatives only.
 */
export function checkpoint(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: CheckpointOptions = {},
): Tensor {
  const { parameters = [], generator } = options;
  const recompute = defineOp<Tensor[], Tensor>({
    name: 'checkpoint',
    firstDerivativeOnly: true,
    forward(ctx, ...tensors) {
      ctx.state.from = generator?.getState();
      ctx.save(...tensors.slice(0, inputs.length));
      return fn(...tensors.slice(0, inputs.length));
    },
    backward(ctx, g) {
      const now = generator?.getState();
      if (generator) generator.rewind(ctx.state.from as { position: number });
      const leaves = ctx.saved.map((t, i) => (ctx.needs[i] ? t.detach().requiresGrad_() : t.detach()));
      const out = enableGrad(() => fn(...leaves));
      if (generator && now) generator.rewind(now);
      const wanted = [...leaves, ...parameters].filter((_, i) => ctx.needs[i]);
      const grads = grad(out, wanted, { gradient: g! });
      return ctx.needs.map((needed) => (needed ? grads.shift()! : null));
    },
  });
  return recompute(...inputs, ...parameters);
}
