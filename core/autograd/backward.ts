// Reverse-mode differentiation: walks the tape (tape.ts) from the roots back to what is asked for.

import { GradError, ShapeError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import { sameShape, show } from '../tensor/shape.ts';
import { enableGrad, withGrad } from './gradMode.ts';
import { edgeOf, LeafNode, type GradEdge, type GradNode, type Gradients } from './node.ts';
import { duringBackward } from './observe.ts';
import { isTensor } from '../tensor/make.ts';
import type { Tensor } from '../tensor.ts';

/** What a backward pass begins with, and what it keeps. */
export interface BackwardOptions {
  /** Gradient of each root; ones for a root of one element. */
  gradient?: Tensor | readonly Tensor[];
  /** Keep what was saved, for another backward pass. */
  retainGraph?: boolean;
  /** Record the backward pass, for derivatives of it. */
  createGraph?: boolean;
}

/** Options of `backward`: what it begins with, what it keeps, and where gradients go. */
export interface AccumulateOptions extends BackwardOptions {
  /**
   * Takes each leaf's gradient in place of `grad`, as soon as it is complete; the gradient is freed when it returns.
   */
  accumulate?: (leaf: Tensor, gradient: Tensor) => void;
  /** Is called when `accumulate` has had every gradient. */
  finish?: () => void;
}

/** Every node that a backward pass visits, by the order of creation. */
function reachable(roots: readonly GradEdge[]): GradNode[] {
  const seen = new Set<GradNode>();
  const stack = roots.map((edge) => edge.node);
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const edge of node.inputs) if (edge) stack.push(edge.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/**
 * Runs the tape backwards; gradients that arrive at a target are delivered.
 *
 * @returns the nodes that lie on a path to a target
 */
function run(
  op: string,
  roots: readonly Tensor[],
  options: BackwardOptions,
  isTarget: (node: GradNode) => boolean,
  deliver: (node: GradNode, grads: Gradients) => void,
): ReadonlySet<GradNode> {
  const given =
    options.gradient === undefined ? [] : isTensor(options.gradient) ? [options.gradient] : options.gradient;
  const edges = roots.map((root, i) => {
    const edge = edgeOf(root);
    if (!edge)
      throw new GradError(op, `A root of shape ${show(root.shape)} doesn't depend on any tensor with requiresGrad`);
    if (given[i] === undefined && root.numel !== 1)
      throw new GradError(op, `A root of shape ${show(root.shape)} has more than one element`, {
        remedy: 'pass its gradient',
      });
    if (given[i] !== undefined && !sameShape(given[i].shape, root.shape))
      throw new ShapeError(op, `The gradient has shape ${show(given[i].shape)}`, {
        expected: `the root's ${show(root.shape)}`,
      });
    return edge;
  });
  const createGraph = options.createGraph ?? false;
  const retain = options.retainGraph ?? createGraph;
  const nodes = reachable(edges);
  const useful = new Set<GradNode>();
  for (const node of nodes) if (isTarget(node) || node.inputs.some((e) => e && useful.has(e.node))) useful.add(node);

  // A leaf's gradient is handed over with its last part, not at the end, so that it need not stay in memory till then.
  const awaited = new Map<GradNode, number>();
  for (const node of nodes)
    for (const e of node.inputs)
      if (e?.node instanceof LeafNode && isTarget(e.node)) awaited.set(e.node, (awaited.get(e.node) ?? 0) + 1);
  const settle = (node: GradNode): void => {
    for (const e of node.inputs) {
      const left = e && awaited.get(e.node);
      if (!left) continue;
      awaited.set(e.node, left - 1);
      const grads = left === 1 && pending.get(e.node);
      if (!grads) continue;
      pending.delete(e.node);
      deliver(e.node, grads);
    }
  };
  const pending = new Map<GradNode, Gradients>();
  const give = (edge: GradEdge, g: Tensor): void => {
    let slots = pending.get(edge.node);
    if (!slots) pending.set(edge.node, (slots = []));
    const known = slots[edge.index];
    slots[edge.index] = known ? known.add(g) : g;
    if (known) {
      known.dispose();
      g.dispose();
    }
  };
  withGrad(createGraph, () => {
    roots.forEach((root, i) => give(edges[i], given[i]?.alias() ?? root.onesLike()));
    for (const node of nodes.reverse()) {
      const grads = pending.get(node);
      pending.delete(node);
      if (!grads || !useful.has(node)) {
        grads?.forEach((g) => g?.dispose());
        settle(node);
        continue;
      }
      if (isTarget(node)) deliver(node, grads);
      if (node.run && node.inputs.some((e) => e && useful.has(e.node))) {
        if (node.freed)
          throw new GradError(op, `The values saved by ${node.name} are gone after one backward pass`, {
            remedy: 'pass retainGraph to keep them',
          });
        if (createGraph && node.firstDerivativeOnly)
          throw new GradError(
            op,
            `${node.name} is a fused kernel with a first derivative only, and createGraph asks for a second one`,
          );
        const { inputs } = node;
        const results = scope(() => {
          const seen = new Set<Tensor>(grads.filter((g): g is Tensor => !!g));
          return duringBackward(node, grads).map((g, k) => {
            const edge = inputs[k];
            if (!g || !edge || !useful.has(edge.node)) return null;
            const expected = edge.node.outputs[edge.index];
            if (!sameShape(g.shape, expected.shape))
              throw new ShapeError(
                node.name,
                `backward gave a gradient of shape ${show(g.shape)} for an input of shape ${show(expected.shape)}`,
              );
            const typed = g.cast(expected.dtype);
            if (seen.has(typed)) return typed.alias();
            seen.add(typed);
            return typed;
          });
        });
        results.forEach((g, k) => {
          if (g) give(inputs[k]!, g);
        });
        if (!retain) node.freeSaved();
      }
      settle(node);
      if (!isTarget(node)) grads.forEach((g) => g?.dispose());
    }
  });
  return useful;
}

/** Adds d(root)/d(leaf) to the `grad` of every leaf that the root depends on. */
export function backward(root: Tensor | readonly Tensor[], options: AccumulateOptions = {}): void {
  const roots = isTensor(root) ? [root] : root;
  scope(() => {
    run(
      'backward',
      roots,
      options,
      (node) => node instanceof LeafNode,
      (node, grads) => {
        const leaf = (node as LeafNode).leaf.deref();
        const g = grads[0];
        if (!g) return;
        if (!leaf || leaf.disposed) {
          g.dispose();
          return;
        }
        if (!options.accumulate) {
          leaf.accumulate(g);
          return;
        }
        options.accumulate(leaf, g);
        g.dispose();
      },
    );
    options.finish?.();
  });
}

/** Options of `grad` and `valueAndGrad`. */
export interface GradOptions extends BackwardOptions {
  /** Give null for an input that the root doesn't depend on, in place of an error. Default false. */
  allowUnused?: boolean;
}

/**
 * Gradients of `root` with respect to `inputs` (leaves or intermediate tensors), in their order. `grad` of leaves stays
 * as it is.
 *
 * @throws GradError for an input that the root doesn't depend on, unless `allowUnused`; for one that needs no gradient
 */
export function grad(
  root: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options?: GradOptions & { readonly allowUnused?: false },
): Tensor[];
export function grad(
  root: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions,
): (Tensor | null)[];
export function grad(
  root: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  const roots = isTensor(root) ? [root] : root;
  const found = new Map<GradNode, Gradients>();
  const edges = inputs.map((input) => {
    const edge = edgeOf(input);
    if (!edge)
      throw new GradError('grad', `An input of shape ${show(input.shape)} doesn't require a gradient`, {
        remedy: 'call requiresGrad_() before computing with it',
      });
    return edge;
  });
  const targets = new Set(edges.map((edge) => edge.node));
  return scope(() => {
    const reached = run(
      'grad',
      roots,
      options,
      (node) => targets.has(node),
      (node, grads) => found.set(node, grads),
    );
    const used = new Set<Tensor>();
    return edges.map((edge, i) => {
      const g = found.get(edge.node)?.[edge.index];
      // A path whose derivative is zero everywhere gives no gradient: floor(), for one.
      if (!g && reached.has(edge.node)) return inputs[i].zerosLike();
      if (!g && options.allowUnused) return null;
      if (!g)
        throw new GradError('grad', `The root doesn't depend on input ${i}, of shape ${show(inputs[i].shape)}`, {
          remedy: 'leave it out, or pass allowUnused to get null for it',
        });
      if (used.has(g)) return g.alias();
      used.add(g);
      return g;
    });
  });
}

/** A function that gives `fn`'s value and its gradients with respect to all arguments. `fn` returns one element. */
export function valueAndGrad<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
  options: BackwardOptions = {},
): (...args: A) => { value: Tensor; grads: { [K in keyof A]: Tensor } } {
  return (...args: A) =>
    scope(() => {
      const inputs = args.map((a) => (options.createGraph && a.requiresGrad ? a : a.detach().requiresGrad_()));
      const value = enableGrad(() => fn(...(inputs as unknown as A)));
      const grads = grad(value, inputs, { ...options, allowUnused: true }).map((g, i) => g ?? inputs[i].zerosLike());
      return {
        value: options.createGraph ? value : value.detach(),
        grads: grads as unknown as { [K in keyof A]: Tensor },
      };
    });
}
