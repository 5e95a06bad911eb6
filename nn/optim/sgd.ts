// Stochastic gradient descent.

import { fuseInPlace, ValueError, type Tensor } from '../../core/index.ts';
import { checkNumber, Optimizer, type Parameters } from './optimizer.ts';

/** Options of `SGD`. */
export interface SGDOptions {
  /** Learning rate. Default 1e-3. */
  readonly lr?: number;
  /** Share of the last update's direction that is kept. Default 0. */
  readonly momentum?: number;
  /** Share of the gradient that does not go into the momentum. Default 0. */
  readonly dampening?: number;
  /** L2 penalty: added to the gradient as weightDecay · parameter. Default 0. */
  readonly weightDecay?: number;
  /** Nesterov momentum. Default false. */
  readonly nesterov?: boolean;
}

/**
 * `p ← p - lr · d` with `g = gradient + weightDecay · p` and, where there is momentum,
 * `b ← momentum · b + (1 - dampening) · g` (b = g in the first step), `d = b`, or `g + momentum · b` with nesterov;
 * else `d = g`. As `torch.optim.SGD` (Sutskever et al., ICML 2013). State: `momentum_buffer`.
 */
export class SGD extends Optimizer {
  /** Overwrites the parameter and, where there is momentum, the buffer. */
  private readonly run: (...tensors: Tensor[]) => void;
  private readonly accelerated: boolean;

  /** @throws ValueError */
  constructor(parameters: Parameters, options: SGDOptions = {}) {
    const { lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false } = options;
    for (const [name, value] of Object.entries({ momentum, weightDecay })) checkNumber('SGD', name, value);
    if (nesterov && (momentum === 0 || dampening !== 0))
      throw new ValueError('SGD', `nesterov with momentum ${momentum} and dampening ${dampening}`, {
        expected: 'a momentum and no dampening',
      });
    super(parameters, lr, momentum ? ['momentum_buffer'] : []);
    this.accelerated = momentum !== 0;
    this.run = momentum
      ? fuseInPlace((p, buffer, gradient, rate, step) => {
          const g = gradient.add(p.mul(weightDecay));
          const b = buffer.mul(momentum).add(step.eq(1).where(g, g.mul(1 - dampening)));
          return [p.sub(rate.mul(nesterov ? g.add(b.mul(momentum)) : b)), b];
        }, 'sgdMomentum')
      : fuseInPlace((p, gradient, rate) => p.sub(rate.mul(gradient.add(p.mul(weightDecay)))), 'sgd');
  }

  protected override update(p: Tensor, gradient: Tensor, index: number, step: Tensor): void {
    if (this.accelerated) this.run(p, this.slot('momentum_buffer', index), gradient, this.rate, step);
    else this.run(p, gradient, this.rate);
  }
}
