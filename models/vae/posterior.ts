// What the encoder gives for a picture: a normal distribution of latents with a variance for each value.

import { fuse, Generator, scope, type Tensor } from '../../core/index.ts';

const halfExp = /* @__PURE__ */ fuse((logvar) => logvar.mul(0.5).exp(), 'halfExp');
const reparameterised = /* @__PURE__ */ fuse(
  (mean, logvar, noise) => logvar.mul(0.5).exp().mul(noise).add(mean),
  'sampled',
);
const divergence = /* @__PURE__ */ fuse(
  (mean, logvar) => mean.square().add(logvar.exp()).sub(1).sub(logvar).mul(0.5),
  'divergence',
);

/** N(mean, exp(logvar)), with logvar between -30 and 20. */
export class DiagonalGaussian {
  /** (N, latentChannels, h, w) */
  readonly mean: Tensor;
  /** Of the mean's shape: logarithms of the variances. */
  readonly logvar: Tensor;

  /** @param moments (N, 2 · latentChannels, h, w): means, then logarithms of variances */
  constructor(moments: Tensor) {
    const [mean, logvar] = moments.chunk(2, 1);
    this.mean = mean;
    this.logvar = logvar.clamp(-30, 20);
  }

  /** Standard deviations. */
  std(): Tensor {
    return halfExp(this.logvar);
  }

  /** The most likely latents: the means. */
  mode(): Tensor {
    return this.mean;
  }

  /** `mean + std · noise`; the noise is drawn, or given with the mean's shape. Differentiable. */
  sample(noise: Generator | Tensor): Tensor {
    return scope(() =>
      reparameterised(this.mean, this.logvar, noise instanceof Generator ? noise.normal(this.mean.shape) : noise),
    );
  }

  /** Kullback-Leibler divergence from N(0, 1) in nats, (N): `½ Σ (mean² + var - 1 - logvar)`. */
  kl(): Tensor {
    return scope(() => divergence(this.mean, this.logvar).flatten(1).sum(1));
  }
}
