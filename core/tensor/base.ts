// A tensor before it has operations: a view (shape, strides, offset) of a storage on a device, with its place on the
// autograd tape. The class `Tensor` (core/tensor.ts) adds the methods.
/// <reference lib="esnext.disposable" preserve="true" />

import { DisposedError, ShapeError, ValueError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import type { Holdings } from '../gpu/handles.ts';
import type { Storage } from '../gpu/storage.ts';
import type { Tensor } from '../tensor.ts';
import { sizeOf, type DType } from './dtype.ts';
import { toBytes, type HostArray } from './hostData.ts';
import { own } from './scope.ts';
import { isContiguous, numelOf, sameShape, show, type Shape } from './shape.ts';

/** A node of the tape, as far as a tensor knows it: it is counted by reference. */
export interface TapeNode {
  retain(): void;
  release(): void;
}

/** Where a tensor's gradient goes: output `index` of a node. */
export interface Edge<Node extends TapeNode = TapeNode> {
  readonly node: Node;
  readonly index: number;
}

/** What a tensor holds on to: given back by `dispose()`, or when the garbage collector took the tensor. */
class Held implements Holdings {
  storage: Storage | null;
  edge: Edge | null = null;
  private readonly shape: Shape;
  private readonly dtype: DType;

  constructor(storage: Storage, shape: Shape, dtype: DType) {
    this.storage = storage;
    this.shape = shape;
    this.dtype = dtype;
  }

  describe(): string {
    return `${this.dtype} ${show(this.shape)}`;
  }

  release(): void {
    const { storage } = this;
    this.storage = null;
    this.edge?.node.release();
    storage?.release();
  }
}

export abstract class TensorBase {
  /** Where its values are. */
  readonly device: Device;
  /** Sizes of the dimensions, outermost first. */
  readonly shape: Shape;
  /** In elements; negative after flip, 0 after expand. */
  strides: Shape;
  /** First element, in elements of `storage`. */
  offset: number;
  /** Type of its elements. */
  readonly dtype: DType;
  /** Number of elements. */
  readonly numel: number;
  /** @internal Whether its elements are nobody else's, though other tensors have other parts of its storage. */
  exclusive = false;
  private readonly held: Held;
  private accumulated: Tensor | null = null;

  /** @internal Takes over one reference of the storage. */
  constructor(device: Device, storage: Storage, shape: Shape, strides: Shape, offset: number, dtype: DType) {
    this.device = device;
    this.held = new Held(storage, shape, dtype);
    this.shape = shape;
    this.strides = strides;
    this.offset = offset;
    this.dtype = dtype;
    this.numel = numelOf(shape);
    device.handles.opened(this, this.held);
    own(this);
  }

  /**
   * The memory that it is a view of.
   *
   * @throws DisposedError after `dispose()`
   */
  get storage(): Storage {
    const { storage } = this.held;
    if (!storage)
      throw new DisposedError(
        'tensor',
        `A ${this.dtype} tensor of shape ${show(this.shape)} was used after it was disposed of`,
        { remedy: 'return it from its scope(), or keep() it' },
      );
    return storage;
  }

  /** Whether `dispose()` was called on it, or its scope ended. */
  get disposed(): boolean {
    return this.held.storage === null;
  }

  /** Where its gradient goes; null where it needs none. */
  get edge(): Edge | null {
    return this.held.edge;
  }

  /** First byte in `storage`. */
  get byteOffset(): number {
    return this.offset * sizeOf(this.dtype);
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Whether the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    return isContiguous(this.shape, this.strides);
  }

  /** Whether operations on it are recorded. */
  get requiresGrad(): boolean {
    return this.edge !== null;
  }

  /** Sum of the gradients of all backward passes; null before the first. */
  get grad(): Tensor | null {
    return this.accumulated;
  }

  set grad(value: Tensor | null) {
    if (value && !sameShape(value.shape, this.shape))
      throw new ShapeError(
        'grad',
        `A gradient of shape ${show(value.shape)} doesn't fit a tensor of shape ${show(this.shape)}`,
      );
    if (this.accumulated !== value) this.accumulated?.dispose();
    this.accumulated = value;
  }

  /** Gives the memory back, if no other view shares it. Idempotent. */
  dispose(): void {
    if (this.disposed) return;
    this.device.handles.closed(this);
    this.accumulated?.dispose();
    this.accumulated = null;
    this.held.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * Moves this tensor, with its identity on the tape, to the memory of another of its shape and type: a parameter into
   * an arena. Values are those of the other tensor.
   *
   * @throws ShapeError for another shape or type, ValueError for another device
   */
  setData(other: Tensor): this {
    if (other.device !== this.device)
      throw new ValueError('setData', 'The other tensor lies on another device', { expected: 'the same device' });
    if (!sameShape(other.shape, this.shape) || other.dtype !== this.dtype)
      throw new ShapeError(
        'setData',
        `A ${other.dtype} tensor of shape ${show(other.shape)} can't take the place of a ${this.dtype} tensor of shape ${show(this.shape)}`,
      );
    const old = this.storage;
    this.held.storage = other.storage.retain();
    this.strides = other.strides;
    this.offset = other.offset;
    old.release();
    return this;
  }

  /** @internal Puts the tensor on the tape. */
  attach(edge: Edge): void {
    edge.node.retain();
    this.held.edge = edge;
  }

  /** @internal Takes it off the tape. */
  unattach(): void {
    this.edge?.node.release();
    this.held.edge = null;
  }

  /** @internal Writes to memory that is contiguous and of which no other tensor has the bytes up to the next word. */
  upload(data: HostArray): this {
    const bytes = toBytes(data, this.dtype);
    this.storage.version++;
    this.storage.failure = null;
    this.device.stream.recorder?.written(this.storage);
    this.device.stream.write(this.storage.buffer, this.byteOffset, bytes);
    return this;
  }
}
