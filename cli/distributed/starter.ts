// The process of Open MPI that started this rank: mpirun, or its daemon on another machine.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

export interface Starter {
  readonly pid: number;
  readonly name: string;
  /** Its command line; undefined for a daemon, which says nothing of what the user typed. */
  readonly words: readonly string[] | undefined;
}

/** What started this process; undefined where the system doesn't tell. */
export function starter(): Starter | undefined {
  let pid = process.ppid;
  // Between mpirun and this process are npx, a shell, a script of the user's.
  for (let depth = 0; depth < 8 && pid > 1; depth++) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
      const name = basename(words[0] ?? '');
      if (/^(mpirun|mpiexec|orterun|prterun)$/.test(name)) return { pid, name, words };
      if (/^(orted|prted)$/.test(name)) return { pid, name, words: undefined };
      // The name in parentheses may hold anything; after it come the state and the parent.
      pid = Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1)!.trim().split(' ')[1]);
    } catch {
      return undefined;
    }
  }
  return undefined;
}

/** How long mpirun gets to end when a rank has aborted, seconds. */
const GRACE = 8;

/**
 * Ends mpirun or its daemon where it doesn't end by itself: when the network is cut, it waits for what the other machine
 * says, for as long as TCP tries. The second SIGTERM ends it without waiting.
 */
export function endStarter(): void {
  const found = starter();
  if (!found) return;
  const { pid, name } = found;
  const again = `[ "$(ps -o comm= -p ${pid})" = ${name} ] || exit 0; kill`;
  const script = `sleep ${GRACE}; ${again} -TERM ${pid}; sleep 1; ${again} -TERM ${pid}; sleep 2; ${again} -KILL ${pid}`;
  spawn('sh', ['-c', script], { detached: true, stdio: 'ignore' }).unref();
}
