// Expressions as graphs: their order, what they read, and the same graph with every part once.

import { Expr } from './expr.ts';

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

/** Numbers of the inputs that expressions read, ascending. */
export function inputsOf(exprs: readonly Expr[]): number[] {
  const found = topological(exprs).flatMap((e) => (e.kind === 'input' ? [e.value] : []));
  return [...new Set(found)].sort((a, b) => a - b);
}

/**
 * The same expressions with equal parts as one node, so that nothing is computed twice.
 *
 * @param reads numbers of the inputs: input `reads[k]` becomes input k
 */
export function unify(exprs: readonly Expr[], reads?: readonly number[]): Expr[] {
  const byText = new Map<string, Expr>();
  const ids = new Map<Expr, number>();
  const done = new Map<Expr, Expr>();
  for (const node of topological(exprs)) {
    const args = node.args.map((a) => done.get(a)!);
    const value = node.kind === 'input' && reads ? reads.indexOf(node.value) : node.value;
    const text = [
      node.kind,
      node.type,
      node.op,
      Object.is(value, -0) ? '-0' : value,
      ...args.map((a) => ids.get(a)),
    ].join();
    let one = byText.get(text);
    if (!one) {
      one = new Expr(node.kind, node.type, node.op, args, value);
      byText.set(text, one);
      ids.set(one, ids.size);
    }
    done.set(node, one);
  }
  return exprs.map((e) => done.get(e)!);
}
