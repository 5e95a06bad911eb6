// Reverse-mode differentiation on a tape of defined operations. A tensor that needs a gradient knows the node that made it; a node
// knows the nodes of its inputs, what it saved, and how to turn gradients of its outputs into gradients of its inputs.
// Nodes are counted by reference: when the last tensor that leads to one is disposed of, what it saved is freed.

import type { DType } from './dtype.ts';
import { GradError, ShapeError } from './errors.ts';
import { scope } from './scope.ts';
import { sameShape, show, type Shape } from './shape.ts';
import type { Storage } from './storage.ts';
import { Tensor } from './tensor.ts';

/** Where a tensor's gradient goes: output `index` of a node. */
export interface Edge {
  readonly node: GradNode;
  readonly index: number;
}

type Gradients = (Tensor | null | undefined)[];

let gradEnabled = true;
let nextNode = 1;

/** Whether operations are recorded. */
export function isGradEnabled(): boolean {
  return gradEnabled;
}

function withGrad<R>(enabled: boolean, fn: () => R): R {
  const before = gradEnabled;
  gradEnabled = enabled;
  try {
    return fn();
  } finally {
    gradEnabled = before;
  }
}

/** Runs `fn` without recording: nothing that it computes has a gradient. */
export function noGrad<R>(fn: () => R): R {
  return withGrad(false, fn);
}

/** Runs `fn` recording, inside of `noGrad` too. */
export function enableGrad<R>(fn: () => R): R {
  return withGrad(true, fn);
}

/** A value kept for the backward pass: memory, view and place on the tape. */
class Saved {
  private readonly storage: Storage;
  private readonly shape: Shape;
  private readonly strides: Shape;
  private readonly offset: number;
  private readonly dtype: DType;
  private readonly version: number;
  private readonly edge: Edge | null;
  private readonly own: boolean;

  constructor(t: Tensor, node: GradNode) {
    this.storage = t.storage.retain();
    this.shape = t.shape;
    this.strides = t.strides;
    this.offset = t.offset;
    this.dtype = t.dtype;
    this.version = t.storage.version;
    this.edge = t.edge;
    // An output that a node saves of itself must not keep the node alive.
    this.own = t.edge?.node === node;
    if (this.edge && !this.own) this.edge.node.retain();
  }

  unpack(op: string): Tensor {
    if (this.storage.version !== this.version) {
      throw new GradError(`[${op}] A value saved for the backward pass, of shape ${show(this.shape)}, was overwritten since; write to a copy instead.`);
    }
    return Tensor.view(this.storage, this.shape, this.strides, this.offset, this.dtype, this.edge);
  }

  release(): void {
    this.storage.release();
    if (this.edge && !this.own) this.edge.node.release();
  }
}

/** An operation on the tape. */
export class GradNode {
  readonly id = nextNode++;
  readonly name: string;
  inputs: (Edge | null)[] = [];
  /** Gradients of the inputs from those of the outputs; null for a leaf. */
  run: ((grads: Gradients) => Gradients) | null = null;
  saved: Saved[] = [];
  outputs: { shape: Shape; dtype: DType }[] = [];
  freed = false;
  readonly firstDerivativeOnly: boolean;
  private refs = 0;

  constructor(name: string, firstDerivativeOnly = false) {
    this.name = name;
    this.firstDerivativeOnly = firstDerivativeOnly;
  }

  retain(): void {
    this.refs++;
  }

  release(): void {
    if (--this.refs > 0) return;
    // A long chain of nodes goes one after the other, not by recursion.
    const dead: GradNode[] = [this];
    for (let node = dead.pop(); node; node = dead.pop()) {
      node.freeSaved();
      for (const edge of node.inputs) if (edge && --edge.node.refs === 0) dead.push(edge.node);
      node.inputs = [];
    }
  }

  freeSaved(): void {
    for (const saved of this.saved) saved.release();
    this.saved = [];
    this.freed = true;
  }
}

/** The end of the tape: a tensor made by the user, with `requiresGrad`. */
export class LeafNode extends GradNode {
  readonly leaf: WeakRef<Tensor>;

  constructor(leaf: Tensor) {
    super('leaf');
    this.leaf = new WeakRef(leaf);
    this.outputs = [{ shape: leaf.shape, dtype: leaf.dtype }];
  }
}

/** What an operation's forward and backward share. */
export class OpContext {
  /** Which arguments need a gradient, by position. */
  readonly needs: readonly boolean[];
  /** Anything that is not a tensor. */
  readonly state: Record<string, unknown> = {};
  /** @internal */
  readonly kept: Tensor[] = [];
  private readonly op: string;
  private node: GradNode | null = null;
  private readonly recording: boolean;

  constructor(op: string, needs: readonly boolean[], recording: boolean) {
    this.op = op;
    this.needs = needs;
    this.recording = recording;
  }

  /** Keeps inputs or outputs for the backward pass. */
  save(...tensors: Tensor[]): void {
    if (!this.recording) return;
    // Held by handles of their own: an intermediate may go at the end of forward.
    for (const t of tensors) this.kept.push(t);
  }

  /** What was saved, in order. */
  get saved(): Tensor[] {
    if (!this.node) throw new GradError(`[${this.op}] Nothing is saved outside of the backward pass.`);
    return this.node.saved.map((s) => s.unpack(this.op));
  }

  /** @internal */
  attach(node: GradNode): void {
    this.node = node;
  }
}

/** An operation with its derivative. */
export interface OpDefinition<Args extends readonly unknown[], Out extends Tensor | Tensor[]> {
  readonly name: string;
  /** Computes the result; runs without recording. */
  forward(ctx: OpContext, ...args: Args): Out;
  /** One gradient (or null) per argument of forward, from one per output (null where an output got none). */
  backward(ctx: OpContext, ...grads: (Tensor | null)[]): Gradients;
  /** The backward pass is a kernel without a derivative of its own. */
  readonly firstDerivativeOnly?: boolean;
}

/**
 * Makes a differentiable operation. Tensors are differentiated where they are arguments themselves, not inside of objects.
 * Integer and boolean outputs carry no gradient.
 */
export function defineOp<Args extends readonly unknown[], Out extends Tensor | Tensor[]>(definition: OpDefinition<Args, Out>): (...args: Args) => Out {
  return (...args: Args): Out => {
    const needs = args.map((a) => a instanceof Tensor && a.requiresGrad);
    const recording = gradEnabled && needs.some(Boolean);
    const ctx = new OpContext(definition.name, needs, recording);
    if (!recording) return scope(() => noGrad(() => unalias(definition.forward(ctx, ...args), args)));
    return scope(() => {
      const result = noGrad(() => unalias(definition.forward(ctx, ...args), args));
      const node = new GradNode(definition.name, definition.firstDerivativeOnly);
      const outputs = Array.isArray(result) ? result : [result];
      node.inputs = args.map((a) => {
        const edge = a instanceof Tensor ? a.edge : null;
        edge?.node.retain();
        return edge;
      });
      node.outputs = outputs.map((t) => ({ shape: t.shape, dtype: t.dtype }));
      ctx.attach(node);
      outputs.forEach((t, index) => {
        if (t.dtype === 'f32' || t.dtype === 'f16') t.attach({ node, index });
      });
      node.saved = ctx.kept.map((t) => new Saved(t, node));
      ctx.kept.length = 0;
      node.run = (grads) => definition.backward(ctx, ...grads.map((g) => g ?? null));
      return result;
    });
  };
}

/** An operation may give back its argument; the result then is another handle of it. */
function unalias<Out extends Tensor | Tensor[]>(result: Out, args: readonly unknown[]): Out {
  if (Array.isArray(result)) return result.map((t: Tensor) => (args.includes(t) ? t.alias() : t)) as Out;
  return (args.includes(result) ? (result as Tensor).alias() : result) as Out;
}

export interface BackwardOptions {
  /** Gradient of each root; ones for a root of one element. */
  gradient?: Tensor | readonly Tensor[];
  /** Keep what was saved, for another backward pass. */
  retainGraph?: boolean;
  /** Record the backward pass, for derivatives of it. */
  createGraph?: boolean;
}

export interface AccumulateOptions extends BackwardOptions {
  /** Takes each leaf's gradient in place of `grad`, as soon as it is complete; the gradient is freed when it returns. */
  accumulate?: (leaf: Tensor, gradient: Tensor) => void;
}

/** Every node that a backward pass visits, by the order of creation. */
function reachable(roots: readonly Edge[]): GradNode[] {
  const seen = new Set<GradNode>();
  const stack = roots.map((edge) => edge.node);
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const edge of node.inputs) if (edge) stack.push(edge.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/** Runs the tape backwards; gradients that arrive at an edge for which `target` is given are handed to it. */
function run(op: string, roots: readonly Tensor[], options: BackwardOptions, isTarget: (node: GradNode) => boolean, deliver: (node: GradNode, grads: Gradients) => void): void {
  const given = options.gradient === undefined ? [] : options.gradient instanceof Tensor ? [options.gradient] : options.gradient;
  const edges = roots.map((root, i) => {
    if (!root.edge) throw new GradError(`[${op}] A root of shape ${show(root.shape)} doesn't depend on any tensor with requiresGrad.`);
    if (given[i] === undefined && root.numel !== 1) throw new GradError(`[${op}] A root of shape ${show(root.shape)} has more than one element; pass its gradient.`);
    if (given[i] !== undefined && !sameShape(given[i].shape, root.shape)) throw new ShapeError(`[${op}] The gradient has shape ${show(given[i].shape)}, expected the root's ${show(root.shape)}.`);
    return root.edge;
  });
  const createGraph = options.createGraph ?? false;
  const retain = options.retainGraph ?? createGraph;
  const nodes = reachable(edges);
  const useful = new Set<GradNode>();
  for (const node of nodes) if (isTarget(node) || node.inputs.some((e) => e && useful.has(e.node))) useful.add(node);

  // A leaf's gradient is handed over with its last part, not at the end, so that it need not stay in memory till then.
  const awaited = new Map<GradNode, number>();
  for (const node of nodes) for (const e of node.inputs) if (e?.node instanceof LeafNode && isTarget(e.node)) awaited.set(e.node, (awaited.get(e.node) ?? 0) + 1);
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
  const give = (edge: Edge, g: Tensor): void => {
    let slots = pending.get(edge.node);
    if (!slots) pending.set(edge.node, slots = []);
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
      if (node.run) {
        if (node.freed) throw new GradError(`[${op}] The values saved by ${node.name} are gone after one backward pass; pass retainGraph to keep them.`);
        if (createGraph && node.firstDerivativeOnly) throw new GradError(`[${op}] ${node.name} is a fused kernel with a first derivative only, and createGraph asks for a second one.`);
        const { run: backward, inputs } = node;
        const results = scope(() => {
          const seen = new Set<Tensor>(grads.filter((g): g is Tensor => !!g));
          return backward(grads).map((g, k) => {
            const edge = inputs[k];
            if (!g || !edge || !useful.has(edge.node)) return null;
            const expected = edge.node.outputs[edge.index];
            if (!sameShape(g.shape, expected.shape)) throw new ShapeError(`[${node.name}] backward gave a gradient of shape ${show(g.shape)} for an input of shape ${show(expected.shape)}.`);
            const typed = g.cast(expected.dtype);
            if (seen.has(typed)) return typed.alias();
            seen.add(typed);
            return typed;
          });
        });
        results.forEach((g, k) => { if (g) give(inputs[k]!, g); });
        if (!retain) node.freeSaved();
        settle(node);
      }
      if (!isTarget(node)) grads.forEach((g) => g?.dispose());
    }
  });
}

/** Adds d(root)/d(leaf) to the `grad` of every leaf that the root depends on. */
export function backward(root: Tensor | readonly Tensor[], options: AccumulateOptions = {}): void {
  const roots = root instanceof Tensor ? [root] : root;
  scope(() => run('backward', roots, options, (node) => node instanceof LeafNode, (node, grads) => {
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
  }));
}

/**
 * Gradients of `root` with respect to `inputs` (leaves or intermediate tensors), null for one that it doesn't depend on.
 * `grad` of leaves stays as it is.
 */
export function grad(root: Tensor | readonly Tensor[], inputs: readonly Tensor[], options: BackwardOptions = {}): (Tensor | null)[] {
  const roots = root instanceof Tensor ? [root] : root;
  const found = new Map<GradNode, Gradients>();
  inputs.forEach((input) => {
    if (!input.edge) throw new GradError(`[grad] An input of shape ${show(input.shape)} doesn't require a gradient; call requiresGrad_() before computing with it.`);
  });
  const targets = new Set(inputs.map((input) => input.edge!.node));
  return scope(() => {
    run('grad', roots, options, (node) => targets.has(node), (node, grads) => found.set(node, grads));
    const used = new Set<Tensor>();
    return inputs.map((input) => {
      const g = found.get(input.edge!.node)?.[input.edge!.index];
      if (!g) return null;
      if (used.has(g)) return g.alias();
      used.add(g);
      return g;
    });
  });
}

/** A function that gives `fn`'s value and its gradients with respect to all arguments. `fn` returns one element. */
export function valueAndGrad<A extends readonly Tensor[]>(fn: (...args: A) => Tensor, options: BackwardOptions = {}): (...args: A) => { value: Tensor; grads: { [K in keyof A]: Tensor } } {
  return (...args: A) => scope(() => {
    const inputs = args.map((a) => (options.createGraph && a.requiresGrad ? a : a.detach().requiresGrad_()));
    const value = enableGrad(() => fn(...(inputs as unknown as A)));
    const grads = grad(value, inputs, options).map((g, i) => g ?? inputs[i].zerosLike());
    return { value: options.createGraph ? value : value.detach(), grads: grads as unknown as { [K in keyof A]: Tensor } };
  });
}
