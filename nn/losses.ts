// Losses. Names, formulas and defaults are PyTorch's (`torch.nn.functional`); the classes of a classification lie in
// dimension 1, or in dimension 0 of a vector.

import { fuse, isFloat, sameShape, scope, ShapeError, show, ValueError, where, type Tensor } from '../core/index.ts';

/** How the losses of single elements are reduced. */
export type Reduction = 'none' | 'mean' | 'sum';

/** Options that all losses have. */
export interface LossOptions {
  /** Default 'mean'. */
  readonly reduction?: Reduction;
}

function checkShapes(op: string, input: Tensor, target: Tensor): void {
  if (!sameShape(input.shape, target.shape))
    throw new ShapeError(op, `The target has shape ${show(target.shape)}`, {
      expected: `the input's ${show(input.shape)}`,
    });
}

function reduce(losses: Tensor, reduction: Reduction = 'mean'): Tensor {
  return reduction === 'none' ? losses : reduction === 'sum' ? losses.sum() : losses.mean();
}

const squaredError = /* @__PURE__ */ fuse((x, y) => x.sub(y).square(), 'squaredError');
/** `(input - target)²`. Shapes: both alike. */
export function mseLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkShapes('mseLoss', input, target);
  return scope(() => reduce(squaredError(input, target), options.reduction));
}

const absoluteError = /* @__PURE__ */ fuse((x, y) => x.sub(y).abs(), 'absoluteError');
/** `|input - target|`. Shapes: both alike. */
export function l1Loss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkShapes('l1Loss', input, target);
  return scope(() => reduce(absoluteError(input, target), options.reduction));
}

/**
 * `½ d² / beta` for d = |input - target| < beta, else `d - ½ beta` (Girshick, arXiv 1504.08083); beta 0 is the L1 loss.
 * Shapes: both alike.
 *
 * @throws ValueError for a negative beta
 */
export function smoothL1Loss(
  input: Tensor,
  target: Tensor,
  { beta = 1, reduction }: LossOptions & { /** Default 1. */ readonly beta?: number } = {},
): Tensor {
  if (!(beta >= 0)) throw new ValueError('smoothL1Loss', `is ${beta}`, { option: 'beta', expected: '0 or more' });
  checkShapes('smoothL1Loss', input, target);
  if (beta === 0) return l1Loss(input, target, { reduction });
  return scope(() => {
    const d = absoluteError(input, target);
    return reduce(where(d.lt(beta), d.square().mul(0.5 / beta), d.sub(0.5 * beta)), reduction);
  });
}

/**
 * `½ d²` for d = |input - target| < delta, else `delta (d - ½ delta)` (Huber 1964): delta times the smooth L1 loss.
 * Shapes: both alike.
 *
 * @throws ValueError unless delta is positive
 */
export function huberLoss(
  input: Tensor,
  target: Tensor,
  { delta = 1, reduction }: LossOptions & { /** Default 1. */ readonly delta?: number } = {},
): Tensor {
  if (!(delta > 0)) throw new ValueError('huberLoss', `is ${delta}`, { option: 'delta', expected: 'more than 0' });
  return scope(() => smoothL1Loss(input, target, { beta: delta, reduction }).mul(delta));
}

/** Options of `binaryCrossEntropyWithLogits`. */
export interface BinaryCrossEntropyOptions extends LossOptions {
  /** Factor of each loss; broadcast to the input's shape. */
  readonly weight?: Tensor;
  /** Factor of the positive part, for each class; broadcast to the input's shape. */
  readonly posWeight?: Tensor;
}

const logisticLoss = /* @__PURE__ */ fuse((x, t, positive) => {
  const negative = t.neg().add(1);
  return negative.mul(x).add(t.mul(positive).add(negative).mul(x.neg().softplus()));
}, 'logisticLoss');

/**
 * `-(posWeight · target · log σ(input) + (1 - target) · log(1 - σ(input)))`, computed without overflow. Shapes: both
 * alike; targets from 0 to 1.
 */
export function binaryCrossEntropyWithLogits(
  input: Tensor,
  target: Tensor,
  { weight, posWeight, reduction }: BinaryCrossEntropyOptions = {},
): Tensor {
  checkShapes('binaryCrossEntropyWithLogits', input, target);
  return scope(() => {
    const losses = logisticLoss(input, target, posWeight ?? target.onesLike());
    return reduce(weight ? losses.mul(weight) : losses, reduction);
  });
}

/** Options of `nllLoss`. */
export interface ClassLossOptions extends LossOptions {
  /** (C): factor of each class. 'mean' then divides by the sum of the factors used. */
  readonly weight?: Tensor;
  /** A class index to leave out. Default -100. */
  readonly ignoreIndex?: number;
}

/** Dimension of the classes, and the shape of class indices. */
function classAxis(op: string, input: Tensor): { axis: number; indices: number[] } {
  if (input.ndim === 0)
    throw new ShapeError(op, `The input has shape ${show(input.shape)}`, { expected: '(C), (N, C) or (N, C, …)' });
  const axis = input.ndim === 1 ? 0 : 1;
  return { axis, indices: input.shape.filter((_, i) => i !== axis) };
}

function checkClasses(op: string, input: Tensor, target: Tensor, { weight }: ClassLossOptions): number {
  const { axis, indices } = classAxis(op, input);
  if (!sameShape(target.shape, indices))
    throw new ShapeError(op, `The target has shape ${show(target.shape)}`, {
      expected: `class indices of shape ${show(indices)} for an input of shape ${show(input.shape)}`,
    });
  if (weight && !sameShape(weight.shape, [input.shape[axis]]))
    throw new ShapeError(op, `The weight has shape ${show(weight.shape)}`, {
      expected: `(${input.shape[axis]},), a factor for each class`,
    });
  return axis;
}

/** Class indices in which a negative one is out of range, instead of counting from the end: its loss is NaN. */
function classIndex(target: Tensor): Tensor {
  return target.dtype === 'i32' ? target.cast('u32') : target;
}

/** Factor of each target: the weight of its class, or 0 where it is left out. */
function targetWeights(input: Tensor, target: Tensor, { weight, ignoreIndex = -100 }: ClassLossOptions): Tensor {
  const counted = target.ne(ignoreIndex);
  if (!weight) return counted.cast(input.dtype);
  return where(counted, weight.indexSelect(0, classIndex(target).reshape(target.numel)).reshape(...target.shape), 0);
}

/** `-weight · logProbability` of the target's class; 0 where the weight is 0. */
const weightedNegative = /* @__PURE__ */ fuse(
  (logProbability, weight) => weight.eq(0).where(0, logProbability.mul(weight).neg()),
  'weightedNegative',
);

/** The losses of single elements, and the factors that their mean is weighted by. */
interface Weighted {
  readonly losses: Tensor;
  readonly weights: Tensor;
}

function likelihoods(logProbabilities: Tensor, target: Tensor, axis: number, options: ClassLossOptions): Weighted {
  const weights = targetWeights(logProbabilities, target, options);
  const picked = logProbabilities.gather(axis, classIndex(target).unsqueeze(axis)).squeeze(axis);
  return { losses: weightedNegative(picked, weights), weights };
}

function reduceWeighted({ losses, weights }: Weighted, reduction: Reduction = 'mean'): Tensor {
  if (reduction !== 'mean') return reduce(losses, reduction);
  // In f32: f16 holds no count above 65,504.
  return losses.cast('f32').sum().div(weights.cast('f32').sum()).cast(losses.dtype);
}

/**
 * Negative log likelihood: `-weight[target] · input[…, target, …]`.
 *
 * Shapes: input, logarithms of probabilities, (C), (N, C) or (N, C, …); target (), (N) or (N, …) of i32 or u32. The
 * loss of a target that is no class is NaN, unless it is left out.
 *
 * @throws ShapeError, DTypeError
 */
export function nllLoss(input: Tensor, target: Tensor, options: ClassLossOptions = {}): Tensor {
  const axis = checkClasses('nllLoss', input, target, options);
  return scope(() => reduceWeighted(likelihoods(input, target, axis, options), options.reduction));
}

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends ClassLossOptions {
  /** ε: targets become `(1 - ε) · target + ε / C` (Szegedy et al., arXiv 1512.00567). Default 0. */
  readonly labelSmoothing?: number;
}

/**
 * `-Σ_c weight[c] · target[c] · log softmax(input)[c]`.
 *
 * Shapes: input (C), (N, C) or (N, C, …), not normalised. Target: class indices of i32 or u32, (), (N) or (N, …); or
 * probabilities of the input's shape and of a floating-point type. 'mean' is over the factors of the target classes, or
 * over samples for probabilities. The loss of an index that is no class is NaN, unless it is left out.
 *
 * @throws ShapeError, DTypeError
 * @throws ValueError for a label smoothing outside of 0 to 1
 */
export function crossEntropy(input: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { weight, labelSmoothing = 0, reduction } = options;
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new ValueError('crossEntropy', `is ${labelSmoothing}`, { option: 'labelSmoothing', expected: '0 to 1' });
  const { axis } = classAxis('crossEntropy', input);
  const classes = input.shape[axis];
  const perClass = input.shape.map((size, i) => (i === axis ? size : 1));
  /** -Σ_c weight[c] · share[c] · logProbability[c] */
  const overClasses = (logProbabilities: Tensor, share: Tensor | number): Tensor =>
    (weight ? logProbabilities.mul(weight.reshape(...perClass)) : logProbabilities).mul(share).sum(axis).neg();
  if (isFloat(target.dtype)) {
    checkShapes('crossEntropy', input, target);
    return scope(() => {
      const losses = overClasses(
        input.logSoftmax(axis),
        labelSmoothing ? target.mul(1 - labelSmoothing).add(labelSmoothing / classes) : target,
      );
      return reduce(losses, reduction);
    });
  }
  checkClasses('crossEntropy', input, target, options);
  return scope(() => {
    const logProbabilities = input.logSoftmax(axis);
    const { losses, weights } = likelihoods(logProbabilities, target, axis, options);
    if (!labelSmoothing) return reduceWeighted({ losses, weights }, reduction);
    const smooth = where(
      target.ne(options.ignoreIndex ?? -100),
      overClasses(logProbabilities, labelSmoothing / classes),
      0,
    );
    return reduceWeighted({ losses: losses.mul(1 - labelSmoothing).add(smooth), weights }, reduction);
  });
}
