// `dis-cli train --gpus`: starts a rank a GPU by mpirun, and goes on from the last checkpoint with the GPUs that are
// left when a rank dies.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT, UsageError } from '../errors.ts';
import { invocation } from '../invocation.ts';
import { say, type ProgressStyle } from '../progress.ts';
import { locateCheckpoint } from '../runFolder.ts';
import { chooseGpus, listGpus } from './gpus.ts';
import { MpiLibrary } from './mpi.ts';
import { mpirun, requireMpirun } from './mpirun.ts';
import { AGAIN, pick } from './rankCommand.ts';
import { REPORT, reportedFolder, reportedLost } from './report.ts';

export interface LaunchOptions {
  readonly gpus: number | readonly number[];
  readonly oversubscribe: boolean;
  readonly maxRestarts: number;
  /** What ranks must divide, where it is known. */
  readonly batch?: number;
  readonly style: ProgressStyle;
}

/** Flags of the launcher alone, with how many values. */
const OWN = new Map([
  ['--gpus', 1],
  ['--max-restarts', 1],
  ['--progress', 1],
  ['--quiet', 0],
  ['-q', 0],
]);
interface Ended {
  readonly status: number;
  /** The rank that mpirun blames, or those that were silent. */
  readonly dead: readonly number[];
}

/** Trains with ranks until the run is done. @returns the exit status */
export async function launchRanks(options: LaunchOptions): Promise<number> {
  requireMpirun();
  await MpiLibrary.load();
  let places = chooseGpus(options.gpus, await listGpus(), options.oversubscribe);
  if (options.batch !== undefined && options.batch % places.length !== 0)
    throw new UsageError(
      `--batch is ${options.batch} a micro-batch, expected a multiple of the ${places.length} GPUs; choose another.`,
    );
  const folder = mkdtempSync(join(tmpdir(), 'dis-ranks-'));
  const report = join(folder, 'run');
  let args = process.argv.slice(2);
  const again = pick(args, AGAIN, true);
  args = pick(args, OWN, false);
  try {
    for (let restarts = 0; ; restarts++) {
      const { ended, interrupted } = await runRanks(places, [...args, '--progress', options.style], report);
      if (interrupted) return EXIT.interrupted;
      const { status, dead } = ended;
      if (status === 0) return EXIT.ok;
      const run = reportedFolder(report);
      const last = run === undefined ? undefined : await locateCheckpoint(run).catch(() => undefined);
      // A rank that said itself what was wrong would say it again.
      const died = status > 128 || status === EXIT.gpu || status === EXIT.rank;
      if (!died || restarts >= options.maxRestarts) {
        if (last && run !== undefined)
          say(
            `Training ended with status ${status}; step ${last.checkpoint.step} is in a checkpoint, go on with ` +
              invocation('train', '--resume', run, '--gpus', String(places.length)),
          );
        return status;
      }
      const before = places.length;
      places = left(places, dead, options);
      if (last && run !== undefined) args = ['train', '--resume', run, ...again];
      say(
        `${dead.length === 0 ? 'A rank' : `${dead.length > 1 ? 'Ranks' : 'Rank'} ${dead.join(', ')}`} died; going on from ` +
          `${last ? `step ${last.checkpoint.step}` : 'the beginning'} with ${places.length} of ${before} ranks ` +
          `(restart ${restarts + 1} of ${options.maxRestarts}).`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The GPUs of the ranks that are left, as many as divide the batch. */
function left(places: readonly number[], dead: readonly number[], { batch }: LaunchOptions): number[] {
  const gone = dead.length === 0 ? [places.length - 1] : dead;
  const rest = places.filter((_, r) => !gone.includes(r));
  if (rest.length === 0) return places.slice(0, 1);
  let count = rest.length;
  // The batch of a run that goes on isn't known here: halves divide what the ranks before have divided.
  if (batch === undefined) count = Math.max(1, 2 ** Math.floor(Math.log2(count)));
  else while (batch % count !== 0) count--;
  return rest.slice(0, count);
}

/** One job of mpirun, with signals passed on and its own words left out. */
async function runRanks(
  places: readonly number[],
  args: readonly string[],
  report: string,
): Promise<{ ended: Ended; interrupted: boolean }> {
  const command = [process.execPath, ...process.execArgv, process.argv[1], ...args, '--distributed'];
  const start = mpirun(places, command);
  rmSync(`${report}.lost`, { force: true });
  // In a session of its own: Ctrl-C reaches this process alone, which passes it on as what mpirun forwards.
  const child: ChildProcess = spawn('mpirun', start.args, {
    env: { ...start.env, [REPORT]: report },
    stdio: ['ignore', 'inherit', 'pipe'],
    detached: true,
  });
  let interrupted = false;
  const onSignal = (): void => {
    child.kill(interrupted ? 'SIGTERM' : 'SIGUSR2');
    if (!interrupted) say('Finishing this step, then writing a checkpoint; Ctrl-C again leaves at once.');
    interrupted = true;
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, onSignal);
  let banner = '',
    inBanner = false;
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
    const text = chunk.replace(/^mpirun: Forwarding signal.*\n/m, '');
    // What mpirun says of its own comes at the end, between lines of dashes.
    const at = inBanner ? 0 : text.search(/^-{40,}$/m);
    if (at < 0) process.stderr.write(text);
    else {
      process.stderr.write(text.slice(0, at));
      inBanner = true;
      banner += text.slice(at);
    }
  });
  const status = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? (signal ? 143 : 1)));
  });
  for (const name of signals) process.off(name, onSignal);
  const silent = reportedLost(report);
  const blamed = /process rank (\d+)|Process name: \[\[\d+,\d+\],(\d+)\]/.exec(banner);
  const dead = silent.length > 0 ? silent : blamed ? [Number(blamed[1] ?? blamed[2])] : [];
  return { ended: { status, dead }, interrupted };
}
