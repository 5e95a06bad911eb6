// Begins a rank: its own GPU, then MPI; and ends all of them where one fails.

import { describeFailure } from '../errors.ts';
import { ownGpu, RANK_GPUS } from './ownGpu.ts';
import { Ranks } from './ranks.ts';

export interface Joined {
  readonly ranks: Ranks;
  /** Says what went wrong and ends all ranks: those that wait for this one would wait for ever. */
  fail(error: unknown): never;
}

export async function joinRanks(oversubscribe: boolean): Promise<Joined> {
  const launched = process.env[RANK_GPUS] !== undefined;
  await ownGpu(oversubscribe);
  const ranks = await Ranks.join();
  // mpirun ends the others when one is gone, and says so; the launcher says more.
  process.on('SIGTERM', () => {
    if (!launched && ranks.rank === 0)
      process.stderr.write('dis-cli: Another rank is gone; go on with the same command and --resume.\n');
    process.exit(143);
  });
  return {
    ranks,
    fail(error) {
      const { message, status } = describeFailure(error);
      process.stderr.write(`dis-cli: ${ranks.ranks > 1 ? `Rank ${ranks.rank}: ` : ''}${message}\n`);
      if (process.env.DIS_DEBUG && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
      ranks.abort(status);
      process.exit(status);
    },
  };
}
