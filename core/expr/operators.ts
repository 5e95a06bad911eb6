// The scalar operations that expressions are made of: WGSL and derivative of each. Functions that WGSL has no good form
// of come from wgslMath.ts. NaN must reach the result: WGSL leaves open what max(NaN, 0) is.

import type { DType } from '../tensor/dtype.ts';
import type { Expr } from './expr.ts';
import type { MathName } from './wgslMath.ts';

/** What an operation is written for. */
export interface WgslContext {
  /** Type that it computes in, one element or four. */
  readonly t: string;
  /** Unsigned integers, as many. */
  readonly u: string;
  readonly type: 'f32' | 'i32' | 'u32' | 'bool';
  /** The name of a function of wgslMath.ts, which is then declared. */
  readonly math: (name: MathName) => string;
  /** The name of a function that is declared by this text. */
  readonly declare: (name: string, text: (name: string) => string) => string;
}

interface OpSpec {
  /** What it computes in: floats only, any number, whatever it is given, or booleans. */
  readonly domain: 'float' | 'number' | 'any' | 'bool';
  /** Type of the result where it isn't that of the arguments. */
  readonly result?: DType;
  /** Argument that is a condition. */
  readonly condition?: number;
  readonly wgsl: (args: readonly string[], context: WgslContext) => string;
  /** Gradients of the arguments. */
  readonly grad?: (args: readonly Expr[], out: Expr, g: Expr) => (Expr | null)[];
}

type Wgsl = OpSpec['wgsl'];
const infix =
  (symbol: string): Wgsl =>
  (a) =>
    `(${a[0]} ${symbol} ${a[1]})`;
const call =
  (name: string): Wgsl =>
  (a) =>
    `${name}(${a.join(', ')})`;
/** A function of wgslMath.ts, where there is a built-in for integers. */
const math =
  (name: MathName, ofIntegers?: string): Wgsl =>
  (a, w) =>
    `${w.type === 'f32' ? w.math(name) : ofIntegers}(${a.join(', ')})`;
const compare = (symbol: string): OpSpec => ({ domain: 'number', result: 'bool', wgsl: infix(symbol) });
const unary = (wgsl: Wgsl, grad: (x: Expr, out: Expr, g: Expr) => Expr | null): OpSpec => ({
  domain: 'float',
  wgsl,
  grad: ([x], out, g) => [grad(x, out, g)],
});
/** Integers are whole already. */
const rounding = (name: string): OpSpec => ({
  domain: 'number',
  wgsl: (a, w) => (w.type === 'f32' ? `${name}(${a[0]})` : a[0]),
});
/** Compares the bits of a float without its sign with those of infinity. */
const magnitude = (symbol: string): OpSpec => ({
  domain: 'float',
  result: 'bool',
  wgsl: ([x], { u }) => `((bitcast<${u}>(${x}) & ${u}(0x7fffffffu)) ${symbol} ${u}(0x7f800000u))`,
});

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
  | 'erfc'
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
    wgsl: (a, { t, type }) => (type === 'f32' ? `(-${a[0]})` : `(${t}(0) - ${a[0]})`),
    grad: (_a, _o, g) => [g.neg()],
  },
  abs: { domain: 'number', wgsl: call('abs'), grad: ([x], _o, g) => [g.mul(x.sign())] },
  sign: {
    domain: 'number',
    wgsl: ([x], w) =>
      w.type === 'f32'
        ? `select(sign(${x}), ${x}, ${w.math('nan')}(${x}))`
        : w.type === 'u32'
          ? `min(${x}, ${w.t}(1))`
          : `sign(${x})`,
  },
  minimum: { domain: 'number', wgsl: math('minimum', 'min'), grad: ([x, y], _o, g) => halves(x.lt(y), x.eq(y), g) },
  maximum: { domain: 'number', wgsl: math('maximum', 'max'), grad: ([x, y], _o, g) => halves(x.gt(y), x.eq(y), g) },
  // Where the bounds cross, the upper one counts. A value on a bound keeps its gradient, as in PyTorch.
  clamp: {
    domain: 'number',
    wgsl: ([x, lo, hi], w) => `${math('minimum', 'min')([math('maximum', 'max')([x, lo], w), hi], w)}`,
    grad: ([x, lo, hi], _o, g) => [
      x.ge(lo).and(x.le(hi)).where(g, 0),
      x.lt(lo).and(lo.lt(hi)).where(g, 0),
      x.gt(hi).or(hi.lt(lo)).where(g, 0),
    ],
  },
  relu: {
    domain: 'number',
    wgsl: ([x], w) => math('maximum', 'max')([x, `${w.t}(0)`], w),
    grad: ([x], _o, g) => [x.le(0).where(0, g)],
  },
  pow: {
    domain: 'float',
    wgsl: math('pow'),
    grad: ([x, y], out, g) => [
      y.eq(0).where(0, g.mul(y).mul(x.pow(y.sub(1)))),
      x.eq(0).and(y.ge(0)).where(0, g.mul(out).mul(x.log())),
    ],
  },
  // By squaring, modulo 2³². A negative exponent leaves nothing but powers of 1 and -1.
  powInteger: {
    domain: 'number',
    wgsl: (a, { t, u, type, declare }) => {
      const text = (name: string): string => `fn ${name}(x: ${t}, y: ${t}) -> ${t} {
  var result = ${t}(1); var base = x; var rest = ${u}(y);
  for (var i = 0; i < 32; i++) {
    result = select(result, result * base, (rest & ${u}(1u)) == ${u}(1u));
    base *= base;
    rest >>= ${u}(1u);
  }
  return select(result, ${t}(0), (y < ${t}(0)) & (x * x != ${t}(1)));
}`;
      return `${declare(`powInteger_${type}`, text)}(${a.join(', ')})`;
    },
  },
  // Python's and PyTorch's remainder: it has the sign of the divisor.
  remainder: {
    domain: 'number',
    wgsl: (a, { t, type, math: functions, declare }) => {
      if (type === 'f32') return `${functions('remainder')}(${a.join(', ')})`;
      if (type === 'u32') return `(${a[0]} % ${a[1]})`;
      // Of two signs, so that the sum doesn't overflow.
      const text = (name: string): string => `fn ${name}(x: ${t}, y: ${t}) -> ${t} {
  let r = x % y;
  return select(r, r + y, (r != ${t}(0)) & ((r < ${t}(0)) != (y < ${t}(0))));
}`;
      return `${declare('remainder_i32', text)}(${a.join(', ')})`;
    },
    grad: ([x, y], out, g) => [g, g.mul(x.sub(out).div(y).round()).neg()],
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
  exp: unary(math('exp'), (_x, out, g) => g.mul(out)),
  log: unary(math('log'), (x, _out, g) => g.div(x)),
  sqrt: unary(call('sqrt'), (_x, out, g) => g.mul(0.5).div(out)),
  rsqrt: unary(call('inverseSqrt'), (_x, out, g) => g.mul(-0.5).mul(out.mul(out).mul(out))),
  sin: unary(math('sin'), (x, _out, g) => g.mul(x.cos())),
  cos: unary(math('cos'), (x, _out, g) => g.mul(x.sin()).neg()),
  floor: rounding('floor'),
  ceil: rounding('ceil'),
  round: rounding('round'),
  trunc: rounding('trunc'),
  tanh: unary(math('tanh'), (_x, out, g) => g.mul(out.mul(out).neg().add(1))),
  sigmoid: unary(math('sigmoid'), (_x, out, g) => g.mul(out).mul(out.neg().add(1))),
  log1p: unary(math('log1p'), (x, _out, g) => g.div(x.add(1))),
  expm1: unary(math('expm1'), (_x, out, g) => g.mul(out.add(1))),
  erf: unary(math('erf'), (x, _out, g) => g.mul(TWO_OVER_SQRT_PI).mul(x.mul(x).neg().exp())),
  erfc: unary(math('erfc'), (x, _out, g) => g.mul(-TWO_OVER_SQRT_PI).mul(x.mul(x).neg().exp())),
  softplus: unary(math('softplus'), (x, _out, g) => g.mul(x.gt(20).where(1, x.sigmoid()))),
  isNan: magnitude('>'),
  isInf: magnitude('=='),
  isFinite: magnitude('<'),
};

/** A tie of min or max shares its gradient, as PyTorch does. */
function halves(first: Expr, tie: Expr, g: Expr): Expr[] {
  const half = g.mul(0.5);
  const toFirst = tie.where(half, first.where(g, 0));
  return [toFirst, g.sub(toFirst)];
}
