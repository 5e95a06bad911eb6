// Defining operations with their derivatives, and recording them.

import { GradError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import { isFloat } from '../tensor/dtype.ts';
import { isTensor } from '../tensor/make.ts';
import { scope } from '../tensor/scope.ts';
import { isGradEnabled, noGrad } from './gradMode.ts';
import { edgeOf, GradNode, Saved, type Gradients } from './node.ts';
import { isObserved, observed } from './observe.ts';

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
    const needs = args.map((a) => isTensor(a) && a.requiresGrad);
    const recording = isGradEnabled() && needs.some(Boolean);
    const ctx = new OpContext(name, needs, recording);
    return scope(() => {
      const result = noGrad(() => unalias(definition.forward(ctx, ...args), args));
      const outputs: readonly Tensor[] = Array.isArray(result) ? (result as Tensor[]) : [result as Tensor];
      if (recording) record(definition, ctx, name, args, outputs);
      if (isObserved()) observed(name, args.filter(isTensor), outputs);
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
    const edge = isTensor(a) ? edgeOf(a) : null;
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
