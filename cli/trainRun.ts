// A training run in its folder: the trainer's loop, with metrics, checkpoints, sample sheets and a good end whatever ends it.

import { join } from 'node:path';
import { CompileError, DeviceLostError, DisposedError, EngineError, GpuError, LimitError } from '../core/errors.ts';
import type { Device } from '../core/index.ts';
import { Generator, tuningOf } from '../core/index.ts';
import { DataLoader } from '../models/data/dataset.ts';
import { hash32 } from '../models/data/hash.ts';
import { createDiffusion, createTimestepSampler, type GaussianDiffusion } from '../models/diffusion/index.ts';
import { sampleImages } from '../models/sample/index.ts';
import { Trainer } from '../models/train/trainer.ts';
import { checkpointFiles, readCheckpoint } from './checkpoint.ts';
import type { OpenedData } from './data/openData.ts';
import type { Ranks } from './distributed/ranks.ts';
import { shareState } from './distributed/shareState.ts';
import { TrainingError, describeFailure, isDiskFull } from './errors.ts';
import { FileError, errorCode } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { describeCheckpoints, tightDisk } from './diskSpace.ts';
import { counted, grouped, si } from './format.ts';
import { invocation } from './invocation.ts';
import { kindNamed, type BuiltModel } from './modelKinds/index.ts';
import { MetricsFile, truncateMetrics } from './metricsFile.ts';
import { adapterLabel } from './openCliDevice.ts';
import { Progress, say, type ProgressStyle } from './progress.ts';
import { emaDecay, learningRate, type RunConfig, type TrainPlan } from './runConfig.ts';
import type { CheckpointEntry, RunFolder } from './runFolder.ts';
import { labelsOfRows, writeSamples } from './sampleSheet.ts';
import type { StepProfile } from './stepProfile.ts';
import { loadRunTuning, loadTuning, storeTuning, tuneStep } from './tuningCache.ts';

export interface TrainRunOptions {
  readonly device: Device;
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly data: OpenedData;
  /** Go on from here. */
  readonly resume?: CheckpointEntry;
  readonly style: ProgressStyle;
  readonly signal?: AbortSignal;
  /** Measures some of the steps. */
  readonly profile?: StepProfile;
  /** The other ranks; this is the one that writes. */
  readonly ranks?: Ranks;
}

export interface TrainOutcome {
  /** Steps taken in all. */
  readonly step: number;
  /** Whether the plan is fulfilled. */
  readonly done: boolean;
  /** The newest checkpoint. */
  readonly checkpoint: CheckpointEntry | undefined;
}

// Separate the uses of a run's seed.
const INIT_KEY = 1,
  DATA_KEY = 2,
  TRAIN_KEY = 3,
  SHEET_KEY = 4;

/** So many steps without a finite gradient mean that none will come; a loss scale for f16 is found in fewer. */
const HOPELESS = 100;

/** Errors after which nothing on the device can be relied on. */
const ON_THE_DEVICE = [DeviceLostError, GpuError, CompileError, LimitError, DisposedError] as const;

/**
 * Trains until the plan's last step or the signal; either way what was reached is in a checkpoint when this returns. The same is tried
 * when something fails that leaves the state whole: data that vanish, disks that refuse.
 * @throws DeviceLostError that says how to go on, FileError when the last checkpoint cannot be written or the data cannot be read, and
 *   the engine's errors
 */
export async function trainRun(options: TrainRunOptions): Promise<TrainOutcome> {
  const { folder, config, data, resume, style } = options;
  const { plan } = config;
  const state = resume && (await readCheckpoint(resume, config));
  const start = state?.json.step ?? 0;
  if (resume) await truncateMetrics(folder.metrics, start);
  // What was begun last ends first, however far this gets.
  const ends: (() => unknown)[] = [];
  const owned = <T extends { dispose(): void }>(made: T): T => {
    ends.unshift(() => made.dispose());
    return made;
  };
  try {
    const metrics = await MetricsFile.open(folder.metrics);
    ends.unshift(async () => {
      if (await metrics.close()) return;
      say(`The last metrics are lost: ${describeFailure(metrics.problem).message}`);
    });
    if (style === 'bar' || style === 'lines') for (const line of introduction(options, start)) say(line);
    const tight = await tightDisk(folder, config);
    if (tight !== undefined) say(tight);
    const progress = new Progress({ total: plan.steps, start, style });
    ends.unshift(() => {
      progress.end();
      options.profile?.stop();
      const skipped = data.skipped().length;
      if (skipped > 0)
        say(`${counted(skipped, 'file')} could not be read and ${skipped === 1 ? 'was' : 'were'} skipped.`);
    });
    await chooseKernels(options, progress);
    const { ranks, device } = options;
    await ranks?.broadcast(tuningOf(device).exportTuning({ shipped: true }));
    const { model, trainer, loader } = owned(buildTraining(options));
    if (state) trainer.loadState(state);
    if (ranks) await shareState(ranks, trainer);
    const loop = new Loop(options, trainer, model, loader, metrics, progress, resume);
    const checkpoint = await loop.run().catch(async (error: unknown) => {
      if (error instanceof DeviceLostError) throw await lost(error, folder);
      await loop.rescue(error);
      throw error;
    });
    return { step: trainer.step, done: trainer.step >= plan.steps, checkpoint };
  } finally {
    for (const end of ends) await end();
  }
}

/** What to say of a lost device. */
async function lost(error: DeviceLostError, folder: RunFolder): Promise<DeviceLostError> {
  const last = (await folder.checkpoints()).at(-1);
  const how = last
    ? `the last checkpoint is step ${grouped(last.step)}, go on with ${resumeCommand(folder)}`
    : 'no checkpoint was written yet, begin again';
  return new DeviceLostError('train', 'The GPU device was lost, after a driver reset or because its memory ran out', {
    remedy: how,
    cause: error,
  });
}

/**
 * The kernels of a run are chosen when it begins, by what is known of the adapter or, on a GPU, measured now; they stay the same
 * when it goes on, so that it does so bit for bit.
 */
async function chooseKernels(
  { device, folder, config, resume, signal, ranks }: TrainRunOptions,
  progress: Progress,
): Promise<void> {
  if (resume) {
    const against = await loadRunTuning(device, folder.tuning);
    if (against !== undefined) progress.warn(against);
    return;
  }
  await loadTuning(device);
  if (!device.adapter.software) {
    // A rank computes its part of the batch.
    const batch = config.settings.batch / (ranks?.ranks ?? 1);
    const results = await tuneStep(device, { ...config, settings: { ...config.settings, batch } }, { signal });
    if (results.length > 0) {
      progress.note(`Measured ${counted(results.length, 'kind')} of kernel calls that are new to this adapter.`);
      await storeTuning(device).catch((error: unknown) =>
        progress.warn(`What was measured is not remembered: ${describeFailure(error).message}`),
      );
    }
  }
  await storeTuning(device, folder.tuning);
}

/** The command that goes on with a run. */
export function resumeCommand(folder: Pick<RunFolder, 'shown'>): string {
  return invocation('train', '--resume', folder.shown);
}

function introduction({ device, folder, config, data, resume, ranks }: TrainRunOptions, start: number): string[] {
  const { settings, kind, model } = config;
  const { parameters } = kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision });
  return [
    `data     ${data.description}`,
    `model    ${settings.model}, ${si(parameters)} parameters, ${model.numClasses > 0 ? counted(model.numClasses, 'class', 'classes') : 'unconditional'}`,
    `adapter  ${adapterLabel(device)}${ranks ? ` × ${ranks.ranks}, ${ranks.version.split(',')[0]}` : ''}`,
    `disk     ${describeCheckpoints(config)}`,
    `run      ${folder.shown}${resume ? `, from step ${grouped(start)}` : ''}`,
  ];
}

function newModel({ device, config }: TrainingParts): BuiltModel {
  const generator = new Generator(device, hash32(config.settings.seed, INIT_KEY));
  const model = kindNamed(config.kind).build(generator, config.model);
  generator.dispose();
  return model;
}

function newTrainer(
  { device, config: { settings }, ranks }: TrainingParts,
  model: BuiltModel,
  diffusion: GaussianDiffusion,
): Trainer {
  return new Trainer({
    device,
    model,
    diffusion,
    batchSize: settings.batch,
    microBatches: settings.microBatches,
    lr: learningRate(settings),
    betas: [settings.betas[0], settings.betas[1]],
    weightDecay: settings.weightDecay,
    clip: settings.clip,
    emaDecay: emaDecay(settings),
    precision: settings.precision,
    seed: hash32(settings.seed, TRAIN_KEY),
    exchange: ranks,
    ...(settings.timestepSampler !== 'uniform' && {
      timestepSampler: createTimestepSampler(settings.timestepSampler, diffusion.numTimesteps),
    }),
  });
}

/** What decides what is trained, on every rank. */
export type TrainingParts = Pick<TrainRunOptions, 'device' | 'config' | 'data' | 'ranks'>;

/** The model, its trainer and the batches, which begin where the trainer stands when `loader` is called. */
export function buildTraining(parts: TrainingParts): {
  readonly model: BuiltModel;
  readonly trainer: Trainer;
  loader(): DataLoader;
  dispose(): void;
} {
  const { device, config, data, ranks } = parts;
  const { settings } = config;
  const made: { dispose(): void }[] = [];
  const dispose = (): void => {
    for (const each of made.reverse()) each.dispose();
  };
  try {
    const model = newModel(parts);
    made.push(model);
    const diffusion = createDiffusion(device, config.diffusion);
    made.push(diffusion);
    const trainer = newTrainer(parts, model, diffusion);
    made.push(trainer);
    return {
      model,
      trainer,
      loader: () =>
        new DataLoader(data.dataset, {
          batchSize: settings.batch,
          seed: hash32(settings.seed, DATA_KEY),
          flip: settings.flip,
          cursor: trainer.cursor,
          ...(ranks && { part: { index: ranks.rank, of: ranks.ranks } }),
        }),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Steps at which something is written, the next of each kind. */
export function stopsAfter(step: number, { checkpointEvery, sampleEvery }: TrainPlan): number[] {
  return [checkpointEvery, sampleEvery]
    .filter((every) => every > 0)
    .map((every) => (Math.floor(step / every) + 1) * every);
}

/** The steps between two stops, and what is done at each. */
class Loop {
  private readonly options: TrainRunOptions;
  private readonly trainer: Trainer;
  private readonly model: BuiltModel;
  private readonly loader: () => DataLoader;
  private readonly metrics: MetricsFile;
  private readonly progress: Progress;
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
  ) {
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
      }
      // The others wait for what is written.
      await ranks?.barrier();
    }
    if (trainer.step > (this.saved?.step ?? 0)) await this.save(true);
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
        `The gradient was not finite for ${HOPELESS} steps up to step ${grouped(record.step)}, and of checkpoints ${this.kept()}; begin again with a lower --lr or --precision f32.`,
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
    // A skipped step leaves all as it was; where many are, what is there is not worth the place of an earlier checkpoint.
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
        `The disk is full: the checkpoint of step ${grouped(removed.step)} went, to make room for that of step ${grouped(step)}.`,
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
    if (ON_THE_DEVICE.some((type) => error instanceof type) || error instanceof TrainingError) return;
    try {
      if (step > (this.saved?.step ?? 0) && step !== this.unsaved) await this.save(true);
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
        await writeSamples(path, images, { classes, classNames: config.classNames });
      });
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return;
      const { message, unexpected } = describeFailure(error);
      if (unexpected || (error instanceof EngineError && !(error instanceof FileError))) throw error;
      this.progress.warn(`The sample sheet could not be written: ${message}`);
    }
  }
}
