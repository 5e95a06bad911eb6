// Which commit a result belongs to.

import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Runs git in the repository; the output without its last line break. */
export function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trimEnd();
}

/** The commit that is checked out. BENCH_COMMIT names it where there is no repository, or one that lags behind the files. */
export function commitOf(): { id: string; dirty: boolean } {
  if (process.env.BENCH_COMMIT) return { id: process.env.BENCH_COMMIT, dirty: false };
  try {
    return { id: git('rev-parse', 'HEAD'), dirty: git('status', '--porcelain', '--untracked-files=no') !== '' };
  } catch {
    return { id: 'unknown', dirty: false };
  }
}
