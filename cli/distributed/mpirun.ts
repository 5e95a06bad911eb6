// The command line of Open MPI's mpirun for ranks on this machine.

import { spawnSync } from 'node:child_process';
import { MpiError } from './mpi.ts';
import { RANK_GPUS } from './rankCommand.ts';

/** How ranks on this machine are started: the command and what it needs in its environment. */
export function mpirun(
  gpus: readonly number[],
  command: readonly string[],
): { args: string[]; env: NodeJS.ProcessEnv } {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    [RANK_GPUS]: gpus.join(','),
    // mpirun refuses root unless it is told twice.
    ...(process.getuid?.() === 0 && { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' }),
  };
  const args = [
    ...['-n', String(gpus.length), '--oversubscribe'],
    // By itself it binds a rank to one core, and all its worker threads with it.
    ...['--bind-to', 'none'],
    // What UCX and others do for networks isn't needed between ranks of one machine.
    ...['--mca', 'pml', 'ob1', '--mca', 'btl', 'self,vader'],
    ...command,
  ];
  return { args, env };
}

/** @throws MpiError where there is no mpirun, with what to install */
export function requireMpirun(): void {
  if (spawnSync('mpirun', ['--version']).status === 0) return;
  const how = process.platform === 'darwin' ? '`brew install open-mpi`' : '`apt-get install openmpi-bin`';
  throw new MpiError(`Several GPUs need Open MPI's mpirun, which was not found; install it, for example with ${how}.`);
}
