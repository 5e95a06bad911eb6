// Gives a rank its own GPU: in a private mount namespace the device files of the others are covered, so that the driver
// finds one card. The process replaces itself by one in such a namespace; its number stays, and so does its parent.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chooseGpus, listGpus, type Gpu } from './gpus.ts';
import { MpiError } from './mpi.ts';
import { RANK_GPUS } from './rankCommand.ts';

/** Set in a process that has its GPU: the address, or `shared`. */
const OWN = 'DIS_RANK_GPU';

/** Worker threads that copy memory; the default of four leaves bandwidth unused. */
const THREADS = '16';

const COVER = 'for f in $DIS_HIDDEN; do mount --bind /dev/null "$f" || exit 97; done; unset DIS_HIDDEN; exec "$@"';

/** How this user may have a mount namespace, or null. */
function namespaceCommand(): string[] | null {
  const ways = process.getuid?.() === 0 ? [['unshare', '-m']] : [['unshare', '-rm']];
  return (
    ways.find(
      ([command, ...flags]) => spawnSync(command, [...flags, 'mount', '--bind', '/dev/null', '/dev/null']).status === 0,
    ) ?? null
  );
}

/**
 * Returns in a process that sees only the GPU of its rank. Call it before MPI and WebGPU are touched.
 *
 * @returns the GPU's address, or `shared` where ranks share an adapter
 * @throws MpiError where this machine allows no private view of its devices
 */
export async function ownGpu(oversubscribe: boolean): Promise<string> {
  const own = process.env[OWN];
  if (own !== undefined) return own;
  const gpus = await listGpus();
  const local = Number(process.env.OMPI_COMM_WORLD_LOCAL_RANK ?? process.env.MPI_LOCALRANKID ?? 0);
  const size = Number(process.env.OMPI_COMM_WORLD_LOCAL_SIZE ?? process.env.MPI_LOCALNRANKS ?? 1);
  const places = process.env[RANK_GPUS]?.split(',').map(Number) ?? chooseGpus(size, gpus, oversubscribe);
  const gpu = gpus.at(places[local]);
  process.env[OWN] = gpus.length > 0 && gpu ? gpu.address : 'shared';
  process.env.UV_THREADPOOL_SIZE ??= THREADS;
  await replace(commandOnGpu([process.execPath, ...process.execArgv, ...process.argv.slice(1)], gpus, gpu));
  throw new MpiError('This process could not replace itself; start every rank with UV_THREADPOOL_SIZE=16.');
}

/**
 * A command in which a process sees one GPU alone: itself, where there are no others.
 *
 * @param gpu undefined where none can be told apart
 * @throws MpiError where this machine allows no private view of its devices
 */
export function commandOnGpu(
  command: readonly string[],
  gpus: readonly Gpu[],
  gpu: Gpu | undefined,
): { readonly command: readonly string[]; readonly env: NodeJS.ProcessEnv } {
  const others = gpu ? gpus.filter((each) => each !== gpu) : [];
  const files = others.flatMap((each) => each.files.filter((file) => existsSync(file)));
  if (files.length === 0) return { command, env: process.env };
  const namespace = namespaceCommand();
  if (!namespace)
    throw new MpiError(
      'This machine lets no process hide a GPU from itself, which is how ranks get a GPU each; run as root, allow user namespaces ' +
        '(sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0), or start each rank ' +
        'in a container with one GPU.',
    );
  return {
    command: [...namespace, 'sh', '-c', COVER, 'rank', ...command],
    env: { ...process.env, DIS_HIDDEN: files.join(' ') },
  };
}

/** Becomes this command. */
async function replace({ command, env }: ReturnType<typeof commandOnGpu>): Promise<void> {
  Object.assign(process.env, env);
  const { default: koffi } = await import('koffi');
  const libc = koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
  // Node closes its streams to what it becomes.
  const fcntl = libc.func('int fcntl(int fd, int command, ...)');
  const F_SETFD = 2;
  for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 'int', 0);
  libc.func('int execvp(const char*, const char**)')(command[0], [...command, null]);
}
