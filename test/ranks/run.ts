// Several ranks on the adapter of this machine, started by Open MPI's mpirun. The last line is `N passed, N failed`.
//
//   npm run test:ranks

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { mpirun, requireMpirun } from '../../cli/distributed/mpirun.ts';

const CLI = fileURLToPath(new URL('../../cli/dis-cli.mjs', import.meta.url));
const RANK = fileURLToPath(new URL('./rank.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'dis-ranks-'));

interface Ended {
  readonly rank: number;
  readonly transport?: string;
  readonly digest: string;
  readonly losses: readonly number[];
}

/** What each rank has after training. */
function train(ranks: number, options: Record<string, unknown> = {}): Ended[] {
  const work = { steps: 50, batch: 8, microBatches: 1, precision: 'f32', messages: false, ...options };
  const { args, env } = mpirun(
    Array.from({ length: ranks }, () => 0),
    [process.execPath, '--import', 'tsx', RANK, JSON.stringify(work)],
  );
  const { status, stdout, stderr } = spawnSync('mpirun', args, { env, encoding: 'utf8', timeout: 300_000 });
  assert.is(status, 0, stderr);
  const ended = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Ended);
  assert.is(ended.length, ranks, stdout);
  return ended.sort((a, b) => a.rank - b.rank);
}

function assertSame(ended: readonly Ended[]): void {
  for (const { rank, digest } of ended) assert.is(digest, ended[0].digest, `rank ${rank} has other parameters`);
}

function assertNear(losses: readonly number[], expected: readonly number[], limit = 1e-5): void {
  assert.is(losses.length, expected.length);
  for (const [i, loss] of losses.entries())
    assert.ok(Math.abs(loss / expected[i] - 1) < limit, `step ${i + 1}: loss ${loss}, expected ${expected[i]}`);
}

/** Losses in a run's metrics. */
function metrics(run: string): number[] {
  const file = join(run, 'metrics.jsonl');
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

const flags = (run: string): string[] => [
  ...['train', '--data', 'shapes', '--image-size', '16', '--model', 'DiS-N/4', '--batch', '8', '--steps', '40'],
  ...['--checkpoint-every', '10', '--sample-every', '0', '--progress', 'none', '--out', run],
];

/** The process of a rank, among those that a process has begun. The compiler of TypeScript is another of them. */
function rankOf(pid: number, rank: number): number | undefined {
  const { stdout } = spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' });
  for (const child of stdout.split('\n').map(Number).filter(Boolean)) {
    const found = rankOf(child, rank);
    if (found !== undefined) return found;
    const of = (what: string): string => {
      try {
        return readFileSync(`/proc/${child}/${what}`, 'utf8');
      } catch {
        return ''; // it has ended since
      }
    };
    if (of('environ').includes(`OMPI_COMM_WORLD_RANK=${rank}\0`) && of('cmdline').includes('dis-cli')) return child;
  }
  return undefined;
}

const alone = (): readonly number[] => (known ??= train(1)[0].losses);
let known: readonly number[] | undefined;

const scenes: [name: string, scene: () => void | Promise<void>][] = [
  [
    '2 ranks have the same parameters, bit for bit, and the losses of one',
    () => {
      const ended = train(2);
      assertSame(ended);
      assert.is(ended[0].transport, 'shared memory');
      assertNear(ended[0].losses, alone());
    },
  ],
  [
    '4 ranks likewise',
    () => {
      const ended = train(4);
      assertSame(ended);
      assertNear(ended[0].losses, alone());
    },
  ],
  [
    'by messages, as between machines, the bits are those of shared memory',
    () => {
      for (const ranks of [2, 4]) {
        const short = { steps: 5, microBatches: 2 };
        const [shared, sent] = [train(ranks, short), train(ranks, { ...short, messages: true })];
        assertSame([...shared, ...sent]);
        assert.is(sent[0].transport, 'messages');
      }
    },
  ],
  [
    'a rank that is killed: the run goes on from the last checkpoint, with the losses of one that was left alone',
    async () => {
      const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
      const { status, stderr } = spawnSync(process.execPath, [CLI, ...flags(whole)], { encoding: 'utf8' });
      assert.is(status, 0, stderr);
      const launcher = spawn(process.execPath, [CLI, ...flags(broken), '--gpus', '2', '--oversubscribe'], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      launcher.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
      const ended = new Promise<number | null>((resolve) => launcher.once('close', resolve));
      while (launcher.exitCode === null && metrics(broken).length < 15) await sleep(20);
      const rank = rankOf(launcher.pid!, 1);
      assert.ok(rank !== undefined, 'rank 1 is not among the processes of the launcher');
      process.kill(rank, 'SIGKILL');
      assert.is(await ended, 0, said);
      assert.match(said, /died; going on from step [123]0 with 1 of 2 ranks \(restart 1 of 3\)/);
      assertNear(metrics(broken), metrics(whole));
    },
  ],
];

let passed = 0,
  failed = 0;
try {
  requireMpirun();
  for (const [name, scene] of scenes) {
    const start = performance.now();
    let problem: string | undefined;
    try {
      await scene();
      passed++;
    } catch (error) {
      failed++;
      problem = error instanceof Error ? error.message : String(error);
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${problem === undefined ? ' ok ' : 'FAIL'}  ${name}  ${seconds} s`);
    if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, '      '));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
