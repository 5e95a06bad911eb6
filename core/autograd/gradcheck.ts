// Compares a gradient with differences of the function: the test of a derivative that needs no second derivation.

import { grad } from './backward.ts';
import { enableGrad, noGrad } from './gradMode.ts';
import { GradError } from '../errors.ts';
import { emptyTensor } from '../tensor/make.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor.ts';

/** How closely `gradcheck` looks. */
export interface GradcheckOptions {
  /** Step of the central difference. */
  eps?: number;
  /** Largest error allowed, relative to the largest entry of the gradient (or 0.001). */
  tolerance?: number;
  /** Entries tried for each input; the rest is left out. */
  samples?: number;
}

/**
 * Checks d(Σ r·fn(inputs))/d(input) for fixed weights r against central differences, entry by entry.
 *
 * @returns the largest relative error
 * @throws GradError that names the input, the entry and both values
 */
export async function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<number> {
  const { eps = 1e-2, tolerance = 2e-2, samples = 24 } = options;
  // Weights that are all different find transposed and permuted gradients.
  const weighted = (out: Tensor): Tensor => {
    const weights = Float32Array.from({ length: out.numel }, (_, i) => Math.sin(1.7 * i + 0.3));
    return out.mul(emptyTensor(out.device, out.shape, out.dtype).upload(weights)).sum();
  };
  const value = async (given: readonly Tensor[]): Promise<number> => {
    const t = scope(() => noGrad(() => weighted(fn(...given))));
    const v = await t.item();
    t.dispose();
    return v;
  };
  const grads = scope(() => {
    const leaves = inputs.map((x) => x.detach().requiresGrad_());
    return grad(
      enableGrad(() => weighted(fn(...leaves))),
      leaves,
      { allowUnused: true },
    );
  });
  let worst = 0;
  try {
    for (let k = 0; k < inputs.length; k++) {
      const exact = (await grads[k]?.data()) ?? new Float32Array(inputs[k].numel);
      const scale = Math.max(...Array.from(exact, Math.abs));
      const data = Float32Array.from(await inputs[k].data());
      const step = Math.max(1, Math.floor(data.length / samples));
      for (let i = 0; i < data.length; i += step) {
        const at = async (delta: number): Promise<number> => {
          const moved = data.slice();
          moved[i] += delta;
          const { device, shape, dtype } = inputs[k];
          const x = emptyTensor(device, shape, dtype).upload(moved);
          const v = await value(inputs.map((t, j) => (j === k ? x : t)));
          x.dispose();
          return v;
        };
        const up = await at(eps),
          down = await at(-eps);
        const numeric = (up - down) / (2 * eps);
        // What rounding both values in f32 may do to their difference.
        const noise = ((Math.abs(up) + Math.abs(down)) * 2 ** -22) / (2 * eps);
        const error = Math.max(0, Math.abs(numeric - exact[i]) - noise) / Math.max(scale, 1e-3);
        if (!(error <= tolerance))
          throw new GradError(
            'gradcheck',
            `Input ${k}, entry ${i}: the derivative gives ${exact[i]}, differences give ${numeric}`,
          );
        worst = Math.max(worst, error);
      }
    }
  } finally {
    for (const g of grads) g?.dispose();
  }
  return worst;
}
