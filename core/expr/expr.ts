// Scalar expressions: what an elementwise operation computes for one element. An expression is written once; its WGSL
// (scalar, and for four elements) and its derivative come from it.

import { isFloat, promote, type DType } from '../tensor/dtype.ts';
import { OPS, type OpName } from './operators.ts';
import { isComparison, nearestWhole, SWAPPED, wholeComparison, type Comparison } from './whole.ts';

type Kind = 'input' | 'scalar' | 'const' | 'op' | 'cast';

/** A number, or an expression. */
export type ExprLike = Expr | number | boolean;

/** A formula over one element. `fuse` gives its function one for each tensor; methods make larger ones of it. */
export class Expr {
  /** What it is: an input, a number, or an operation on others. */
  readonly kind: Kind;
  /** Type of its value. */
  readonly type: DType;
  /** The operation, if it is one. */
  readonly op: OpName | null;
  /** What the operation is applied to. */
  readonly args: readonly Expr[];
  /** Number of the input or scalar; value of the constant. */
  readonly value: number;

  /** @internal */
  constructor(kind: Kind, type: DType, op: OpName | null, args: readonly Expr[], value: number) {
    this.kind = kind;
    this.type = type;
    this.op = op;
    this.args = args;
    this.value = value;
  }

  /** Input `index`: an element of a tensor, or what else the kernel's sources say. */
  static input(index: number, type: DType): Expr {
    return new Expr('input', type, null, [], index);
  }

  /** The `index`th number given at run time: it changes without a new pipeline. */
  static scalar(index: number, type: DType = 'f32'): Expr {
    return new Expr('scalar', type, null, [], index);
  }

  /** A number. */
  static constant(value: number, type: DType = 'f32'): Expr {
    return new Expr('const', type, null, [], value);
  }

  /**
   * Applies an operation, after bringing its arguments to the type that it computes in. Comparisons of whole numbers
   * are exact, also of i32 with u32 and with numbers that the type can't hold.
   *
   * @throws ValueError for a whole number that doesn't fit the type of the integers beside it
   */
  static apply(op: OpName, ...operands: ExprLike[]): Expr {
    const spec = OPS[op];
    const typed = operands.filter((a): a is Expr => a instanceof Expr);
    if (isComparison(op) && !typed.some((a) => isFloat(a.type))) {
      const exact = compareWhole(op, operands);
      if (exact) return exact;
    }
    let common = typed.map((a) => a.type).reduce((a, b) => promote(a, b), 'bool');
    const literals = operands.filter((a): a is number => typeof a === 'number');
    if (!isFloat(common) && spec.domain !== 'bool') {
      if (literals.some((v) => !Number.isInteger(v))) common = 'f32';
      else if (literals.length && common === 'bool') common = 'i32';
    }
    if (spec.domain === 'float' && !isFloat(common)) common = 'f32';
    if (spec.domain === 'number' && common === 'bool') common = 'i32';
    const args = operands.map((a, i) => {
      const target = spec.domain === 'bool' || spec.condition === i ? 'bool' : common;
      if (a instanceof Expr) return a.cast(target);
      return Expr.constant(
        isFloat(target) || target === 'bool' ? Number(a) : nearestWhole(op, Number(a), target, i),
        target,
      );
    });
    const values = spec.condition === undefined ? args : args.filter((_, i) => i !== spec.condition);
    const type = spec.result ?? values.map((a) => a.type).reduce(promote);
    return simplify(op, args) ?? new Expr('op', type, op, args, 0);
  }

  /** The value in another type. */
  cast(type: DType): Expr {
    if (this.type === type) return this;
    if (this.kind === 'const' && (isFloat(type) || Number.isInteger(this.value) || type === 'bool'))
      return Expr.constant(type === 'bool' ? Number(this.value !== 0) : this.value, type);
    return new Expr('cast', type, null, [this], 0);
  }

  /** Whether it is a number known now. */
  get isConstant(): boolean {
    return this.kind === 'const';
  }

  /** x + y. */
  add(y: ExprLike): Expr {
    return Expr.apply('add', this, y);
  }
  /** x − y. */
  sub(y: ExprLike): Expr {
    return Expr.apply('sub', this, y);
  }
  /** x · y. */
  mul(y: ExprLike): Expr {
    return Expr.apply('mul', this, y);
  }
  /** x / y; integers divide to integers towards zero. */
  div(y: ExprLike): Expr {
    return Expr.apply('div', this, y);
  }
  /** xʸ. NaN for a negative base and an exponent that is not whole. */
  pow(y: ExprLike): Expr {
    if (y === 2) return this.square();
    const whole = !isFloat(this.type) && (y instanceof Expr ? !isFloat(y.type) : Number.isInteger(Number(y)));
    return Expr.apply(whole ? 'powInteger' : 'pow', this, y);
  }
  /** Remainder of x / y with the sign of y, as in Python. */
  remainder(y: ExprLike): Expr {
    return Expr.apply('remainder', this, y);
  }
  /** The smaller of x and y; NaN where either is. At a tie both get half of the gradient. */
  minimum(y: ExprLike): Expr {
    return Expr.apply('minimum', this, y);
  }
  /** The larger of x and y; NaN where either is. At a tie both get half of the gradient. */
  maximum(y: ExprLike): Expr {
    return Expr.apply('maximum', this, y);
  }
  /** Whether x = y (bool). */
  eq(y: ExprLike): Expr {
    return Expr.apply('eq', this, y);
  }
  /** Whether x ≠ y (bool). */
  ne(y: ExprLike): Expr {
    return Expr.apply('ne', this, y);
  }
  /** Whether x < y (bool). */
  lt(y: ExprLike): Expr {
    return Expr.apply('lt', this, y);
  }
  /** Whether x ≤ y (bool). */
  le(y: ExprLike): Expr {
    return Expr.apply('le', this, y);
  }
  /** Whether x > y (bool). */
  gt(y: ExprLike): Expr {
    return Expr.apply('gt', this, y);
  }
  /** Whether x ≥ y (bool). */
  ge(y: ExprLike): Expr {
    return Expr.apply('ge', this, y);
  }
  /** Whether both are true (bool). */
  and(y: ExprLike): Expr {
    return Expr.apply('and', this, y);
  }
  /** Whether either is true (bool). */
  or(y: ExprLike): Expr {
    return Expr.apply('or', this, y);
  }
  /** Whether it is false (bool). */
  not(): Expr {
    return Expr.apply('not', this);
  }
  /** `this ? a : b`. */
  where(a: ExprLike, b: ExprLike): Expr {
    return Expr.apply('where', this, a, b);
  }
  /** min(max(x, lo), hi); NaN stays. */
  clamp(lo: ExprLike, hi: ExprLike): Expr {
    return Expr.apply('clamp', this, lo, hi);
  }
  /** −x. */
  neg(): Expr {
    return Expr.apply('neg', this);
  }
  /** |x|. */
  abs(): Expr {
    return Expr.apply('abs', this);
  }
  /** −1, 0 or 1. */
  sign(): Expr {
    return Expr.apply('sign', this);
  }
  /** x². */
  square(): Expr {
    return this.mul(this);
  }
  /** 1 / x. */
  reciprocal(): Expr {
    return Expr.apply('div', 1, this);
  }
  /** eˣ. */
  exp(): Expr {
    return Expr.apply('exp', this);
  }
  /** Natural logarithm. */
  log(): Expr {
    return Expr.apply('log', this);
  }
  /** log(1 + x), exact near 0. */
  log1p(): Expr {
    return Expr.apply('log1p', this);
  }
  /** eˣ − 1, exact near 0. */
  expm1(): Expr {
    return Expr.apply('expm1', this);
  }
  /** √x. */
  sqrt(): Expr {
    return Expr.apply('sqrt', this);
  }
  /** 1 / √x. */
  rsqrt(): Expr {
    return Expr.apply('rsqrt', this);
  }
  /** Sine of x in radians. */
  sin(): Expr {
    return Expr.apply('sin', this);
  }
  /** Cosine of x in radians. */
  cos(): Expr {
    return Expr.apply('cos', this);
  }
  /** Hyperbolic tangent. */
  tanh(): Expr {
    return Expr.apply('tanh', this);
  }
  /** 1 / (1 + e⁻ˣ). */
  sigmoid(): Expr {
    return Expr.apply('sigmoid', this);
  }
  /** The error function. */
  erf(): Expr {
    return Expr.apply('erf', this);
  }
  /** 1 - erf(x), to all digits where it is small. */
  erfc(): Expr {
    return Expr.apply('erfc', this);
  }
  /** log(1 + eˣ), and x above 20. */
  softplus(): Expr {
    return Expr.apply('softplus', this);
  }
  /** The largest whole number ≤ x. */
  floor(): Expr {
    return Expr.apply('floor', this);
  }
  /** The smallest whole number ≥ x. */
  ceil(): Expr {
    return Expr.apply('ceil', this);
  }
  /** To the nearest whole number, ties to even. */
  round(): Expr {
    return Expr.apply('round', this);
  }
  /** Towards zero. */
  trunc(): Expr {
    return Expr.apply('trunc', this);
  }
  /** Whether it is NaN (bool). */
  isNan(): Expr {
    return Expr.apply('isNan', this);
  }
  /** Whether it is ∞ or −∞ (bool). */
  isInf(): Expr {
    return Expr.apply('isInf', this);
  }
  /** Whether it is neither NaN nor infinite (bool). */
  isFinite(): Expr {
    return Expr.apply('isFinite', this);
  }
  /** max(x, 0). */
  relu(): Expr {
    return Expr.apply('relu', this);
  }
  /** x·σ(x). */
  silu(): Expr {
    return this.mul(this.sigmoid());
  }
  /** x·Φ(x) by the error function, as PyTorch's default. */
  gelu(): Expr {
    return this.mul(0.5).mul(this.mul(-Math.SQRT1_2).erfc());
  }
  /** GELU's tanh form. */
  geluTanh(): Expr {
    return this.mul(0.5).mul(
      this.add(this.mul(this).mul(this).mul(0.044715))
        .mul(Math.sqrt(2 / Math.PI))
        .tanh()
        .add(1),
    );
  }
}

/** Comparisons that have to be exact though the types differ; null where the general way will do. */
function compareWhole(op: Comparison, [x, y]: readonly ExprLike[]): Expr | null {
  if (!(x instanceof Expr)) return Expr.apply(SWAPPED[op], y, x);
  if (!(y instanceof Expr)) {
    if (x.type !== 'i32' && x.type !== 'u32') return null;
    const [exact, threshold] = wholeComparison(op, Number(y), x.type);
    return new Expr('op', 'bool', exact, [x, Expr.constant(threshold, x.type)], 0);
  }
  if (x.type === 'u32' && y.type === 'i32') return Expr.apply(SWAPPED[op], y, x);
  if (x.type !== 'i32' || y.type !== 'u32') return null;
  // What is negative is below every u32.
  const negative = x.lt(0);
  const others = Expr.apply(op, x.cast('u32'), y);
  return op === 'lt' || op === 'le' || op === 'ne' ? negative.or(others) : negative.not().and(others);
}

/** x + 0, x · 1 and the like: derivatives are full of them. Not 0 · x, which is NaN where x is not finite. */
function simplify(op: OpName, args: readonly Expr[]): Expr | null {
  const [a, b] = args;
  const is = (e: Expr | undefined, v: number): boolean => e?.kind === 'const' && e.value === v;
  switch (op) {
    case 'add':
      return is(a, 0) ? b : is(b, 0) ? a : null;
    case 'sub':
      return is(b, 0) ? a : null;
    case 'mul':
      return is(a, 1) ? b : is(b, 1) ? a : null;
    case 'div':
      return is(b, 1) ? a : null;
    case 'neg':
      return a.kind === 'const' ? Expr.constant(-a.value, a.type) : null;
    default:
      return null;
  }
}
