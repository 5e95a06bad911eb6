// The random decisions of a training step: which branches are dropped (stochastic depth, arXiv 1603.09382) and which
// labels.

import { ShapeError, show, sameShape, ValueError, type Generator, type Tensor } from '../../core/index.ts';
import type { DisConfig } from './config.ts';
import { dropPathRates } from './shapes.ts';

/** Random decisions for a batch of B. What a configuration never drops is null. */
export interface DisDraws {
  /** (branches that can be dropped, in order of execution, B): 1 keeps a sample's branch, 0 drops it. */
  readonly keep: Tensor | null;
  /** (B), uniform in [0, 1): a label is dropped where the number is below classDropoutProb. */
  readonly labels: Tensor | null;
}

/** For each block and then the branch before the last norm: its row among the branches that can be dropped, or -1. */
export interface DropPathPlan {
  readonly blocks: readonly number[];
  readonly final: number;
  /** Probability that a row's branch is kept. */
  readonly keepProbs: readonly number[];
}

export function dropPathPlan(config: DisConfig): DropPathPlan {
  const rates = dropPathRates(config);
  const keepProbs: number[] = [];
  const row = (rate: number): number => (rate > 0 ? keepProbs.push(1 - rate) - 1 : -1);
  const blocks = rates.blocks.map(row);
  return { blocks, final: row(rates.final), keepProbs };
}

/** Draws the decisions of a batch. `keepProbs` (branches, 1) is the plan's, on the GPU. */
export function drawDecisions(
  generator: Generator,
  config: DisConfig,
  keepProbs: Tensor | null,
  batch: number,
): DisDraws {
  return {
    // A row a sample, so that parts of a batch get what the whole gets.
    keep: keepProbs && generator.uniform([batch, keepProbs.shape[0]]).transpose(0, 1).lt(keepProbs).cast('f32'),
    labels: config.numClasses > 0 && config.classDropoutProb > 0 ? generator.uniform([batch]) : null,
  };
}

/** @throws ValueError, ShapeError where given decisions don't fit the model and the batch. */
export function checkDraws(draws: DisDraws, rows: number, labels: boolean, batch: number): void {
  const expected = { keep: rows > 0 ? [rows, batch] : null, labels: labels ? [batch] : null };
  for (const name of ['keep', 'labels'] as const) {
    const [given, shape] = [draws[name], expected[name]];
    if (given === null && shape === null) continue;
    if (given === null || shape === null)
      throw new ValueError(
        'Dis',
        `draws.${name} is ${given ? 'given, but nothing of the kind is ever dropped by this configuration' : 'null'}`,
        { expected: shape ? `shape ${show(shape)}` : 'null' },
      );
    if (!sameShape(given.shape, shape))
      throw new ShapeError('Dis', `draws.${name} has shape ${show(given.shape)}`, { expected: show(shape) });
  }
}
