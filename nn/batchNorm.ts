// Normalisation over the batch, with running statistics for evaluation.

import {
  full,
  fuse,
  fuseInPlace,
  noGrad,
  numelOf,
  ones,
  scope,
  ShapeError,
  show,
  ValueError,
  zeros,
  type Device,
  type Tensor,
} from '../core/index.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { buffer, parameter } from './parameter.ts';

/** Options of batch normalisation. */
export interface BatchNormOptions {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Weight of a batch in the running statistics; null for the plain mean of all batches. Default 0.1. */
  readonly momentum?: number | null;
  /** Whether channels have a weight and a bias. Default true. */
  readonly affine?: boolean;
  /** Whether running statistics are kept; without them evaluation normalises by the batch. Default true. */
  readonly trackRunningStats?: boolean;
}

const scaleShift = /* @__PURE__ */ fuse(
  (x, mean, inverse, weight, bias) => x.sub(mean).mul(inverse).mul(weight).add(bias).cast(x.type),
  'batchNorm',
);
const scale = /* @__PURE__ */ fuse((x, mean, inverse) => x.sub(mean).mul(inverse).cast(x.type), 'batchNorm');
const approach = /* @__PURE__ */ fuseInPlace(
  (running, batch, share) => running.add(batch.sub(running).mul(share)),
  'batchNorm running statistics',
);
const countOne = /* @__PURE__ */ fuseInPlace((n) => n.add(1), 'batchNorm count');

/** What BatchNorm1d and BatchNorm2d share: they differ in the shapes they take. */
abstract class BatchNorm extends Module {
  /** (numFeatures); null without `affine`. */
  readonly weight: Tensor | null;
  /** (numFeatures); null without `affine`. */
  readonly bias: Tensor | null;
  /** (numFeatures); null where no statistics are kept. Names of the state are PyTorch's. */
  readonly running_mean: Tensor | null;
  /** (numFeatures); null where no statistics are kept. */
  readonly running_var: Tensor | null;
  /** i32 of one element: training steps that the statistics have seen. */
  readonly num_batches_tracked: Tensor | null;
  /** Channels. */
  readonly numFeatures: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Weight of a batch in the running statistics; null for the plain mean of all batches. */
  readonly momentum: number | null;

  constructor(
    on: { readonly device: Device },
    numFeatures: number,
    { eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true }: BatchNormOptions = {},
  ) {
    super();
    checkSizes('BatchNorm', { numFeatures });
    if (momentum !== null && !(momentum >= 0 && momentum <= 1))
      throw new ValueError('BatchNorm', `is ${momentum}`, { option: 'momentum', expected: '0 to 1, or null' });
    const { device } = on;
    this.numFeatures = numFeatures;
    this.eps = eps;
    this.momentum = momentum;
    this.weight = affine ? parameter(ones(device, [numFeatures])) : null;
    this.bias = affine ? parameter(zeros(device, [numFeatures])) : null;
    this.running_mean = trackRunningStats ? buffer(zeros(device, [numFeatures])) : null;
    this.running_var = trackRunningStats ? buffer(ones(device, [numFeatures])) : null;
    this.num_batches_tracked = trackRunningStats ? buffer(zeros(device, [], 'i32')) : null;
  }

  /** Dimensions that x may have, and how an error says them. */
  protected abstract readonly dimensions: readonly number[];
  protected abstract readonly expected: string;

  /**
   * In training, normalises by the batch and brings the running statistics up to date; in evaluation, normalises by
   * these.
   *
   * @throws ShapeError, also in training for a single value a channel, which has no variance
   */
  forward(x: Tensor): Tensor {
    const { numFeatures, running_mean: runningMean, running_var: runningVar } = this;
    if (!this.dimensions.includes(x.ndim) || x.shape[1] !== numFeatures)
      throw new ShapeError(this.constructor.name, `x has shape ${show(x.shape)}`, { expected: this.expected });
    const perChannel = x.shape.map((_, i) => (i === 1 ? numFeatures : 1));
    return scope(() => {
      const beside = (t: Tensor): Tensor => t.reshape(...perChannel);
      const normalise = (mean: Tensor, variance: Tensor): Tensor => {
        const inverse = variance.add(this.eps).rsqrt();
        return this.weight && this.bias
          ? scaleShift(x, mean, inverse, beside(this.weight), beside(this.bias))
          : scale(x, mean, inverse);
      };
      if (!this.training && runningMean && runningVar) return normalise(beside(runningMean), beside(runningVar));
      const count = numelOf(x.shape) / numFeatures;
      if (this.training && count === 1)
        throw new ShapeError(this.constructor.name, `x has shape ${show(x.shape)}: one value a channel`, {
          expected: 'at least two in training',
          remedy: 'use eval(), or a larger batch',
        });
      const axes = x.shape.map((_, i) => i).filter((i) => i !== 1);
      const wide = x.cast('f32');
      const mean = wide.mean(axes, true);
      const variance = wide.sub(mean).square().mean(axes, true);
      if (this.training) this.track(mean, variance.mul(count / (count - 1)));
      return normalise(mean, variance);
    });
  }

  /** Brings the running statistics up to date. */
  private track(mean: Tensor, variance: Tensor): void {
    const { running_mean: runningMean, running_var: runningVar, num_batches_tracked: tracked, momentum } = this;
    if (!runningMean || !runningVar || !tracked) return;
    noGrad(() => {
      countOne(tracked);
      const share = momentum === null ? tracked.cast('f32').pow(-1) : full(tracked.device, [], momentum);
      approach(runningMean, mean.detach().reshape(this.numFeatures), share);
      approach(runningVar, variance.detach().reshape(this.numFeatures), share);
    });
  }
}

/**
 * `y = (x - mean) / √(var + eps) · weight + bias`, mean and biased variance of each channel over the batch and all
 * positions, or in evaluation the running ones (Ioffe and Szegedy, arXiv 1502.03167). These approach the batch's mean and
 * unbiased variance by `momentum`.
 *
 * Shapes: x, y (N, numFeatures) or (N, numFeatures, L); `weight`, `bias`, `running_mean`, `running_var` (numFeatures),
 * `num_batches_tracked` (). Initialisation: weight and variance 1, the others 0. Statistics are f32.
 */
export class BatchNorm1d extends BatchNorm {
  protected readonly dimensions = [2, 3];
  protected readonly expected = `(N, ${this.numFeatures}) or (N, ${this.numFeatures}, L)`;
}

/** `BatchNorm1d` over images: x, y (N, numFeatures, H, W). */
export class BatchNorm2d extends BatchNorm {
  protected readonly dimensions = [4];
  protected readonly expected = `(N, ${this.numFeatures}, H, W)`;
}
