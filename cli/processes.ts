// Which processes of this machine still run.

import { readFileSync } from 'node:fs';

/** Whether a process runs. Another user's counts as running. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/**
 * When a process began, in words that are another's for each boot and process; undefined where the system doesn't tell.
 */
export function beginning(pid: number): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    // The name in parentheses may hold anything; after it, the twentieth field is the time.
    const ticks = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1)!.trim().split(' ')[19];
    return `${boot} ${ticks}`;
  } catch {
    return undefined;
  }
}
