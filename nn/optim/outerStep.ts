// DiLoCo's outer step (Douillard et al. 2023, arXiv 2311.08105, algorithm 1): workers train by themselves for some steps;
// then what they moved by on average is the gradient for a step of Nesterov momentum from where all of them began.
//
//   g      = mean over workers (begin - p)
//   moment = momentum moment + g
//   p      = begin - lr (g + momentum moment)
//
// It knows nothing of how the mean is made. Its state is the momentum alone: after each step p is where all begin.

import { ValueError } from '../../core/errors.ts';
import { fuseInPlace, noGrad, scope, type Tensor } from '../../core/index.ts';
import type { HostTensor } from '../module.ts';
import { Arena, type StateTensors } from './arena.ts';
import type { FusedAdamW } from './fusedAdamW.ts';

/** Options of `OuterStep`. */
export interface OuterStepOptions {
  /** Learning rate; default 0.7, as in the paper. */
  readonly lr?: number;
  /** Default 0.9, as in the paper. */
  readonly momentum?: number;
}

/** Before the names of parameters in the state. */
const PREFIX = 'outer.';

/** The outer step of an optimizer's parameters. Make it while all workers have the same ones. */
export class OuterStep {
  private readonly optimizer: FusedAdamW;
  /** Where the workers began. */
  private readonly begin: Arena;
  private readonly moment: Arena;
  private readonly takeFrom: (moved: Tensor, begin: Tensor) => void;
  private readonly update: (begin: Tensor, moment: Tensor, gradient: Tensor) => void;

  /** @throws ValueError */
  constructor(optimizer: FusedAdamW, { lr = 0.7, momentum = 0.9 }: OuterStepOptions = {}) {
    if (!(lr > 0 && Number.isFinite(lr)))
      throw new ValueError('OuterStep', `is ${lr}`, { option: 'lr', expected: 'a finite number above 0' });
    if (!(momentum >= 0 && momentum < 1))
      throw new ValueError('OuterStep', `is ${momentum}`, { option: 'momentum', expected: '0 to below 1' });
    this.optimizer = optimizer;
    const { device } = optimizer.params.flat;
    const { layout } = optimizer.params;
    this.begin = new Arena(device, layout);
    this.moment = new Arena(device, layout);
    this.takeFrom = fuseInPlace((moved, begin) => begin.sub(moved), 'outerGradient');
    this.update = fuseInPlace((begin, moment, g) => {
      const m = moment.mul(momentum).add(g);
      return [begin.sub(g.add(m.mul(momentum)).mul(lr)), m];
    }, 'outerStep');
    this.restart();
  }

  /**
   * Takes the step.
   *
   * @param mean of the workers' parameters, in their layout; overwritten
   */
  step(mean: Tensor): void {
    const { optimizer, begin, moment } = this;
    noGrad(() =>
      scope(() => {
        this.takeFrom(mean, begin.flat);
        this.update(begin.flat, moment.flat, mean);
        optimizer.params.flat.copy_(begin.flat);
        optimizer.refresh();
      }),
    );
  }

  /** The momentum, as `outer.NAME`. */
  async saveState(): Promise<Map<string, HostTensor>> {
    return new Map(Array.from(await this.moment.read(), ([name, values]) => [PREFIX + name, values]));
  }

  /** Whether a state has the momentum of all parameters. @throws FormatError, ShapeError */
  check(state: StateTensors): void {
    this.momentIn(state);
  }

  /**
   * Goes on from a momentum, and from the parameters that the optimizer has.
   *
   * @throws FormatError, ShapeError as `check` does; nothing is written then
   */
  loadState(state: StateTensors): void {
    this.moment.write(this.momentIn(state));
    this.restart();
  }

  /** Frees what it keeps; the parameters stay. */
  dispose(): void {
    this.begin.dispose();
    this.moment.dispose();
  }

  private momentIn(state: StateTensors): (name: string) => ArrayLike<number> {
    return this.moment.valuesIn(state, { operation: 'OuterStep', prefix: PREFIX });
  }

  private restart(): void {
    noGrad(() => scope(() => this.begin.flat.copy_(this.optimizer.params.flat)));
  }
}
