// A lock file against two processes that train in one folder. It names its holder, so that one left by a killed process is known
// for what it is.

import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from './errors.ts';
import { errorCode, fileError } from './files.ts';

interface Holder {
  readonly pid: number;
  readonly host: string;
}

/**
 * Creates a lock file that names this process; remove it to let go. One that a dead process of this machine left is replaced.
 * @param folder what is locked, for the error
 * @returns `path`
 * @throws UsageError while another process holds it; FileError when it cannot be written
 */
export async function acquireLock(path: string, folder: string): Promise<string> {
  const mine = JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder);
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      await writeFile(path, mine, { flag: 'wx' });
      return path;
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw fileError('acquireLock', 'lock', folder, error);
    }
    const text = await readFile(path, 'utf8').catch(() => '');
    const holder = parseHolder(text);
    if (holder && !isDead(holder)) {
      const where = holder.host === hostname() ? '' : ` on ${holder.host}`;
      throw new UsageError(
        `${folder} is in use by process ${holder.pid}${where}; wait for it, or remove ${path} if that process is gone.`,
      );
    }
    // A lock without a holder is being written just now, or was cut by a power failure.
    if (!holder && attempt === 0) await sleep(200);
    else await removeStale(path, text);
  }
  throw new UsageError(`${folder} is being taken by another process; try again.`);
}

/** Removes a lock whose content is `text`. Renaming succeeds for one process only; should it catch a lock made meanwhile, that one goes back. */
async function removeStale(path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}.tmp`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readFile(aside, 'utf8')) === text) await rm(aside, { force: true });
  else await rename(aside, path);
}

function parseHolder(text: string): Holder | undefined {
  try {
    const { pid, host } = JSON.parse(text) as Partial<Holder>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host } : undefined;
  } catch {
    return undefined;
  }
}

function isDead({ pid, host }: Holder): boolean {
  if (host !== hostname()) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return errorCode(error) === 'ESRCH';
  }
}
