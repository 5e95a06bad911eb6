// The command that goes on with a run of several ranks: the launcher's, or mpirun's as the user typed it, with --resume
// in place of what the run's folder knows.

import { starter } from './starter.ts';

/** The places among this machine's GPUs that ranks have, in the order of local ranks; set by the launcher. */
export const RANK_GPUS = 'DIS_RANK_GPUS';

/** Flags that a run which goes on is given again, with how many values: what isn't in its folder. */
export const AGAIN: ReadonlyMap<string, number> = new Map([
  ['--adapter', 1],
  ['--tier', 1],
  ['--oversubscribe', 0],
  ['--rank-timeout', 1],
]);

/** The arguments without, or only, the flags that are named. */
export function pick(args: readonly string[], names: ReadonlyMap<string, number>, keep: boolean): string[] {
  const out: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const name = args[i].split('=')[0];
    const values = names.get(name);
    const count = values === undefined || args[i].includes('=') ? 0 : values;
    if ((values !== undefined) === keep) out.push(...args.slice(i, i + 1 + count));
    i += count;
  }
  return out;
}

/** What ranks are started with: words before the arguments of `dis-cli`, or none where this program's name will do. */
export interface RankCommand {
  /** `mpirun … dis-cli` as it was typed; undefined where it is not known. */
  readonly before: readonly string[] | undefined;
  readonly args: readonly string[];
}

/**
 * The command by which a run goes on, said in a rank of it; undefined in a process that is none.
 *
 * @param run its folder as a person types it
 * @param args this program's arguments
 */
export function rankCommand(
  run: string,
  args: readonly string[] = process.argv.slice(2),
  env: NodeJS.ProcessEnv = process.env,
): RankCommand | undefined {
  if (!args.includes('--distributed')) return undefined;
  const again = pick(args, AGAIN, true);
  const gpus = env[RANK_GPUS];
  if (gpus !== undefined) {
    const places = gpus.split(',').map(Number);
    // Places that were shared or left over from a larger number are told by their number alone.
    const listed = places.length > 1 && new Set(places).size === places.length && places.some((at, k) => at !== k);
    return {
      before: undefined,
      args: ['train', '--resume', run, '--gpus', listed ? gpus : String(places.length), ...again],
    };
  }
  const typed = starter()?.words;
  const own = typed && typed.length - args.length;
  const known = own !== undefined && own > 0 && args.every((word, k) => typed![own + k] === word);
  const ranks = env.OMPI_COMM_WORLD_SIZE ?? '1';
  return {
    before: known ? typed!.slice(0, own) : ['mpirun', '-n', ranks, '--bind-to', 'none', 'npx', 'dis-cli'],
    args: ['train', '--distributed', '--resume', run, ...again],
  };
}
