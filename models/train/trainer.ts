// Training of a diffusion model, free of files: an async iterator of step records over batches of a data loader. What a
// step computes is in stepParts.ts, how it is enqueued in enqueue.ts; losses are read back while the next step runs.

import { ValueError } from '../../core/errors.ts';
import { Generator, type CapturePlan, type Device } from '../../core/index.ts';
import { adamWWord } from '../../kernels/index.ts';
import { FusedAdamW, type EmaDecaySchedule } from '../../nn/index.ts';
import type { Batch, DataCursor, DataLoader } from '../data/dataset.ts';
import { timestepSamplerFromState, type TimestepSampler } from '../diffusion/timestepSampler.ts';
import { enqueueAlone, EnqueueTogether, type Enqueued, type StepOrder } from './enqueue.ts';
import type { GradientExchange } from './exchange.ts';
import { LocalSteps } from './localSteps.ts';
import { Speed } from './speed.ts';
import { StepInputs } from './stepInputs.ts';
import { StepParts } from './stepParts.ts';
import type {
  Denoiser,
  GivenDraws,
  RunOptions,
  StepRecord,
  TrainerOptions,
  TrainerState,
  TrainingObjective,
} from './types.ts';

/**
 * The training loop: an async iterator of step records. It records a step once and replays it; losses are read while
 * the next step runs.
 */
export class Trainer {
  /** Where it computes. */
  readonly device: Device;
  /** What is trained. */
  readonly model: Denoiser;
  /** What gives the losses. */
  readonly diffusion: TrainingObjective;
  /** Parameters, moments and moving averages. */
  readonly optimizer: FusedAdamW;
  /** Images in a step, of all ranks together. */
  readonly batchSize: number;
  /** Parts that a batch is computed in. */
  readonly microBatches: number;
  /** Ranks that train together, and which of them this is. */
  readonly ranks: number;
  /** Which of the ranks this is. */
  readonly rank: number;
  /** Draws timesteps, noise and dropout. */
  readonly generator: Generator;
  private readonly lr: (step: number) => number;
  private readonly emaDecay: EmaDecaySchedule;
  private readonly inputs: StepInputs;
  private readonly parts: StepParts;
  private sampler: TimestepSampler | undefined;
  private taken = 0;
  private skipped = 0;
  private place: DataCursor = { epoch: 0, index: 0 };
  private readonly speed: Speed;
  /** Both only with several ranks. */
  private readonly exchange: GradientExchange | undefined;
  private readonly together: EnqueueTogether | undefined;
  /** In place of exchanging gradients. */
  private readonly local: LocalSteps | undefined;
  private wantsStop = (): boolean => false;
  /** Records of steps by which a rank was asked to stop. */
  private readonly lastOnes = new WeakSet<StepRecord>();
  private ended = false;

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
      localSteps,
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
    if (localSteps && !(Number.isInteger(localSteps.every) && localSteps.every > 0))
      throw new ValueError('Trainer', `is ${localSteps.every}`, {
        option: 'localSteps.every',
        expected: 'a positive integer',
      });
    this.device = device;
    this.model = model.train();
    this.diffusion = diffusion;
    this.batchSize = batchSize;
    this.speed = new Speed(batchSize);
    this.microBatches = microBatches;
    this.rank = rank;
    this.ranks = ranks;
    this.lr = typeof lr === 'number' ? () => lr : lr;
    this.emaDecay = typeof emaDecay === 'number' ? () => emaDecay : emaDecay;
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
    // One rank has nobody to exchange anything with.
    this.exchange = ranks > 1 ? exchange : undefined;
    this.local = localSteps && new LocalSteps(localSteps, this.optimizer, this.exchange);
    this.together =
      this.exchange && !this.local ? new EnqueueTogether(this.exchange, this.optimizer, precision) : undefined;
    this.inputs = new StepInputs(device, model.config, this.generator, { batchSize, microBatches, ranks, rank });
    this.parts = new StepParts({
      device,
      model,
      diffusion,
      optimizer: this.optimizer,
      generator: this.generator,
      inputs: this.inputs,
      microBatches,
      // A rank by itself takes the mean over its own samples.
      ranks: this.local ? 1 : ranks,
      capturing,
      sending: this.together,
    });
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
    return this.ended && this.whole;
  }

  /** Whether all ranks hold the same: `state()` may be called. Between meetings of ranks that train by themselves not. */
  get whole(): boolean {
    return !this.local || this.taken % this.local.every === 0;
  }

  /** How the captured parts of a step use memory; empty before the first step. */
  get plans(): ReadonlyMap<string, CapturePlan> {
    return this.parts.plans;
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
    const stops = (): boolean => (this.exchange ? this.stopped : this.wantsStop() && this.whole);
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
    await this.together?.open();
    await this.local?.open();
    if (!this.parts.setup.capturing) return;
    const draws: GivenDraws = this.sampler ? { timesteps: new Int32Array(0), weights: new Float32Array(0) } : {};
    for (const part of new Set(this.parts.list())) await this.parts.prepared(part, draws);
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
    this.inputs.check(batch, given);
    const began = performance.now();
    const { sampler } = this;
    const draws: GivenDraws = sampler ? sampler.sample(this.batchSize, () => this.generator.hostUniform(1)[0]) : given;
    const lr = this.lr(this.taken);
    const order: StepOrder = { batch, draws, lr, emaDecay: this.emaDecay(this.taken) };
    const enqueued =
      this.together?.enqueue(this.parts, order) ??
      this.local?.enqueue(this.parts, order, this.taken) ??
      enqueueAlone(this.parts, order);
    const step = ++this.taken;
    if (batch.next) this.place = batch.next;
    return this.record(enqueued, { step, lr, epoch: batch.epoch, began, draws });
  }

  /**
   * Everything needed to go on from here bit for bit. Call it while no step is under way.
   *
   * @throws ValueError between two meetings of ranks that train by themselves
   */
  async state(): Promise<TrainerState> {
    if (!this.whole)
      throw new ValueError('Trainer', `Step ${this.taken} is between two exchanges`, {
        expected: `a multiple of the ${this.local!.every} local steps`,
      });
    const { params: model, ema, moments, words } = await this.optimizer.saveState();
    const optimizer = this.local ? new Map([...moments, ...(await this.local.saveState())]) : moments;
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
    this.local?.check(moments, json.step);
    this.optimizer.loadState({ params, ema, moments, words: json.optimizer });
    this.local?.loadState(moments);
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
    this.parts.dispose();
    this.optimizer.dispose();
    this.generator.dispose();
    this.together?.dispose();
    this.local?.dispose();
    this.inputs.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private async record(
    enqueued: Enqueued | Promise<Enqueued>,
    { step, lr, epoch, began, draws }: { step: number; lr: number; epoch: number; began: number; draws: GivenDraws },
  ): Promise<StepRecord> {
    const { losses: parts, counters, times } = await enqueued;
    const [{ losses, stop }, { gradNorm, skipped }] = await Promise.all([this.gathered(Promise.all(parts)), counters]);
    const imagesPerSecond = this.speed.ended(began, performance.now());
    const { count } = this.inputs;
    const perSample = (term: number): number[] =>
      losses.flatMap((part) => Array.from({ length: count }, (_, i) => part[term * count + i]));
    const mean = (term: number): number => perSample(term).reduce((s, v) => s + v, 0) / this.batchSize;
    const before = this.skipped;
    this.skipped = skipped;
    if (this.sampler && draws.timesteps && perSample(0).every(Number.isFinite))
      this.sampler.update(draws.timesteps, perSample(0));
    const means = Object.fromEntries(this.parts.terms.map((name, i) => [name, mean(i)])) as {
      loss: number;
      mse?: number;
      vb?: number;
    };
    const record: StepRecord = {
      step,
      ...means,
      gradNorm,
      lr,
      imagesPerSecond,
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
