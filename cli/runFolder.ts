// The folder of a training run:
//
//   config.json            what was asked for; enough to go on without repeating a flag
//   tuning.json            which kernels it computes with: others would round otherwise
//   data.jsonl             what each picture of its data holds, to notice one that is replaced
//   metrics.jsonl          one line a step
//   checkpoints/step-XXXXXXXX/   whole or absent
//   samples/               sheets
//   best.json              which checkpoint's samples were nearest to the data, with --eval-every
//   eval/                  samples and features of dis-cli eval, to go on from
//   run.lock               while a process trains
//
// The newest checkpoint is the one with the highest step: there is no pointer that could be wrong.

import { lstat, mkdir, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import type { z } from 'zod';
import { EngineError } from '../core/errors.ts';
import { UsageError, isDiskFull } from './errors.ts';
import type { FileData } from './files.ts';
import { FileError, errorCode, fileError, makeFolder, syncFolder, writeFileAtomic, writeFileSynced } from './files.ts';
import { checked, readJson } from './jsonFile.ts';
import { acquireLock, type Lock } from './lock.ts';
import { bestSchema, stepSchema } from './schemas.ts';

export type BestCheckpoint = z.infer<typeof bestSchema>;

export interface CheckpointEntry {
  readonly step: number;
  readonly path: string;
}

const CONFIG = 'config.json',
  METRICS = 'metrics.jsonl',
  CHECKPOINTS = 'checkpoints',
  SAMPLES = 'samples',
  EVAL = 'eval',
  BEST = 'best.json',
  TUNING = 'tuning.json',
  DATA = 'data.jsonl',
  LOCK = 'run.lock';

const nameOfStep = (step: number): string => `step-${String(step).padStart(8, '0')}`;

function stepOfName(name: string): number | undefined {
  const [, digits] = /^step-(\d{8,})$/.exec(name) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** A run's folder, held by this process alone until `close()`. Make one with `createRun` or `openRun`. */
export class RunFolder {
  readonly path: string;
  private readonly lock: Lock;
  private readonly unmake: () => Promise<void>;

  /** @internal */
  constructor(path: string, lock: Lock, unmake: () => Promise<void> = () => Promise.resolve()) {
    this.path = path;
    this.lock = lock;
    this.unmake = unmake;
  }

  /** The path as a person at this place would type it. */
  get shown(): string {
    return relative(process.cwd(), this.path) || '.';
  }

  get samples(): string {
    return join(this.path, SAMPLES);
  }

  /** Of the pictures of a step. */
  sheetPath(step: number): string {
    return join(this.samples, `${nameOfStep(step)}.png`);
  }

  get metrics(): string {
    return join(this.path, METRICS);
  }

  get tuning(): string {
    return join(this.path, TUNING);
  }

  get data(): string {
    return join(this.path, DATA);
  }

  /** Writes config.json. */
  async writeConfig(config: object): Promise<void> {
    await writeFileAtomic(join(this.path, CONFIG), `${JSON.stringify(config, null, 2)}\n`);
  }

  /** The checkpoints there are, oldest first. */
  checkpoints(): Promise<CheckpointEntry[]> {
    return listCheckpoints(this.path);
  }

  /**
   * Writes a checkpoint so that it appears whole or not at all: files into a temporary folder, each synced, then one
   * rename. A checkpoint of that step that is there already stays. Where the disk is full, older checkpoints may go to
   * make room, the newest never.
   * @param files names and contents; gone through again after an older checkpoint went
   * @param onRemove given, older checkpoints may go; called for each one that went
   * @returns its folder
   * @throws FileError when it cannot be written; nothing of it is left then, and the newest checkpoint is untouched.
   *   UsageError when another process took the folder over
   */
  async writeCheckpoint(
    step: number,
    files: Iterable<readonly [name: string, data: FileData]>,
    onRemove?: (removed: CheckpointEntry) => void,
  ): Promise<string> {
    const path = join(this.path, CHECKPOINTS, nameOfStep(step));
    if (await isFolder(path)) return path;
    if (!(await this.lock.isHeld())) {
      throw new UsageError(
        `${this.shown} was taken over by another process while this one stood still; its checkpoint is not written.`,
      );
    }
    for (;;) {
      try {
        await this.write(path, files);
        return path;
      } catch (error) {
        const [oldest, ...newer] = await this.checkpoints();
        if (!isDiskFull(error) || onRemove === undefined || newer.length === 0)
          throw fileError('writeCheckpoint', 'write the checkpoint', path, error);
        await this.remove(oldest);
        onRemove(oldest);
      }
    }
  }

  private async write(path: string, files: Iterable<readonly [name: string, data: FileData]>): Promise<void> {
    const parent = dirname(path);
    const temporary = join(parent, `.${basename(path)}.${process.pid}.tmp`);
    try {
      await rm(temporary, { recursive: true, force: true });
      await mkdir(temporary, { recursive: true });
      for (const [name, data] of files) await writeFileSynced(join(temporary, name), data);
      await syncFolder(temporary);
      await rename(temporary, path);
      await syncFolder(parent);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  /** Removes all but the `keep` newest checkpoints and the best one; 0 keeps all. */
  async prune(keep: number): Promise<void> {
    if (keep <= 0) return;
    const best = await readBest(this.path);
    for (const old of (await this.checkpoints()).slice(0, -keep)) if (old.step !== best?.step) await this.remove(old);
  }

  /** Which checkpoint's samples were nearest to the data; undefined before the first evaluation. */
  best(): Promise<BestCheckpoint | undefined> {
    return readBest(this.path);
  }

  /** @throws FileError */
  async writeBest(best: BestCheckpoint): Promise<void> {
    await writeFileAtomic(join(this.path, BEST), `${JSON.stringify(best)}\n`);
  }

  private async remove({ path }: CheckpointEntry): Promise<void> {
    // Renamed first, so that a removal cut short leaves no half checkpoint.
    const doomed = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
    await rename(path, doomed);
    await rm(doomed, { recursive: true, force: true });
  }

  /** Lets other processes have the folder. */
  async close(): Promise<void> {
    await this.lock.release();
  }

  /**
   * The same at a command's end: the folder of a run in which nothing came about goes, as far as it was made for it.
   */
  async leave(): Promise<void> {
    const began = (await stat(this.metrics).catch(() => undefined))?.size ?? 0;
    const empty = began === 0 && (await this.checkpoints().catch(() => [undefined])).length === 0;
    if (empty) {
      for (const name of [CONFIG, METRICS, BEST, TUNING, DATA]) await rm(join(this.path, name), { force: true });
      for (const name of [CHECKPOINTS, SAMPLES]) await rmdir(join(this.path, name)).catch(() => undefined);
    }
    await this.close();
    if (empty) await this.unmake();
  }
}

/**
 * Makes the folder of a new run and locks it.
 * @throws FileError when the folder holds a run, or anything else, or cannot be made
 */
export async function createRun(path: string): Promise<RunFolder> {
  const root = resolve(path);
  const entries = await readdir(root).catch((error: unknown): string[] => {
    if (errorCode(error) === 'ENOENT') return [];
    throw fileError('createRun', 'use', path, error);
  });
  // A run that ended before its first checkpoint is no loss to begin again; its lock tells whether it goes on.
  if (entries.includes(CONFIG) && (await listCheckpoints(root)).length > 0) {
    throw new FileError('createRun', `${path} holds another run`, {
      path,
      remedy: `go on with it by --resume ${path}, or give another folder with --out`,
    });
  }
  const own: readonly string[] = [CONFIG, METRICS, CHECKPOINTS, SAMPLES, EVAL, BEST, TUNING, DATA, LOCK];
  const foreign = entries.find((name) => !own.includes(name) && !name.endsWith('.tmp'));
  if (foreign !== undefined)
    throw new FileError('createRun', `${path} holds ${foreign}`, {
      path,
      expected: 'a new or empty folder',
      remedy: 'give another one with --out',
    });
  let unmake: () => Promise<void>;
  try {
    unmake = await makeFolder(root);
    await refuseLinks(root);
    await mkdir(join(root, CHECKPOINTS), { recursive: true });
    await mkdir(join(root, SAMPLES), { recursive: true });
  } catch (error) {
    throw fileError('createRun', 'make the folder', path, error);
  }
  const run = new RunFolder(root, await acquireLock(join(root, LOCK), path), unmake);
  await sweep(root);
  await rm(run.metrics, { force: true });
  return run;
}

/**
 * Refuses a run whose folders are links: what is written and pruned in a run that came from somebody else would be
 * another folder's. Its metrics may lead to a device or a pipe, but to no other file.
 */
async function refuseLinks(root: string): Promise<void> {
  for (const name of [CHECKPOINTS, SAMPLES, METRICS]) {
    const path = join(root, name);
    const info = await lstat(path).catch(() => undefined);
    if (!info?.isSymbolicLink() || (name === METRICS && !(await isFile(path)))) continue;
    throw new FileError('openRun', `${path} is a link`, {
      path,
      expected: `the run's own ${name === METRICS ? 'file' : 'folder'}`,
      remedy: 'move what it leads to here, or remove it',
    });
  }
}

/** Clears away what killed processes left half-written; only the holder of the lock may. */
async function sweep(root: string): Promise<void> {
  for (const folder of [root, join(root, CHECKPOINTS), join(root, SAMPLES)]) {
    for (const name of await readdir(folder).catch(() => [])) {
      const ours = /^\..+\.tmp$/.test(name) || (name.startsWith(`${LOCK}.`) && name.endsWith('.tmp'));
      if (ours) await rm(join(folder, name), { recursive: true, force: true });
    }
  }
}

/**
 * Locks the folder of a run that exists, and clears away what a killed process left half-written.
 * @throws FileError when another process trains there
 */
export async function openRun(path: string): Promise<RunFolder> {
  const root = resolve(path);
  await refuseLinks(root);
  const run = new RunFolder(root, await acquireLock(join(root, LOCK), path));
  await sweep(root);
  await mkdir(run.samples, { recursive: true });
  return run;
}

/** A run or one of its checkpoints, as a person names it. */
export interface Located {
  /** The run's folder; undefined for a checkpoint that lies by itself. */
  readonly run: string | undefined;
  readonly checkpoint: CheckpointEntry;
}

/**
 * Finds the newest checkpoint of a run's folder, or takes the checkpoint folder that was named.
 * @throws FileError when the path is neither
 */
export async function locateCheckpoint(path: string): Promise<Located> {
  const root = resolve(path);
  const info = await stat(root).catch((error: unknown) => {
    throw errorCode(error) === 'ENOENT'
      ? new FileError('locateCheckpoint', `${path} does not exist`, {
          path,
          expected: 'the folder of a run or of a checkpoint',
          remedy: 'check the path',
          cause: error,
        })
      : fileError('locateCheckpoint', 'open', path, error);
  });
  if (!info.isDirectory())
    throw new FileError('locateCheckpoint', `${path} is a file`, {
      path,
      expected: 'the folder of a run or of a checkpoint',
      remedy: 'give the folder that holds it',
    });
  const entries = await readdir(root);
  if (entries.includes('state.json')) {
    const parent = dirname(root),
      run = dirname(parent);
    const inRun = basename(parent) === CHECKPOINTS && (await isFile(join(run, CONFIG)));
    const step = stepOfName(basename(root)) ?? (await readStep(root));
    return { run: inRun ? run : undefined, checkpoint: { step, path: root } };
  }
  const newest = (await listCheckpoints(root)).at(-1);
  if (newest) return { run: root, checkpoint: newest };
  if (entries.includes(CONFIG) || entries.includes(CHECKPOINTS)) {
    throw new FileError('locateCheckpoint', `${path} holds a run without a checkpoint yet`, {
      path,
      remedy: 'begin it again, or wait for its first checkpoint',
    });
  }
  throw new FileError('locateCheckpoint', `${path} holds neither a run nor a checkpoint`, {
    path,
    expected: 'a folder that dis-cli train wrote',
    remedy: 'check the path',
  });
}

/**
 * The checkpoints of a run that a person names: `last`, `best`, `all`, or steps separated by commas.
 * @throws UsageError naming the steps there are
 */
export async function checkpointsNamed({ run, checkpoint }: Located, names: string): Promise<CheckpointEntry[]> {
  if (names === 'last') return [checkpoint];
  if (run === undefined || run !== dirname(dirname(checkpoint.path)))
    throw new UsageError(`--checkpoint is ${JSON.stringify(names)}, but one checkpoint was given; leave it out.`);
  const all = await listCheckpoints(run);
  if (names === 'all') return all;
  if (names === 'best') {
    const best = await readBest(run);
    const found = all.find(({ step }) => step === best?.step);
    if (found) return [found];
    throw new UsageError('--checkpoint is best, but the run has none: it was not trained with --eval-every.');
  }
  return names.split(',').map((text) => {
    const found = all.find(({ step }) => String(step) === text.trim().replaceAll('_', ''));
    if (found) return found;
    throw new UsageError(
      `--checkpoint is ${JSON.stringify(names)}, expected last, best, all, or steps of ${all.map(({ step }) => step).join(', ')}.`,
    );
  });
}

/** What best.json says; a file that is damaged is as good as none: the next evaluation writes it anew. */
async function readBest(root: string): Promise<BestCheckpoint | undefined> {
  const path = join(root, BEST);
  try {
    return checked(bestSchema, await readJson(path), path);
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

async function readStep(folder: string): Promise<number> {
  const path = join(folder, 'state.json');
  return checked(stepSchema, await readJson(path), path).step;
}

async function listCheckpoints(root: string): Promise<CheckpointEntry[]> {
  const parent = join(root, CHECKPOINTS);
  await refuseLinks(root);
  const names = await readdir(parent).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return [];
    throw fileError('checkpoints', 'read', parent, error);
  });
  return names
    .flatMap((name) => {
      const step = stepOfName(name);
      return step === undefined ? [] : [{ step, path: join(parent, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}
