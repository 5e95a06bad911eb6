// Scalar expressions: what an elementwise operation computes for one element. An expression is written once; its WGSL
// (scalar, and for four elements) and its derivative come from it.

import { isFloat, promote, type DType } from '../tensor/dtype.ts';
import { OPS, type OpName } from './operators.ts';
import { isComparison, nearestWhole, SWAPPED, wholeComparison, type Comparison } from './whole.ts';

type Kind = 'input' | 'scalar' | 'const' | 'op' | 'cast';

/** A number, or an expression. */
export type ExprLike = Expr | number | boolean;

export class Expr {
  readonly kind: Kind;
  readonly type: DType;
  readonly op: OpName | null;
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

  cast(type: DType): Expr {
    if (this.type === type) return this;
    if (this.kind === 'const' && (isFloat(type) || Number.isInteger(this.value) || type === 'bool'))
      return Expr.constant(type === 'bool' ? Number(this.value !== 0) : this.value, type);
    return new Expr('cast', type, null, [this], 0);
  }

  get isConstant(): boolean {
    return this.kind === 'const';
  }

  add(y: ExprLike): Expr {
    return Expr.apply('add', this, y);
  }
  sub(y: ExprLike): Expr {
    return Expr.apply('sub', this, y);
  }
  mul(y: ExprLike): Expr {
    return Expr.apply('mul', this, y);
  }
  div(y: ExprLike): Expr {
    return Expr.apply('div', this, y);
  }
  pow(y: ExprLike): Expr {
    if (y === 2) return this.square();
    const whole = !isFloat(this.type) && (y instanceof Expr ? !isFloat(y.type) : Number.isInteger(Number(y)));
    return Expr.apply(whole ? 'powInteger' : 'pow', this, y);
  }
  remainder(y: ExprLike): Expr {
    return Expr.apply('remainder', this, y);
  }
  minimum(y: ExprLike): Expr {
    return Expr.apply('minimum', this, y);
  }
  maximum(y: ExprLike): Expr {
    return Expr.apply('maximum', this, y);
  }
  eq(y: ExprLike): Expr {
    return Expr.apply('eq', this, y);
  }
  ne(y: ExprLike): Expr {
    return Expr.apply('ne', this, y);
  }
  lt(y: ExprLike): Expr {
    return Expr.apply('lt', this, y);
  }
  le(y: ExprLike): Expr {
    return Expr.apply('le', this, y);
  }
  gt(y: ExprLike): Expr {
    return Expr.apply('gt', this, y);
  }
  ge(y: ExprLike): Expr {
    return Expr.apply('ge', this, y);
  }
  and(y: ExprLike): Expr {
    return Expr.apply('and', this, y);
  }
  or(y: ExprLike): Expr {
    return Expr.apply('or', this, y);
  }
  not(): Expr {
    return Expr.apply('not', this);
  }
  /** `this ? a : b`. */
  where(a: ExprLike, b: ExprLike): Expr {
    return Expr.apply('where', this, a, b);
  }
  clamp(lo: ExprLike, hi: ExprLike): Expr {
    return Expr.apply('clamp', this, lo, hi);
  }
  neg(): Expr {
    return Expr.apply('neg', this);
  }
  abs(): Expr {
    return Expr.apply('abs', this);
  }
  sign(): Expr {
    return Expr.apply('sign', this);
  }
  square(): Expr {
    return this.mul(this);
  }
  reciprocal(): Expr {
    return Expr.apply('div', 1, this);
  }
  exp(): Expr {
    return Expr.apply('exp', this);
  }
  log(): Expr {
    return Expr.apply('log', this);
  }
  log1p(): Expr {
    return Expr.apply('log1p', this);
  }
  expm1(): Expr {
    return Expr.apply('expm1', this);
  }
  sqrt(): Expr {
    return Expr.apply('sqrt', this);
  }
  rsqrt(): Expr {
    return Expr.apply('rsqrt', this);
  }
  sin(): Expr {
    return Expr.apply('sin', this);
  }
  cos(): Expr {
    return Expr.apply('cos', this);
  }
  tanh(): Expr {
    return Expr.apply('tanh', this);
  }
  sigmoid(): Expr {
    return Expr.apply('sigmoid', this);
  }
  erf(): Expr {
    return Expr.apply('erf', this);
  }
  /** 1 - erf(x), to all digits where it is small. */
  erfc(): Expr {
    return Expr.apply('erfc', this);
  }
  softplus(): Expr {
    return Expr.apply('softplus', this);
  }
  floor(): Expr {
    return Expr.apply('floor', this);
  }
  ceil(): Expr {
    return Expr.apply('ceil', this);
  }
  round(): Expr {
    return Expr.apply('round', this);
  }
  trunc(): Expr {
    return Expr.apply('trunc', this);
  }
  isNan(): Expr {
    return Expr.apply('isNan', this);
  }
  isInf(): Expr {
    return Expr.apply('isInf', this);
  }
  isFinite(): Expr {
    return Expr.apply('isFinite', this);
  }
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
