// What a run's checkpoints take, against what is free.

import { statfs } from 'node:fs/promises';
import { bytes, counted } from './format.ts';
import { kindNamed } from './modelKinds/index.ts';
import type { RunConfig } from './runConfig.ts';
import type { RunFolder } from './runFolder.ts';

/** Bytes of a checkpoint: of each parameter the value, its average, two moments and, with local steps, one more; f32. */
export function checkpointBytes({ kind, model, settings }: Pick<RunConfig, 'kind' | 'model' | 'settings'>): number {
  const values = settings.syncEvery === undefined ? 4 : 5;
  return 4 * values * kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision }).parameters;
}

/** How many checkpoints lie in a run's folder at once: those that are kept, and one more while it is written. */
export function checkpointsAtOnce({ steps, checkpointEvery, keep }: RunConfig['plan']): number {
  const written = checkpointEvery > 0 ? Math.ceil(steps / checkpointEvery) : 1;
  return keep > 0 ? Math.min(keep + 1, written) : written;
}

/** What a run's checkpoints take, in words. */
export function describeCheckpoints(config: RunConfig): string {
  const each = checkpointBytes(config),
    count = checkpointsAtOnce(config.plan);
  const all = count > 1 ? `, ${bytes(count * each)} for the ${count} that lie there at once` : '';
  return `${bytes(each)} a checkpoint${all}`;
}

/** A sentence where the disk has no room for a run's checkpoints; undefined where it has, or doesn't tell. */
export async function tightDisk(
  folder: Pick<RunFolder, 'path' | 'checkpoints'>,
  config: RunConfig,
): Promise<string | undefined> {
  const space = await statfs(folder.path).catch(() => undefined);
  if (!space || space.blocks === 0) return undefined;
  const free = space.bavail * space.bsize;
  const each = checkpointBytes(config),
    there = (await folder.checkpoints()).length;
  const needed = Math.max(1, checkpointsAtOnce(config.plan) - there) * each;
  if (free >= needed) return undefined;
  const what = config.plan.keep > 0 ? 'older ones go first where it is full, the newest stays' : 'none goes by itself';
  return (
    `The disk has ${bytes(free)} free, and ${counted(Math.round(needed / each), 'more checkpoint')} of ${bytes(each)} ` +
    `${needed === each ? 'takes' : 'take'} ${bytes(needed)}; free some space or lower --keep (${what}).`
  );
}
