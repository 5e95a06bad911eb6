// How the parts of a step are enqueued: alone, all at once; with other ranks in turn, while gradients travel between
// them.

import { wireBytes, type WireType } from '../../kernels/index.ts';
import type { FusedAdamW, GradientRun } from '../../nn/index.ts';
import type { Batch } from '../data/dataset.ts';
import type { ExchangeTimes, GradientExchange } from './exchange.ts';
import { bucketBytes, GradientBuckets } from './gradientBuckets.ts';
import type { StepParts } from './stepParts.ts';
import type { GivenDraws } from './types.ts';

/** A step that is asked for. */
export interface StepOrder {
  /** The batch, or this rank's part of it. */
  readonly batch: Pick<Batch, 'images' | 'labels'>;
  readonly draws: GivenDraws;
  readonly lr: number;
  /** Decay of the moving average. */
  readonly emaDecay: number;
}

/** What is on its way when a step is enqueued. */
export interface Enqueued {
  /** Of each micro-batch. */
  readonly losses: readonly Promise<ArrayLike<number>>[];
  readonly counters: ReturnType<FusedAdamW['counters']>;
  readonly times?: ExchangeTimes;
}

/** Enqueues all parts of a step. */
export function enqueueAlone(step: StepParts, { batch, draws, lr, emaDecay }: StepOrder): Enqueued {
  const { optimizer, generator, inputs } = step.setup;
  optimizer.lr = lr;
  optimizer.emaDecay = emaDecay;
  const { position } = generator;
  const losses = step.list().map((part, k) => {
    if (part !== 'update') {
      inputs.feed(batch, draws, k);
      generator.rewind({ position });
    }
    const values = step.enqueue(part, draws);
    // Where a later part throws, nobody waits for this one.
    values?.catch(() => {});
    return values;
  });
  return { losses: losses.filter((values) => values !== undefined), counters: optimizer.counters() };
}

/** Enqueues steps of several ranks, one after the other. */
export class EnqueueTogether {
  /** Gradients that are sent together. */
  readonly runs: readonly GradientRun[];
  private readonly exchange: GradientExchange;
  private readonly optimizer: FusedAdamW;
  private readonly wire: WireType;
  private buckets: Promise<GradientBuckets> | undefined;
  private opened: GradientBuckets | undefined;
  /** Uploads the first micro-batch of the step that was asked for last. */
  private feedNext: (() => void) | undefined;
  /** Done when the step before is submitted. */
  private submitted: Promise<unknown> = Promise.resolve();

  constructor(exchange: GradientExchange, optimizer: FusedAdamW, wire: WireType) {
    this.exchange = exchange;
    this.optimizer = optimizer;
    this.wire = wire;
    this.runs = optimizer.gradientRuns((fromLast) => bucketBytes(fromLast) / wireBytes(wire));
  }

  /** What gradients travel through, made once. All ranks come here together. */
  open(): Promise<GradientBuckets> {
    return (this.buckets ??= GradientBuckets.open(this.exchange, this.optimizer.gradients, this.runs, this.wire));
  }

  /** Sends a run of gradients; a failure is told when the step's parts are enqueued. */
  begin(run: number): void {
    this.opened?.begin(run).catch(() => {}); // told by finish()
  }

  /** Enqueues the parts of a step when those of the steps before are. */
  enqueue(step: StepParts, order: StepOrder): Promise<Enqueued> {
    let fed = false;
    const feed = (): void => {
      if (!fed) step.setup.inputs.feed(order.batch, order.draws, 0);
      fed = true;
    };
    this.feedNext = feed;
    const enqueued = this.submitted.then(() => this.enqueueNow(step, order, feed));
    this.submitted = enqueued;
    // Whoever waits for the record is told.
    enqueued.catch(() => {});
    return enqueued;
  }

  dispose(): void {
    void this.buckets?.then(
      (buckets) => buckets.dispose(),
      () => {},
    );
  }

  private async enqueueNow(
    step: StepParts,
    { batch, draws, lr, emaDecay }: StepOrder,
    feed: () => void,
  ): Promise<Enqueued> {
    const { optimizer, generator, inputs, capturing } = step.setup;
    const buckets = (this.opened = await this.open());
    optimizer.lr = lr;
    optimizer.emaDecay = emaDecay;
    const { position } = generator;
    const losses: Promise<ArrayLike<number>>[] = [];
    let times: ExchangeTimes | undefined;
    let encoding = 0;
    for (const [k, part] of step.list().entries()) {
      if (part === 'update') {
        // Nothing reads this batch any more: the next one can come while the last gradients do.
        if (this.feedNext !== feed) this.feedNext?.();
        times = { ...(await buckets.finish()), encoding };
      } else {
        if (k === 0) feed();
        else inputs.feed(batch, draws, k);
        generator.rewind({ position });
      }
      if (capturing) {
        const captured = await step.prepared(part, draws);
        for (let began = performance.now(), parts = captured.replayInParts(); ; began = performance.now()) {
          const { done, value: run } = parts.next();
          encoding += (performance.now() - began) / 1000;
          if (done) break;
          await buckets.begin(run);
        }
        if (captured.result) losses.push(captured.result.data());
      } else {
        // The gradients' buckets begin while the work is enqueued.
        const values = step.enqueue(part, draws);
        if (values) losses.push(values);
      }
    }
    return { losses, counters: optimizer.counters(), times };
  }
}
