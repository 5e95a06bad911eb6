// What the scenes of several ranks share: training by mpirun, runs of the command line that can be watched and hit, and
// comparisons.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { mpirun } from '../../cli/distributed/mpirun.ts';

export const CLI = fileURLToPath(new URL('../../cli/dis-cli.mjs', import.meta.url));
const RANK = fileURLToPath(new URL('./rank.ts', import.meta.url));

/** Holds all runs. */
export const folder = mkdtempSync(join(tmpdir(), 'dis-ranks-'));

/** Steps of the runs of the command line; a checkpoint lies at every tenth. */
export const STEPS = 40;

export interface Scene {
  readonly name: string;
  /** Why it cannot run here. */
  readonly notRun?: string;
  run(): void | Promise<void>;
  /** Takes away what was made for it. */
  readonly end?: () => void;
}

export interface Ended {
  readonly rank: number;
  readonly transport?: string;
  readonly digest: string;
  readonly losses: readonly number[];
}

/** What each rank has after training by the library. */
export function train(ranks: number, options: Record<string, unknown> = {}): Ended[] {
  const work = { steps: 50, batch: 8, microBatches: 1, precision: 'f32', messages: false, ...options };
  const { args, env } = mpirun(
    Array.from({ length: ranks }, () => 0),
    [process.execPath, '--import', 'tsx', RANK, JSON.stringify(work)],
  );
  const { status, stdout, stderr } = spawnSync('mpirun', args, { env, encoding: 'utf8', timeout: 600_000 });
  assert.is(status, 0, stderr);
  const ended = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Ended);
  assert.is(ended.length, ranks, stdout);
  return ended.sort((a, b) => a.rank - b.rank);
}

export function assertSame(ended: readonly Ended[]): void {
  for (const { rank, digest } of ended) assert.is(digest, ended[0].digest, `rank ${rank} has other parameters`);
}

export function assertNear(losses: readonly number[], expected: readonly number[], limit = 1e-5): void {
  assert.is(losses.length, expected.length);
  for (const [i, loss] of losses.entries())
    assert.ok(Math.abs(loss / expected[i] - 1) < limit, `step ${i + 1}: loss ${loss}, expected ${expected[i]}`);
}

/** Losses in a run's metrics. */
export function metrics(run: string): number[] {
  const file = join(run, 'metrics.jsonl');
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

/** Arguments of a run in that folder. */
export const flags = (run: string): string[] => [
  ...[
    'train',
    '--data',
    'shapes',
    '--image-size',
    '16',
    '--model',
    'DiS-N/4',
    '--batch',
    '8',
    '--steps',
    String(STEPS),
  ],
  ...['--checkpoint-every', '10', '--sample-every', '0', '--progress', 'none', '--out', run],
];

let known: readonly number[] | undefined;

/** The losses of a run with one rank that nothing happens to. */
export async function undisturbed(): Promise<readonly number[]> {
  if (!known) {
    const job = new Job(process.execPath, [CLI, ...flags(join(folder, 'whole'))]);
    assert.is(await job.ended, 0, job.said);
    known = metrics(join(folder, 'whole'));
  }
  return known;
}

/** A command that runs beside the test. */
export class Job {
  /** Its standard error until now. */
  said = '';
  readonly ended: Promise<number | null>;
  private readonly child: ChildProcess;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', resolve);
    });
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until something holds. @throws AssertionError where the command ends before */
  async until(what: string, holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (!this.running) assert.unreachable(`ended before ${what}: ${this.said}`);
      await sleep(20);
    }
  }

  /** Its ranks and their processes. */
  ranks(): Map<number, number> {
    return new Map(ranksOf(this.child.pid!));
  }

  /** Sends a signal to a rank, as soon as there is one. */
  async hit(rank: number, signal: NodeJS.Signals): Promise<void> {
    await this.until(`rank ${rank} began`, () => this.ranks().has(rank));
    process.kill(this.ranks().get(rank)!, signal);
  }
}

/** The processes of ranks, among those that a process has begun. The compiler of TypeScript is another of them. */
function ranksOf(pid: number): [rank: number, pid: number][] {
  const { stdout } = spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' });
  return stdout
    .split('\n')
    .map(Number)
    .filter(Boolean)
    .flatMap((child) => {
      const of = (what: string): string => {
        try {
          return readFileSync(`/proc/${child}/${what}`, 'utf8');
        } catch {
          return ''; // it has ended since
        }
      };
      const [, rank] = /OMPI_COMM_WORLD_RANK=(\d+)\0/.exec(of('environ')) ?? [];
      const own = rank !== undefined && of('cmdline').includes('dis-cli');
      const below = ranksOf(child);
      return own && !below.some(([each]) => each === Number(rank)) ? [[Number(rank), child] as const, ...below] : below;
    }) as [number, number][];
}

/** The command to go on with, as a run said it, once and in one sentence. */
export function saidCommand(said: string): string {
  const found = [...said.matchAll(/^dis-cli: .* go on with (mpirun .*--resume .*)$/gm)];
  assert.is(found.length, 1, said);
  return found[0][1];
}

/** Numbers from 0 to below 1 that a seed decides (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
