// A training run in its folder: the trainer's loop, with metrics, checkpoints, sample sheets and a good end whatever
// ends it.

import { stat } from 'node:fs/promises';
import { tuningOf } from '../core/index.ts';
import { checkpointFiles, readCheckpoint } from './checkpoint.ts';
import { shareState } from './distributed/shareState.ts';
import { describeFailure } from './errors.ts';
import { TrainingEvaluation } from './evaluate/duringTraining.ts';
import { describeCheckpoints, tightDisk } from './diskSpace.ts';
import { counted, grouped, si } from './format.ts';
import { resumeCommand } from './invocation.ts';
import { initialise } from './initWeights.ts';
import { kindNamed } from './modelKinds/index.ts';
import { MetricsFile, truncateMetrics } from './metricsFile.ts';
import { adapterLabel } from './openCliDevice.ts';
import { Progress, say, type ProgressStyle } from './progress.ts';
import type { CheckpointEntry, RunFolder } from './runFolder.ts';
import type { StepProfile } from './stepProfile.ts';
import { TrainLoop } from './trainLoop.ts';
import { buildTraining, type TrainingParts } from './training.ts';
import { writeTrainingSheet } from './trainingSheet.ts';
import { loadRunTuning, loadTuning, storeTuning, tuneStep } from './tuningCache.ts';

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

export interface TrainOutcome {
  /** Steps taken in all. */
  readonly step: number;
  /** Whether the plan is fulfilled. */
  readonly done: boolean;
  /** The newest checkpoint. */
  readonly checkpoint: CheckpointEntry | undefined;
}

/**
 * Trains until the plan's last step or the signal; either way what was reached is in a checkpoint when this returns. The
 * same is tried when something fails that leaves the state whole: data that vanish, disks that refuse.
 *
 * @throws DeviceLostError that says how to go on, FileError when the last checkpoint cannot be written or the data
 *   cannot be read, and the engine's errors
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
    else if (config.settings.initFrom !== undefined) await initialise(trainer, config);
    if (ranks) await shareState(ranks, trainer);
    // Rank 0 alone has a folder, and evaluates while the others wait.
    const evaluation = (plan.evalEvery ?? 0) > 0 ? owned(new TrainingEvaluation({ device, config })) : undefined;
    const { signal, profile } = options;
    const loop = new TrainLoop({
      ...{ folder, plan, trainer, loader, metrics, progress, resume, signal, ranks, profile },
      files: (current) => checkpointFiles(config, current),
      sheet: () => writeTrainingSheet(options, trainer, model),
      evaluate: evaluation && ((aborted) => evaluation.measure(model, aborted)),
      command: resumeCommand(folder),
    });
    const checkpoint = await loop.end();
    return { step: trainer.step, done: trainer.step >= plan.steps, checkpoint };
  } finally {
    for (const end of ends) await end();
  }
}

/**
 * The kernels of a run are chosen when it begins, by what is known of the adapter or, on a GPU, measured now; they stay
 * the same when it goes on, so that it does so bit for bit.
 */
async function chooseKernels(
  { device, folder, config, resume, signal, ranks }: TrainRunOptions,
  progress: Progress,
): Promise<void> {
  if (resume && (await begunHere(folder))) {
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

/** Whether a run that goes on has taken a step here; one that was brought over chooses its kernels now. */
async function begunHere({ metrics, tuning }: RunFolder): Promise<boolean> {
  const sizes = await Promise.all(
    [metrics, tuning].map(async (path) => (await stat(path).catch(() => undefined))?.size),
  );
  return sizes.some((size) => (size ?? 0) > 0);
}

function introduction({ device, folder, config, data, resume, ranks }: TrainRunOptions, start: number): string[] {
  const { settings, kind, model } = config;
  const { parameters } = kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision });
  return [
    `data     ${data.description}`,
    `model    ${settings.model}, ${si(parameters)} parameters, ` +
      `${model.numClasses > 0 ? counted(model.numClasses, 'class', 'classes') : 'unconditional'}`,
    `adapter  ${adapterLabel(device)}${ranks ? ` × ${ranks.ranks}, ${ranks.version.split(',')[0]}` : ''}`,
    `disk     ${describeCheckpoints(config)}`,
    `run      ${folder.shown}${resume ? `, from step ${grouped(start)}` : ''}`,
  ];
}
