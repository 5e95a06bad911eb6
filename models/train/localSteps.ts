// Training where the network is slow: every rank takes steps by itself, and only after some of them do ranks exchange
// anything (DiLoCo, arXiv 2311.08105). Beside the outer step of the parameters, the moments and moving averages become
// their mean over ranks and the counters the same, so that after an exchange all ranks hold the same bits, a checkpoint
// is that of any rank, and a run may go on with another number of them.

import { FormatError } from '../../core/errors.ts';
import { noGrad, scope, type Tensor } from '../../core/index.ts';
import { adamWWord } from '../../kernels/index.ts';
import { OuterStep, type FusedAdamW, type StateTensors } from '../../nn/index.ts';
import { enqueueAlone, type Enqueued, type StepOrder } from './enqueue.ts';
import type { ExchangeTimes, GradientExchange } from './exchange.ts';
import { bucketBytes, GradientBuckets } from './gradientBuckets.ts';
import type { StepParts } from './stepParts.ts';
import type { LocalStepsOptions } from './types.ts';

const NOTHING: ExchangeTimes = { span: 0, exposed: 0, moving: 0, encoding: 0 };

/** Steps of a rank by itself, and what ranks exchange after some of them. */
export class LocalSteps {
  /** Steps between two exchanges. */
  readonly every: number;
  private readonly optimizer: FusedAdamW;
  private readonly exchange: GradientExchange | undefined;
  private readonly outer: OuterStep;
  private buckets: Promise<GradientBuckets> | undefined;
  private readonly runs: ReturnType<FusedAdamW['gradientRuns']>;
  /** Done when the step before is submitted. */
  private submitted: Promise<unknown> = Promise.resolve();

  /** @param exchange the other ranks; none is a rank alone, for which the outer step is taken all the same */
  constructor(
    { every, outerLr, outerMomentum }: LocalStepsOptions,
    optimizer: FusedAdamW,
    exchange: GradientExchange | undefined,
  ) {
    this.every = every;
    this.optimizer = optimizer;
    this.exchange = exchange;
    this.outer = new OuterStep(optimizer, { lr: outerLr, momentum: outerMomentum });
    // Parameters travel in f32, whatever the type in which steps are computed: small ones move by little.
    this.runs = optimizer.gradientRuns((fromLast) => bucketBytes(fromLast) / 4);
  }

  /** What is exchanged travels through this, made once. All ranks come here together. */
  async open(): Promise<void> {
    const { exchange, optimizer, runs } = this;
    if (exchange) await (this.buckets ??= GradientBuckets.open(exchange, optimizer.gradients, runs, 'f32'));
  }

  /** Enqueues a step when those before are, and the exchange where it is due. @param taken steps before this one */
  enqueue(step: StepParts, order: StepOrder, taken: number): Promise<Enqueued> {
    const enqueued = this.submitted.then(async (): Promise<Enqueued> => {
      const own = enqueueAlone(step, order);
      const due = (taken + 1) % this.every === 0;
      // Counters are those of before the exchange.
      if (due) await own.counters;
      return { ...own, times: due ? await this.meet() : NOTHING };
    });
    this.submitted = enqueued;
    enqueued.catch(() => {}); // whoever waits for the record is told
    return enqueued;
  }

  /** Exchanges, and takes the outer step. All ranks call it after as many steps of their own. */
  async meet(): Promise<ExchangeTimes> {
    const { optimizer, outer } = this;
    const began = performance.now();
    let moving = 0;
    const mean = async (of: Tensor, use: (mean: Tensor) => void): Promise<void> => {
      moving += await this.mean(of);
      use(optimizer.gradients);
    };
    await this.open();
    await mean(optimizer.params.flat, (params) => outer.step(params));
    if (this.exchange) {
      for (const arena of [optimizer.m, optimizer.v, optimizer.ema])
        if (arena) await mean(arena.flat, (values) => scope(() => arena.flat.copy_(values)));
      await this.agree(this.exchange);
    }
    // The gradients' memory was used for all of it.
    optimizer.zeroGrad();
    const span = (performance.now() - began) / 1000;
    return { span, exposed: span, moving, encoding: 0 };
  }

  /** The momentum, by names of the optimizer's state. */
  saveState(): Promise<StateTensors> {
    return this.outer.saveState();
  }

  /** Whether a state can be gone on from. @throws FormatError, ShapeError */
  check(state: StateTensors, step: number): void {
    if (step % this.every !== 0)
      throw new FormatError('Trainer', `The state is that of step ${step}`, {
        expected: `a multiple of the ${this.every} local steps`,
      });
    this.outer.check(state);
  }

  /** Goes on from a momentum and the optimizer's parameters. @throws FormatError, ShapeError */
  loadState(state: StateTensors): void {
    this.outer.loadState(state);
  }

  dispose(): void {
    this.outer.dispose();
    void this.buckets?.then(
      (buckets) => buckets.dispose(),
      () => {},
    );
  }

  /** Leaves the mean of an arena over ranks in that of the gradients. @returns seconds in which bytes were moved */
  private async mean(of: Tensor): Promise<number> {
    const { exchange, optimizer, runs } = this;
    const { gradients } = optimizer;
    const share = 1 / (exchange?.ranks ?? 1);
    noGrad(() => scope(() => gradients.copy_(share === 1 ? of : of.mul(share))));
    const buckets = await this.buckets;
    if (!buckets) return 0;
    for (const run of runs.keys()) await buckets.begin(run);
    return (await buckets.finish()).moving;
  }

  /** Counters become those of rank 0, but for skipped steps and the loss scale: what any rank has met holds for all. */
  private async agree(exchange: GradientExchange): Promise<void> {
    const all = await exchange.gatherNumbers(Float64Array.from(await this.optimizer.words()));
    const words = Array.from(all[0]);
    const [skipped, scale] = [adamWWord('skipped'), adamWWord('lossScale')];
    words[skipped] = Math.max(...all.map((each) => each[skipped]));
    words[scale] = Math.min(...all.map((each) => each[scale]));
    this.optimizer.loadWords(words);
  }
}
