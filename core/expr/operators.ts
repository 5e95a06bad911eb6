// The scalar operations that expressions are made of: the WGSL of each (derivatives.ts has the derivatives). Functions that
// WGSL has no good form of come from wgslMath.ts. NaN must reach the result: WGSL leaves open what max(NaN, 0) is.

import type { DType } from '../tensor/dtype.ts';
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
const floats = (wgsl: Wgsl): OpSpec => ({ domain: 'float', wgsl });
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
  add: { domain: 'number', wgsl: infix('+') },
  sub: { domain: 'number', wgsl: infix('-') },
  mul: { domain: 'number', wgsl: infix('*') },
  div: { domain: 'float', wgsl: infix('/') },
  // 0 - x is there for u32 too, but would make -0 of no zero.
  neg: {
    domain: 'number',
    wgsl: (a, { t, type }) => (type === 'f32' ? `(-${a[0]})` : `(${t}(0) - ${a[0]})`),
  },
  abs: { domain: 'number', wgsl: call('abs') },
  sign: {
    domain: 'number',
    wgsl: ([x], w) =>
      w.type === 'f32'
        ? `select(sign(${x}), ${x}, ${w.math('nan')}(${x}))`
        : w.type === 'u32'
          ? `min(${x}, ${w.t}(1))`
          : `sign(${x})`,
  },
  minimum: { domain: 'number', wgsl: math('minimum', 'min') },
  maximum: { domain: 'number', wgsl: math('maximum', 'max') },
  // Where the bounds cross, the upper one counts. A value on a bound keeps its gradient, as in PyTorch.
  clamp: {
    domain: 'number',
    wgsl: ([x, lo, hi], w) => `${math('minimum', 'min')([math('maximum', 'max')([x, lo], w), hi], w)}`,
  },
  relu: {
    domain: 'number',
    wgsl: ([x], w) => math('maximum', 'max')([x, `${w.t}(0)`], w),
  },
  pow: {
    domain: 'float',
    wgsl: math('pow'),
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
  },
  exp: floats(math('exp')),
  log: floats(math('log')),
  sqrt: floats(call('sqrt')),
  rsqrt: floats(call('inverseSqrt')),
  sin: floats(math('sin')),
  cos: floats(math('cos')),
  floor: rounding('floor'),
  ceil: rounding('ceil'),
  round: rounding('round'),
  trunc: rounding('trunc'),
  tanh: floats(math('tanh')),
  sigmoid: floats(math('sigmoid')),
  log1p: floats(math('log1p')),
  expm1: floats(math('expm1')),
  erf: floats(math('erf')),
  erfc: floats(math('erfc')),
  softplus: floats(math('softplus')),
  isNan: magnitude('>'),
  isInf: magnitude('=='),
  isFinite: magnitude('<'),
};
