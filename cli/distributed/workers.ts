// Work in parts that is divided among processes, one for each GPU. Each is the same command again: it does its share of
// the parts into files and tells how far it is. The parts don't depend on each other, so no MPI is needed.

import { spawn, type ChildProcess } from 'node:child_process';
import { WorkerError } from '../errors.ts';
import { chooseGpus, listGpus } from './gpus.ts';
import { commandOnGpu } from './ownGpu.ts';

/** Set in a worker: its place and the number of workers, `1/4`. */
const WORKER = 'DIS_WORKER';

/** The share of one of `count` workers. */
export interface Share {
  readonly index: number;
  readonly count: number;
}

/** Whether a part is in a share; without a share, all are. */
export const isMine = (part: number, share: Share | undefined): boolean =>
  share === undefined || part % share.count === share.index;

/** What this process is as a worker. */
export interface Worker extends Share {
  /** Tells the launcher how much of its share this worker has done. */
  report(done: number): void;
}

/** This process as a worker; undefined where a person started it. */
export function thisWorker(): Worker | undefined {
  const found = /^(\d+)\/(\d+)$/.exec(process.env[WORKER] ?? '');
  if (!found || process.send === undefined) return undefined;
  return {
    index: Number(found[1]),
    count: Number(found[2]),
    report: (done) => {
      // The launcher may be gone: then this process is about to end.
      if (process.connected) process.send!({ done }, undefined, undefined, () => undefined);
    },
  };
}

/** Lets a worker end when its launcher does. Does nothing in another process. */
export function endWithLauncher(): void {
  if (!thisWorker()) return;
  process.once('disconnect', () => process.exit(143));
  // By itself the listener would keep this process from ending when its work is done.
  process.channel?.unref();
}

export interface GpuOptions {
  /** A number of GPUs, or their places. */
  readonly gpus?: number | readonly number[];
  /** Several workers may share a GPU, or an adapter that is none. */
  readonly oversubscribe?: boolean;
}

export interface WorkersOptions extends GpuOptions {
  readonly gpus: number | readonly number[];
  /** There are no more workers than parts. */
  readonly parts: number;
  readonly signal: AbortSignal;
  /** Called with the number of workers, before they start. */
  readonly onBegin?: (workers: number) => void;
  /** Called with what all workers have done. */
  readonly onProgress: (done: number) => void;
}

/** Of what a worker says, the end is kept. */
const KEPT = 4096;

/**
 * Runs this command in workers until all have done their share.
 *
 * @throws UsageError where there are not as many GPUs; MpiError where no process can have one for itself; WorkerError
 *   where a worker fails; what the signal was aborted with
 */
export async function runWorkers(options: WorkersOptions): Promise<void> {
  const { oversubscribe = false, parts, signal, onProgress } = options;
  const gpus = await listGpus();
  const places = chooseGpus(options.gpus, gpus, oversubscribe).slice(0, parts);
  const done = places.map(() => 0);
  const children: ChildProcess[] = [];
  const stop = (): void => children.forEach((child) => child.kill('SIGTERM'));
  const own = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  let failure: unknown;
  options.onBegin?.(places.length);
  signal.throwIfAborted();
  signal.addEventListener('abort', stop);
  try {
    const ends = places.map((place, index) => {
      const { command, env } = commandOnGpu(own, gpus, gpus.at(place));
      const child = spawn(command[0], command.slice(1), {
        env: { ...env, [WORKER]: `${index}/${places.length}` },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
        // In a session of its own: Ctrl-C reaches the launcher alone, which passes it on.
        detached: true,
      });
      children.push(child);
      child.on('message', (message: { done: number }) => {
        done[index] = message.done;
        onProgress(done.reduce((a, b) => a + b, 0));
      });
      const where = gpus.length > 0 ? `GPU ${place}` : 'the adapter';
      return ended(child, `Worker ${index + 1} of ${places.length} on ${where}`).catch((error: unknown) => {
        failure ??= error;
        // The others keep the parts that they have written.
        stop();
      });
    });
    await Promise.all(ends);
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
  signal.throwIfAborted();
  if (failure !== undefined) throw failure as Error;
}

/** Waits for a worker. @throws WorkerError where it fails */
async function ended(child: ChildProcess, name: string): Promise<void> {
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-KEPT)));
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...end) => resolve(end));
  });
  if (status === 0) return;
  const reason = /^dis-cli: (.*)$/m.exec(said)?.[1];
  throw new WorkerError(
    `${name} ${reason === undefined ? `ended with ${signal ?? `status ${status}`};` : `failed: ${reason}`} ` +
      `${reason === undefined ? 'the' : 'The'} same command goes on with what is there.`,
  );
}
