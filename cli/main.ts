// Runs on import: dis-cli.mjs imports it.

import { run } from './program.ts';

// Whoever reads a pipe may leave before the end, and a terminal may be closed; training goes on to its checkpoint.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  });
}

// Beyond the limit of `ulimit -f` the system ends a process, unless it listens; then the write fails, which is dealt
// with where it happens.
process.on('SIGXFSZ', () => undefined);

process.exitCode = await run(process.argv.slice(2));
