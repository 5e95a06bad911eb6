// What was measured of an adapter, remembered in a small file of the user's cache folder, one for each adapter.

import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { tuningOf } from '../core/index.ts';
import type { Device, TuneOptions, TuningResult } from '../core/index.ts';
import { Generator, adapterKey, namesAdapter } from '../core/index.ts';
import { createDiffusion } from '../models/diffusion/index.ts';
import { Trainer } from '../models/train/trainer.ts';
import { FileError, sweepTemporary, writeFileAtomic } from './files.ts';
import { counted } from './format.ts';
import { checked, readJson } from './jsonFile.ts';
import { kindNamed } from './modelKinds/index.ts';
import type { RunConfig } from './runConfig.ts';
import { tuningSchema } from './schemas.ts';

/** The file for a device's adapter. */
export function tuningPath(device: Device): string {
  const digest = createHash('sha256').update(adapterKey(device)).digest('hex').slice(0, 12);
  return join(tuningFolder(), `tuning-${digest}.json`);
}

/** Where measurements of this machine's adapters lie. */
export const tuningFolder = (): string => process.env.DIS_CACHE_DIR || join(cacheFolder(), 'dis-webgpu');

function cacheFolder(): string {
  if (process.env.XDG_CACHE_HOME) return process.env.XDG_CACHE_HOME;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  if (process.platform === 'win32') return process.env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local');
  return join(homedir(), '.cache');
}

/**
 * Gives a device what was measured before, by preference over what comes with the engine.
 * @returns the number of entries; 0 where there is no file, or one that is damaged or of another adapter: nothing is
 *   lost by that
 */
export async function loadTuning(device: Device): Promise<number> {
  const path = tuningPath(device);
  try {
    return tuningOf(device).importTuning(checked(tuningSchema, await readJson(path), path));
  } catch {
    return 0;
  }
}

/**
 * Lets a device compute with the kernels of a run and no others, so that it goes on bit for bit.
 * @param path the run's tuning.json
 * @returns what stands against that, as a sentence: there is no such file, or it is of another adapter
 * @throws FileError, FormatError where the file cannot be read or is damaged
 */
export async function loadRunTuning(device: Device, path: string): Promise<string | undefined> {
  let data: Record<string, unknown>;
  try {
    data = await readJson(path);
  } catch (error) {
    if (!(error instanceof FileError && error.code === 'ENOENT')) throw error;
    return `${path} is missing, which says which kernels the run computes with: it goes on, but not bit for bit.`;
  }
  const tuning = checked(tuningSchema, data, path);
  tuningOf(device).importTuning(tuning, { alone: true });
  return namesAdapter(device, tuning.adapter)
    ? undefined
    : `The run was begun on ${JSON.stringify(tuning.adapter)}: here it goes on, but not bit for bit.`;
}

/**
 * Remembers what was measured.
 * @param path the file of a run instead of the cache's: also what comes with the engine is written there, as another
 *   version may bring other things
 * @throws FileError when it cannot be written
 */
export async function storeTuning(device: Device, path?: string): Promise<void> {
  const file = path ?? tuningPath(device);
  await mkdir(dirname(file), { recursive: true });
  await sweepTemporary(dirname(file));
  await writeFileAtomic(
    file,
    `${JSON.stringify(tuningOf(device).exportTuning({ shipped: path !== undefined }), null, 1)}\n`,
  );
}

/** Which kernels a device computes with, in words. */
export function describeTuning(device: Device): { readonly measured: string; readonly shipped: string } {
  const { measured, shipped } = tuningOf(device);
  const kinds = (count: number): string => `${counted(count, 'kind')} of kernel calls`;
  const same = shipped?.match === 'device' ? 'this adapter' : `an adapter of this architecture, ${shipped?.name ?? ''}`;
  return {
    measured: measured > 0 ? `${kinds(measured)}` : 'nothing yet',
    shipped: shipped ? `${kinds(Object.keys(shipped.entries).length)}, measured on ${same}` : 'none for this adapter',
  };
}

/** What a training step consists of, as far as its kernels' shapes go. */
export type StepShape = Pick<RunConfig, 'kind' | 'model' | 'diffusion'> & {
  readonly settings: Pick<RunConfig['settings'], 'batch' | 'microBatches' | 'precision'>;
};

/**
 * Measures the kernels of a training step that were not measured on this adapter, after one step of a model that is
 * thrown away.
 * @returns what was measured, in order
 */
export async function tuneStep(device: Device, shape: StepShape, options: TuneOptions = {}): Promise<TuningResult[]> {
  const results: TuningResult[] = [];
  // What is found may bring more: how far apart the backward scan wants states to be saved is what its forward is
  // measured for.
  for (let round = 0; round < 2; round++) {
    await meet(device, shape);
    const found = await tuningOf(device).tune(options);
    results.push(...found);
    if (found.length === 0 || options.signal?.aborted) break;
  }
  return results;
}

/** Seconds of a training step, the least of three recorded ones after the first. */
export const timeStep = (device: Device, shape: StepShape): Promise<number> => meet(device, shape, 4);

/** Steps of a model that is thrown away. One brings up the kernels of all the others. @returns the least time of one */
async function meet(
  device: Device,
  { kind, model: config, diffusion, settings }: StepShape,
  steps = 1,
): Promise<number> {
  const generator = new Generator(device);
  const model = kindNamed(kind).build(generator, config);
  const process = createDiffusion(device, diffusion);
  const trainer = new Trainer({
    device,
    model,
    diffusion: process,
    batchSize: settings.batch,
    microBatches: settings.microBatches,
    precision: settings.precision,
    capture: steps > 1,
  });
  try {
    const shape = [settings.batch, config.channels, config.imgSize, config.imgSize] as const;
    const batch = {
      images: new Float32Array(shape.reduce((a, b) => a * b)),
      labels: new Int32Array(settings.batch),
      shape,
      epoch: 0,
    };
    let least = Infinity;
    for (let step = 0; step < steps; step++) {
      const began = performance.now();
      await trainer.trainBatch(batch);
      if (step > 0 || steps === 1) least = Math.min(least, (performance.now() - began) / 1000);
    }
    return least;
  } finally {
    trainer.dispose();
    process.dispose();
    model.dispose();
    generator.dispose();
    device.trim();
  }
}
