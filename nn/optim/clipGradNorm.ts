// Limits the norm of all gradients together.

import { keep, noGrad, scope, ValueError, type Tensor } from '../../core/index.ts';
import { leaves, type Parameters } from './optimizer.ts';

/**
 * Scales all gradients by `min(1, maxNorm / (norm + 1e-6))`. norm is that of all gradients as one vector:
 * `(Σ |g|ᵖ)^(1/p)`, or the largest |g| for p = Infinity. As `torch.nn.utils.clip_grad_norm_` (Pascanu et al., arXiv
 * 1211.5063, §3.2).
 *
 * @param normType p; default 2
 * @returns the norm before scaling, a tensor of one element
 * @throws ValueError
 */
export function clipGradNorm(parameters: Parameters, maxNorm: number, normType = 2): Tensor {
  if (!(maxNorm >= 0))
    throw new ValueError('clipGradNorm', `is ${maxNorm}`, { option: 'maxNorm', expected: '0 or more' });
  if (!(normType > 0))
    throw new ValueError('clipGradNorm', `is ${normType}`, { option: 'normType', expected: 'more than 0' });
  const owners = leaves('clipGradNorm', parameters).filter((p) => p.grad);
  if (!owners.length)
    throw new ValueError('clipGradNorm', 'No parameter has a gradient', { remedy: 'call it after backward()' });
  return noGrad(() =>
    scope(() => {
      const gradients = owners.map((p) => p.grad!);
      const total =
        normType === Infinity
          ? gradients.map((g) => g.abs().cast('f32').max()).reduce((a, b) => a.maximum(b))
          : gradients
              .map((g) => power(g.cast('f32').abs(), normType).sum())
              .reduce((a, b) => a.add(b))
              .pow(1 / normType);
      const factor = total.add(1e-6).reciprocal().mul(maxNorm).minimum(1);
      // Gradients may share memory, so each gets new values and is not scaled in place.
      owners.forEach((p, i) => {
        p.grad = keep(gradients[i].mul(factor).cast(p.dtype));
      });
      return total;
    }),
  );
}

function power(x: Tensor, exponent: number): Tensor {
  return exponent === 1 ? x : x.pow(exponent);
}
