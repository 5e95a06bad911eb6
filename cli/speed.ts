// How fast an adapter trains, as `dis-cli tune` has measured it: operations a second of whole steps, kept beside the
// kernels' measurements. `dis-cli info` tells from it what a run would take.

import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Device } from '../core/index.ts';
import { writeFileAtomic } from './files.ts';
import { checked, readJson } from './jsonFile.ts';
import { adapterLabel } from './openCliDevice.ts';
import { speedSchema } from './schemas.ts';
import { tuningPath } from './tuningCache.ts';

/** One measured training step. */
export interface MeasuredSpeed {
  readonly adapter: string;
  readonly model: string;
  readonly precision: 'f32' | 'f16';
  readonly batch: number;
  readonly tokens: number;
  readonly parameters: number;
  readonly imagesPerSecond: number;
  /** Of a forward pass, an image. */
  readonly flopsPerImage: number;
}

const suffix = '.speed.json';
const pathOf = (device: Device): string =>
  join(dirname(tuningPath(device)), `${basename(tuningPath(device)).replace(/\.json$/, '')}${suffix}`);

/** Remembers a step; an older one of the same model goes. */
export async function storeSpeed(device: Device, measured: Omit<MeasuredSpeed, 'adapter'>): Promise<void> {
  const entry = { adapter: adapterLabel(device), ...measured };
  const others = (await readSpeeds(pathOf(device))).filter(
    (old) => !(old.model === entry.model && old.precision === entry.precision && old.tokens === entry.tokens),
  );
  await writeFileAtomic(pathOf(device), `${JSON.stringify({ speeds: [...others, entry].slice(-100) }, null, 1)}\n`);
}

async function readSpeeds(path: string): Promise<readonly MeasuredSpeed[]> {
  try {
    return checked(speedSchema, await readJson(path), path).speeds;
  } catch {
    return [];
  }
}

/** What was measured on the adapters of this machine. */
export async function knownSpeeds(folder: string): Promise<MeasuredSpeed[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(suffix));
  return (await Promise.all(names.map((name) => readSpeeds(join(folder, name))))).flat();
}
