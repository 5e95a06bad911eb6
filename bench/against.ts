// Two builds side by side in one run: this working tree and another commit in a worktree of its own, each in a process, asked in turn.
// The harness is this tree's in both, so that only the library differs.

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Tier } from '../core/index.ts';
import { idOf, type BenchCase } from './case.ts';
import { Worker } from './channel.ts';
import { git, ROOT } from './git.ts';
import { spreadOf, type Spread } from './sample.ts';
import { align, quantity } from './table.ts';

export interface AgainstOptions {
  /** A commit, or `prev`: the last one where files differ from it, else the one before. */
  readonly commit: string;
  readonly tier: Tier;
  readonly adapter?: string;
  readonly rounds: number;
  /** Ends the run after the case that is being measured. */
  readonly signal?: AbortSignal;
  readonly progress: (text: string) => void;
  readonly note: (text: string) => void;
}

export interface AgainstRow {
  readonly id: string;
  /** Seconds an iteration, the other build's first. */
  readonly before: Spread;
  readonly after: Spread;
  /** before / after, round by round: above 1 is faster now. */
  readonly ratio: Spread;
}

/** What a worker is asked. */
export type AgainstRequest =
  | { readonly ask: 'prepare'; readonly id: string; readonly tier: Tier; readonly adapter?: string }
  | { readonly ask: 'time' }
  | { readonly ask: 'dispose' };

/** The commit that a name means. */
export function resolveCommit(name: string): string {
  if (name !== 'prev') return git('rev-parse', '--verify', `${name}^{commit}`);
  return git('rev-parse', git('status', '--porcelain', '--untracked-files=no') === '' ? 'HEAD~1' : 'HEAD');
}

/** What the other tree takes from this one, and what the harness needs beside its own folder. */
const SHARED = ['node_modules', '.vulkan'] as const,
  HARNESS = ['core/tuning/warmUp.ts'] as const;

/** Where older builds have what the harness imports, by its path from core/tuning; the newest place first. */
const OLDER_PLACES: Readonly<Record<string, readonly string[]>> = {
  '../gpu/device.ts': ['../device.ts'],
  '../gpu/kernel.ts': ['../kernel.ts'],
  '../gpu/grid.ts': ['../gpu/kernel.ts', '../kernel.ts'],
  '../gpu/storage.ts': ['../storage.ts'],
};

/** Gives another build a file of the harness, with imports that this build has. */
function lend(file: string, folder: string): void {
  const beside = join(folder, dirname(file));
  let text = readFileSync(join(ROOT, file), 'utf8');
  for (const [place, older] of Object.entries(OLDER_PLACES)) {
    const found = [place, ...older].find((path) => existsSync(join(beside, path)));
    if (found !== undefined) text = text.replaceAll(`'${place}'`, `'${found}'`);
  }
  mkdirSync(beside, { recursive: true });
  writeFileSync(join(folder, file), text);
}

/** Checks the commit out beside the project, with this tree's benchmark and its installed packages. */
function checkOut(commit: string): string {
  const folder = join(ROOT, '.cache', 'against', commit.slice(0, 12));
  if (existsSync(folder)) remove(folder);
  mkdirSync(join(ROOT, '.cache', 'against'), { recursive: true });
  git('worktree', 'add', '--detach', '--force', folder, commit);
  rmSync(join(folder, 'bench'), { recursive: true, force: true });
  cpSync(join(ROOT, 'bench'), join(folder, 'bench'), {
    recursive: true,
    filter: (path) => !path.includes(join('peers', 'node_modules')),
  });
  for (const file of HARNESS) lend(file, folder);
  for (const name of SHARED)
    if (existsSync(join(ROOT, name))) symlinkSync(join(ROOT, name), join(folder, name), 'junction');
  return folder;
}

/** Links first: nothing may follow them into this tree. */
function remove(folder: string): void {
  for (const name of SHARED) if (existsSync(join(folder, name))) unlinkSync(join(folder, name));
  git('worktree', 'remove', '--force', folder);
}

/** Rounds of both builds for each case. What the other build can't do is noted and left out. */
export async function runAgainst(cases: readonly BenchCase[], options: AgainstOptions): Promise<AgainstRow[]> {
  const { tier, adapter, rounds, progress, note } = options;
  const commit = resolveCommit(options.commit);
  const folder = checkOut(commit);
  note(`against ${git('log', '-1', '--format=%h %s', commit)}`);
  const start = (name: string, cwd: string): Worker =>
    new Worker(name, process.execPath, ['--import', 'tsx', join(cwd, 'bench', 'againstWorker.ts')], { cwd });
  const workers = [start('before', folder), start('after', ROOT)];
  const rows: AgainstRow[] = [];
  try {
    for (const [i, c] of cases.entries()) {
      if (options.signal?.aborted) break;
      const id = idOf(c);
      progress(`[${i + 1}/${cases.length}] ${id}`);
      try {
        for (const worker of workers)
          await worker.request({ ask: 'prepare', id, tier, ...(adapter !== undefined && { adapter }) });
        const times: number[][] = [[], []];
        for (let round = 0; round < rounds; round++) {
          // Who goes first changes from round to round.
          for (const k of round % 2 ? [1, 0] : [0, 1]) times[k].push(await workers[k].request<number>({ ask: 'time' }));
        }
        const row = {
          id,
          before: spreadOf(times[0]),
          after: spreadOf(times[1]),
          ratio: spreadOf(times[0].map((t, k) => t / times[1][k])),
        };
        rows.push(row);
        note(
          `[${i + 1}/${cases.length}] ${id}: ${row.ratio.median.toFixed(2)}× (${row.ratio.low.toFixed(2)}–${row.ratio.high.toFixed(2)})`,
        );
      } catch (error) {
        note(
          `[${i + 1}/${cases.length}] ${id}: left out: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`,
        );
      }
      for (const worker of workers)
        await worker.request({ ask: 'dispose' }).catch(() => {
          /* its next request tells */
        });
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.close()));
    remove(folder);
  }
  return rows;
}

/** Faster or slower by a twentieth at least, where even the quartile on the other side says so. */
export function verdict({ low, median, high }: Spread): 'faster' | 'slower' | 'same' {
  return median > 1.05 && low > 1 ? 'faster' : median < 1 / 1.05 && high < 1 ? 'slower' : 'same';
}

export function againstTable(rows: readonly AgainstRow[]): string {
  if (rows.length === 0) return 'No case ran in both builds.';
  const table = align(
    [
      ['case', 'before', 'now', 'ratio', 'spread', ''],
      ...[...rows]
        .sort((a, b) => a.ratio.median - b.ratio.median)
        .map(({ id, before, after, ratio }) => [
          id,
          quantity(before.median, 's'),
          quantity(after.median, 's'),
          `${ratio.median.toFixed(2)}×`,
          `${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}`,
          verdict(ratio) === 'same' ? '' : verdict(ratio),
        ]),
    ],
    1,
  );
  const count = (kind: string): number => rows.filter((row) => verdict(row.ratio) === kind).length;
  return `${table}\n${count('faster')} faster, ${count('slower')} slower, ${count('same')} within the spread.`;
}
