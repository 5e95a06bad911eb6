// The built-in elementwise operations. Each is one expression; numbers may stand for tensors.

import { isFloat, type DType } from '../tensor/dtype.ts';
import { elementwise, type NumberRule } from '../expr/elementwise.ts';
import { ValueError } from '../errors.ts';
import { Expr } from '../expr/expr.ts';
import { nearestWhole, SWAPPED, wholeComparison, type Comparison } from '../expr/whole.ts';
import type { Tensor, TensorLike } from '../tensor.ts';

type Binary = (x: TensorLike, y: TensorLike) => Tensor;
type Unary = (x: Tensor) => Tensor;

/** A number takes the type of the integers beside it where it is whole, and has to fit it; else it is a float. */
const beside =
  (op: string): NumberRule =>
  (value, position, tensors) => {
    if (isFloat(tensors)) return { value, type: tensors };
    if (!Number.isInteger(value)) return { value, type: 'f32' };
    if (tensors === 'bool') return { value, type: value < 2 ** 31 && value >= -(2 ** 31) ? 'i32' : 'f32' };
    return { value: nearestWhole(op, value, tensors, position), type: tensors };
  };
/** For what computes in floats anyway. */
const asFloat: NumberRule = (value, _position, tensors) => ({ value, type: isFloat(tensors) ? tensors : 'f32' });
/** For logic: NaN is true. */
const asCondition: NumberRule = (value) => ({ value: Object.is(value, 0) || value === 0 ? 0 : 1, type: 'u32' });

/** An operation whose numbers follow the rule. */
function made(name: string, fn: (...x: Expr[]) => Expr, rule = beside(name)): (...operands: TensorLike[]) => Tensor {
  return elementwise(name, fn, rule);
}

/** A comparison, exact for whole numbers beside any number. */
function comparison(op: Comparison): Binary {
  const compare = made(op, (x, y) => Expr.apply(op, x, y));
  return (x, y) => {
    if (typeof y === 'number' && typeof x !== 'number' && (x.dtype === 'i32' || x.dtype === 'u32')) {
      const [exact, threshold] = wholeComparison(op, y, x.dtype);
      return exact === op ? compare(x, threshold) : COMPARISONS[exact](x, threshold);
    }
    if (typeof x === 'number' && typeof y !== 'number' && !isFloat(y.dtype)) return COMPARISONS[SWAPPED[op]](y, x);
    return compare(x, y);
  };
}

/** x + y, broadcast. */
export const add: Binary = made('add', (x, y) => x.add(y));
/** x − y, broadcast. */
export const sub: Binary = made('sub', (x, y) => x.sub(y));
/** x · y, broadcast. */
export const mul: Binary = made('mul', (x, y) => x.mul(y));
/** x / y, broadcast; integers divide to integers towards zero. */
export const div: Binary = made('div', (x, y) => x.div(y), asFloat);
const power: Binary = made('pow', (x, y) => x.pow(y));
/**
 * xʸ. A negative base has a power for whole exponents only, else NaN. Integers to integer powers stay integers; there a
 * negative exponent gives 0, except for the bases 1 and -1. Small whole numbers are multiplied out.
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
const cube = made('cube', (x) => x.mul(x).mul(x));
/** Remainder with the sign of the divisor, as in Python. */
export const remainder: Binary = made('remainder', (x, y) => x.remainder(y));
/** The smaller; NaN where either is. At a tie both get half of the gradient. */
export const minimum: Binary = made('minimum', (x, y) => x.minimum(y));
/** The larger; NaN where either is. At a tie both get half of the gradient. */
export const maximum: Binary = made('maximum', (x, y) => x.maximum(y));
/** Whether x = y (bool). */
export const eq: Binary = comparison('eq');
/** Whether x ≠ y (bool). */
export const ne: Binary = comparison('ne');
/** Whether x < y (bool). */
export const lt: Binary = comparison('lt');
/** Whether x ≤ y (bool). */
export const le: Binary = comparison('le');
/** Whether x > y (bool). */
export const gt: Binary = comparison('gt');
/** Whether x ≥ y (bool). */
export const ge: Binary = comparison('ge');
const COMPARISONS: Readonly<Record<Comparison, Binary>> = { eq, ne, lt, le, gt, ge };
/** Whether both are true, that is not 0 (bool). */
export const logicalAnd: Binary = made('logicalAnd', (x, y) => x.and(y), asCondition);
/** Whether either is true, that is not 0 (bool). */
export const logicalOr: Binary = made('logicalOr', (x, y) => x.or(y), asCondition);
/** Whether it is false, that is 0 (bool). */
export const logicalNot: Unary = made('logicalNot', (x) => x.not());
/** `condition ? x : y`, elementwise. */
export const where: (condition: Tensor, x: TensorLike, y: TensorLike) => Tensor = made('where', (c, x, y) =>
  c.where(x, y),
);
/** min(max(x, lo), hi); NaN stays. A value on a bound keeps its gradient. */
export const clamp: (x: Tensor, lo: TensorLike, hi: TensorLike) => Tensor = made('clamp', (x, lo, hi) =>
  x.clamp(lo, hi),
);

/** −x. */
export const neg: Unary = made('neg', (x) => x.neg());
/** |x|. */
export const abs: Unary = made('abs', (x) => x.abs());
/** −1, 0 or 1. */
export const sign: Unary = made('sign', (x) => x.sign());
/** x². */
export const square: Unary = made('square', (x) => x.square());
/** 1 / x. */
export const reciprocal: Unary = made('reciprocal', (x) => x.reciprocal());
/** eˣ. */
export const exp: Unary = made('exp', (x) => x.exp());
/** Natural logarithm. */
export const log: Unary = made('log', (x) => x.log());
/** log(1 + x), exact near 0. */
export const log1p: Unary = made('log1p', (x) => x.log1p());
/** eˣ − 1, exact near 0. */
export const expm1: Unary = made('expm1', (x) => x.expm1());
/** √x. */
export const sqrt: Unary = made('sqrt', (x) => x.sqrt());
/** 1 / √x. */
export const rsqrt: Unary = made('rsqrt', (x) => x.rsqrt());
/** Sine of x in radians. */
export const sin: Unary = made('sin', (x) => x.sin());
/** Cosine of x in radians. */
export const cos: Unary = made('cos', (x) => x.cos());
/** Hyperbolic tangent. */
export const tanh: Unary = made('tanh', (x) => x.tanh());
/** 1 / (1 + e⁻ˣ). */
export const sigmoid: Unary = made('sigmoid', (x) => x.sigmoid());
/** The error function. */
export const erf: Unary = made('erf', (x) => x.erf());
/** 1 - erf(x), to all digits where it is small. */
export const erfc: Unary = made('erfc', (x) => x.erfc());
/** log(1 + eˣ), and x above 20. */
export const softplus: Unary = made('softplus', (x) => x.softplus());
/** x · sigmoid(x). */
export const silu: Unary = made('silu', (x) => x.silu());
/** x · Φ(x), with the error function. */
export const gelu: Unary = made('gelu', (x) => x.gelu());
/** ½x (1 + tanh(√(2/π) (x + 0.044715 x³))): GELU by its approximation. */
export const geluTanh: Unary = made('geluTanh', (x) => x.geluTanh());
/** max(x, 0). */
export const relu: Unary = made('relu', (x) => x.relu());
/** The largest whole number ≤ x. */
export const floor: Unary = made('floor', (x) => x.floor());
/** The smallest whole number ≥ x. */
export const ceil: Unary = made('ceil', (x) => x.ceil());
/** To the nearest whole number, ties to even. */
export const round: Unary = made('round', (x) => x.round());
/** Towards zero. */
export const trunc: Unary = made('trunc', (x) => x.trunc());
/** Whether it is NaN (bool). */
export const isNan: Unary = made('isNan', (x) => x.isNan());
/** Whether it is ∞ or −∞ (bool). */
export const isInf: Unary = made('isInf', (x) => x.isInf());
/** Whether it is neither NaN nor infinite (bool). */
export const isFinite: Unary = made('isFinite', (x) => x.isFinite());

const casts = new Map<DType, Unary>();
/** The values in another type. Floats become integers by truncation; bool is whether a value is not 0. */
export function cast(x: Tensor, dtype: DType): Tensor {
  let op = casts.get(dtype);
  if (!op) casts.set(dtype, (op = made(`cast${dtype}`, (e) => e.cast(dtype))));
  return op(x);
}

const identity: Unary = made('copy', (x) => x);
/** A copy on memory of its own, row-major. */
export function clone(x: Tensor): Tensor {
  return identity(x);
}
/** The tensor itself where it is row-major, else a copy. */
export function contiguous(x: Tensor): Tensor {
  return x.isContiguous ? x : identity(x);
}
