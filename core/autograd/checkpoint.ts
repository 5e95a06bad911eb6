// Recomputation: memory for time. What a function computes on the way is not kept for the backward pass but computed
// again there.

import { grad } from './backward.ts';
import { defineOp } from './defineOp.ts';
import { enableGrad } from './gradMode.ts';
import type { Tensor } from '../tensor.ts';

/** A source of random numbers that can go back: a `Generator`. */
export interface Rewindable {
  getState(): { readonly position: number };
  rewind(to: { readonly position: number }): void;
}

/** What a recomputed function reads beside its inputs. */
export interface CheckpointOptions {
  /** Tensors that `fn` reads besides its inputs and that need gradients, usually a module's parameters. */
  parameters?: readonly Tensor[];
  /** Source of the random numbers that `fn` draws: the second run draws the same ones. */
  generator?: Rewindable;
}

/**
 * Runs `fn(...inputs)` keeping only its inputs for the backward pass, which runs it again. `fn` must give the same
 * result both times: draw random numbers from the `generator` given. First derivatives only.
 */
export function checkpoint(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: CheckpointOptions = {},
): Tensor {
  const { parameters = [], generator } = options;
  const recompute = defineOp({
    name: 'checkpoint',
    firstDerivativeOnly: true,
    forward({ inputs }: { inputs: readonly Tensor[]; parameters: readonly Tensor[] }) {
      const from = generator?.getState();
      return { out: fn(...inputs), saved: { inputs, from } };
    },
    backward(g, { inputs, from }, needs) {
      const now = generator?.getState();
      if (generator && from) generator.rewind(from);
      const leaves = inputs.map((t, i) => (needs.inputs[i] ? t.detach().requiresGrad_() : t.detach()));
      const out = enableGrad(() => fn(...leaves));
      if (generator && now) generator.rewind(now);
      const wanted = [...leaves.filter((_, i) => needs.inputs[i]), ...parameters.filter((_, i) => needs.parameters[i])];
      const grads = grad(out, wanted, { gradient: g, allowUnused: true });
      const next = (needed: boolean): Tensor | null => (needed ? grads.shift()! : null);
      return { inputs: needs.inputs.map(next), parameters: needs.parameters.map(next) };
    },
  });
  return recompute({ inputs, parameters });
}
