// Adam, and AdamW, whose weight decay is apart from the gradient.

import { fuseInPlace, type Expr, type Tensor } from '../../core/index.ts';
import { checkNumber, Optimizer, type Parameters } from './optimizer.ts';

/** Options of `Adam` and `AdamW`. */
export interface AdamOptions {
  /** Learning rate. Default 1e-3. */
  readonly lr?: number;
  /** Decay rates of the moments. Default (0.9, 0.999). */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment. Default 1e-8. */
  readonly eps?: number;
  /** Adam: L2 penalty, default 0. AdamW: decoupled decay, default 0.01. */
  readonly weightDecay?: number;
  /** Divide by the largest second moment so far (Reddi et al., arXiv 1904.09237). Default false. */
  readonly amsgrad?: boolean;
}

/**
 * With `g = gradient + weightDecay · p` in step t:
 *
 *     m ← β₁ m + (1 - β₁) g;   v ← β₂ v + (1 - β₂) g²
 *     p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)
 *
 * As `torch.optim.Adam` (Kingma and Ba, arXiv 1412.6980). State: `exp_avg` (m), `exp_avg_sq` (v), `max_exp_avg_sq` with
 * amsgrad.
 */
export class Adam extends Optimizer {
  private readonly slots: readonly string[];
  /** Overwrites the parameter and the slots. */
  private readonly run: (...tensors: Tensor[]) => void;

  /** @throws ValueError */
  constructor(parameters: Parameters, options: AdamOptions = {}, decoupled = false) {
    const { lr = 1e-3, betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0, amsgrad = false } = options;
    const slots = ['exp_avg', 'exp_avg_sq', ...(amsgrad ? ['max_exp_avg_sq'] : [])];
    for (const [name, value] of Object.entries({ eps, weightDecay })) checkNumber(new.target.name, name, value);
    [beta1, beta2].forEach((beta, i) => checkNumber(new.target.name, `betas[${i}]`, beta, 1));
    super(parameters, lr, slots);
    this.slots = slots;
    // 1 - βᵗ, to all digits where β is near 1; 1 where β is 0.
    const correction = (beta: number, step: Expr): Expr =>
      step
        .mul(Math.max(Math.log(beta), -1e3))
        .expm1()
        .neg();
    this.run = fuseInPlace((p, m, v, ...rest) => {
      const [gradient, rate, step] = rest.slice(-3);
      const [most] = rest;
      const g = decoupled ? gradient : gradient.add(p.mul(weightDecay));
      const kept = decoupled ? p.sub(rate.mul(weightDecay).mul(p)) : p;
      const first = m.add(g.sub(m).mul(1 - beta1));
      const second = v.mul(beta2).add(g.square().mul(1 - beta2));
      const largest = amsgrad ? most.maximum(second) : second;
      const root = largest.div(correction(beta2, step)).sqrt();
      const next = kept.sub(rate.mul(first).div(correction(beta1, step)).div(root.add(eps)));
      return amsgrad ? [next, first, second, largest] : [next, first, second];
    }, 'adam');
  }

  protected override update(p: Tensor, gradient: Tensor, index: number, step: Tensor): void {
    const slots = this.slots.map((name) => this.slot(name, index));
    this.run(p, ...slots, gradient, this.rate, step);
  }
}

/**
 * Adam with `p ← (1 - lr · weightDecay) p` in place of the penalty in the gradient; weightDecay is 0.01 by default. As
 * `torch.optim.AdamW` (Loshchilov and Hutter, arXiv 1711.05101). For large models `FusedAdamW` does it in four
 * dispatches.
 */
export class AdamW extends Adam {
  /** @throws ValueError */
  constructor(parameters: Parameters, options: AdamOptions = {}) {
    super(parameters, { ...options, weightDecay: options.weightDecay ?? 0.01 }, true);
  }
}
