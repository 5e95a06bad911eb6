// Between tensors and the host: reading values, writing them, printing.

import { copyInto } from '../expr/elementwise.ts';
import { GradError, ShapeError } from '../errors.ts';
import { isGradEnabled, noGrad } from '../autograd/gradMode.ts';
import type { Tensor } from '../tensor.ts';
import { TensorBase } from '../tensor/base.ts';
import { sizeOf } from '../tensor/dtype.ts';
import { fromBytes, type HostArray } from '../tensor/hostData.ts';
import { emptyTensor } from '../tensor/make.ts';
import { format } from '../tensor/print.ts';
import { scope } from '../tensor/scope.ts';
import { numelOf, show } from '../tensor/shape.ts';

export abstract class HostMethods extends TensorBase {
  /** Values in row-major order: Float32Array for f32 and f16, Int32Array, Uint32Array; bool as Uint8Array. */
  async data(this: Tensor): Promise<Float32Array | Int32Array | Uint32Array | Uint8Array> {
    const source = noGrad(() => this.contiguous());
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

  /**
   * The value of a tensor with one element.
   *
   * @throws ShapeError where it has another number of elements
   */
  async item(this: Tensor): Promise<number> {
    if (this.numel !== 1)
      throw new ShapeError('item', `A tensor of shape ${show(this.shape)} has ${this.numel} elements`, {
        expected: 'one',
      });
    return (await this.data())[0];
  }

  /** Values as nested arrays. */
  async tolist(this: Tensor): Promise<unknown> {
    const flat = await this.data();
    const build = (dim: number, at: number): unknown => {
      if (dim === this.ndim) return this.dtype === 'bool' ? flat[at] !== 0 : flat[at];
      const step = numelOf(this.shape.slice(dim + 1));
      return Array.from({ length: this.shape[dim] }, (_, i) => build(dim + 1, at + i * step));
    };
    return build(0, 0);
  }

  /**
   * Overwrites the values in place, from row-major host data. Not recorded by autograd; in order with the GPU's work.
   *
   * @throws ShapeError for another number of values
   */
  write(this: Tensor, data: HostArray): Tensor {
    if (data.length !== this.numel)
      throw new ShapeError('write', `${data.length} values given for a tensor of shape ${show(this.shape)}`, {
        expected: `${this.numel}`,
      });
    const wholeWords = this.byteOffset % 4 === 0 && (this.numel * sizeOf(this.dtype)) % 4 === 0;
    if (this.numel === 0) return this;
    if (this.isContiguous && wholeWords) return this.upload(data);
    scope(() => copyInto(this, emptyTensor(this.device, this.shape, this.dtype).upload(data)));
    return this;
  }

  /**
   * Overwrites the values in place with another tensor's, broadcast and cast. Not recorded by autograd.
   *
   * @throws GradError while recording, if either needs a gradient
   */
  copy_(this: Tensor, source: Tensor): Tensor {
    if (isGradEnabled() && (this.requiresGrad || source.requiresGrad))
      throw new GradError('copy_', 'Writing in place is not differentiable', {
        expected: 'tensors that need no gradient',
        remedy: 'use noGrad() or detach()',
      });
    copyInto(this, source);
    return this;
  }

  /** Prints like NumPy. Async: values are read from the GPU. */
  async toText(this: Tensor): Promise<string> {
    return format(await this.data(), this.shape, this.dtype);
  }

  /** What is known without a wait: `Tensor(f32, (2,3), requiresGrad)`. Values are on the GPU; `toText()` reads them. */
  override toString(): string {
    const state: string[] = [];
    if (this.disposed) state.push('disposed');
    else {
      if (!this.isContiguous) state.push(`strides (${this.strides.join()})`);
      if (this.requiresGrad) state.push('requiresGrad');
    }
    return `Tensor(${[this.dtype, show(this.shape), ...state].join(', ')})`;
  }

  /** @internal What Node's console shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}
