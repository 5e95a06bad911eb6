// A table of vectors, looked up by index.

import { scope, ValueError, where, type Generator, type Tensor } from '../core/index.ts';
import { checkSizes } from './checks.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of `Embedding`. */
export interface EmbeddingOptions {
  /** A row that starts as zeros and gets no gradient; a negative number counts from the end. Default none. */
  readonly paddingIdx?: number;
}

/**
 * `y[…] = weight[index[…]]`.
 *
 * Shapes: index (…) of i32 or u32, from 0 to numEmbeddings - 1; y (…, embeddingDim); `weight` (numEmbeddings,
 * embeddingDim). Initialisation: N(0, 1), as in PyTorch. A negative index counts from the end. The GPU cannot raise an
 * error for an index out of range: such an index gives NaN, and no gradient.
 */
export class Embedding extends Module {
  /** (numEmbeddings, embeddingDim). */
  readonly weight: Tensor;
  /** The row without a gradient, or null. */
  readonly paddingIdx: number | null;

  /**
   * @param generator draws the initial values; its device holds them
   * @throws ValueError
   */
  constructor(
    generator: Generator,
    numEmbeddings: number,
    embeddingDim: number,
    { paddingIdx }: EmbeddingOptions = {},
  ) {
    super();
    checkSizes('Embedding', { numEmbeddings, embeddingDim });
    if (
      paddingIdx !== undefined &&
      !(Number.isInteger(paddingIdx) && paddingIdx >= -numEmbeddings && paddingIdx < numEmbeddings)
    ) {
      throw new ValueError('Embedding', `is ${paddingIdx}`, {
        option: 'paddingIdx',
        expected: `${-numEmbeddings} to ${numEmbeddings - 1}`,
      });
    }
    this.paddingIdx = paddingIdx === undefined ? null : (paddingIdx + numEmbeddings) % numEmbeddings;
    this.weight = parameter(generator.normal([numEmbeddings, embeddingDim]));
    if (this.paddingIdx !== null) {
      const row = this.paddingIdx;
      scope(() => {
        init.zeros(this.weight.detach().select(0, row));
      });
    }
  }

  /**
   * (…) of i32 or u32 → (…, embeddingDim).
   *
   * @throws DTypeError when the index isn't i32 or u32
   */
  forward(index: Tensor): Tensor {
    return scope(() => {
      const flat = index.reshape(index.numel);
      const rows = this.weight.indexSelect(0, flat);
      const y = this.paddingIdx === null ? rows : where(flat.eq(this.paddingIdx).unsqueeze(1), rows.detach(), rows);
      return y.reshape(...index.shape, this.weight.shape[1]);
    });
  }
}
