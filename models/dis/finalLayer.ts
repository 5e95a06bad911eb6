// The last layer: a norm, modulated by the condition where there is one, and a linear layer to pixels (arXiv
// 2212.09748, §3.2).

import { fuse, type Generator, type Tensor } from '../../core/index.ts';
import { addLayerNorm } from '../../kernels/add-norm/index.ts';
import { Module, type Linear } from '../../nn/index.ts';
import { zeroBiasLinear } from './initialise.ts';

const conditionOf = /* @__PURE__ */ fuse((time, label) => time.add(label).silu(), 'condition');
const modulate = /* @__PURE__ */ fuse((x, scale, shift) => x.mul(scale.add(1)).add(shift), 'modulate');

/**
 *     [shift, scale] = adaLN_modulation(silu(time + label))
 *     y = linear(LayerNorm(x) · (1 + scale) + shift)           the norm without weights, eps 1e-6
 *
 * Without classes there is no modulation. Shapes: x (B, L, D); time, label (B, D); y (B, L, out). Initial weights are
 * those of a linear layer and biases 0: unlike DiT's, nothing begins at zero.
 */
export class FinalLayer extends Module {
  readonly linear: Linear;
  /** [no parameters, linear]: the official module counts its SiLU. */
  readonly adaLN_modulation: readonly (Linear | null)[];

  constructor(
    generator: Generator,
    options: { readonly embedDim: number; readonly outputs: number; readonly conditional: boolean },
  ) {
    super();
    const { embedDim, outputs, conditional } = options;
    this.linear = zeroBiasLinear(generator, embedDim, outputs);
    this.adaLN_modulation = conditional ? [null, zeroBiasLinear(generator, embedDim, 2 * embedDim)] : [];
  }

  forward(x: Tensor, time: Tensor, label: Tensor | null): Tensor {
    const normed = addLayerNorm({ x, eps: 1e-6 });
    const projected = this.adaLN_modulation[1];
    if (!projected || !label) return this.linear.forward(normed);
    const [shift, scale] = projected.forward(conditionOf(time, label)).split(x.shape[2], 1);
    return this.linear.forward(modulate(normed, scale.unsqueeze(1), shift.unsqueeze(1)));
  }
}
