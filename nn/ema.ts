// The moving average of a module's parameters, which gives better samples than the parameters themselves.

import {
  fuseInPlace,
  keep,
  noGrad,
  scope,
  sameShape,
  ShapeError,
  show,
  ValueError,
  type Tensor,
} from '../core/index.ts';
import type { Module } from './module.ts';
import { loadEntries, type StateEntries } from './stateDict.ts';

/**
 * `average ← decay · average + (1 - decay) · parameter` after each step. It starts as a copy. Averages are f32.
 * `FusedAdamW` does the same in the optimizer's own dispatch.
 */
export class ExponentialMovingAverage {
  /** Share of the average that stays in an update. */
  readonly decay: number;
  private readonly module: Module;
  private readonly averages: Map<string, Tensor>;
  private readonly blend: (average: Tensor, value: Tensor) => void;
  private stored: Map<string, Tensor> | null = null;

  /**
   * @param decay default 0.9999
   * @throws ValueError
   */
  constructor(module: Module, decay = 0.9999) {
    if (!(decay >= 0 && decay <= 1))
      throw new ValueError('ExponentialMovingAverage', `is ${decay}`, { option: 'decay', expected: '0 to 1' });
    this.module = module;
    this.decay = decay;
    this.averages = copies(module.namedParameters());
    this.blend = fuseInPlace((average, value) => average.add(value.sub(average).mul(1 - decay)), 'ema');
  }

  /** Updates the averages with the present parameters. Makes dispatches only, so it may be part of a captured step. */
  update(): void {
    if (this.stored)
      throw new ValueError('ExponentialMovingAverage', 'The module holds the averages themselves', {
        remedy: 'call restore() before training on',
      });
    noGrad(() =>
      scope(() => {
        for (const [name, p] of this.module.namedParameters()) this.blend(this.averages.get(name)!, p);
      }),
    );
  }

  /**
   * Writes the averages into a module with the same parameters; by default into its own, whose values `restore()`
   * brings back.
   */
  copyTo(module: Module = this.module): void {
    if (module === this.module) this.stored ??= copies(module.namedParameters());
    noGrad(() => {
      for (const [name, p] of module.namedParameters()) {
        const average = this.averages.get(name);
        if (!average || !sameShape(average.shape, p.shape))
          throw new ShapeError(
            'ExponentialMovingAverage',
            `There is no average for ${name} of shape ${show(p.shape)}`,
            { remedy: 'copy to a module of the same configuration' },
          );
        p.copy_(average);
      }
    });
  }

  /** Restores what the own module held before `copyTo()`. */
  restore(): void {
    const { stored } = this;
    if (!stored)
      throw new ValueError('ExponentialMovingAverage', 'Nothing to restore', { remedy: 'call copyTo() before' });
    noGrad(() => {
      for (const [name, p] of this.module.namedParameters()) p.copy_(stored.get(name)!);
    });
    for (const t of stored.values()) t.dispose();
    this.stored = null;
  }

  /** The averages by the parameters' names: the tensors themselves, not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.averages);
  }

  /**
   * Overwrites the averages; names are the module's.
   *
   * @throws ShapeError, ValueError when names or shapes differ; nothing is written then
   */
  loadStateDict(entries: StateEntries): void {
    loadEntries(this.averages, entries);
  }

  /** Frees the averages, but not the module. */
  dispose(): void {
    for (const t of [...this.averages.values(), ...(this.stored?.values() ?? [])]) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function copies(parameters: Iterable<readonly [string, Tensor]>): Map<string, Tensor> {
  return noGrad(() => new Map(Array.from(parameters, ([name, p]) => [name, scope(() => keep(p.clone().cast('f32')))])));
}
