// Derivatives of expressions, which are expressions again.

import { isFloat } from '../tensor/dtype.ts';
import type { Expr } from './expr.ts';
import { topological } from './graph.ts';
import { DERIVATIVES } from './derivatives.ts';

/**
 * Reverse-mode derivative: for each input of `wanted`, d(Σ seeds·outputs)/d(input) as an expression of the same inputs
 * and the seeds, or null where it doesn't depend on it.
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
    else if (node.op) DERIVATIVES[node.op]?.(node.args, node, g).forEach((d, i) => give(node.args[i], d));
  }
  return wanted.map((index) => {
    for (const [node, g] of gradients) if (node.kind === 'input' && node.value === index) return g;
    return null;
  });
}
