// Recording: a tensor that needs a gradient knows the node that made it; a node knows the nodes of its inputs, what it saved, and how
// to turn gradients of its outputs into gradients of its inputs. Nodes are counted by reference: when the last tensor that leads to
// one is disposed of, what it saved is freed. The tape is read backwards in autograd.ts.

import { isFloat, type DType } from '../tensor/dtype.ts';
import { GradError, ValueError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import { show, type Shape } from '../tensor/shape.ts';
import type { Storage } from '../gpu/storage.ts';
import { Tensor } from '../tensor.ts';

/** Where a tensor's gradient goes: output `index` of a node. */
export interface Edge {
  readonly node: GradNode;
  readonly index: number;
}

export type Gradients = (Tensor | null | undefined)[];

let gradEnabled = true;
let nextNode = 1;

/** Whether operations are recorded. */
export function isGradEnabled(): boolean {
  return gradEnabled;
}

/** Runs `fn` recording or not. */
export function withGrad<R>(enabled: boolean, fn: () => R): R {
  const before = gradEnabled;
  gradEnabled = enabled;
  try {
    const result = fn();
    if (result instanceof Promise)
      throw new ValueError('noGrad', 'The function returned a promise', {
        expected: 'a synchronous function: other code would run in its mode',
      });
    return result;
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
      throw new GradError(
        op,
        `A value saved for the backward pass, of shape ${show(this.shape)}, was overwritten since`,
        { remedy: 'write to a copy instead' },
      );
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
    if (!this.node) throw new GradError(this.op, 'Nothing is saved outside of the backward pass');
    return this.node.saved.map((s) => s.unpack(this.op));
  }

  /** @internal */
  attach(node: GradNode): void {
    this.node = node;
  }
}

/** An operation with its derivative. */
export interface OpDefinition<Args extends readonly unknown[], Out extends Tensor | Tensor[]> {
  /** What errors call it; from the arguments where one definition serves several operations. */
  readonly name: string | ((...args: Args) => string);
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
export function defineOp<Args extends readonly unknown[], Out extends Tensor | Tensor[]>(
  definition: OpDefinition<Args, Out>,
): (...args: Args) => Out {
  return (...args: Args): Out => {
    const name = typeof definition.name === 'string' ? definition.name : definition.name(...args);
    const needs = args.map((a) => a instanceof Tensor && a.requiresGrad);
    const recording = gradEnabled && needs.some(Boolean);
    const ctx = new OpContext(name, needs, recording);
    return scope(() => {
      const result = noGrad(() => unalias(definition.forward(ctx, ...args), args));
      const outputs: readonly Tensor[] = Array.isArray(result) ? (result as Tensor[]) : [result as Tensor];
      if (recording) record(definition, ctx, name, args, outputs);
      observer?.({
        op: name,
        backwardOf,
        inputs: args.filter((a): a is Args[number] & Tensor => a instanceof Tensor),
        outputs,
      });
      return result;
    });
  };
}

/** Puts a node between the arguments and the outputs. */
function record<Args extends readonly unknown[], Out extends Tensor | Tensor[]>(
  definition: OpDefinition<Args, Out>,
  ctx: OpContext,
  name: string,
  args: Args,
  outputs: readonly Tensor[],
): void {
  const node = new GradNode(name, definition.firstDerivativeOnly);
  node.inputs = args.map((a) => {
    const edge = a instanceof Tensor ? a.edge : null;
    edge?.node.retain();
    return edge;
  });
  node.outputs = outputs.map((t) => ({ shape: t.shape, dtype: t.dtype }));
  ctx.attach(node);
  outputs.forEach((t, index) => {
    if (isFloat(t.dtype)) t.attach({ node, index });
  });
  node.saved = ctx.kept.map((t) => new Saved(t, node));
  ctx.kept.length = 0;
  node.run = (grads) => definition.backward(ctx, ...node.outputs.map((_, i) => grads[i] ?? null));
}

/** An operation may give back its argument; the result then is another handle of it. */
function unalias<Out extends Tensor | Tensor[]>(result: Out, args: readonly unknown[]): Out {
  if (Array.isArray(result)) return result.map((t: Tensor) => (args.includes(t) ? t.alias() : t)) as Out;
  return (args.includes(result) ? (result as Tensor).alias() : result) as Out;
}

/** What an operation did: given to an observer, which may read the tensors and must not keep them. */
export interface OpEvent {
  readonly op: string;
  /** The operation whose backward pass is running. It is `op` itself when `outputs` are the gradients that the pass gave. */
  readonly backwardOf: string | null;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

let observer: ((event: OpEvent) => void) | null = null;
let backwardOf: string | null = null;

/** Calls a function after every operation, with the innermost first; null stops it. Returns the one before. */
export function observeOps(next: ((event: OpEvent) => void) | null): ((event: OpEvent) => void) | null {
  const before = observer;
  observer = next;
  return before;
}

/** @internal Runs the backward pass of a node's operation, and shows the observer what it gave. */
export function duringBackward(node: GradNode, grads: Gradients): Gradients {
  const before = backwardOf;
  backwardOf = node.name;
  try {
    const results = node.run!(grads);
    const present = (list: Gradients): Tensor[] => list.filter((g): g is Tensor => !!g);
    observer?.({ op: node.name, backwardOf, inputs: present(grads), outputs: present(results) });
    return results;
  } finally {
    backwardOf = before;
  }
}
