// The built-in elementwise operations. Each is one expression; numbers may stand for tensors.

import { isFloat, type DType } from '../tensor/dtype.ts';
import { elementwise } from '../expr/elementwise.ts';
import { ValueError } from '../errors.ts';
import type { Expr } from '../expr/expr.ts';
import type { Tensor, TensorLike } from '../tensor.ts';

type Binary = (x: TensorLike, y: TensorLike) => Tensor;
type Unary = (x: Tensor) => Tensor;

/** The operation is made at its first use: making it when the module loads would run into the import cycle with Tensor. */
function lazy(name: string, fn: (...x: Expr[]) => Expr): (...operands: TensorLike[]) => Tensor {
  let made: ((...operands: TensorLike[]) => Tensor) | undefined;
  return (...operands) => (made ??= elementwise(name, fn))(...operands);
}

export const add: Binary = lazy('add', (x, y) => x.add(y));
export const sub: Binary = lazy('sub', (x, y) => x.sub(y));
export const mul: Binary = lazy('mul', (x, y) => x.mul(y));
export const div: Binary = lazy('div', (x, y) => x.div(y));
const power: Binary = lazy('pow', (x, y) => x.pow(y));
/**
 * xʸ. A negative base has a power for whole exponents only, else NaN. Integers to integer powers stay integers; there a negative
 * exponent gives 0, except for the bases 1 and -1. Small whole numbers are multiplied out.
 *
 * @throws ValueError for an integer tensor to a negative whole number
 */
export function pow(x: TensorLike, y: TensorLike): Tensor {
  if (typeof x !== 'number') {
    if (y === 2) return square(x);
    if (y === 0.5) return sqrt(x);
    if (y === 3) return cube(x);
    if (!isFloat(x.dtype) && typeof y === 'number' && y < 0 && Number.isInteger(y))
      throw new ValueError('pow', `A ${x.dtype} tensor to the power of ${y} is not whole`, {
        expected: 'an exponent from 0 on',
        remedy: 'cast() it to f32',
      });
  }
  return power(x, y);
}
const cube = lazy('cube', (x) => x.mul(x).mul(x));
/** Remainder with the sign of the divisor, as in Python. */
export const remainder: Binary = lazy('remainder', (x, y) => x.remainder(y));
/** The smaller; NaN where either is. At a tie both get half of the gradient. */
export const minimum: Binary = lazy('minimum', (x, y) => x.minimum(y));
/** The larger; NaN where either is. At a tie both get half of the gradient. */
export const maximum: Binary = lazy('maximum', (x, y) => x.maximum(y));
export const eq: Binary = lazy('eq', (x, y) => x.eq(y));
export const ne: Binary = lazy('ne', (x, y) => x.ne(y));
export const lt: Binary = lazy('lt', (x, y) => x.lt(y));
export const le: Binary = lazy('le', (x, y) => x.le(y));
export const gt: Binary = lazy('gt', (x, y) => x.gt(y));
export const ge: Binary = lazy('ge', (x, y) => x.ge(y));
export const logicalAnd: Binary = lazy('logicalAnd', (x, y) => x.and(y));
export const logicalOr: Binary = lazy('logicalOr', (x, y) => x.or(y));
export const logicalNot: Unary = lazy('logicalNot', (x) => x.not());
/** `condition ? x : y`, elementwise. */
export const where: (condition: Tensor, x: TensorLike, y: TensorLike) => Tensor = lazy('where', (c, x, y) =>
  c.where(x, y),
);
/** min(max(x, lo), hi); NaN stays. A value on a bound keeps its gradient. */
export const clamp: (x: Tensor, lo: TensorLike, hi: TensorLike) => Tensor = lazy('clamp', (x, lo, hi) =>
  x.clamp(lo, hi),
);

export const neg: Unary = lazy('neg', (x) => x.neg());
export const abs: Unary = lazy('abs', (x) => x.abs());
export const sign: Unary = lazy('sign', (x) => x.sign());
export const square: Unary = lazy('square', (x) => x.square());
export const reciprocal: Unary = lazy('reciprocal', (x) => x.reciprocal());
export const exp: Unary = lazy('exp', (x) => x.exp());
export const log: Unary = lazy('log', (x) => x.log());
export const log1p: Unary = lazy('log1p', (x) => x.log1p());
export const expm1: Unary = lazy('expm1', (x) => x.expm1());
export const sqrt: Unary = lazy('sqrt', (x) => x.sqrt());
export const rsqrt: Unary = lazy('rsqrt', (x) => x.rsqrt());
export const sin: Unary = lazy('sin', (x) => x.sin());
export const cos: Unary = lazy('cos', (x) => x.cos());
export const tanh: Unary = lazy('tanh', (x) => x.tanh());
export const sigmoid: Unary = lazy('sigmoid', (x) => x.sigmoid());
export const erf: Unary = lazy('erf', (x) => x.erf());
/** log(1 + eˣ), and x above 20. */
export const softplus: Unary = lazy('softplus', (x) => x.softplus());
export const silu: Unary = lazy('silu', (x) => x.silu());
export const gelu: Unary = lazy('gelu', (x) => x.gelu());
export const geluTanh: Unary = lazy('geluTanh', (x) => x.geluTanh());
export const relu: Unary = lazy('relu', (x) => x.relu());
export const floor: Unary = lazy('floor', (x) => x.floor());
export const ceil: Unary = lazy('ceil', (x) => x.ceil());
/** To the nearest whole number, ties to even. */
export const round: Unary = lazy('round', (x) => x.round());
export const trunc: Unary = lazy('trunc', (x) => x.trunc());
export const isNan: Unary = lazy('isNan', (x) => x.isNan());
export const isInf: Unary = lazy('isInf', (x) => x.isInf());
export const isFinite: Unary = lazy('isFinite', (x) => x.isFinite());

const casts = new Map<DType, Unary>();
export function cast(x: Tensor, dtype: DType): Tensor {
  let op = casts.get(dtype);
  if (!op) casts.set(dtype, (op = lazy(`cast${dtype}`, (e) => e.cast(dtype))));
  return op(x);
}

const identity: Unary = lazy('copy', (x) => x);
/** A copy on memory of its own, row-major. */
export function clone(x: Tensor): Tensor {
  return identity(x);
}
/** The tensor itself where it is row-major, else a copy. */
export function contiguous(x: Tensor): Tensor {
  return x.isContiguous ? x : identity(x);
}
