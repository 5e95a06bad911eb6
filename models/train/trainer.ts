// Training of a diffusion model, free of files: an async iterator of step records over batches of a data loader. A step is
// captured the first time and replayed from then on; everything that changes between steps is data in buffers, and losses are
// read back while the next step runs.

import { ShapeError, ValueError } from '../../core/errors.ts';
import {
  backward,
  capture,
  captureAhead,
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
import { adamWWord } from '../../kernels/index.ts';
import { FusedAdamW, type Module, type StateTensors } from '../../nn/index.ts';
import type { Batch, DataCursor, DataLoader } from '../data/dataset.ts';
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
  /** Images in an optimizer step. */
  readonly batchSize: number;
  /** Parts that a batch is computed in, one after the other, for less memory; default 1. The result is the whole batch's. */
  readonly microBatches?: number;
  /** Learning rate, or a function of the number of steps taken; default 1e-4. */
  readonly lr?: number | ((step: number) => number);
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled weight decay, default 0. */
  readonly weightDecay?: number;
  /** Global gradient norm to clip to, default 1; 0 turns it off. */
  readonly clip?: number;
  /** Decay of the parameters' moving average, default 0.9999. */
  readonly emaDecay?: number;
  /** Seed of timesteps, noise and dropout, default 0. */
  readonly seed?: number;
  /** `f16` stores matrices and activations in f16, keeps f32 masters and scales the loss. Default f32. */
  readonly precision?: FloatDType;
  /** Record the step once and replay it, default true. */
  readonly capture?: boolean;
  /** Default: every timestep with the same probability, drawn on the GPU. */
  readonly timestepSampler?: TimestepSampler;
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
  /** After every so many steps nothing is under way when the record is given, so that `state()` is exactly that step's. */
  readonly pauseEvery?: number;
}

/** Numbers of the caller's instead of drawn ones. */
export interface GivenDraws {
  /** (batch) timesteps. */
  readonly timesteps?: Int32Array;
  /** (batch) importance weights; default 1. */
  readonly weights?: Float32Array;
  /** The noise, of the images' shape. */
  readonly noise?: Float32Array;
}

type Part = 'whole' | 'first' | 'more' | 'update';

const TERMS = ['loss', 'mse', 'vb'] as const;

export class Trainer {
  readonly device: Device;
  readonly model: Denoiser;
  readonly diffusion: TrainingObjective;
  readonly optimizer: FusedAdamW;
  readonly batchSize: number;
  readonly microBatches: number;
  /** Draws timesteps, noise and dropout. */
  readonly generator: Generator;
  private readonly lr: (step: number) => number;
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
    } = options;
    if (!(Number.isInteger(batchSize) && batchSize > 0))
      throw new ValueError('Trainer', `is ${batchSize}`, { option: 'batchSize', expected: 'a positive integer' });
    if (!(Number.isInteger(microBatches) && microBatches > 0) || batchSize % microBatches)
      throw new ValueError('Trainer', `is ${microBatches}`, {
        option: 'microBatches',
        expected: `a divisor of the batch of ${batchSize}`,
      });
    this.device = device;
    this.model = model.train();
    this.diffusion = diffusion;
    this.batchSize = batchSize;
    this.microBatches = microBatches;
    this.lr = typeof lr === 'number' ? () => lr : lr;
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
      emaDecay,
      half: precision === 'f16' ? model.matrices() : [],
    });
    this.generator = new Generator(device, seed);
    const { imgSize, channels, numClasses } = model.config;
    const count = batchSize / microBatches;
    const input = (shape: readonly number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => keep(zeros(device, shape, dtype));
    this.images = input([count, channels, imgSize, imgSize]);
    this.noise = input(this.images.shape);
    this.labels = numClasses > 0 ? input([count], 'i32') : undefined;
    this.timesteps = input([count], 'i32');
    this.weights = input([count]);
  }

  /** Optimizer steps taken. */
  get step(): number {
    return this.taken;
  }

  /** Where the data loader stands after the last batch that was trained on. */
  get cursor(): DataCursor {
    return this.place;
  }

  /** How the captured parts of a step use memory; empty before the first step. */
  get plans(): ReadonlyMap<string, CapturePlan> {
    return new Map([...this.captured].map(([part, step]) => [part, step.plan]));
  }

  /**
   * Trains on the loader's batches until `steps` are taken, the loader ends, or the signal aborts; then nothing is under way.
   * Records come in order, each while the next step runs already.
   *
   * @throws what the loader throws, and errors of the device
   */
  async *run(
    loader: DataLoader,
    { steps, signal, pauseEvery = Infinity }: RunOptions,
  ): AsyncGenerator<StepRecord, void, undefined> {
    let ahead: Promise<StepRecord> | null = null;
    if (this.taken < steps && !signal?.aborted) await this.prepare();
    try {
      while (this.taken < steps && !signal?.aborted) {
        const { value: batch } = await loader.next();
        if (!batch) break;
        const record = this.trainBatch(batch);
        record.catch(() => {});
        if (ahead) yield await ahead;
        ahead = record;
        // A sampler that learns from losses needs this step's before it draws the next ones.
        if (this.sampler || this.taken % pauseEvery === 0) {
          ahead = null;
          yield await record;
        }
      }
      if (ahead) {
        const last = ahead;
        ahead = null;
        yield await last;
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
    if (!this.capturing) return;
    const draws: GivenDraws = this.sampler ? { timesteps: new Int32Array(0), weights: new Float32Array(0) } : {};
    for (const part of this.microBatches === 1 ? (['whole'] as const) : (['first', 'more', 'update'] as const)) {
      const key = partKey(part, draws);
      if (!this.captured.has(key)) this.hold(key, await captureAhead(this.device, () => this.work(part, draws)));
    }
  }

  /**
   * One step on a batch. The work is enqueued before this returns; the promise waits for the losses.
   *
   * @throws ShapeError where the batch doesn't fit the model and the batch size
   */
  trainBatch(batch: Omit<Batch, 'next'> & { readonly next?: DataCursor }, given: GivenDraws = {}): Promise<StepRecord> {
    const expected = [this.batchSize, ...this.images.shape.slice(1)];
    if (batch.shape.join() !== expected.join())
      throw new ShapeError('Trainer', `The batch has shape ${show(batch.shape)}`, { expected: show(expected) });
    const began = performance.now();
    const { sampler } = this;
    const draws: GivenDraws = sampler ? sampler.sample(this.batchSize, () => this.generator.hostUniform(1)[0]) : given;
    const lr = this.lr(this.taken);
    this.optimizer.lr = lr;
    const losses: Promise<ArrayLike<number>>[] = [];
    for (let k = 0; k < this.microBatches; k++) {
      this.feed(batch, draws, k);
      const loss = this.enqueue(this.microBatches === 1 ? 'whole' : k === 0 ? 'first' : 'more', draws)!;
      // Where a later part throws, nobody waits for this one.
      loss.catch(() => {});
      losses.push(loss);
    }
    if (this.microBatches > 1) this.enqueue('update', draws);
    const step = ++this.taken;
    if (batch.next) this.place = batch.next;
    return this.record(Promise.all(losses), this.optimizer.counters(), { step, lr, epoch: batch.epoch, began, draws });
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
    for (const t of [this.images, this.labels, this.timesteps, this.weights, this.noise]) t?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Uploads micro-batch `k`. */
  private feed(
    batch: { readonly images: Float32Array; readonly labels: Int32Array },
    draws: GivenDraws,
    k: number,
  ): void {
    const count = this.batchSize / this.microBatches,
      values = numelOf(this.images.shape);
    const part = <T extends Float32Array | Int32Array>(all: T, each = 1): T =>
      all.subarray(k * count * each, (k + 1) * count * each) as T;
    this.images.write(part(batch.images, values / count));
    this.labels?.write(part(batch.labels));
    if (draws.timesteps) this.timesteps.write(part(draws.timesteps));
    if (draws.weights) this.weights.write(part(draws.weights));
    if (draws.noise) this.noise.write(part(draws.noise, values / count));
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

  private hold(key: string, step: CapturedStep<Tensor | null>): CapturedStep<Tensor | null> {
    if (step.result) keep(step.result);
    this.captured.set(key, step);
    // What recording took is planned anew; its own memory is not needed any more.
    this.device.trim();
    return step;
  }

  private work(part: Part, draws: GivenDraws): Tensor | null {
    return scope(() => {
      const terms = part === 'update' ? null : this.losses(draws, part === 'more');
      if (part === 'update' || part === 'whole') this.optimizer.step();
      return terms;
    });
  }

  /** Losses of a micro-batch and their gradients; returns the terms per sample, (terms, count). */
  private losses(draws: GivenDraws, add: boolean): Tensor {
    const { model, generator, diffusion, images, labels } = this;
    const t = draws.timesteps ? this.timesteps : generator.randint([images.shape[0]], 0, diffusion.numTimesteps);
    const noise = draws.noise ? this.noise : generator.normal(images.shape);
    const terms = diffusion.trainingLosses((x, times) => model.forward(x, times, labels, { generator }), images, t, {
      noise,
    });
    backward(
      (draws.weights ? terms.loss.mul(this.weights) : terms.loss).mean(),
      this.optimizer.backwardOptions({ add, weight: 1 / this.microBatches }),
    );
    this.terms = TERMS.filter((name) => terms[name]);
    return noGrad(() => stack(this.terms.map((name) => terms[name]!)));
  }

  private async record(
    parts: Promise<ArrayLike<number>[]>,
    counters: ReturnType<FusedAdamW['counters']>,
    { step, lr, epoch, began, draws }: { step: number; lr: number; epoch: number; began: number; draws: GivenDraws },
  ): Promise<StepRecord> {
    const [losses, { gradNorm, skipped }] = await Promise.all([parts, counters]);
    const ended = performance.now();
    const elapsed = (ended - Math.max(began, this.lastEnd)) / 1000;
    this.lastEnd = ended;
    const count = this.batchSize / this.microBatches;
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
    return {
      step,
      ...means,
      gradNorm,
      lr,
      imagesPerSecond: this.batchSize / elapsed,
      skipped: skipped > before,
      epoch,
    };
  }
}

/** Parts with drawn and with given numbers are different lists. */
function partKey(part: Part, draws: GivenDraws): string {
  return [part, ...Object.keys(draws)].join('+');
}
