// A lock file against two processes that train in one folder. It names its holder, so that one left by a killed process
// of this machine is known for what it is. Of another machine's process only signs of life can be seen: the holder
// touches the file now and then, and a file that was not touched for long is nobody's any more.

import { open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { UsageError } from './errors.ts';
import { errorCode, fileError } from './files.ts';
import { duration } from './format.ts';
import { beginning, isRunning } from './processes.ts';
import { holderSchema } from './schemas.ts';

type Holder = z.infer<typeof holderSchema>;

export interface LockOptions {
  /** Seconds between two signs of life. Default 15. */
  heartbeat?: number;
  /** Seconds without one after which another machine's lock is nobody's. Default 180. */
  lease?: number;
}

/** A lock that is held. */
export class Lock {
  readonly path: string;
  private readonly text: string;
  private readonly timer: NodeJS.Timeout;

  /** @internal See `acquireLock`. */
  constructor(path: string, text: string, heartbeat: number) {
    this.path = path;
    this.text = text;
    this.timer = setInterval(() => void this.touch(), heartbeat * 1000);
    this.timer.unref();
  }

  /** Whether the lock is still this process's: one that was stopped for long may have lost it. */
  async isHeld(): Promise<boolean> {
    return (await readFile(this.path, 'utf8').catch(() => '')) === this.text;
  }

  /** Lets go. A lock that another process holds by now stays. */
  async release(): Promise<void> {
    clearInterval(this.timer);
    if (await this.isHeld()) await rm(this.path, { force: true });
  }

  private async touch(): Promise<void> {
    const now = new Date();
    if (await this.isHeld()) await utimes(this.path, now, now).catch(() => undefined);
  }
}

/**
 * Creates a lock file that names this process. One that a dead process of this machine left, or one of another machine
 * that shows no sign of life, is replaced.
 * @param folder what is locked, for the error
 * @throws UsageError while another process holds it; FileError when it cannot be written
 */
export async function acquireLock(
  path: string,
  folder: string,
  { heartbeat = 15, lease = 180 }: LockOptions = {},
): Promise<Lock> {
  const began = beginning(process.pid);
  const holder: Holder = { pid: process.pid, host: hostname(), ...(began !== undefined && { began }) };
  const mine = JSON.stringify(holder);
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      await writeFile(path, mine, { flag: 'wx' });
      return new Lock(path, mine, heartbeat);
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw fileError('acquireLock', 'lock', folder, error);
    }
    const text = await readStart(path);
    const other = parseHolder(text);
    const age = other && (await ageOf(path));
    // Let go of just now.
    if (other && age === undefined) continue;
    if (other && !isGone(other, age!, lease)) {
      const here = other.host === hostname();
      const where = here ? '' : ` on ${other.host}, which was last seen ${duration(age!)} ago`;
      throw new UsageError(
        `${folder} is in use by process ${other.pid}${where}; wait for it, or remove ${path} if that process is gone` +
          `${here ? '' : `; without a sign of life its lock ends after ${duration(lease)}`}.`,
      );
    }
    // A lock without a holder is being written just now, or was cut by a power failure.
    if (!other && attempt === 0) await sleep(200);
    else await removeStale(path, text);
  }
  throw new UsageError(`${folder} is being taken by another process; try again.`);
}

/** The text of a lock; of a file that is none, whatever its size, nothing. */
async function readStart(path: string): Promise<string> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() && info.size <= 4096 ? await readFile(path, 'utf8').catch(() => '') : '';
}

/** Seconds since the file was touched, by the clock of its file system; undefined where it is gone. */
async function ageOf(path: string): Promise<number | undefined> {
  const touched = (await stat(path).catch(() => undefined))?.mtimeMs;
  if (touched === undefined) return undefined;
  const name = `${path}.${process.pid}.tmp`;
  try {
    const probe = await open(name, 'w');
    try {
      return Math.max(0, ((await probe.stat()).mtimeMs - touched) / 1000);
    } finally {
      await probe.close();
    }
  } catch (error) {
    throw fileError('acquireLock', 'lock', path, error);
  } finally {
    await rm(name, { force: true }).catch(() => undefined);
  }
}

/**
 * Removes a lock whose content is `text`. Renaming succeeds for one process only; should it catch a lock made
 * meanwhile, that one goes back.
 */
async function removeStale(path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}.tmp`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readStart(aside)) === text) await rm(aside, { recursive: true, force: true });
  else await rename(aside, path);
}

function parseHolder(text: string): Holder | undefined {
  try {
    return holderSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

function isGone({ pid, host, began }: Holder, age: number, lease: number): boolean {
  if (host !== hostname()) return age > lease;
  if (pid === process.pid || !isRunning(pid)) return true;
  const now = beginning(pid);
  return began !== undefined && now !== undefined && began !== now;
}
