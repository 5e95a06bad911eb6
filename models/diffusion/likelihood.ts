// Gaussian divergences and likelihoods, as expressions that larger kernels are made of and as operations on tensors.
// Sources: Ho et al. 2020 (arXiv 2006.11239), §3.3; the tanh form of Φ is Page's (1977).

import { fuse, type Expr, type ExprLike, type Tensor } from '../../core/index.ts';

/**
 * KL(N(μ1, σ1²) ‖ N(μ2, σ2²)) = ½ (log σ2² - log σ1² + σ1²/σ2² - 1 + (μ1-μ2)²/σ2²) of one element. It takes μ1-μ2,
 * which callers often know better than by a difference of near numbers.
 */
export function normalKlExpr(meanDifference: Expr, logVar1: Expr, logVar2: Expr): Expr {
  const ratio = logVar1.sub(logVar2);
  return ratio.expm1().sub(ratio).add(meanDifference.square().mul(logVar2.neg().exp())).mul(0.5);
}

/** The same with N(0, 1) as the second. */
export function standardNormalKlExpr(mean: Expr, logVar: Expr): Expr {
  return logVar.expm1().sub(logVar).add(mean.square()).mul(0.5);
}

/**
 * Φ(z) ≈ ½ (1 + tanh(√(2/π) (z + 0.044715 z³))), written as a sigmoid, which keeps its relative accuracy where Φ is
 * small.
 */
export function approxStandardNormalCdfExpr(z: Expr): Expr {
  return z
    .add(z.square().mul(z).mul(0.044715))
    .mul(2 * Math.sqrt(2 / Math.PI))
    .sigmoid();
}

/**
 * log of the mass in the bin of x, which is 2/255 wide; the outermost bins reach to infinity. At least log 1e-12.
 * `centred` is x - μ.
 */
export function discretizedGaussianLogLikelihoodExpr(x: Expr, centred: Expr, logScale: Expr): Expr {
  const inverse = logScale.neg().exp();
  const cdf = (z: Expr): Expr => approxStandardNormalCdfExpr(z.mul(inverse));
  // The bin is mirrored to the side where Φ is small: differences of numbers near 1 would lose it.
  const away = centred.abs().neg();
  const inside = cdf(away.add(1 / 255)).sub(cdf(away.sub(1 / 255)));
  const below = cdf(centred.add(1 / 255));
  const above = cdf(centred.sub(1 / 255).neg());
  return x.lt(-0.999).where(below, x.gt(0.999).where(above, inside)).maximum(1e-12).log();
}

/** KL(N(mean1, e^logVar1) ‖ N(mean2, e^logVar2)) in nats, element by element. Tensors broadcast. */
export const normalKl: (mean1: Tensor, logVar1: Tensor, mean2: Tensor, logVar2: Tensor) => Tensor = lazyFuse(
  (mean1, logVar1, mean2, logVar2) => normalKlExpr(mean1.sub(mean2), logVar1, logVar2),
  'normalKl',
);

/** KL(N(mean, e^logVar) ‖ N(0, 1)) in nats, element by element. */
export const standardNormalKl: (mean: Tensor, logVar: Tensor) => Tensor = lazyFuse(
  standardNormalKlExpr,
  'standardNormalKl',
);

/**
 * The cumulative distribution function of the standard normal distribution in its tanh approximation, within 2e-4
 * (absolute).
 */
export const approxStandardNormalCdf: (z: Tensor) => Tensor = lazyFuse(
  approxStandardNormalCdfExpr,
  'approxStandardNormalCdf',
);

/**
 * log-likelihood in nats, element by element, of 8-bit values under a Gaussian cut into bins: each of the 256 levels,
 * scaled to [-1, 1], has the mass of its bin (Ho et al., eq. 13).
 *
 * @param x values scaled to [-1, 1]
 * @param mean of the same shape
 * @param logScale logarithm of the standard deviation
 */
export const discretizedGaussianLogLikelihood: (x: Tensor, mean: Tensor, logScale: Tensor) => Tensor = lazyFuse(
  (x, mean, logScale) => discretizedGaussianLogLikelihoodExpr(x, x.sub(mean), logScale),
  'discretizedGaussianLogLikelihood',
);

function lazyFuse(fn: (...x: Expr[]) => ExprLike, name: string): (...x: Tensor[]) => Tensor {
  let fused: ((...x: Tensor[]) => Tensor) | undefined;
  return (...x) => (fused ??= fuse(fn, name))(...x);
}
