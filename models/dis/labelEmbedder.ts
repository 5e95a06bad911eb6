// Class labels as vectors, with a row for no class, so that one model gives conditional and unconditional estimates
// (arXiv 2207.12598).

import { where, type Generator, type Tensor } from '../../core/index.ts';
import { Embedding, init, Module } from '../../nn/index.ts';
import type { DisConfig } from './config.ts';
import { disDimensions } from './shapes.ts';

/** A table of a row per class, and one for no class where training drops labels. Initially N(0, initializerRange). */
export class LabelEmbedder extends Module {
  readonly embedding_table: Embedding;
  private readonly numClasses: number;
  private readonly dropProb: number;

  constructor(generator: Generator, config: DisConfig) {
    super();
    this.numClasses = config.numClasses;
    this.dropProb = config.classDropoutProb;
    this.embedding_table = new Embedding(generator, disDimensions(config).labelRows, config.embedDim);
    init.normal(this.embedding_table.weight, generator, { std: config.initializerRange });
  }

  /**
   * Rows of the table; a label becomes that of no class, numClasses, where its number of `uniform` is below the dropout
   * probability.
   *
   * @param labels (B) i32, 0 to numClasses
   * @param uniform (B), numbers in [0, 1)
   */
  forward(labels: Tensor, uniform: Tensor | null): Tensor {
    const kept = uniform ? where(uniform.lt(this.dropProb), this.numClasses, labels.cast('i32')) : labels;
    return this.embedding_table.forward(kept);
  }
}
