// Activation functions as layers, for Sequential. Each is the tensor operation of its name.

import { fuse, geluTanh, ValueError, type Tensor } from '../core/index.ts';
import { Module } from './module.ts';

/** `x`. */
export class Identity extends Module {
  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return x;
  }
}

/** `max(x, 0)`. */
export class ReLU extends Module {
  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** `x · σ(x)` (Elfwing et al., arXiv 1702.03118). */
export class SiLU extends Module {
  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return x.silu();
  }
}

/** Options of `GELU`. */
export interface GELUOptions {
  /** `tanh`: ½x (1 + tanh(√(2/π) (x + 0.044715 x³))). Default `none`, the exact form. */
  readonly approximate?: 'none' | 'tanh';
}

/** `x · Φ(x)`, Φ the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415). */
export class GELU extends Module {
  /** Which form: the exact one, or that with tanh. */
  readonly approximate: 'none' | 'tanh';

  constructor({ approximate = 'none' }: GELUOptions = {}) {
    super();
    this.approximate = approximate;
  }

  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return this.approximate === 'tanh' ? geluTanh(x) : x.gelu();
  }
}

/** `1 / (1 + e⁻ˣ)`. */
export class Sigmoid extends Module {
  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}

/** `tanh(x)`. */
export class Tanh extends Module {
  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** Options of `Softplus`. */
export interface SoftplusOptions {
  /** Default 1. */
  readonly beta?: number;
  /** Where beta · x is above it, the result is x. Default 20. */
  readonly threshold?: number;
}

/** `log(1 + exp(beta · x)) / beta`, a smooth ReLU. */
export class Softplus extends Module {
  private readonly run: (x: Tensor) => Tensor;

  /** @throws ValueError when beta is 0 or not finite */
  constructor({ beta = 1, threshold = 20 }: SoftplusOptions = {}) {
    super();
    if (!Number.isFinite(beta) || beta === 0)
      throw new ValueError('Softplus', `is ${beta}`, { option: 'beta', expected: 'a number other than 0' });
    this.run = fuse((x) => x.mul(beta).gt(threshold).where(x, x.mul(beta).softplus().div(beta)), 'softplus');
  }

  /** Of each element; the shape stays. */
  forward(x: Tensor): Tensor {
    return this.run(x);
  }
}
