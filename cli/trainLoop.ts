// The steps of a run between two stops, and what is done at each: metrics, checkpoints, sample sheets, and a checkpoint
// after a failure that leaves the state whole.

import { join } from 'node:path';
import { CompileError, DeviceLostError, DisposedError, EngineError, GpuError, LimitError } from '../core/errors.ts';
import type { DataLoader } from '../models/data/dataset.ts';
import { hash32 } from '../models/data/hash.ts';
import { sampleImages } from '../models/sample/index.ts';
import type { Trainer } from '../models/train/trainer.ts';
import { checkpointFiles } from './checkpoint.ts';
import { openDecoder } from './decodeLatents.ts';
import { RankLostError } from './distributed/mpi.ts';
import { TrainingError, describeFailure, isDiskFull } from './errors.ts';
import { FileError, errorCode } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { grouped, significant } from './format.ts';
import { resumeCommand } from './invocation.ts';
import type { TrainingEvaluation } from './evaluate/duringTraining.ts';
import type { MetricsFile } from './metricsFile.ts';
import type { BuiltModel } from './modelKinds/index.ts';
import type { Progress, ProgressStyle } from './progress.ts';
import type { CheckpointEntry, RunFolder } from './runFolder.ts';
import { labelsOfRows, writeSamples } from './sampleSheet.ts';
import type { StepProfile } from './stepProfile.ts';
import { SHEET_KEY, stopsAfter, type TrainingParts } from './training.ts';

/** What a run has, on the rank that has its folder. */
export interface TrainRunOptions extends TrainingParts {
  readonly folder: RunFolder;
  /** Go on from here. */
  readonly resume?: CheckpointEntry;
  readonly style: ProgressStyle;
  readonly signal?: AbortSignal;
  /** Measures some of the steps. */
  readonly profile?: StepProfile;
}

/** So many steps without a finite gradient mean that none will come; a loss scale for f16 is found in fewer. */
const HOPELESS = 100;

/** Errors after which nothing on the device can be relied on, or a step was left in the middle. */
const NOT_WHOLE = [DeviceLostError, GpuError, CompileError, LimitError, DisposedError, RankLostError] as const;

/** The steps between two stops, and what is done at each. */
export class TrainLoop {
  private readonly options: TrainRunOptions;
  private readonly trainer: Trainer;
  private readonly model: BuiltModel;
  private readonly loader: () => DataLoader;
  private readonly metrics: MetricsFile;
  private readonly progress: Progress;
  private readonly evaluation: TrainingEvaluation | undefined;
  private saved: CheckpointEntry | undefined;
  private metricsWait = false;
  /** Step whose checkpoint could not be written. */
  private unsaved = 0;
  /** Steps skipped in a row. */
  private hopeless = 0;
  private toldOfSkips = false;

  constructor(
    options: TrainRunOptions,
    trainer: Trainer,
    model: BuiltModel,
    loader: () => DataLoader,
    metrics: MetricsFile,
    progress: Progress,
    saved: CheckpointEntry | undefined,
    evaluation?: TrainingEvaluation,
  ) {
    this.evaluation = evaluation;
    this.options = options;
    this.trainer = trainer;
    this.model = model;
    this.loader = loader;
    this.metrics = metrics;
    this.progress = progress;
    this.saved = saved;
  }

  /** @returns the last checkpoint */
  async run(): Promise<CheckpointEntry | undefined> {
    const trainer = this.trainer;
    const {
      config: { plan },
      signal,
      profile,
      ranks,
    } = this.options;
    const loader = this.loader();
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

  private async log(record: {
    readonly step: number;
    readonly loss: number;
    readonly skipped: boolean;
  }): Promise<void> {
    this.progress.update(record);
    const written = await this.metrics.append(record);
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
    const { folder, config } = this.options;
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
    const files = checkpointFiles(config, state);
    const makeRoom = (removed: CheckpointEntry): void =>
      this.progress.warn(
        `The disk is full: the checkpoint of step ${grouped(removed.step)} went, to make room for that of ` +
          `step ${grouped(step)}.`,
      );
    try {
      // Whoever keeps all of them wants to lose none.
      const path = await folder.writeCheckpoint(
        step,
        files,
        config.plan.keep > 0 && this.hopeless === 0 ? makeRoom : undefined,
      );
      this.saved = { step, path };
      if (this.hopeless === 0) await folder.prune(config.plan.keep);
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
  async rescue(error: unknown): Promise<void> {
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
      this.progress.warn(
        `Step ${grouped(reached)} is in a checkpoint; go on from it with ${resumeCommand(this.options.folder)}`,
      );
    }
  }

  /** Measures samples of the moving averages; the checkpoint that is nearest to the data so far is kept. */
  private async evaluate(): Promise<void> {
    const { folder, config, signal = new AbortController().signal } = this.options;
    const { step } = this.trainer;
    const metric = config.plan.evalMetric ?? 'fd';
    try {
      const found = await this.trainer.withEma(() => this.evaluation!.measure(this.model, signal));
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
      await folder.prune(config.plan.keep);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return;
      const { message, unexpected } = describeFailure(error);
      if (unexpected || NOT_WHOLE.some((type) => error instanceof type)) throw error;
      this.progress.warn(`Step ${grouped(step)} was not evaluated: ${message}`);
    }
  }

  /** A sheet of samples of the moving averages: at every time from the same noise, so that sheets can be compared. */
  private async sheet(): Promise<void> {
    const { device, folder, config, signal } = this.options;
    const { numClasses, classDropoutProb } = config.model;
    const classes = numClasses > 0 ? Array.from({ length: Math.min(numClasses, 10) }, (_, label) => label) : undefined;
    const path = join(folder.samples, `step-${String(this.trainer.step).padStart(8, '0')}.png`);
    try {
      await this.trainer.withEma(async () => {
        const { images } = await sampleImages({
          device,
          model: this.model,
          diffusion: config.diffusion,
          labels: labelsOfRows(classes, 4),
          count: 16,
          guidance: classDropoutProb > 0 ? config.plan.guidance : 1,
          steps: Math.min(config.plan.sampleSteps, config.settings.diffusionSteps),
          seed: hash32(config.settings.seed, SHEET_KEY),
          batch: 16,
          signal,
        });
        const { vae } = config.settings;
        const decoder = vae && (await openDecoder(device, vae));
        const pictures = (await decoder?.decode(images).finally(() => decoder.dispose())) ?? images;
        await writeSamples(path, pictures, { classes, classNames: config.classNames });
      });
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return;
      const { message, unexpected } = describeFailure(error);
      if (unexpected || (error instanceof EngineError && !(error instanceof FileError))) throw error;
      this.progress.warn(`The sample sheet could not be written: ${message}`);
    }
  }
}
