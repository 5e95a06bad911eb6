// Runs that are killed and signalled at random moments: each goes on to the same weights, bit for bit.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HashStream } from '../../models/data/hash.ts';
import { checkpoints, start, succeed } from '../cli/support.ts';

const STEPS = 240;
const RUN = [
  ...['--data', 'shapes', '--model', 'DiS-N/4', '--image-size', '8', '--embed-dim', '16', '--depth', '2'],
  ...['--d-state', '4', '--batch', '4', '--sample-every', '0', '--checkpoint-every', '4', '--flip', '-q'],
];
/** What ends a process, asks it to end, or disturbs it; SIGSTOP is followed by SIGCONT. */
export const SIGNALS = [
  ...(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGABRT', 'SIGUSR1', 'SIGUSR2', 'SIGPIPE', 'SIGALRM', 'SIGTERM'] as const),
  ...(['SIGXCPU', 'SIGXFSZ', 'SIGSTOP'] as const),
] as const;

/** The run that nothing happens to. */
export async function wholeRun(folder: string): Promise<void> {
  await succeed(folder, 'train', ...RUN, '--steps', String(STEPS), '--out', 'whole');
}

/**
 * Sends one signal after the other, each to the run as it goes on, until all are sent; begins anew where a run is done before.
 * @returns what was wrong: weights that differ, a run that could not go on
 */
export async function signalled(folder: string, signals: readonly NodeJS.Signals[], seed: number): Promise<string[]> {
  const random = new HashStream(seed);
  const wrong: string[] = [];
  for (let sent = 0, run = 0; sent < signals.length; run++) {
    const name = `signalled-${signals[0]}-${run}`;
    for (let begun = false; ;) {
      const resume =
        begun && (await checkpoints(join(folder, name)).catch(() => [])).some((step) => step.startsWith('step-'));
      const args = resume ? ['--resume', name, '-q'] : [...RUN, '--steps', String(STEPS), '--out', name];
      const running = start(folder, 'train', ...args);
      begun = true;
      if (sent < signals.length) {
        // Somewhere in the start, a step, a checkpoint or the end.
        await Promise.race([sleep(random.below(6000)), running.done]);
        if (running.child.exitCode === null) {
          running.child.kill(signals[sent]);
          if (signals[sent] === 'SIGSTOP') {
            await sleep(500);
            running.child.kill('SIGCONT');
          }
          sent++;
        }
      }
      const { status, err } = await running.done;
      if (status === 0) break;
      if (status !== null && ![130, 131].includes(status) && !/in use by process/.test(err))
        wrong.push(`after ${sent} signals the run ended with status ${status}: ${err.trim()}`);
      if (wrong.length > 3) return wrong;
    }
    for (const part of ['model', 'ema', 'optimizer']) {
      const file = (of: string): Promise<Buffer> =>
        readFile(join(folder, of, `checkpoints/step-${String(STEPS).padStart(8, '0')}/${part}.safetensors`));
      if (!(await file(name)).equals(await file('whole'))) wrong.push(`${part} of ${name} differs`);
    }
  }
  return wrong;
}
