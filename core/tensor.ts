// The tensor: a view (shape, strides, offset) of a storage, with its place on the autograd tape. Methods are PyTorch's by name and
// meaning; each calls the operation of that name.

import { backward, type BackwardOptions } from './autograd/backward.ts';
import { isGradEnabled, LeafNode, noGrad, type Edge } from './autograd/tape.ts';
import type { Device } from './gpu/device.ts';
import { isFloat, sizeOf, type DType } from './tensor/dtype.ts';
import { DisposedError, DTypeError, GradError, ShapeError } from './errors.ts';
import * as ops from './ops/index.ts';
import { format } from './tensor/print.ts';
import { keep, own, scope } from './tensor/scope.ts';
import { contiguousStrides, isContiguous, numelOf, sameShape, show, type Shape } from './tensor/shape.ts';
import { Storage } from './gpu/storage.ts';
import { fromBytes, toBytes, type HostArray } from './tensor/hostData.ts';

export type TensorLike = Tensor | number;
type Axes = number | readonly number[];

export class Tensor {
  readonly shape: Shape;
  /** In elements; negative after flip, 0 after expand. */
  strides: Shape;
  /** First element, in elements of `storage`. */
  offset: number;
  readonly dtype: DType;
  readonly numel: number;
  /** Where its gradient goes; null where it needs none. */
  edge: Edge | null = null;
  private memory: Storage | null;
  private accumulated: Tensor | null = null;

  private constructor(storage: Storage, shape: Shape, strides: Shape, offset: number, dtype: DType) {
    this.memory = storage;
    this.shape = shape;
    this.strides = strides;
    this.offset = offset;
    this.dtype = dtype;
    this.numel = numelOf(shape);
    storage.device.liveTensors++;
    storage.device.watch(this);
    own(this);
  }

  /** A tensor on fresh memory whose content is undefined. */
  static empty(device: Device, shape: Shape, dtype: DType): Tensor {
    const bytes = Math.max(4, numelOf(shape) * sizeOf(dtype));
    const storage = new Storage(device, Math.ceil(bytes / 4) * 4, `a ${dtype} tensor of shape ${show(shape)}`);
    return new Tensor(storage, [...shape], contiguousStrides(shape), 0, dtype);
  }

  /** Another view of a storage. */
  static view(
    storage: Storage,
    shape: Shape,
    strides: Shape,
    offset: number,
    dtype: DType,
    edge: Edge | null = null,
  ): Tensor {
    const t = new Tensor(storage.retain(), shape, strides, offset, dtype);
    if (edge) t.attach(edge);
    return t;
  }

  /** @internal Whether its elements are nobody else's, though other tensors have other parts of its storage. */
  exclusive = false;

  // ── memory ──

  /** @throws DisposedError after `dispose()` */
  get storage(): Storage {
    if (!this.memory)
      throw new DisposedError(
        'tensor',
        `A ${this.dtype} tensor of shape ${show(this.shape)} was used after it was disposed of`,
        { remedy: 'return it from its scope(), or keep() it' },
      );
    return this.memory;
  }

  get device(): Device {
    return this.storage.device;
  }

  get disposed(): boolean {
    return this.memory === null;
  }

  get byteOffset(): number {
    return this.offset * sizeOf(this.dtype);
  }

  get ndim(): number {
    return this.shape.length;
  }

  /** Gives the memory back, if no other view shares it. Idempotent. */
  dispose(): void {
    const storage = this.memory;
    if (!storage) return;
    this.memory = null;
    storage.device.liveTensors--;
    storage.device.unwatch(this);
    this.accumulated?.dispose();
    this.accumulated = null;
    this.edge?.node.release();
    storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * Moves this tensor, with its identity on the tape, to the memory of another of its shape and type: a parameter into an arena.
   * Values are those of the other tensor.
   */
  setData(other: Tensor): this {
    if (!sameShape(other.shape, this.shape) || other.dtype !== this.dtype)
      throw new ShapeError(
        'setData',
        `A ${other.dtype} tensor of shape ${show(other.shape)} can't take the place of a ${this.dtype} tensor of ` +
          `shape ${show(this.shape)}`,
      );
    const old = this.storage;
    this.memory = other.storage.retain();
    this.strides = other.strides;
    this.offset = other.offset;
    old.release();
    return this;
  }

  /** Another handle of the same values and the same place on the tape. */
  alias(): Tensor {
    return Tensor.view(this.storage, this.shape, this.strides, this.offset, this.dtype, this.edge);
  }

  get isContiguous(): boolean {
    return isContiguous(this.shape, this.strides);
  }

  // ── gradients ──

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

  /** Makes this a leaf whose gradient is wanted. */
  requiresGrad_(wanted = true): this {
    if (!isFloat(this.dtype) && wanted)
      throw new DTypeError('requiresGrad', `A ${this.dtype} tensor has no gradient`, { expected: 'f32 or f16' });
    if (this.edge && !(this.edge.node instanceof LeafNode))
      throw new GradError('requiresGrad', 'Only a leaf can change it', { remedy: 'detach() the tensor first' });
    if (wanted && !this.edge) this.attach({ node: new LeafNode(this), index: 0 });
    if (!wanted && this.edge) {
      this.edge.node.release();
      this.edge = null;
    }
    return this;
  }

  /** @internal Puts the tensor on the tape. */
  attach(edge: Edge): void {
    edge.node.retain();
    this.edge = edge;
  }

  /** @internal Adds to `grad`, which gets memory of its own: a gradient may be expanded, or go to several leaves. */
  accumulate(g: Tensor): void {
    const sum = keep(
      this.accumulated?.add(g) ?? (g.isContiguous && (g.exclusive || !g.storage.shared) ? g : g.clone()),
    );
    if (sum !== g) g.dispose();
    this.accumulated?.dispose();
    this.accumulated = sum;
  }

  /** The same values without a history. */
  detach(): Tensor {
    return Tensor.view(this.storage, this.shape, this.strides, this.offset, this.dtype);
  }

  /** Computes gradients of all leaves; see `backward`. */
  backward(options: BackwardOptions = {}): void {
    backward(this, options);
  }

  // ── host ──

  /** Values in row-major order: Float32Array for f32 and f16, Int32Array, Uint32Array; bool as Uint8Array. */
  async data(): Promise<Float32Array | Int32Array | Uint32Array | Uint8Array> {
    const source = noGrad(() => ops.contiguous(this));
    try {
      // f16 tensors may begin in the middle of a word.
      const begin = Math.floor(source.byteOffset / 4) * 4;
      const bytes = await source.device.readBytes(
        source.storage,
        begin,
        source.byteOffset - begin + source.numel * sizeOf(source.dtype),
      );
      return fromBytes(bytes.slice(source.byteOffset - begin), source.dtype);
    } finally {
      if (source !== this) source.dispose();
    }
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    if (this.numel !== 1)
      throw new ShapeError('item', `A tensor of shape ${show(this.shape)} has ${this.numel} elements`, {
        expected: 'one',
      });
    return (await this.data())[0];
  }

  /** Values as nested arrays. */
  async tolist(): Promise<unknown> {
    const flat = await this.data();
    const build = (dim: number, at: number): unknown => {
      if (dim === this.ndim) return this.dtype === 'bool' ? flat[at] !== 0 : flat[at];
      const step = numelOf(this.shape.slice(dim + 1));
      return Array.from({ length: this.shape[dim] }, (_, i) => build(dim + 1, at + i * step));
    };
    return build(0, 0);
  }

  /** Overwrites the values in place, from row-major host data. Not recorded by autograd; in order with the GPU's work. */
  write(data: HostArray): this {
    if (data.length !== this.numel)
      throw new ShapeError('write', `${data.length} values given for a tensor of shape ${show(this.shape)}`, {
        expected: `${this.numel}`,
      });
    const wholeWords = this.byteOffset % 4 === 0 && (this.numel * sizeOf(this.dtype)) % 4 === 0;
    if (this.numel === 0) return this;
    if (this.isContiguous && wholeWords) return this.upload(data);
    scope(() => ops.copyInto(this, Tensor.empty(this.device, this.shape, this.dtype).upload(data)));
    return this;
  }

  /** @internal Writes to memory that is contiguous and of which no other tensor has the bytes up to the next word. */
  upload(data: HostArray): this {
    const bytes = toBytes(data, this.dtype);
    this.storage.version++;
    this.device.stream.recorder?.written(this.storage);
    this.device.stream.write(this.storage.buffer, this.byteOffset, bytes);
    return this;
  }

  /**
   * Overwrites the values in place with another tensor's, broadcast and cast. Not recorded by autograd.
   *
   * @throws GradError while recording, if either needs a gradient
   */
  copy_(source: Tensor): this {
    if (isGradEnabled() && (this.requiresGrad || source.requiresGrad))
      throw new GradError('copy_', 'Writing in place is not differentiable', {
        expected: 'tensors that need no gradient',
        remedy: 'use noGrad() or detach()',
      });
    ops.copyInto(this, source);
    return this;
  }

  /** Prints like NumPy. Async: values are read from the GPU. */
  async toText(): Promise<string> {
    return format(await this.data(), this.shape, this.dtype);
  }

  toString(): string {
    return this.disposed
      ? `Tensor(${this.dtype}, ${show(this.shape)}, disposed)`
      : `Tensor(${this.dtype}, ${show(this.shape)}${this.requiresGrad ? ', requiresGrad' : ''})`;
  }

  // ── operations ──

  onesLike(): Tensor {
    return ops.full(this.device, this.shape, 1, this.dtype);
  }
  zerosLike(): Tensor {
    return ops.full(this.device, this.shape, 0, this.dtype);
  }
  cast(dtype: DType): Tensor {
    return dtype === this.dtype ? this : ops.cast(this, dtype);
  }
  contiguous(): Tensor {
    return ops.contiguous(this);
  }
  clone(): Tensor {
    return ops.clone(this);
  }

  add(y: TensorLike): Tensor {
    return ops.add(this, y);
  }
  sub(y: TensorLike): Tensor {
    return ops.sub(this, y);
  }
  mul(y: TensorLike): Tensor {
    return ops.mul(this, y);
  }
  div(y: TensorLike): Tensor {
    return ops.div(this, y);
  }
  pow(y: TensorLike): Tensor {
    return ops.pow(this, y);
  }
  remainder(y: TensorLike): Tensor {
    return ops.remainder(this, y);
  }
  minimum(y: TensorLike): Tensor {
    return ops.minimum(this, y);
  }
  maximum(y: TensorLike): Tensor {
    return ops.maximum(this, y);
  }
  eq(y: TensorLike): Tensor {
    return ops.eq(this, y);
  }
  ne(y: TensorLike): Tensor {
    return ops.ne(this, y);
  }
  lt(y: TensorLike): Tensor {
    return ops.lt(this, y);
  }
  le(y: TensorLike): Tensor {
    return ops.le(this, y);
  }
  gt(y: TensorLike): Tensor {
    return ops.gt(this, y);
  }
  ge(y: TensorLike): Tensor {
    return ops.ge(this, y);
  }
  logicalAnd(y: TensorLike): Tensor {
    return ops.logicalAnd(this, y);
  }
  logicalOr(y: TensorLike): Tensor {
    return ops.logicalOr(this, y);
  }
  logicalNot(): Tensor {
    return ops.logicalNot(this);
  }
  neg(): Tensor {
    return ops.neg(this);
  }
  abs(): Tensor {
    return ops.abs(this);
  }
  sign(): Tensor {
    return ops.sign(this);
  }
  square(): Tensor {
    return ops.square(this);
  }
  reciprocal(): Tensor {
    return ops.reciprocal(this);
  }
  exp(): Tensor {
    return ops.exp(this);
  }
  log(): Tensor {
    return ops.log(this);
  }
  log1p(): Tensor {
    return ops.log1p(this);
  }
  expm1(): Tensor {
    return ops.expm1(this);
  }
  sqrt(): Tensor {
    return ops.sqrt(this);
  }
  rsqrt(): Tensor {
    return ops.rsqrt(this);
  }
  sin(): Tensor {
    return ops.sin(this);
  }
  cos(): Tensor {
    return ops.cos(this);
  }
  tanh(): Tensor {
    return ops.tanh(this);
  }
  sigmoid(): Tensor {
    return ops.sigmoid(this);
  }
  silu(): Tensor {
    return ops.silu(this);
  }
  gelu(): Tensor {
    return ops.gelu(this);
  }
  relu(): Tensor {
    return ops.relu(this);
  }
  softplus(): Tensor {
    return ops.softplus(this);
  }
  erf(): Tensor {
    return ops.erf(this);
  }
  floor(): Tensor {
    return ops.floor(this);
  }
  ceil(): Tensor {
    return ops.ceil(this);
  }
  round(): Tensor {
    return ops.round(this);
  }
  trunc(): Tensor {
    return ops.trunc(this);
  }
  isNan(): Tensor {
    return ops.isNan(this);
  }
  isInf(): Tensor {
    return ops.isInf(this);
  }
  isFinite(): Tensor {
    return ops.isFinite(this);
  }
  clamp(lo: number, hi: number): Tensor {
    return ops.clamp(this, lo, hi);
  }

  sum(axes?: Axes, keepdim = false): Tensor {
    return ops.sum(this, axes, keepdim);
  }
  mean(axes?: Axes, keepdim = false): Tensor {
    return ops.mean(this, axes, keepdim);
  }
  max(axes?: Axes, keepdim = false): Tensor {
    return ops.max(this, axes, keepdim);
  }
  min(axes?: Axes, keepdim = false): Tensor {
    return ops.min(this, axes, keepdim);
  }
  var(axes?: Axes, options: { correction?: number; keepdim?: boolean } = {}): Tensor {
    return ops.variance(this, axes, options);
  }
  argmax(axis?: number, keepdim = false): Tensor {
    return ops.argmax(this, axis, keepdim);
  }
  argmin(axis?: number, keepdim = false): Tensor {
    return ops.argmin(this, axis, keepdim);
  }
  cumsum(axis: number): Tensor {
    return ops.cumsum(this, axis);
  }
  softmax(axis: number): Tensor {
    return ops.softmax(this, axis);
  }
  logSoftmax(axis: number): Tensor {
    return ops.logSoftmax(this, axis);
  }

  matmul(y: Tensor): Tensor {
    return ops.matmul(this, y);
  }

  reshape(...shape: number[]): Tensor {
    return ops.reshape(this, shape);
  }
  view(...shape: number[]): Tensor {
    return ops.reshape(this, shape);
  }
  flatten(from = 0, to = -1): Tensor {
    return ops.flatten(this, from, to);
  }
  permute(...axes: number[]): Tensor {
    return ops.permute(this, axes);
  }
  transpose(a: number, b: number): Tensor {
    return ops.transpose(this, a, b);
  }
  get T(): Tensor {
    return ops.permute(
      this,
      this.shape.map((_, i) => this.ndim - 1 - i),
    );
  }
  unsqueeze(axis: number): Tensor {
    return ops.unsqueeze(this, axis);
  }
  squeeze(axis?: number): Tensor {
    return ops.squeeze(this, axis);
  }
  expand(...shape: number[]): Tensor {
    return ops.expand(this, shape);
  }
  slice(axis: number, begin: number, end?: number, step = 1): Tensor {
    return ops.slice(this, axis, begin, end, step);
  }
  select(axis: number, index: number): Tensor {
    return ops.select(this, axis, index);
  }
  split(sizes: number | readonly number[], axis = 0): Tensor[] {
    return ops.split(this, sizes, axis);
  }
  chunk(count: number, axis = 0): Tensor[] {
    return ops.chunk(this, count, axis);
  }
  flip(...axes: number[]): Tensor {
    return ops.flip(this, axes);
  }
  pad(widths: readonly (readonly [number, number])[], value = 0): Tensor {
    return ops.pad(this, widths, value);
  }

  gather(axis: number, index: Tensor): Tensor {
    return ops.gather(this, axis, index);
  }
  scatterAdd(axis: number, index: Tensor, source: Tensor): Tensor {
    return ops.scatterAdd(this, axis, index, source);
  }
  indexSelect(axis: number, index: Tensor): Tensor {
    return ops.indexSelect(this, axis, index);
  }
}
