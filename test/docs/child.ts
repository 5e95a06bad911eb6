// A program that a test of the documents runs, with what it printed.

import { spawn, type SpawnOptions } from 'node:child_process';

export interface Outcome {
  /** Null where it did not end within the limit. */
  readonly status: number | null;
  readonly output: string;
}

/** @param limit milliseconds after which it is killed */
export function runChild(
  [command, ...args]: readonly [string, ...string[]],
  limit: number,
  options: Pick<SpawnOptions, 'cwd' | 'env'>,
): Promise<Outcome> {
  return new Promise((done, fail) => {
    const child = spawn(command, args, {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: limit,
      killSignal: 'SIGKILL',
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    child.on('error', fail);
    child.on('close', (status) => done({ status, output }));
  });
}
