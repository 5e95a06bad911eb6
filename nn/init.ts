// Initialisers: each overwrites a tensor in place and returns it. Names, formulas and defaults are those of
// `torch.nn.init`. nn exports them as `init`: `init.zeros` overwrites a tensor, while the engine's `zeros` makes one.

import {
  full,
  fuse,
  noGrad,
  scope,
  ShapeError,
  show,
  ValueError,
  type Generator,
  type Shape,
  type Tensor,
} from '../core/index.ts';

/** Activations whose gain is known. */
export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leakyRelu' | 'selu';

export interface XavierOptions {
  /** Factor of the standard deviation. Default 1. */
  readonly gain?: number;
}

export interface KaimingOptions {
  /** Slope of the leaky ReLU below 0; used with 'leakyRelu' only. Default 0. */
  readonly a?: number;
  /** Whether to keep the variance of values ('fanIn', the default) or of gradients ('fanOut'). */
  readonly mode?: 'fanIn' | 'fanOut';
  /** Default 'leakyRelu', which is ReLU with the default slope of 0. */
  readonly nonlinearity?: Nonlinearity;
}

/**
 * fanIn: how many values an output is a sum of. fanOut: how many outputs a value goes into. For a weight (out, in,
 * …window) they are in · |window| and out · |window|.
 *
 * @throws ShapeError for fewer than two dimensions
 */
export function fans(shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2)
    throw new ShapeError('init', `A tensor of shape ${show(shape)} has no fan-in and fan-out`, {
      expected: 'at least two dimensions',
    });
  const window = shape.slice(2).reduce((product, size) => product * size, 1);
  return { fanIn: shape[1] * window, fanOut: shape[0] * window };
}

/**
 * The factor that makes up for how much an activation shrinks the standard deviation: √2 for ReLU, √(2 / (1 + a²)) for
 * a leaky ReLU, 5/3 for tanh.
 */
export function gain(nonlinearity: Nonlinearity, a = 0.01): number {
  switch (nonlinearity) {
    case 'linear':
    case 'sigmoid':
      return 1;
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leakyRelu':
      return Math.sqrt(2 / (1 + a * a));
    case 'selu':
      return 3 / 4;
  }
}

function fill(t: Tensor, values: () => Tensor): Tensor {
  noGrad(() => scope(() => t.copy_(values())));
  return t;
}

/** U(low, high); default U(0, 1). */
export function uniform(
  t: Tensor,
  generator: Generator,
  { low = 0, high = 1 }: { readonly low?: number; readonly high?: number } = {},
): Tensor {
  return fill(t, () => generator.uniform(t.shape, { low, high }));
}

/** N(mean, std²); default N(0, 1). */
export function normal(
  t: Tensor,
  generator: Generator,
  { mean = 0, std = 1 }: { readonly mean?: number; readonly std?: number } = {},
): Tensor {
  return fill(t, () => generator.normal(t.shape, { mean, std }));
}

// The inverse error function, by Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), single
// precision.
const CENTRE = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087, -0.00125372503, -0.00417768164,
  0.246640727, 1.50140941,
];
const TAIL = [
  -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
  1.00167406, 2.83297682,
];
const erfinv = /* @__PURE__ */ fuse((given) => {
  // At ±1 the result would be infinite. This is the float next to it.
  const x = given.clamp(2 ** -24 - 1, 1 - 2 ** -24);
  const w = x.mul(x).neg().log1p().neg();
  const horner = (coefficients: readonly number[], at: typeof x): typeof x =>
    coefficients.slice(1).reduce((sum, c) => sum.mul(at).add(c), at.mul(0).add(coefficients[0]));
  return w
    .lt(5)
    .where(horner(CENTRE, w.sub(2.5)), horner(TAIL, w.maximum(5).sqrt().sub(3)))
    .mul(x);
}, 'erfinv');

export interface TruncNormalOptions {
  readonly mean?: number;
  readonly std?: number;
  /** Lower bound. Default -2: an absolute value, not in standard deviations. */
  readonly a?: number;
  /** Upper bound. Default 2. */
  readonly b?: number;
}

/** N(mean, std²), restricted to [a, b], by inverting the distribution function. */
export function truncNormal(
  t: Tensor,
  generator: Generator,
  { mean = 0, std = 1, a = -2, b = 2 }: TruncNormalOptions = {},
): Tensor {
  if (!(b > a && std > 0))
    throw new ValueError('truncNormal', `The bounds are ${a} and ${b} and std is ${std}`, {
      expected: 'a < b and std > 0',
    });
  const [low, high] = [a, b].map((v) => erf((v - mean) / (std * Math.SQRT2)));
  return fill(t, () =>
    erfinv(generator.uniform(t.shape, { low, high }))
      .mul(std * Math.SQRT2)
      .add(mean)
      .clamp(a, b),
  );
}

/** erf in float64 to 1e-7 (Abramowitz and Stegun 7.1.26), which is enough for the ends of the range. */
function erf(x: number): number {
  const r = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail =
    r *
    (0.254829592 + r * (-0.284496736 + r * (1.421413741 + r * (-1.453152027 + r * 1.061405429)))) *
    Math.exp(-x * x);
  return Math.sign(x) * (1 - tail);
}

/** Fills with one value. */
export function constant(t: Tensor, value: number): Tensor {
  return fill(t, () => full(t.device, t.shape, value, t.dtype));
}

export function zeros(t: Tensor): Tensor {
  return constant(t, 0);
}

export function ones(t: Tensor): Tensor {
  return constant(t, 1);
}

/** U(±gain · √(6 / (fanIn + fanOut))) (Glorot and Bengio, AISTATS 2010). */
export function xavierUniform(t: Tensor, generator: Generator, options: XavierOptions = {}): Tensor {
  const bound = Math.sqrt(3) * xavierStd(t.shape, options);
  return uniform(t, generator, { low: -bound, high: bound });
}

/** N(0, gain² · 2 / (fanIn + fanOut)) (Glorot and Bengio, AISTATS 2010). */
export function xavierNormal(t: Tensor, generator: Generator, options: XavierOptions = {}): Tensor {
  return normal(t, generator, { std: xavierStd(t.shape, options) });
}

function xavierStd(shape: Shape, options: XavierOptions): number {
  const { fanIn, fanOut } = fans(shape);
  return (options.gain ?? 1) * Math.sqrt(2 / (fanIn + fanOut));
}

/** U(±gain · √(3 / fan)) (He et al., arXiv 1502.01852). */
export function kaimingUniform(t: Tensor, generator: Generator, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd(t.shape, options);
  return uniform(t, generator, { low: -bound, high: bound });
}

/** N(0, gain² / fan) (He et al., arXiv 1502.01852). */
export function kaimingNormal(t: Tensor, generator: Generator, options: KaimingOptions = {}): Tensor {
  return normal(t, generator, { std: kaimingStd(t.shape, options) });
}

function kaimingStd(shape: Shape, { a = 0, mode = 'fanIn', nonlinearity = 'leakyRelu' }: KaimingOptions): number {
  return gain(nonlinearity, a) / Math.sqrt(fans(shape)[mode]);
}
