// Nodes of the tape: a tensor that needs a gradient knows the node that made it; a node knows the nodes of its inputs,
// what it saved, and how to turn gradients of its outputs into gradients of its inputs. Nodes are counted by reference:
// when the last tensor that leads to one is disposed of, what it saved is freed.

import { GradError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import type { Storage } from '../gpu/storage.ts';
import type { Tensor } from '../tensor.ts';
import type { Edge, TapeNode, TensorBase } from '../tensor/base.ts';
import type { DType } from '../tensor/dtype.ts';
import { viewOf } from '../tensor/make.ts';
import { show, type Shape } from '../tensor/shape.ts';

export type GradEdge = Edge<GradNode>;

export type Gradients = (Tensor | null | undefined)[];

let nextNode = 1;

/** Where a tensor's gradient goes. All nodes on the tape are of this module. */
export function edgeOf(t: TensorBase): GradEdge | null {
  return t.edge as GradEdge | null;
}

/** A value kept for the backward pass: memory, view and place on the tape. */
export class Saved {
  private readonly device: Device;
  private readonly storage: Storage;
  readonly shape: Shape;
  readonly strides: Shape;
  readonly offset: number;
  readonly dtype: DType;
  private readonly version: number;
  private readonly edge: GradEdge | null;
  private readonly own: boolean;

  constructor(t: Tensor, node: GradNode) {
    this.storage = t.storage.retain();
    this.shape = t.shape;
    this.strides = t.strides;
    this.offset = t.offset;
    this.dtype = t.dtype;
    this.version = t.storage.version;
    this.device = t.device;
    this.edge = edgeOf(t);
    // An output that a node saves of itself must not keep the node alive.
    this.own = this.edge?.node === node;
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
    return viewOf(this.device, this.storage, this, this.edge);
  }

  release(): void {
    this.storage.release();
    if (this.edge && !this.own) this.edge.node.release();
  }
}

/** An operation on the tape. */
export class GradNode implements TapeNode {
  readonly id = nextNode++;
  readonly name: string;
  inputs: (GradEdge | null)[] = [];
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
