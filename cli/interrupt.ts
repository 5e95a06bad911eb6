// Ctrl-C. The first signal asks the command to come to a good end, the second ends the process at once.

import { EXIT, Interrupted } from './errors.ts';
import { say } from './progress.ts';

export interface Interrupt {
  readonly signal: AbortSignal;
  /** Gives the signals back to the system. */
  release(): void;
}

/**
 * Turns SIGINT, SIGTERM and SIGHUP (the terminal is closed) into an AbortSignal.
 * @param onFirst called at the first signal, to say what happens next
 * @param names the signals; ranks listen to SIGUSR2 instead, which mpirun passes on
 */
export function catchInterrupt(
  onFirst: () => void,
  names: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'],
): Interrupt {
  const controller = new AbortController();
  const handler = (): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort();
    onFirst();
  };
  for (const name of names) process.on(name, handler);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, handler);
    },
  };
}

/** Work that Ctrl-C ends: `work` throws the signal's reason then. @throws Interrupted, and what the work throws */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { signal, release } = catchInterrupt(() => say('Stopping.'));
  try {
    return await work(signal);
  } catch (error) {
    if (signal.aborted && (error === signal.reason || (error as Error)?.name === 'AbortError')) throw new Interrupted();
    throw error;
  } finally {
    release();
  }
}
