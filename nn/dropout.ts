// Dropout, of single values or of whole samples of a residual branch.

import { scope, ShapeError, show, type Generator, type Tensor } from '../core/index.ts';
import { checkProbability } from './checks.ts';
import { Module } from './module.ts';

/**
 * Sets each value to 0 with probability p and divides the others by 1 - p, so that the mean stays the same (Srivastava
 * et al., JMLR 15, 2014). In evaluation mode it returns x.
 */
export class Dropout extends Module {
  /** Probability of being dropped. */
  readonly p: number;
  private readonly generator: Generator;

  /**
   * @param generator draws which values are dropped
   * @param p default 0.5
   * @throws ValueError
   */
  constructor(generator: Generator, p = 0.5) {
    super();
    checkProbability('Dropout', p);
    this.p = p;
    this.generator = generator;
  }

  /** x with values dropped; x itself in evaluation mode. */
  forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    return scope(() => x.mul(mask(this.generator, x.shape, x, this.p, true)));
  }
}

/** Options of `DropPath`. */
export interface DropPathOptions {
  /** Whether to divide the values that stay by 1 - p. Default true. */
  readonly scaleByKeep?: boolean;
}

/**
 * Stochastic depth: sets a whole sample to 0 with probability p and divides the others by 1 - p (Huang et al., arXiv
 * 1603.09382). Use it on a residual branch before it is added. In evaluation mode it returns x. Shapes: x, y (N, …).
 */
export class DropPath extends Module {
  /** Probability of being dropped. */
  readonly p: number;
  /** Whether what stays is divided by 1 - p. */
  readonly scaleByKeep: boolean;
  private readonly generator: Generator;

  /**
   * @param generator draws which samples are dropped
   * @param p default 0
   * @throws ValueError
   */
  constructor(generator: Generator, p = 0, { scaleByKeep = true }: DropPathOptions = {}) {
    super();
    checkProbability('DropPath', p);
    this.p = p;
    this.scaleByKeep = scaleByKeep;
    this.generator = generator;
  }

  /**
   * x with values dropped; x itself in evaluation mode.
   *
   * @throws ShapeError when x has no dimensions
   */
  forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    if (x.ndim === 0) throw new ShapeError('DropPath', `x has shape ${show(x.shape)}`, { expected: '(N, …)' });
    return scope(() =>
      x.mul(
        mask(
          this.generator,
          x.shape.map((size, i) => (i === 0 ? size : 1)),
          x,
          this.p,
          this.scaleByKeep,
        ),
      ),
    );
  }
}

/** 0 with probability p, else 1 or 1 / (1 - p). */
function mask(generator: Generator, shape: readonly number[], x: Tensor, p: number, scaled: boolean): Tensor {
  const kept = generator.bernoulli(shape, 1 - p, x.dtype);
  return scaled && p < 1 ? kept.div(1 - p) : kept;
}
