// The steps of a run between two stops, and what is done at each: metrics, checkpoints, sheets of pictures, and a
// checkpoint after a failure that leaves the state whole. `train` and `train-vae` both run in it.

import { CompileError, DeviceLostError, DisposedError, EngineError, GpuError, LimitError } from '../core/errors.ts';
import type { DataLoader } from '../models/data/dataset.ts';
import type { Trainer } from '../models/train/trainer.ts';
import type { StepRecord, TrainerState } from '../models/train/types.ts';
import { RankLostError } from './distributed/mpi.ts';
import type { Ranks } from './distributed/ranks.ts';
import { TrainingError, describeFailure, isDiskFull } from './errors.ts';
import { FileError, errorCode } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { grouped, significant } from './format.ts';
import type { TrainingMeasure } from './evaluate/duringTraining.ts';
import type { MetricsFile } from './metricsFile.ts';
import type { Progress } from './progress.ts';
import type { CheckpointEntry, RunFolder } from './runFolder.ts';
import type { StepProfile } from './stepProfile.ts';
import { stopsAfter } from './training.ts';
import type { TrainPlan } from './trainSettings.ts';

/** What is trained, and what is to be done between: of a diffusion model or of an autoencoder. */
export interface LoopOptions {
  readonly folder: RunFolder;
  readonly plan: Pick<TrainPlan, 'steps' | 'checkpointEvery' | 'keep' | 'sampleEvery' | 'evalEvery' | 'evalMetric'>;
  readonly trainer: Trainer;
  readonly loader: () => DataLoader;
  readonly metrics: MetricsFile;
  readonly progress: Progress;
  /** The checkpoint that the run goes on from. */
  readonly resume?: CheckpointEntry;
  readonly signal?: AbortSignal;
  readonly ranks?: Ranks;
  /** Measures some of the steps. */
  readonly profile?: StepProfile;
  /** What a checkpoint of the trainer's state holds. */
  readonly files: (state: TrainerState) => CheckpointFiles | Promise<CheckpointFiles>;
  /** Writes pictures of what the averaged weights do. */
  readonly sheet: () => Promise<void>;
  /** Measures samples of the averaged weights. */
  readonly evaluate?: (signal: AbortSignal) => Promise<TrainingMeasure>;
  /** What metrics.jsonl says of a step. Default the record as it is. */
  readonly metricsOf?: (record: StepRecord) => object;
  /** The command that goes on with the run. */
  readonly command: string;
}

type CheckpointFiles = Parameters<RunFolder['writeCheckpoint']>[1];

/** So many steps without a finite gradient mean that none will come; a loss scale for f16 is found in fewer. */
const HOPELESS = 100;

/** Errors after which nothing on the device can be relied on, or a step was left in the middle. */
const NOT_WHOLE = [DeviceLostError, GpuError, CompileError, LimitError, DisposedError, RankLostError] as const;

/** The steps between two stops, and what is done at each. */
export class TrainLoop {
  private readonly options: LoopOptions;
  private readonly trainer: Trainer;
  private readonly metrics: MetricsFile;
  private readonly progress: Progress;
  private saved: CheckpointEntry | undefined;
  private metricsWait = false;
  /** Step whose checkpoint could not be written. */
  private unsaved = 0;
  /** Steps skipped in a row. */
  private hopeless = 0;
  private toldOfSkips = false;

  constructor(options: LoopOptions) {
    this.options = options;
    this.trainer = options.trainer;
    this.metrics = options.metrics;
    this.progress = options.progress;
    this.saved = options.resume;
  }

  /**
   * Runs to the plan's end or the signal. What was reached is in a checkpoint then; after a failure that leaves the state
   * whole, too.
   *
   * @returns the last checkpoint
   * @throws DeviceLostError that says how to go on; what failed
   */
  async end(): Promise<CheckpointEntry | undefined> {
    try {
      return await this.run();
    } catch (error) {
      if (error instanceof DeviceLostError) throw await this.lost(error);
      await this.rescue(error);
      throw error;
    }
  }

  private async run(): Promise<CheckpointEntry | undefined> {
    const trainer = this.trainer;
    const { plan, signal, profile, ranks } = this.options;
    const loader = this.options.loader();
    // Several ranks stop after the same step, whichever of them was asked.
    const stopped = (): boolean => (ranks ? trainer.stopped : (signal?.aborted ?? false));
    const due = (every: number): boolean => every > 0 && trainer.step % every === 0;
    while (trainer.step < plan.steps && !stopped()) {
      // Between two stops the trainer keeps the GPU busy ahead of what it reports; at a stop nothing is under way.
      const stops = stopsAfter(trainer.step, plan);
      stops.push(...(profile?.stops.filter((step) => step > trainer.step) ?? []));
      try {
        for await (const record of trainer.run(loader, { steps: Math.min(plan.steps, ...stops), signal })) {
          await this.log(record);
        }
      } catch (error) {
        // Also the waiting for data ends with the signal.
        if (ranks || !signal?.aborted || error !== signal.reason) throw error;
      }
      if (!stopped()) {
        await profile?.reached(trainer.step);
        if (due(plan.checkpointEvery)) await this.save(trainer.step >= plan.steps);
        if (due(plan.sampleEvery)) await this.sheet();
        if (due(plan.evalEvery ?? 0)) await this.evaluate();
      }
      // The others wait for what is written.
      await ranks?.barrier();
    }
    if (trainer.whole && trainer.step > (this.saved?.step ?? 0)) await this.save(true);
    await ranks?.barrier();
    return this.saved;
  }

  private async log(record: StepRecord): Promise<void> {
    this.progress.update(record);
    const written = await this.metrics.append(this.options.metricsOf?.(record) ?? record);
    if (!written && !this.metricsWait) {
      this.progress.warn(
        isDiskFull(this.metrics.problem)
          ? 'The disk is full: metrics wait in memory until there is space.'
          : `Metrics wait in memory: ${describeFailure(this.metrics.problem).message}`,
      );
    }
    this.metricsWait = !written;
    this.hopeless = record.skipped || !Number.isFinite(record.loss) ? this.hopeless + 1 : 0;
    if (this.hopeless >= HOPELESS) {
      throw new TrainingError(
        `The gradient was not finite for ${HOPELESS} steps up to step ${grouped(record.step)}, and of ` +
          `checkpoints ${this.kept()}; begin again with a lower --lr or --precision f32.`,
      );
    }
  }

  private kept(): string {
    return this.saved ? `step ${grouped(this.saved.step)} is kept` : 'there is none yet';
  }

  /** @param last whether there is no later chance, so that a disk that refuses is an error */
  private async save(last: boolean): Promise<void> {
    const { folder, plan } = this.options;
    const { step } = this.trainer;
    await this.metrics.sync();
    const kept = (): string => this.kept();
    // A skipped step leaves all as it was; where many are, what is there is not worth the place of an
    // earlier checkpoint.
    if (this.hopeless > 0 && !last) {
      if (!this.toldOfSkips)
        this.progress.warn(
          `The gradient is not finite at step ${grouped(step)}: no checkpoints while steps are skipped, ${kept()}.`,
        );
      this.toldOfSkips = true;
      return;
    }
    this.toldOfSkips = false;
    const state = await this.trainer.state();
    const ruined = firstNotFinite([...state.model, ...state.ema, ...state.optimizer]);
    if (ruined !== undefined) {
      const what = `Not all numbers of ${ruined} are finite at step ${grouped(step)}: no checkpoint, ${kept()}`;
      if (last) throw new TrainingError(`${what}; begin again with a lower --lr.`);
      this.progress.warn(`${what}.`);
      return;
    }
    const files = await this.options.files(state);
    const makeRoom = (removed: CheckpointEntry): void =>
      this.progress.warn(
        `The disk is full: the checkpoint of step ${grouped(removed.step)} went, to make room for that of ` +
          `step ${grouped(step)}.`,
      );
    try {
      // With --keep 0 no checkpoint may go, also on a full disk.
      const path = await folder.writeCheckpoint(
        step,
        files,
        plan.keep > 0 && this.hopeless === 0 ? makeRoom : undefined,
      );
      this.saved = { step, path };
      if (this.hopeless === 0) await folder.prune(plan.keep);
    } catch (error) {
      if (this.saved?.step !== step) this.unsaved = step;
      if (last || errorCode(error) === undefined) throw error;
      const why = isDiskFull(error) ? 'The disk is full' : describeFailure(error).message.replace(/\.$/, '');
      this.progress.warn(
        `${why}: no checkpoint of step ${grouped(step)}, ${kept()}; training goes on and tries again at the next.`,
      );
    }
  }

  /** Writes a checkpoint after a failure that leaves the state whole, and says what to go on from. */
  private async rescue(error: unknown): Promise<void> {
    const { step } = this.trainer;
    if (NOT_WHOLE.some((type) => error instanceof type) || error instanceof TrainingError) return;
    try {
      if (this.trainer.whole && step > (this.saved?.step ?? 0) && step !== this.unsaved) await this.save(true);
    } catch (failure) {
      this.progress.warn(
        `No checkpoint of step ${grouped(step)} could be written: ${describeFailure(failure).message}`,
      );
    }
    if (this.saved) {
      const { step: reached } = this.saved;
      this.progress.warn(`Step ${grouped(reached)} is in a checkpoint; go on from it with ${this.options.command}`);
    }
  }

  /** What to say of a lost device. */
  private async lost(error: DeviceLostError): Promise<DeviceLostError> {
    const last = (await this.options.folder.checkpoints()).at(-1);
    const how = last
      ? `the last checkpoint is step ${grouped(last.step)}, go on with ${this.options.command}`
      : 'no checkpoint was written yet, begin again';
    return new DeviceLostError('train', 'The GPU device was lost, after a driver reset or because its memory ran out', {
      remedy: how,
      cause: error,
    });
  }

  /** Measures samples of the moving averages; the checkpoint that is nearest to the data so far is kept. */
  private async evaluate(): Promise<void> {
    const { folder, plan, signal = new AbortController().signal } = this.options;
    const { step } = this.trainer;
    const metric = plan.evalMetric ?? 'fd';
    try {
      const found = await this.trainer.withEma(() => this.options.evaluate!(signal));
      const { name, value, floor, samples } = found;
      await this.metrics.append({ step, eval: found });
      const best = await folder.best();
      const better = best?.metric !== metric || best.name !== name || value < best.value;
      this.progress.note(
        `step ${grouped(step)}  ${name} ${significant(value)} of ${grouped(samples)} samples, floor ${significant(floor)}` +
          `${better ? ', the best so far' : ''}`,
      );
      if (!better) return;
      if (this.saved?.step !== step) await this.save(false);
      if (this.saved?.step !== step) return;
      await folder.writeBest({ step, metric, name, value, samples });
      await folder.prune(plan.keep);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return;
      const { message, unexpected } = describeFailure(error);
      if (unexpected || NOT_WHOLE.some((type) => error instanceof type)) throw error;
      this.progress.warn(`Step ${grouped(step)} was not evaluated: ${message}`);
    }
  }

  private async sheet(): Promise<void> {
    const { sheet, signal } = this.options;
    try {
      await sheet();
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return;
      const { message, unexpected } = describeFailure(error);
      if (unexpected || (error instanceof EngineError && !(error instanceof FileError))) throw error;
      this.progress.warn(`The sample sheet could not be written: ${message}`);
    }
  }
}
