// Training of a diffusion model, free of files: an async iterator of step records over batches of a data loader. A step
// is captured the first time and replayed from then on; everything that changes between steps is data in buffers, and
// losses are read back while the next step runs.

import { ShapeError, ValueError } from '../../core/errors.ts';
import {
  backward,
  capture,
  captureAhead,
  cut,
  Generator,
  keep,
  noGrad,
  numelOf,
  scope,
  show,
  stack,
  zeros,
  type CapturedStep,
  type CapturePlan,
  type Device,
  type GeneratorState,
  type Tensor,
  type FloatDType,
} from '../../core/index.ts';
import { adamWWord, wireBytes } from '../../kernels/index.ts';
import { FusedAdamW, type EmaDecaySchedule, type GradientRun, type Module, type StateTensors } from '../../nn/index.ts';
import type { Batch, DataCursor, DataLoader } from '../data/dataset.ts';
import type { ExchangeTimes, GradientExchange } from './exchange.ts';
import { bucketBytes, GradientBuckets } from './gradientBuckets.ts';
import {
  timestepSamplerFromState,
  type TimestepSampler,
  type TimestepSamplerState,
} from '../diffusion/timestepSampler.ts';

/** A model that can be trained: `Dis`, or any module of this shape. */
export interface Denoiser extends Module {
  readonly config: { readonly imgSize: number; readonly channels: number; readonly numClasses: number };
  forward(x: Tensor, timesteps: Tensor, labels: Tensor | undefined, options: { generator: Generator }): Tensor;
  /** Parameters that `precision: 'f16'` stores in f16. */
  matrices(): Tensor[];
  /** Names of parameters that weight decay leaves alone. */
  noWeightDecay?(): ReadonlySet<string>;
}

/** What is minimised: `GaussianDiffusion`. Values are per sample. */
export interface TrainingObjective {
  readonly numTimesteps: number;
  trainingLosses(
    model: (x: Tensor, t: Tensor) => Tensor,
    xStart: Tensor,
    t: Tensor,
    options: { noise: Tensor },
  ): { loss: Tensor; mse?: Tensor; vb?: Tensor };
}

export interface TrainerOptions {
  readonly device: Device;
  readonly model: Denoiser;
  readonly diffusion: TrainingObjective;
  /** Images in an optimizer step, of all ranks together. */
  readonly batchSize: number;
  /**
   * Parts that a batch, or a rank's part of it, is computed in, one after the other, for less memory; default 1. The
   * result is the whole batch's.
   */
  readonly microBatches?: number;
  /** Learning rate, or a function of the number of steps taken; default 1e-4. */
  readonly lr?: number | ((step: number) => number);
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled weight decay, default 0. */
  readonly weightDecay?: number;
  /** Global gradient norm to clip to, default 1; 0 turns it off. */
  readonly clip?: number;
  /** Decay of the parameters' moving average, or a function of the number of steps taken (`warmupEmaDecay`); default 0.9999. */
  readonly emaDecay?: number | EmaDecaySchedule;
  /** Seed of timesteps, noise and dropout, default 0. */
  readonly seed?: number;
  /** `f16` stores matrices and activations in f16, keeps f32 masters and scales the loss. Default f32. */
  readonly precision?: FloatDType;
  /** Record the step once and replay it, default true. */
  readonly capture?: boolean;
  /** Default: every timestep with the same probability, drawn on the GPU. */
  readonly timestepSampler?: TimestepSampler;
  /**
   * Other ranks to train together with, each with an equal part of every batch: rank r has the samples from r ×
   * batchSize / ranks on. Whatever the number of ranks, a run sees the same samples, timesteps, noise and dropout.
   */
  readonly exchange?: GradientExchange;
}

/** What one step did. Losses are means over the batch, before weighting by the timestep sampler. */
export interface StepRecord {
  /** Steps taken, this one included. */
  readonly step: number;
  readonly loss: number;
  readonly mse?: number;
  readonly vb?: number;
  /** Global gradient norm before clipping. */
  readonly gradNorm: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** The gradient was not finite and the parameters were left alone. */
  readonly skipped: boolean;
  readonly epoch: number;
  /** What the exchange of gradients took; only with several ranks. */
  readonly exchange?: ExchangeTimes;
}

/** Everything that a run needs to go on bit for bit. */
export interface TrainerState {
  /** Parameters by name. */
  readonly model: StateTensors;
  /** Their moving averages. */
  readonly ema: StateTensors;
  /** First and second moments, `m.NAME` and `v.NAME`. */
  readonly optimizer: StateTensors;
  /** Plain JSON. */
  readonly json: {
    readonly step: number;
    readonly generator: GeneratorState;
    /** Where the data loader goes on. */
    readonly cursor: DataCursor;
    readonly optimizer: readonly number[];
    readonly timestepSampler?: TimestepSamplerState;
  };
}

export interface RunOptions {
  /** Go on until so many steps are taken in all. */
  readonly steps: number;
  /** Stops after the step that runs. */
  readonly signal?: AbortSignal;
  /**
   * After every so many steps nothing is under way when the record is given, so that `state()` is exactly that step's.
   */
  readonly pauseEvery?: number;
}

/** Numbers of the caller's instead of drawn ones, for the whole batch. */
export interface GivenDraws {
  /** (batch) timesteps. */
  readonly timesteps?: Int32Array;
  /** (batch) classes in place of the batch's, after dropout: the model's number of classes stands for none. */
  readonly labels?: Int32Array;
  /** (batch) importance weights; default 1. */
  readonly weights?: Float32Array;
  /** The noise, of the images' shape. */
  readonly noise?: Float32Array;
}

/**
 * Lists that a step is made of. Alone: `whole`, or `first`, `more` … `update` with micro-batches. With other ranks:
 * `first`, `more` …, then `last` (or `only`), in which gradients become complete and are sent, and `update`.
 */
type Part = 'whole' | 'first' | 'more' | 'only' | 'last' | 'update';

const TERMS = ['loss', 'mse', 'vb'] as const;

export class Trainer {
  readonly device: Device;
  readonly model: Denoiser;
  readonly diffusion: TrainingObjective;
  readonly optimizer: FusedAdamW;
  readonly batchSize: number;
  readonly microBatches: number;
  /** Ranks that train together, and which of them this is. */
  readonly ranks: number;
  readonly rank: number;
  /** Draws timesteps, noise and dropout. */
  readonly generator: Generator;
  private readonly lr: (step: number) => number;
  private readonly emaDecay: EmaDecaySchedule;
  private readonly capturing: boolean;
  private readonly captured = new Map<string, CapturedStep<Tensor | null>>();
  private readonly images: Tensor;
  private readonly labels: Tensor | undefined;
  private readonly timesteps: Tensor;
  private readonly weights: Tensor;
  private readonly noise: Tensor;
  private sampler: TimestepSampler | undefined;
  private taken = 0;
  private skipped = 0;
  private place: DataCursor = { epoch: 0, index: 0 };
  /** Which losses the objective gives. */
  private terms: readonly (typeof TERMS)[number][] = [];
  private lastEnd = 0;
  private readonly exchange: GradientExchange | undefined;
  private wantsStop = (): boolean => false;
  /** Records of steps by which a rank was asked to stop. */
  private readonly lastOnes = new WeakSet<StepRecord>();
  private ended = false;
  private readonly wire: 'f32' | 'f16';
  private readonly runs: readonly GradientRun[];
  private buckets: Promise<GradientBuckets> | undefined;
  private opened: GradientBuckets | undefined;
  /** Uploads the first micro-batch of the step that was asked for last. */
  private feedNext: (() => void) | undefined;
  /** Done when the step before is submitted; only with several ranks. */
  private submitted: Promise<unknown> = Promise.resolve();

  /** @throws ValueError */
  constructor(options: TrainerOptions) {
    const {
      device,
      model,
      diffusion,
      batchSize,
      microBatches = 1,
      lr = 1e-4,
      betas,
      eps,
      weightDecay,
      clip = 1,
      emaDecay = 0.9999,
      seed = 0,
      precision = 'f32',
      capture: capturing = true,
      timestepSampler,
      exchange,
    } = options;
    const { rank, ranks } = exchange ?? { rank: 0, ranks: 1 };
    if (!(Number.isInteger(batchSize) && batchSize > 0))
      throw new ValueError('Trainer', `is ${batchSize}`, { option: 'batchSize', expected: 'a positive integer' });
    if (batchSize % ranks)
      throw new ValueError('Trainer', `is ${batchSize}`, {
        option: 'batchSize',
        expected: `a multiple of the ${ranks} ranks`,
      });
    if (!(Number.isInteger(microBatches) && microBatches > 0) || (batchSize / ranks) % microBatches)
      throw new ValueError('Trainer', `is ${microBatches}`, {
        option: 'microBatches',
        expected: `a divisor of the batch of ${batchSize / ranks}`,
      });
    this.device = device;
    this.model = model.train();
    this.diffusion = diffusion;
    this.batchSize = batchSize;
    this.microBatches = microBatches;
    this.rank = rank;
    this.ranks = ranks;
    this.lr = typeof lr === 'number' ? () => lr : lr;
    this.emaDecay = typeof emaDecay === 'number' ? () => emaDecay : emaDecay;
    this.capturing = capturing;
    this.sampler = timestepSampler;
    const undecayed = model.noWeightDecay?.();
    this.optimizer = new FusedAdamW(model, {
      lr: this.lr(0),
      betas,
      eps,
      weightDecay,
      decays: (name) => !undecayed?.has(name),
      maxNorm: clip,
      emaDecay: this.emaDecay(0),
      half: precision === 'f16' ? model.matrices() : [],
    });
    this.generator = new Generator(device, seed);
    const { imgSize, channels, numClasses } = model.config;
    // One rank has nobody to exchange anything with.
    this.exchange = ranks > 1 ? exchange : undefined;
    this.wire = precision;
    this.runs = this.exchange
      ? this.optimizer.gradientRuns((fromLast) => bucketBytes(fromLast) / wireBytes(precision))
      : [];
    const count = batchSize / ranks / microBatches;
    const input = (shape: readonly number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => keep(zeros(device, shape, dtype));
    this.images = input([count, channels, imgSize, imgSize]);
    this.noise = input(this.images.shape);
    this.labels = numClasses > 0 ? input([count], 'i32') : undefined;
    this.timesteps = input([count], 'i32');
    this.weights = input([count]);
    this.drawFor(0);
  }

  /** Optimizer steps taken. */
  get step(): number {
    return this.taken;
  }

  /** Where the data loader stands after the last batch that was trained on. */
  get cursor(): DataCursor {
    return this.place;
  }

  /** Whether a signal on any rank has ended the run; with one rank alone its own signal tells. */
  get stopped(): boolean {
    return this.ended;
  }

  /** How the captured parts of a step use memory; empty before the first step. */
  get plans(): ReadonlyMap<string, CapturePlan> {
    return new Map([...this.captured].map(([part, step]) => [part, step.plan]));
  }

  /**
   * Trains on the loader's batches until `steps` are taken, the loader ends, or the signal aborts; then nothing is
   * under way. Records come in order, each while the next step runs already.
   *
   * @throws what the loader throws, and errors of the device
   */
  async *run(
    loader: DataLoader,
    { steps, signal, pauseEvery = Infinity }: RunOptions,
  ): AsyncGenerator<StepRecord, void, undefined> {
    let ahead: Promise<StepRecord> | null = null;
    this.wantsStop = () => signal?.aborted ?? false;
    // Ranks stop together: after the step whose record says so, which is the same one for all.
    const stops = (): boolean => (this.exchange ? this.stopped : this.wantsStop());
    if (this.taken < steps && !stops()) await this.prepare();
    try {
      while (this.taken < steps && !stops()) {
        let batch: Batch | undefined;
        try {
          ({ value: batch } = await loader.next());
        } catch (error) {
          // The step before is taken, and its record is told before the loader's failure.
          const last = ahead;
          ahead = null;
          if (last) yield await last;
          throw error;
        }
        if (!batch) break;
        const record = this.trainBatch(batch);
        record.catch(() => {});
        const before = ahead;
        ahead = record; // what the caller may leave at a yield is waited for
        if (before) yield await this.told(before);
        // A sampler that learns from losses needs this step's before it draws the next ones.
        if (this.sampler || this.taken % pauseEvery === 0) {
          ahead = null;
          yield await this.told(record);
        }
      }
      if (ahead) {
        const last = ahead;
        ahead = null;
        yield await this.told(last);
      }
    } finally {
      await ahead?.catch(() => {});
    }
  }

  /**
   * Records the step and compiles its kernels, all beside each other, without running it. `run` does so by itself.
   *
   * @throws CompileError for a kernel that the adapter refuses
   */
  async prepare(): Promise<void> {
    if (this.exchange) await this.open();
    if (!this.capturing) return;
    const draws: GivenDraws = this.sampler ? { timesteps: new Int32Array(0), weights: new Float32Array(0) } : {};
    for (const part of new Set(this.parts())) await this.prepared(part, draws);
    // Compiling may take one rank much longer than another, gradients may not.
    await this.exchange?.gatherNumbers(new Float64Array(1));
  }

  /**
   * One step on a batch, or this rank's part of it. The work is enqueued before this returns, or with several ranks in
   * turn with the steps before; the promise waits for the losses.
   *
   * @throws ShapeError where the batch doesn't fit the model and the batch size, ValueError for a label that is no
   *   class of the model
   */
  trainBatch(batch: Omit<Batch, 'next'> & { readonly next?: DataCursor }, given: GivenDraws = {}): Promise<StepRecord> {
    const expected = [this.batchSize / this.ranks, ...this.images.shape.slice(1)];
    if (batch.shape.join() !== expected.join())
      throw new ShapeError('Trainer', `The batch has shape ${show(batch.shape)}`, { expected: show(expected) });
    if (this.labels && !given.labels) checkLabels(batch.labels, this.model.config.numClasses);
    const began = performance.now();
    const { sampler } = this;
    const draws: GivenDraws = sampler ? sampler.sample(this.batchSize, () => this.generator.hostUniform(1)[0]) : given;
    const lr = this.lr(this.taken);
    let fed = false;
    const feed = (): void => {
      if (!fed) this.feed(batch, draws, 0);
      fed = true;
    };
    if (this.exchange) this.feedNext = feed;
    const enqueued = this.exchange
      ? this.submitted.then(() => this.enqueueTogether(batch, draws, lr, feed))
      : this.enqueueAlone(batch, draws, lr);
    if (enqueued instanceof Promise) {
      this.submitted = enqueued;
      // Whoever waits for the record is told.
      enqueued.catch(() => {});
    }
    const step = ++this.taken;
    if (batch.next) this.place = batch.next;
    return this.record(enqueued, { step, lr, epoch: batch.epoch, began, draws });
  }

  /** Everything needed to go on from here bit for bit. Call it while no step is under way. */
  async state(): Promise<TrainerState> {
    const { params: model, ema, moments: optimizer, words } = await this.optimizer.saveState();
    const json = { step: this.taken, generator: this.generator.getState(), cursor: this.place, optimizer: words };
    return {
      model,
      ema,
      optimizer,
      json: this.sampler ? { ...json, timestepSampler: this.sampler.state() } : json,
    };
  }

  /** Goes on from a state. @throws FormatError, ShapeError where it doesn't fit; nothing is changed then */
  loadState({ model: params, ema, optimizer: moments, json }: TrainerState): void {
    this.optimizer.loadState({ params, ema, moments, words: json.optimizer });
    this.generator.setState(json.generator);
    this.taken = json.step;
    this.place = json.cursor;
    this.skipped = json.optimizer[adamWWord('skipped')];
    if (json.timestepSampler) this.sampler = timestepSamplerFromState(json.timestepSampler);
  }

  /** Runs `fn` while the model holds the moving averages and is in evaluation mode. No step may be under way. */
  async withEma<T>(fn: () => T | Promise<T>): Promise<T> {
    this.model.eval();
    try {
      return await this.optimizer.withEma(fn);
    } finally {
      this.model.train();
    }
  }

  /** Frees everything but the model. */
  dispose(): void {
    for (const step of this.captured.values()) {
      step.result?.dispose();
      step.dispose();
    }
    this.captured.clear();
    this.optimizer.dispose();
    this.generator.dispose();
    void this.buckets?.then(
      (buckets) => buckets.dispose(),
      () => {},
    );
    for (const t of [this.images, this.labels, this.timesteps, this.weights, this.noise]) t?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Uploads micro-batch `k`, and has the generator draw its samples' numbers. */
  private feed(
    batch: { readonly images: Float32Array; readonly labels: Int32Array },
    draws: GivenDraws,
    k: number,
  ): void {
    const count = this.images.shape[0],
      values = numelOf(this.images.shape) / count;
    const first = this.drawFor(k);
    const part = <T extends Float32Array | Int32Array>(all: T, from: number, each = 1): T =>
      all.subarray(from * each, (from + count) * each) as T;
    this.images.write(part(batch.images, k * count, values));
    this.labels?.write(part(draws.labels ?? batch.labels, k * count));
    if (draws.timesteps) this.timesteps.write(part(draws.timesteps, first));
    if (draws.weights) this.weights.write(part(draws.weights, first));
    if (draws.noise) this.noise.write(part(draws.noise, first, values));
  }

  /** Has the generator draw the numbers of micro-batch `k`; gives the place of its first sample in the whole batch. */
  private drawFor(k: number): number {
    const count = this.images.shape[0];
    const first = (this.rank * this.microBatches + k) * count;
    if (count < this.batchSize) this.generator.samples = { first, count, total: this.batchSize };
    return first;
  }

  /** The parts of a step in order: one a micro-batch, and the update where it stands by itself. */
  private parts(): Part[] {
    const { microBatches: count, exchange } = this;
    if (count === 1) return exchange ? ['only', 'update'] : ['whole'];
    return [
      ...Array.from({ length: count }, (_, k): Part =>
        k === 0 ? 'first' : exchange && k === count - 1 ? 'last' : 'more',
      ),
      'update',
    ];
  }

  private enqueueAlone(batch: Omit<Batch, 'next'>, draws: GivenDraws, lr: number): Enqueued {
    this.optimizer.lr = lr;
    this.optimizer.emaDecay = this.emaDecay(this.taken);
    const { position } = this.generator;
    const losses = this.parts().map((part, k) => {
      if (part !== 'update') {
        this.feed(batch, draws, k);
        this.generator.rewind({ position });
      }
      const values = this.enqueue(part, draws);
      // Where a later part throws, nobody waits for this one.
      values?.catch(() => {});
      return values;
    });
    return { losses: losses.filter((values) => values !== undefined), counters: this.optimizer.counters() };
  }

  private async enqueueTogether(
    batch: Omit<Batch, 'next'>,
    draws: GivenDraws,
    lr: number,
    feed: () => void,
  ): Promise<Enqueued> {
    const buckets = (this.opened = await this.open());
    this.optimizer.lr = lr;
    this.optimizer.emaDecay = this.emaDecay(this.taken);
    const { position } = this.generator;
    const losses: Promise<ArrayLike<number>>[] = [];
    let times: ExchangeTimes | undefined;
    let encoding = 0;
    for (const [k, part] of this.parts().entries()) {
      if (part === 'update') {
        // Nothing reads this batch any more: the next one can come while the last gradients do.
        if (this.feedNext !== feed) this.feedNext?.();
        times = { ...(await buckets.finish()), encoding };
      } else {
        if (k === 0) feed();
        else this.feed(batch, draws, k);
        this.generator.rewind({ position });
      }
      if (this.capturing) {
        const captured = await this.prepared(part, draws);
        for (let began = performance.now(), parts = captured.replayInParts(); ; began = performance.now()) {
          const { done, value: run } = parts.next();
          encoding += (performance.now() - began) / 1000;
          if (done) break;
          await buckets.begin(run);
        }
        if (captured.result) losses.push(captured.result.data());
      } else {
        // The gradients' buckets begin while the work is enqueued.
        const values = this.enqueue(part, draws);
        if (values) losses.push(values);
      }
    }
    return { losses, counters: this.optimizer.counters(), times };
  }

  /** Runs a part of the step, captured or not, and begins to read its losses. */
  private enqueue(part: Part, draws: GivenDraws): Promise<ArrayLike<number>> | undefined {
    if (!this.capturing) {
      const terms = this.work(part, draws);
      return terms?.data().finally(() => {
        terms.dispose();
      });
    }
    const key = partKey(part, draws);
    const known = this.captured.get(key);
    known?.replay();
    return (
      known ??
      this.hold(
        key,
        capture(this.device, () => this.work(part, draws)),
      )
    ).result?.data();
  }

  /** A part of the step, captured without running it. */
  private async prepared(part: Part, draws: GivenDraws): Promise<CapturedStep<Tensor | null>> {
    const key = partKey(part, draws);
    return this.captured.get(key) ?? this.hold(key, await captureAhead(this.device, () => this.work(part, draws)));
  }

  /** What gradients travel through, made once. All ranks come here together. */
  private open(): Promise<GradientBuckets> {
    return (this.buckets ??= GradientBuckets.open(this.exchange!, this.optimizer.gradients, this.runs, this.wire));
  }

  private hold(key: string, step: CapturedStep<Tensor | null>): CapturedStep<Tensor | null> {
    if (step.result) keep(step.result);
    this.captured.set(key, step);
    // What recording took is planned anew; its own memory is not needed any more.
    this.device.trim();
    return step;
  }

  private work(part: Part, draws: GivenDraws): Tensor | null {
    return scope(() => {
      const terms = part === 'update' ? null : this.losses(part, draws);
      if (part === 'update' || part === 'whole') this.optimizer.step();
      return terms;
    });
  }

  /** Losses of a micro-batch and their gradients; returns the terms per sample, (terms, count). */
  private losses(part: Part, draws: GivenDraws): Tensor {
    const { model, generator, diffusion, images, labels } = this;
    const t = draws.timesteps ? this.timesteps : generator.randint([images.shape[0]], 0, diffusion.numTimesteps);
    const noise = draws.noise ? this.noise : generator.normal(images.shape);
    const terms = diffusion.trainingLosses((x, times) => model.forward(x, times, labels, { generator }), images, t, {
      noise,
    });
    backward(
      (draws.weights ? terms.loss.mul(this.weights) : terms.loss).mean(),
      this.optimizer.backwardOptions({
        add: part === 'more' || part === 'last',
        weight: 1 / this.microBatches / this.ranks,
        ...((part === 'only' || part === 'last') && { runs: this.runs, complete: (run) => this.complete(run) }),
      }),
    );
    this.terms = TERMS.filter((name) => terms[name]);
    return noGrad(() => stack(this.terms.map((name) => terms[name]!)));
  }

  /** All gradients of a run are in the arena. */
  private complete(run: number): void {
    if (this.capturing) cut(this.device, run);
    else this.opened?.begin(run).catch(() => {}); // told by finish()
  }

  private async record(
    enqueued: Enqueued | Promise<Enqueued>,
    { step, lr, epoch, began, draws }: { step: number; lr: number; epoch: number; began: number; draws: GivenDraws },
  ): Promise<StepRecord> {
    const { losses: parts, counters, times } = await enqueued;
    const [{ losses, stop }, { gradNorm, skipped }] = await Promise.all([this.gathered(Promise.all(parts)), counters]);
    const ended = performance.now();
    const elapsed = (ended - Math.max(began, this.lastEnd)) / 1000;
    this.lastEnd = ended;
    const count = this.images.shape[0];
    const perSample = (term: number): number[] =>
      losses.flatMap((part) => Array.from({ length: count }, (_, i) => part[term * count + i]));
    const mean = (term: number): number => perSample(term).reduce((s, v) => s + v, 0) / this.batchSize;
    const before = this.skipped;
    this.skipped = skipped;
    if (this.sampler && draws.timesteps && perSample(0).every(Number.isFinite))
      this.sampler.update(draws.timesteps, perSample(0));
    const means = Object.fromEntries(this.terms.map((name, i) => [name, mean(i)])) as {
      loss: number;
      mse?: number;
      vb?: number;
    };
    const record: StepRecord = {
      step,
      ...means,
      gradNorm,
      lr,
      imagesPerSecond: this.batchSize / elapsed,
      skipped: skipped > before,
      epoch,
      ...(times && { exchange: times }),
    };
    if (stop) this.lastOnes.add(record);
    return record;
  }

  /** A record, in the order of steps: the first by which a rank was asked to stop ends the run. */
  private async told(record: Promise<StepRecord>): Promise<StepRecord> {
    const known = await record;
    this.ended ||= this.lastOnes.has(known);
    return known;
  }

  /** The losses of all ranks' micro-batches, in order, and whether one was asked to stop. */
  private async gathered(
    own: Promise<ArrayLike<number>[]>,
  ): Promise<{ losses: readonly ArrayLike<number>[]; stop: boolean }> {
    const parts = await own;
    if (!this.exchange) return { losses: parts, stop: false };
    const each = parts[0].length;
    const values = [...parts.flatMap((part) => Array.from(part)), Number(this.wantsStop())];
    const all = await this.exchange.gatherNumbers(Float64Array.from(values));
    return {
      losses: all.flatMap((rank) => parts.map((_, k) => rank.subarray(k * each, (k + 1) * each))),
      stop: all.some((rank) => rank.at(-1) === 1),
    };
  }
}

/** What is on its way when a step is enqueued. */
interface Enqueued {
  /** Of each micro-batch. */
  readonly losses: readonly Promise<ArrayLike<number>>[];
  readonly counters: ReturnType<FusedAdamW['counters']>;
  readonly times?: ExchangeTimes;
}

/** Parts with drawn and with given numbers are different lists. */
function partKey(part: Part, draws: GivenDraws): string {
  return [part, ...Object.keys(draws)].join('+');
}

/**
 * The label after the last class is the model's own, for no class: training draws it, and data that have it count from
 * 1.
 */
function checkLabels(labels: Int32Array, numClasses: number): void {
  const wrong = labels.find((label) => label < 0 || label >= numClasses);
  if (wrong !== undefined)
    throw new ValueError('Trainer', `A label is ${wrong}`, {
      expected: `0 to ${numClasses - 1} for a model of ${numClasses} classes`,
      remedy: wrong === numClasses ? 'count classes from 0' : undefined,
    });
}
