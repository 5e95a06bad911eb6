// The scalar operations that expressions are made of: WGSL and derivative of each. Accuracy matters here: log1p, expm1 and erf
// have no WGSL builtin and keep their relative accuracy near zero. So does NaN, which must reach the result: WGSL leaves open what
// max(NaN, 0) is, and compilers fold x != x to false, so that NaN is told by its bits.

import type { DType } from '../tensor/dtype.ts';
import type { Expr } from './expr.ts';

interface OpSpec {
  /** What it computes in: floats only, any number, whatever it is given, or booleans. */
  readonly domain: 'float' | 'number' | 'any' | 'bool';
  /** Type of the result where it isn't that of the arguments. */
  readonly result?: DType;
  /** Argument that is a condition. */
  readonly condition?: number;
  readonly wgsl?: (args: string[], t: string, float: boolean) => string;
  /** A WGSL function for it, given its name and the types to use (scalar or vec4). Where there is `wgsl` too, for floats only. */
  readonly helper?: (name: string, t: string, u: string, b: string) => string;
  /** Gradients of the arguments. */
  readonly grad?: (args: readonly Expr[], out: Expr, g: Expr) => (Expr | null)[];
}

const infix =
  (symbol: string) =>
  (a: string[]): string =>
    `(${a[0]} ${symbol} ${a[1]})`;
const call =
  (name: string) =>
  (a: string[]): string =>
    `${name}(${a.join(', ')})`;
const compare = (symbol: string): OpSpec => ({ domain: 'number', result: 'bool', wgsl: infix(symbol) });
const unary = (name: string, grad: (x: Expr, out: Expr, g: Expr) => Expr | null): OpSpec => ({
  domain: 'float',
  wgsl: call(name),
  grad: ([x], out, g) => [grad(x, out, g)],
});

/** Integers are whole already. */
const rounding = (name: string): OpSpec => ({
  domain: 'number',
  wgsl: (a, _t, float) => (float ? `${name}(${a[0]})` : a[0]),
});
/** Whether a float, or each of a vector, is NaN. `u` is u32 or a vector of it. */
const nan = (x: string, u: string): string => `((bitcast<${u}>(${x}) & ${u}(0x7fffffffu)) > ${u}(0x7f800000u))`;

const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);

/** Names of the scalar operations. */
export type OpName =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'neg'
  | 'abs'
  | 'sign'
  | 'minimum'
  | 'maximum'
  | 'clamp'
  | 'relu'
  | 'pow'
  | 'powInteger'
  | 'remainder'
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'gt'
  | 'ge'
  | 'and'
  | 'or'
  | 'not'
  | 'where'
  | 'exp'
  | 'log'
  | 'sqrt'
  | 'rsqrt'
  | 'sin'
  | 'cos'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'trunc'
  | 'tanh'
  | 'sigmoid'
  | 'log1p'
  | 'expm1'
  | 'erf'
  | 'softplus'
  | 'isNan'
  | 'isInf'
  | 'isFinite';

export const OPS: Record<OpName, OpSpec> = {
  add: { domain: 'number', wgsl: infix('+'), grad: (_a, _o, g) => [g, g] },
  sub: { domain: 'number', wgsl: infix('-'), grad: (_a, _o, g) => [g, g.neg()] },
  mul: { domain: 'number', wgsl: infix('*'), grad: ([x, y], _o, g) => [g.mul(y), g.mul(x)] },
  div: { domain: 'float', wgsl: infix('/'), grad: ([, y], out, g) => [g.div(y), g.mul(out).div(y).neg()] },
  // 0 - x is there for u32 too, but would make -0 of no zero.
  neg: {
    domain: 'number',
    wgsl: (a, t, float) => (float ? `(-${a[0]})` : `(${t}(0) - ${a[0]})`),
    grad: (_a, _o, g) => [g.neg()],
  },
  abs: { domain: 'number', wgsl: call('abs'), grad: ([x], _o, g) => [g.mul(x.sign())] },
  sign: { domain: 'number', wgsl: (a, t) => (t.includes('u32') ? `min(${a[0]}, ${t}(1))` : `sign(${a[0]})`) },
  minimum: {
    domain: 'number',
    wgsl: call('min'),
    helper: (name, t, u) =>
      `fn ${name}(x: ${t}, y: ${t}) -> ${t} { return select(select(min(x, y), y, ${nan('y', u)}), x, ${nan('x', u)}); }`,
    grad: ([x, y], _o, g) => halves(x.lt(y), x.eq(y), g),
  },
  maximum: {
    domain: 'number',
    wgsl: call('max'),
    helper: (name, t, u) =>
      `fn ${name}(x: ${t}, y: ${t}) -> ${t} { return select(select(max(x, y), y, ${nan('y', u)}), x, ${nan('x', u)}); }`,
    grad: ([x, y], _o, g) => halves(x.gt(y), x.eq(y), g),
  },
  // Where the bounds cross, the upper one counts. A value on a bound keeps its gradient, as in PyTorch.
  clamp: {
    domain: 'number',
    wgsl: (a) => `min(max(${a[0]}, ${a[1]}), ${a[2]})`,
    helper: (name, t, u) =>
      `fn ${name}(x: ${t}, lo: ${t}, hi: ${t}) -> ${t} { return select(min(max(x, lo), hi), x, ${nan('x', u)}); }`,
    grad: ([x, lo, hi], _o, g) => [
      x.ge(lo).and(x.le(hi)).where(g, 0),
      x.lt(lo).and(lo.lt(hi)).where(g, 0),
      x.gt(hi).or(hi.lt(lo)).where(g, 0),
    ],
  },
  relu: {
    domain: 'number',
    wgsl: (a, t) => `max(${a[0]}, ${t}(0))`,
    helper: (name, t, u) => `fn ${name}(x: ${t}) -> ${t} { return select(max(x, ${t}(0.0)), x, ${nan('x', u)}); }`,
    grad: ([x], _o, g) => [x.le(0).where(0, g)],
  },
  // WGSL's pow is undefined for a negative base, and drivers disagree on 0.
  pow: {
    domain: 'float',
    helper: (name, t) => `fn ${name}(x: ${t}, y: ${t}) -> ${t} {
  let magnitude = select(pow(abs(x), y), select(${t}(0.0), ${t}(special(0x7f800000u)), y < ${t}(0.0)), x == ${t}(0.0));
  let whole = y == floor(y);
  let odd = whole & (abs(y - 2.0 * floor(y * 0.5)) == ${t}(1.0));
  let negative = select(${t}(special(0x7fc00000u)), select(magnitude, -magnitude, odd), whole);
  return select(select(magnitude, negative, x < ${t}(0.0)), ${t}(1.0), y == ${t}(0.0));
}`,
    grad: ([x, y], out, g) => [
      y.eq(0).where(0, g.mul(y).mul(x.pow(y.sub(1)))),
      x.eq(0).and(y.ge(0)).where(0, g.mul(out).mul(x.log())),
    ],
  },
  // By squaring, modulo 2³². A negative exponent leaves nothing but powers of 1 and -1.
  powInteger: {
    domain: 'number',
    helper: (name, t, u) => `fn ${name}(x: ${t}, y: ${t}) -> ${t} {
  var result = ${t}(1); var base = x; var rest = ${u}(y);
  for (var i = 0; i < 32; i++) {
    result = select(result, result * base, (rest & ${u}(1u)) == ${u}(1u));
    base *= base;
    rest >>= ${u}(1u);
  }
  return select(result, ${t}(0), (y < ${t}(0)) & (x * x != ${t}(1)));
}`,
  },
  // Python's and PyTorch's remainder: it has the sign of the divisor.
  remainder: {
    domain: 'number',
    wgsl: (a, t, float) =>
      float
        ? `(${a[0]} - ${a[1]} * floor(${a[0]} / ${a[1]}))`
        : t.includes('u32')
          ? `(${a[0]} % ${a[1]})`
          : `(((${a[0]} % ${a[1]}) + ${a[1]}) % ${a[1]})`,
    grad: ([x, y], _o, g) => [g, g.mul(x.div(y).floor()).neg()],
  },
  eq: { domain: 'any', result: 'bool', wgsl: infix('==') },
  // WGSL's != is false for NaN on some drivers.
  ne: { domain: 'any', result: 'bool', wgsl: (a) => `!(${a[0]} == ${a[1]})` },
  lt: compare('<'),
  le: compare('<='),
  gt: compare('>'),
  ge: compare('>='),
  and: { domain: 'bool', result: 'bool', wgsl: infix('&') },
  or: { domain: 'bool', result: 'bool', wgsl: infix('|') },
  not: { domain: 'bool', result: 'bool', wgsl: (a) => `(!${a[0]})` },
  where: {
    domain: 'any',
    condition: 0,
    wgsl: (a) => `select(${a[2]}, ${a[1]}, ${a[0]})`,
    grad: ([c], _o, g) => [null, c.where(g, 0), c.where(0, g)],
  },
  exp: unary('exp', (_x, out, g) => g.mul(out)),
  log: unary('log', (x, _out, g) => g.div(x)),
  sqrt: unary('sqrt', (_x, out, g) => g.mul(0.5).div(out)),
  rsqrt: unary('inverseSqrt', (_x, out, g) => g.mul(-0.5).mul(out.mul(out).mul(out))),
  sin: unary('sin', (x, _out, g) => g.mul(x.cos())),
  cos: unary('cos', (x, _out, g) => g.mul(x.sin()).neg()),
  floor: rounding('floor'),
  ceil: rounding('ceil'),
  round: rounding('round'),
  trunc: rounding('trunc'),
  // Some drivers overflow in tanh.
  tanh: {
    domain: 'float',
    helper: (name, t, u) =>
      `fn ${name}(x: ${t}) -> ${t} { return select(tanh(clamp(x, ${t}(-15.0), ${t}(15.0))), x, ${nan('x', u)}); }`,
    grad: (_a, out, g) => [g.mul(out.mul(out).neg().add(1))],
  },
  sigmoid: {
    domain: 'float',
    wgsl: (a, t) => `(${t}(1.0) / (${t}(1.0) + exp(-${a[0]})))`,
    grad: (_a, out, g) => [g.mul(out).mul(out.neg().add(1))],
  },
  // log(1+x) = 2·artanh(x/(2+x)), a short series near zero.
  log1p: {
    domain: 'float',
    helper: (name, t) => `fn ${name}(x: ${t}) -> ${t} {
  let s = x / (x + 2.0);
  let q = s * s;
  let near = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0))))));
  return select(log(x + 1.0), near, abs(x) < ${t}(0.5));
}`,
    grad: ([x], _o, g) => [g.div(x.add(1))],
  },
  expm1: {
    domain: 'float',
    helper: (name, t) => `fn ${name}(x: ${t}) -> ${t} {
  let near = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x * (1.0 / 40320.0))))))));
  return select(exp(x) - 1.0, near, abs(x) < ${t}(0.5));
}`,
    grad: (_a, out, g) => [g.mul(out.add(1))],
  },
  // Maclaurin series below 1, Abramowitz & Stegun 7.1.26 above.
  erf: {
    domain: 'float',
    helper: (name, t) => `fn ${name}(x: ${t}) -> ${t} {
  let q = x * x;
  let near = x * ${TWO_OVER_SQRT_PI} * (1.0 + q * (-1.0 / 3.0 + q * (0.1 + q * (-1.0 / 42.0 + q * (1.0 / 216.0 + q * (-1.0 / 1320.0 + q * (1.0 / 9360.0
    + q * (-1.0 / 75600.0 + q * (1.0 / 685440.0 + q * (-1.0 / 6894720.0))))))))));
  let r = 1.0 / (1.0 + 0.3275911 * abs(x));
  let tail = r * (0.254829592 + r * (-0.284496736 + r * (1.421413741 + r * (-1.453152027 + r * 1.061405429)))) * exp(-q);
  return select(sign(x) * (1.0 - tail), near, abs(x) < ${t}(1.0));
}`,
    grad: ([x], _o, g) => [g.mul(TWO_OVER_SQRT_PI).mul(x.mul(x).neg().exp())],
  },
  // PyTorch's: x above the threshold 20, log1p(exp(x)) below; written so that exp never overflows.
  softplus: {
    domain: 'float',
    helper: (name, t) => `fn ${name}(x: ${t}) -> ${t} {
  let e = exp(-abs(x));
  let s = e / (e + 2.0);
  let q = s * s;
  let near = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0))))));
  let l = select(log(1.0 + e), near, e < ${t}(0.5));
  return select(max(x, ${t}(0.0)) + l, x, x > ${t}(20.0));
}`,
    grad: ([x], _o, g) => [g.mul(x.gt(20).where(1, x.sigmoid()))],
  },
  isNan: {
    domain: 'float',
    result: 'bool',
    helper: (name, t, u, b) => `fn ${name}(x: ${t}) -> ${b} { return ${nan('x', u)}; }`,
  },
  isInf: {
    domain: 'float',
    result: 'bool',
    helper: (name, t, u, b) =>
      `fn ${name}(x: ${t}) -> ${b} { return (bitcast<${u}>(x) & ${u}(0x7fffffffu)) == ${u}(0x7f800000u); }`,
  },
  isFinite: {
    domain: 'float',
    result: 'bool',
    helper: (name, t, u, b) =>
      `fn ${name}(x: ${t}) -> ${b} { return (bitcast<${u}>(x) & ${u}(0x7fffffffu)) < ${u}(0x7f800000u); }`,
  },
};

/** A tie of min or max shares its gradient, as PyTorch does. */
function halves(first: Expr, tie: Expr, g: Expr): Expr[] {
  const half = g.mul(0.5);
  const toFirst = tie.where(half, first.where(g, 0));
  return [toFirst, g.sub(toFirst)];
}
