// The derivatives of the scalar operations, as expressions. An operation that has none here is constant almost everywhere, or gives no
// float.

import type { Expr } from './expr.ts';
import type { OpName } from './operators.ts';

/** Gradients of the arguments, from the result and its gradient; null for an argument that is a condition. */
type Derivative = (args: readonly Expr[], out: Expr, g: Expr) => (Expr | null)[];

const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);

export const DERIVATIVES: Partial<Record<OpName, Derivative>> = {
  exp: (_args, out, g) => [g.mul(out)],
  log: ([x], _out, g) => [g.div(x)],
  sqrt: (_args, out, g) => [g.mul(0.5).div(out)],
  rsqrt: (_args, out, g) => [g.mul(-0.5).mul(out.mul(out).mul(out))],
  sin: ([x], _out, g) => [g.mul(x.cos())],
  cos: ([x], _out, g) => [g.mul(x.sin()).neg()],
  tanh: (_args, out, g) => [g.mul(out.mul(out).neg().add(1))],
  sigmoid: (_args, out, g) => [g.mul(out).mul(out.neg().add(1))],
  log1p: ([x], _out, g) => [g.div(x.add(1))],
  expm1: (_args, out, g) => [g.mul(out.add(1))],
  erf: ([x], _out, g) => [g.mul(TWO_OVER_SQRT_PI).mul(x.mul(x).neg().exp())],
  erfc: ([x], _out, g) => [g.mul(-TWO_OVER_SQRT_PI).mul(x.mul(x).neg().exp())],
  softplus: ([x], _out, g) => [g.mul(x.gt(20).where(1, x.sigmoid()))],
  add: (_args, _out, g) => [g, g],
  sub: (_args, _out, g) => [g, g.neg()],
  mul: ([x, y], _out, g) => [g.mul(y), g.mul(x)],
  div: ([, y], out, g) => [g.div(y), g.mul(out).div(y).neg()],
  abs: ([x], _out, g) => [g.mul(x.sign())],
  minimum: ([x, y], _out, g) => halves(x.lt(y), x.eq(y), g),
  maximum: ([x, y], _out, g) => halves(x.gt(y), x.eq(y), g),
  neg: (_args, _out, g) => [g.neg()],
  // A value on a bound keeps its gradient, as in PyTorch; where the bounds cross, the upper one counts.
  clamp: ([x, lo, hi], _out, g) => [
    x.ge(lo).and(x.le(hi)).where(g, 0),
    x.lt(lo).and(lo.lt(hi)).where(g, 0),
    x.gt(hi).or(hi.lt(lo)).where(g, 0),
  ],
  relu: ([x], _out, g) => [x.le(0).where(0, g)],
  pow: ([x, y], out, g) => [
    y.eq(0).where(0, g.mul(y).mul(x.pow(y.sub(1)))),
    x.eq(0).and(y.ge(0)).where(0, g.mul(out).mul(x.log())),
  ],
  remainder: ([x, y], out, g) => [g, g.mul(x.sub(out).div(y).round()).neg()],
  where: ([c], _out, g) => [null, c.where(g, 0), c.where(0, g)],
};

/** A tie of min or max shares its gradient, as PyTorch does. */
function halves(first: Expr, tie: Expr, g: Expr): Expr[] {
  const half = g.mul(0.5);
  const toFirst = tie.where(half, first.where(g, 0));
  return [toFirst, g.sub(toFirst)];
}
