// What the optimizers that are made of tensor operations share: parameters, a learning rate, step counts, and state by
// PyTorch's names. Everything that changes from step to step is in a tensor, so that a step can be captured and
// replayed.

import { keep, noGrad, scope, tensor, ValueError, zeros, type Device, type Tensor } from '../../core/index.ts';
import { Module } from '../module.ts';
import { loadEntries, type StateEntries } from '../stateDict.ts';

/** Parameters to be learned: a module's, or any leaves. */
export type Parameters = Module | Iterable<Tensor>;

/** @internal Leaves of a module or of a list. */
export function leaves(op: string, parameters: Parameters): Tensor[] {
  const all = parameters instanceof Module ? parameters.parameters() : [...parameters];
  if (!all.length) throw new ValueError(op, 'There are no parameters', { expected: 'at least one' });
  return all;
}

/** @internal @throws ValueError unless the number is finite, at least 0 and below `end` */
export function checkNumber(op: string, name: string, value: number, end = Infinity): number {
  if (!(value >= 0 && value < end))
    throw new ValueError(op, `is ${value}`, {
      option: name,
      expected: `a finite number from 0 on${end === Infinity ? '' : ` and below ${end}`}`,
    });
  return value;
}

/**
 * Base of the optimizers. Per step: `zeroGrad()`, `loss.backward()`, `step()`. Parameters without a gradient are
 * skipped, as in PyTorch.
 */
export abstract class Optimizer {
  /** What it updates. */
  readonly params: readonly Tensor[];
  protected readonly device: Device;
  /** Learning rate, as a tensor. */
  protected readonly rate: Tensor;
  private readonly state = new Map<string, Tensor>();
  private readonly counts: Tensor;
  private learningRate: number;

  /** @param slots names of the tensors that the optimizer keeps for each parameter, of the parameter's shape */
  protected constructor(parameters: Parameters, lr: number, slots: readonly string[]) {
    this.params = leaves(new.target.name, parameters);
    this.device = this.params[0].device;
    this.learningRate = checkNumber(new.target.name, 'lr', lr);
    this.rate = keep(tensor(this.device, lr));
    this.counts = keep(zeros(this.device, [this.params.length]));
    this.state.set('lr', this.rate).set('step', this.counts);
    for (const slot of slots)
      this.params.forEach((p, i) => this.state.set(`${slot}.${i}`, keep(zeros(this.device, p.shape))));
  }

  /** Learning rate of the next step. */
  get lr(): number {
    return this.learningRate;
  }

  set lr(value: number) {
    this.learningRate = checkNumber(this.constructor.name, 'lr', value);
    this.rate.write([value]);
  }

  /** Drops all gradients. */
  zeroGrad(): void {
    for (const p of this.params) p.grad = null;
  }

  /** Updates all parameters that have a gradient. */
  step(): void {
    noGrad(() =>
      scope(() => {
        const active = this.params.map((p) => p.grad !== null);
        this.counts.copy_(this.counts.add(active.every(Boolean) ? 1 : tensor(this.device, active.map(Number))));
        this.params.forEach((p, i) => {
          if (p.grad) this.update(p, p.grad, i, this.counts.select(0, i));
        });
      }),
    );
  }

  /**
   * Learning rate, steps taken by each parameter, and the optimizer's tensors, named by the parameter's number: the
   * tensors themselves, not copies.
   */
  stateDict(): Map<string, Tensor> {
    return new Map(this.state);
  }

  /**
   * Overwrites the state.
   *
   * @throws ShapeError, ValueError when names or shapes differ; nothing is written then
   */
  async loadStateDict(entries: StateEntries): Promise<void> {
    loadEntries(this.state, entries);
    [this.learningRate] = await this.rate.data();
  }

  /** Frees the state, but not the parameters. */
  dispose(): void {
    for (const t of this.state.values()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Updates a parameter in place. `step`: how many steps it has taken, this one included. */
  protected abstract update(p: Tensor, gradient: Tensor, index: number, step: Tensor): void;

  /** A tensor that the optimizer keeps for a parameter. */
  protected slot(name: string, index: number): Tensor {
    return this.state.get(`${name}.${index}`)!;
  }
}
