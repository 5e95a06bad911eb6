// Scalar expressions: what an elementwise operation computes for one element. An expression is written once; its WGSL (scalar and
// vec4) and its derivative come from it. Equal expressions are one object, so that code generation computes nothing twice.

import { isFloat, promote, type DType } from '../tensor/dtype.ts';
import { OPS, type OpName } from './operators.ts';

type Kind = 'input' | 'scalar' | 'const' | 'op' | 'cast';

/** A number, or an expression. */
export type ExprLike = Expr | number | boolean;

const interned = new Map<string, Expr>();

export class Expr {
  readonly kind: Kind;
  readonly type: DType;
  readonly op: OpName | null;
  readonly args: readonly Expr[];
  /** Number of the input or scalar; value of the constant. */
  readonly value: number;
  readonly id: number;

  private constructor(kind: Kind, type: DType, op: OpName | null, args: readonly Expr[], value: number, id: number) {
    this.kind = kind;
    this.type = type;
    this.op = op;
    this.args = args;
    this.value = value;
    this.id = id;
  }

  private static make(kind: Kind, type: DType, op: OpName | null, args: readonly Expr[], value: number): Expr {
    const key = `${kind}:${type}:${op ?? ''}:${Object.is(value, -0) ? '-0' : value}:${args.map((a) => a.id).join()}`;
    let expr = interned.get(key);
    if (!expr) {
      expr = new Expr(kind, type, op, args, value, interned.size);
      interned.set(key, expr);
    }
    return expr;
  }

  /** Element of the `index`th tensor. */
  static input(index: number, type: DType): Expr {
    return Expr.make('input', type, null, [], index);
  }

  /** The `index`th number given at run time: it changes without a new pipeline. */
  static scalar(index: number, type: DType = 'f32'): Expr {
    return Expr.make('scalar', type, null, [], index);
  }

  static constant(value: number, type: DType = 'f32'): Expr {
    return Expr.make('const', type, null, [], value);
  }

  /** Applies an operation, after bringing its arguments to the type that it computes in. */
  static apply(op: OpName, ...operands: ExprLike[]): Expr {
    const spec = OPS[op];
    const typed = operands.filter((a): a is Expr => a instanceof Expr);
    let common = typed.map((a) => a.type).reduce((a, b) => promote(a, b), 'bool');
    const literals = operands.filter((a): a is number => typeof a === 'number');
    if (!isFloat(common)) {
      if (literals.some((v) => !Number.isInteger(v))) common = 'f32';
      else if (literals.length && common === 'bool') common = 'i32';
      else if (common === 'u32' && literals.some((v) => v < 0)) common = 'i32';
    }
    if (spec.domain === 'float' && !isFloat(common)) common = 'f32';
    if (spec.domain === 'number' && common === 'bool') common = 'i32';
    const args = operands.map((a, i) => {
      const target = spec.domain === 'bool' || spec.condition === i ? 'bool' : common;
      return a instanceof Expr ? a.cast(target) : Expr.constant(Number(a), target);
    });
    const values = spec.condition === undefined ? args : args.filter((_, i) => i !== spec.condition);
    const type = spec.result ?? values.map((a) => a.type).reduce(promote);
    return simplify(op, args) ?? Expr.make('op', type, op, args, 0);
  }

  cast(type: DType): Expr {
    if (this.type === type) return this;
    if (this.kind === 'const')
      return Expr.constant(
        type === 'bool' ? Number(this.value !== 0) : isFloat(type) ? this.value : Math.trunc(this.value),
        type,
      );
    return Expr.make('cast', type, null, [this], 0);
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
    return this.mul(0.5).mul(this.mul(Math.SQRT1_2).erf().add(1));
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

/**
 * Reverse-mode derivative: for each input of `wanted`, d(Σ seeds·outputs)/d(input) as an expression of the same inputs and the
 * seeds, or null where it doesn't depend on it.
 */
export function differentiate(
  outputs: readonly Expr[],
  seeds: readonly Expr[],
  wanted: readonly number[],
): (Expr | null)[] {
  const order = topological(outputs);
  const gradients = new Map<Expr, Expr>();
  const give = (to: Expr, g: Expr | null): void => {
    if (!g || !isFloat(to.type) || (g.kind === 'const' && g.value === 0)) return;
    const known = gradients.get(to);
    gradients.set(to, known ? known.add(g) : g);
  };
  outputs.forEach((out, i) => give(out, seeds[i]));
  for (const node of order.reverse()) {
    const g = gradients.get(node);
    if (!g) continue;
    if (node.kind === 'cast') give(node.args[0], g);
    else if (node.op) OPS[node.op].grad?.(node.args, node, g).forEach((d, i) => give(node.args[i], d));
  }
  return wanted.map((index) => {
    for (const [node, g] of gradients) if (node.kind === 'input' && node.value === index) return g;
    return null;
  });
}

/** Every node below the outputs, each after its arguments. */
export function topological(outputs: readonly Expr[]): Expr[] {
  const order: Expr[] = [];
  const seen = new Set<Expr>();
  const walk = (node: Expr): void => {
    if (seen.has(node)) return;
    seen.add(node);
    node.args.forEach(walk);
    order.push(node);
  };
  outputs.forEach(walk);
  return order;
}

/** WGSL of the computation: `let` lines, and the name that holds each output. `vec` computes four elements at once. */
export function generate(
  outputs: readonly Expr[],
  vec: boolean,
  input: (index: number) => string,
  scalar: (index: number) => string,
): { lines: string[]; results: string[]; helpers: Set<string> } {
  const lines: string[] = [];
  const helpers = new Set<string>();
  const names = new Map<Expr, string>();
  // f16 is computed in f32.
  const base = (type: DType): string => (type === 'f16' ? 'f32' : type);
  const typeName = (type: DType): string => (vec ? `vec4<${base(type)}>` : base(type));
  for (const node of topological(outputs)) {
    const args = node.args.map((a) => names.get(a)!);
    const t = typeName(node.type);
    let text: string;
    if (node.kind === 'input') text = input(node.value);
    else if (node.kind === 'scalar') text = `${t}(${scalar(node.value)})`;
    else if (node.kind === 'const') text = literal(node.value, node.type, t);
    else if (node.kind === 'cast') text = typeName(node.args[0].type) === t ? args[0] : `${t}(${args[0]})`;
    else {
      const spec = OPS[node.op!];
      const float = isFloat(node.args.at(-1)!.type);
      if (spec.helper && (float || !spec.wgsl)) {
        const name = `${node.op}_${base(node.args.at(-1)!.type)}${vec ? 'x4' : ''}`;
        helpers.add(
          spec.helper(name, typeName(node.args.at(-1)!.type), vec ? 'vec4<u32>' : 'u32', vec ? 'vec4<bool>' : 'bool'),
        );
        text = `${name}(${args.join(', ')})`;
      } else text = spec.wgsl!(args, t, float);
    }
    const name = `t${names.size}`;
    lines.push(`let ${name} = ${text};`);
    names.set(node, name);
  }
  return { lines, results: outputs.map((o) => names.get(o)!), helpers };
}

function literal(value: number, type: DType, t: string): string {
  if (type === 'bool') return `${t}(${value !== 0})`;
  if (!isFloat(type)) return `${t}(${Math.trunc(value)})`;
  // WGSL refuses infinities and NaN in constant expressions; a variable is not constant.
  if (!Number.isFinite(Math.fround(value)))
    return `${t}(special(${Number.isNaN(value) ? '0x7fc00000u' : value > 0 ? '0x7f800000u' : '0xff800000u'}))`;
  const rounded = Math.fround(value);
  const text = Object.is(rounded, -0) ? '-0.0' : String(rounded);
  return `${t}(${/[.e]/.test(text) ? text : `${text}.0`})`;
}

/** Makes the bits of an infinity or NaN a value at run time. */
export const SPECIAL = 'fn special(bits: u32) -> f32 { var b = bits; return bitcast<f32>(b); }';
