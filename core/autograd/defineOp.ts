// Operations with their derivatives. Forward takes its tensors by name and returns the result with what it saves;
// backward takes the gradient and what was saved and returns gradients by the same names. Everything built in is made
// this way.

import type { Tensor } from '../tensor.ts';
import { isFloat } from '../tensor/dtype.ts';
import { mixedDevices } from '../tensor/arguments.ts';
import { isTensor } from '../tensor/make.ts';
import { scope } from '../tensor/scope.ts';
import { isGradEnabled, withGrad } from './gradMode.ts';
import { edgeOf, GradNode, Saved } from './node.ts';
import { isObserved, observed } from './observe.ts';
import { filled, leavesOf, mapTree, placesOf, valuesAt, type Mapped, type PartlyMapped } from './tree.ts';

/** Which tensors need a gradient, by the names that forward has. */
export type Needs<Tensors> = Mapped<Tensors, boolean>;

/** Gradients of tensors by their names. What needs none may be left out. */
export type GradientsOf<Tensors> = PartlyMapped<Tensors, Tensor>;

/** The gradient of a single result, which is always there; of several results, null for one that got none. */
export type GradientFor<Out> = Out extends Tensor ? Tensor : Mapped<Out, Tensor | null>;

/** What forward returns. */
export interface Forward<Out, Saves> {
  /** A tensor, or an array or object of them. */
  readonly out: Out;
  /** Tensors, and anything else, for the backward pass. Held only if a gradient is needed. */
  readonly saved: Saves;
}

/** An operation with its derivative. */
export interface OpDefinition<Tensors extends object, Attributes, Out extends object, Saves> {
  /**
   * What errors call it; from the attributes (with their type written out) where one definition serves several
   * operations.
   */
  readonly name: string | ((attributes: Attributes) => string);
  /**
   * Computes the result; runs without recording.
   *
   * @param tensors the tensors that may need a gradient, by name, also in arrays and objects; null where an optional
   *   one is absent
   * @param attributes everything else: numbers, shapes, options, tensors without a gradient
   */
  forward(tensors: Tensors, attributes: Attributes, needs: Needs<Tensors>): Forward<Out, Saves>;
  /**
   * Gradients of the tensors that need one, from that of the result. Written in operations, it has a derivative of its
   * own.
   */
  backward(
    grad: NoInfer<GradientFor<Out>>,
    saved: Saves,
    needs: NoInfer<Needs<Tensors>>,
  ): NoInfer<GradientsOf<Tensors>>;
  /** The backward pass is a kernel without a derivative of its own. */
  readonly firstDerivativeOnly?: boolean;
}

/** Calls an operation: its tensors by name, and its attributes if it has any. */
export type Op<Tensors, Attributes, Out> = (
  tensors: Tensors,
  ...attributes: unknown extends Attributes ? [] : [attributes: Attributes]
) => Out;

/**
 * Makes a differentiable operation.
 *
 * ```ts
 * const mulOp = defineOp({
 *   name: 'mul',
 *   forward: ({ x, y }: { x: Tensor; y: Tensor }) => ({ out: multiply(x, y), saved: { x, y } }),
 *   backward: (g, { x, y }, needs) => ({ x: needs.x ? g.mul(y) : null, y: needs.y ? g.mul(x) : null }),
 * });
 * const z = mulOp({ x, y });
 * ```
 *
 * Integer and boolean results carry no gradient.
 */
/* @__NO_SIDE_EFFECTS__ */
export function defineOp<Tensors extends object, Attributes, Out extends object, Saves>(
  definition: OpDefinition<Tensors, Attributes, Out, Saves>,
): Op<Tensors, Attributes, Out> {
  return (tensors, ...rest): Out => {
    const attributes = rest[0] as Attributes;
    const inputs = leavesOf(tensors);
    const { device } = inputs[0] ?? {};
    for (const t of inputs) if (t.device !== device) throw mixedDevices(nameOf(definition, attributes), tensors);
    if (typeof attributes === 'object')
      for (const value of Object.values(attributes as object))
        if (isTensor(value) && device && value.device !== device)
          throw mixedDevices(nameOf(definition, attributes), { ...tensors, ...attributes });
    let recording = false;
    if (isGradEnabled()) for (const t of inputs) if (t.requiresGrad) recording = true;
    const needs = mapTree(tensors, isTensor, (t) => recording && t.requiresGrad) as Needs<Tensors>;
    return scope(() => {
      const { out: given, saved } = withGrad(false, () => definition.forward(tensors, attributes, needs));
      // An operation may give back its argument; the result then is another handle of it.
      const out = mapTree(given, isTensor, (t) => (inputs.includes(t) ? t.alias() : t)) as Out;
      const outputs = leavesOf(out);
      if (recording || isObserved()) {
        const name = nameOf(definition, attributes);
        if (recording) record(definition, name, { tensors, inputs, needs, given, out, outputs, saved });
        if (isObserved()) observed(name, inputs, outputs);
      }
      return out;
    });
  };
}

interface Recorded<Tensors, Out, Saves> {
  readonly tensors: Tensors;
  readonly inputs: readonly Tensor[];
  readonly needs: Needs<Tensors>;
  readonly given: Out;
  readonly out: Out;
  readonly outputs: readonly Tensor[];
  readonly saved: Saves;
}

/** Puts a node between the inputs and the outputs. */
function record<Tensors extends object, Attributes, Out extends object, Saves>(
  definition: OpDefinition<Tensors, Attributes, Out, Saves>,
  name: string,
  { tensors, inputs, needs, given, out, outputs, saved }: Recorded<Tensors, Out, Saves>,
): void {
  const node = new GradNode(name, definition.firstDerivativeOnly);
  node.inputs = inputs.map((t) => {
    const edge = edgeOf(t);
    edge?.node.retain();
    return edge;
  });
  node.outputs = outputs.map((t) => ({ shape: t.shape, dtype: t.dtype }));
  outputs.forEach((t, index) => {
    if (isFloat(t.dtype)) t.attach({ node, index });
  });
  // What is saved of a result is the handle that is given out, which knows its place on the tape.
  const handles = new Map(leavesOf(given).map((t, i) => [t, outputs[i]]));
  const shells = mapTree(saved, isTensor, (t) => {
    const kept = new Saved(handles.get(t) ?? t, node);
    node.saved.push(kept);
    return kept;
  });
  // The tensors themselves must not be held: a place stands for each.
  node.run = backwardOf(definition, {
    name,
    needs,
    names: placesOf(tensors),
    results: placesOf(out),
    shells,
    count: inputs.length,
  });
}

interface Shells<Tensors> {
  readonly name: string;
  readonly needs: Needs<Tensors>;
  readonly names: ReturnType<typeof placesOf>;
  readonly results: ReturnType<typeof placesOf>;
  /** What is saved, with a `Saved` in the place of each tensor. */
  readonly shells: unknown;
  /** Inputs of the node. */
  readonly count: number;
}

/**
 * In a function of its own: a closure holds all that its neighbours use, and tensors that a node held would never be
 * collected.
 */
function backwardOf<Tensors extends object, Attributes, Out extends object, Saves>(
  definition: OpDefinition<Tensors, Attributes, Out, Saves>,
  { name, needs, names, results, shells, count }: Shells<Tensors>,
): GradNode['run'] {
  return (grads) => {
    const grad = filled(results, (i) => grads[i] ?? null) as GradientFor<Out>;
    const unpacked = mapTree(shells, isSaved, (kept) => kept.unpack(name)) as Saves;
    return valuesAt<Tensor>(names, definition.backward(grad, unpacked, needs), new Array(count).fill(null));
  };
}

function nameOf<Attributes>(
  { name }: { readonly name: string | ((attributes: Attributes) => string) },
  attributes: Attributes,
): string {
  return typeof name === 'string' ? name : name(attributes);
}

function isSaved(value: unknown): value is Saved {
  return value instanceof Saved;
}
