// What `dis-cli train` needs before the first step: the folder, config and data of a new run, or of one that goes on.

import { existsSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import type { Channels } from '../models/data/channels.ts';
import { checkCheckpoint, readRunConfig } from './checkpoint.ts';
import type { OpenedData } from './data/openData.ts';
import { describeDifference, readIndex, writeIndex } from './data/pictureIndex.ts';
import { absoluteData, dataName, openRunData, pathOfData } from './data/runData.ts';
import { UsageError } from './errors.ts';
import { FileError, errorCode } from './files.ts';
import { grouped } from './format.ts';
import { importRun, requireRun } from './importRun.ts';
import { describeInit } from './initWeights.ts';
import { inLatentSpace, requireVae } from './latentSpace.ts';
import { officialConfig, withData } from './officialConfig.ts';
import { say } from './progress.ts';
import { makeRunConfig, type RunConfig } from './runConfig.ts';
import { createRun, locateCheckpoint, openRun, type CheckpointEntry, type RunFolder } from './runFolder.ts';
import {
  PLAN,
  planOf,
  refuseChanges,
  settingsOf,
  styleOf,
  type FlagName,
  type Given,
  type TrainOptions,
} from './trainOptions.ts';
import type { TrainPlan } from './trainSettings.ts';
import { openWeightFile } from './weightFile.ts';
import { isFile } from './weightSource.ts';

/** A run that can be trained. */
export interface PreparedRun {
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly data: OpenedData;
  readonly resume?: CheckpointEntry;
}

/** A new run in a new folder. @throws UsageError, FileError */
export async function beginRun(asking: TrainOptions, given: Given, signal: AbortSignal): Promise<PreparedRun> {
  const { vae, ...options } = await inLatentSpace(asking, given);
  if (options.data === undefined)
    throw new UsageError('What to train on is missing; give --data shapes, a folder of images, or --resume a run.');
  if (options.batch % options.microBatches !== 0) {
    throw new UsageError(`--micro-batches is ${options.microBatches}, expected a divisor of --batch ${options.batch}.`);
  }
  if (options.syncEvery !== undefined && options.gpus === undefined && !options.distributed)
    throw new UsageError('--sync-every is for several ranks; give --gpus or --distributed with it, or leave it out.');
  const init =
    options.initFrom === undefined
      ? undefined
      : await describeInit(options.initFrom, { ...asking, ...options, vae: asking.vae });
  const asked = {
    ...settingsOf({ ...options, ...init?.settings(given), data: absoluteData(options.data) }),
    ...(vae && { imageSize: options.imageSize, channels: undefined, vae }),
  };
  const data = await openRunData(asked, signal);
  // What the data have today stays the run's, whatever a later version finds in them.
  const settings = vae ? asked : { ...asked, channels: data.dataset.channels as Channels };
  const plan = planOf(options, { data, settings });
  const config = makeRunConfig(settings, plan, data);
  const note = init?.compare(config);
  if (note !== undefined) say(note);
  const folder = await createRun(
    options.out ?? `runs/${dataName(options.data)}-${options.model.toLowerCase().replace('/', '-')}`,
  );
  try {
    if (data.index) await writeIndex(folder.data, data.index);
    await folder.writeConfig(config);
  } catch (error) {
    await folder.leave();
    throw error;
  }
  return { folder, config, data };
}

/** A run that goes on from its newest checkpoint. @throws UsageError, FileError, FormatError */
export async function resumeRun(
  options: TrainOptions,
  given: Given,
  flagName: FlagName,
  signal: AbortSignal,
): Promise<PreparedRun> {
  const path = options.resume === true ? options.out : options.resume;
  if (path === undefined)
    throw new UsageError('Which run to resume is missing; give its folder after --resume, or with --out.');
  if (options.initFrom !== undefined)
    throw new UsageError('--resume goes on with a run and --init-from begins one; leave one of the two out.');
  if (await isFile(path)) return resumeFile(path, options, given, flagName, signal);
  if (options.resume !== true && options.out !== undefined && resolve(options.out) !== resolve(path)) {
    throw new UsageError('A run goes on in its own folder; leave --out out, or begin a new run without --resume.');
  }
  const { run, checkpoint } = await locateCheckpoint(path);
  if (run === undefined)
    throw new UsageError(
      `${path} is a checkpoint outside of a run, and a run goes on in its own folder; give the folder of the run.`,
    );
  const before: RunConfig = await readRunConfig(run);
  refuseChanges(options, before.settings, given, flagName);
  const vae = await requireVae(before.settings.vae, options.vae);
  const folder = await openRun(run);
  try {
    const newest = (await folder.checkpoints()).at(-1);
    if (newest && newest.step !== checkpoint.step) {
      throw new UsageError(
        `${path} is not the newest checkpoint of its run, which is step ${grouped(newest.step)}; give the ` +
          'folder of the run, or move the newer ones away.',
      );
    }
    const settings = {
      ...before.settings,
      ...(vae ? { vae } : { channels: before.model.channels as Channels }),
      ...(options.data !== undefined && { data: absoluteData(options.data) }),
    };
    const known = await readIndex(folder.data);
    await checkCheckpoint(checkpoint, before);
    const data = await openRunData(settings, signal, known).catch((error: unknown) => {
      if (options.data === undefined && errorCode(error) === 'ENOENT' && !existsSync(pathOfData(settings.data))) {
        throw new FileError('train', `${settings.data}, the run's data, is not there`, {
          path: settings.data,
          remedy: 'bring it back, or say with --data where it is now',
          cause: error,
        });
      }
      throw error;
    });
    const begun = withData({ ...before, settings }, data);
    if (data.fingerprint !== begun.dataFingerprint) {
      const what = known && data.index && describeDifference(known, data.index);
      if (what !== undefined) say(`Of the run's pictures, ${what}.`);
      throw new UsageError(
        `The data in ${settings.data} is not what the run was begun with; bring it back, or begin a new run.`,
      );
    }
    if (data.index) await writeIndex(folder.data, data.index);
    const plan = newPlan(begun, options, given, data);
    const config = { ...begun, plan };
    await folder.writeConfig(config);
    const { schedule, scheduleSteps = Infinity, minLr } = begun.settings;
    if (schedule === 'cosine' && plan.steps > scheduleSteps) {
      say(
        `The cosine of this run ended at step ${grouped(scheduleSteps)}; from there on the learning rate ` +
          `stays ${minLr}.`,
      );
    }
    return { folder, config, data, resume: checkpoint };
  } catch (error) {
    await folder.close();
    throw error;
  }
}

/** The plan of a run that goes on, with the flags that are given. */
function newPlan({ plan, settings }: RunConfig, options: TrainOptions, given: Given, data: OpenedData): TrainPlan {
  const wanted = { ...plan, ...Object.fromEntries(PLAN.filter(given).map((name) => [name, options[name]])) };
  return planOf(given('epochs') ? { ...wanted, epochs: options.epochs } : wanted, { data, settings });
}

/** A run of the official code goes on in a new folder. */
async function resumeFile(
  path: string,
  options: TrainOptions,
  given: Given,
  flagName: FlagName,
  signal: AbortSignal,
): Promise<PreparedRun> {
  const file = await openWeightFile(path);
  try {
    requireRun(file);
    const { data: place, vae } = await inLatentSpace(options, given);
    if (place === undefined)
      throw new UsageError(`Where the data of the run in ${path} lie is missing; give them with --data or --latents.`);
    const official = officialConfig(file, path, options);
    const settings = {
      ...official.settings,
      data: absoluteData(place),
      ...(vae && { vae, channels: undefined }),
    };
    refuseChanges(options, settings, given, flagName);
    const data = await openRunData(settings, signal);
    const begun = withData({ ...official, settings }, data);
    const config = { ...begun, plan: newPlan(begun, options, given, data) };
    const folder = await importRun(file, config, options.out ?? join('runs', basename(path, extname(path))), {
      signal,
      style: styleOf(options),
    });
    try {
      if (data.index) await writeIndex(folder.data, data.index);
      say(`The run of ${path} goes on in ${folder.shown}.`);
      return { folder, config, data, resume: (await folder.checkpoints()).at(-1) };
    } catch (error) {
      await folder.close();
      throw error;
    }
  } finally {
    await file.close();
  }
}
