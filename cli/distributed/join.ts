// Begins a rank: its own GPU, then MPI; and ends all of them where one fails, is silent or gone, with one sentence.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describeFailure } from '../errors.ts';
import { resumeCommand } from '../invocation.ts';
import { printable } from '../printable.ts';
import { RankLostError } from './mpi.ts';
import { ownGpu } from './ownGpu.ts';
import { RANK_GPUS } from './rankCommand.ts';
import { Ranks } from './ranks.ts';
import { reportLost } from './report.ts';
import { endStarter } from './starter.ts';

export interface JoinOptions {
  readonly oversubscribe?: boolean;
  /** How long another rank may give no sign of life, seconds. */
  readonly rankTimeout: number;
}

/** Where a run lies, as rank 0 names it. */
export interface RunPlace {
  readonly path: string;
  readonly shown: string;
}

export interface Joined {
  readonly ranks: Ranks;
  /** From now on what is said of an end names this run. */
  began(run: RunPlace): void;
  /** Says what went wrong and ends all ranks: those that wait for this one would wait for ever. */
  fail(error: unknown): never;
}

/** ms in which MPI ends all ranks, and this process with them, before it ends itself. */
const PATIENCE = 5000;
/** ms in which the rank that speaks for all has ended them. */
const OTHERS_SPEAK = 3000;

export async function joinRanks({ oversubscribe = false, rankTimeout }: JoinOptions): Promise<Joined> {
  const launched = process.env[RANK_GPUS] !== undefined;
  await ownGpu(oversubscribe);
  const ranks = await Ranks.join({ seconds: rankTimeout });
  let run: RunPlace | undefined;
  // The launcher itself says how to go on, or does.
  const goOn = (): string => (launched ? '' : ` ${howToGoOn(run)}`);
  const end = (message: string, status: number): never => {
    process.stderr.write(`dis-cli: ${printable(message)}\n`);
    ranks.speak();
    ranks.abort(status);
    // MPI ends this process; where it cannot, because the network is gone, nobody else does.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PATIENCE);
    process.exit(status);
  };
  const fail = (error: unknown): never => {
    const { message, status } = describeFailure(error);
    if (process.env.DIS_DEBUG && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    if (error instanceof RankLostError) return end(`${message}${goOn()}`, status);
    // Rank 0 has written what it could, and said so.
    const prefix = ranks.ranks > 1 ? `Rank ${ranks.rank}: ` : '';
    return end(`${prefix}${message}${run && ranks.rank > 0 ? goOn() : ''}`, status);
  };
  ranks.watch((error, silent) => {
    reportLost(silent);
    // All notice at about the same time, and one sentence is enough.
    endStarter();
    const first = ranks.speaker((rank) => !silent.includes(rank));
    setTimeout(() => fail(error), first ? 0 : OTHERS_SPEAK);
  });
  // mpirun ends the others when one is gone, or when it is told to end.
  process.on('SIGTERM', () => {
    if (!launched && !ranks.spoken && ranks.speaker((rank) => ranks.seemsAlive(rank)))
      process.stderr.write(`dis-cli: ${printable(`A rank is gone, or mpirun was told to end.${goOn()}`)}\n`);
    process.exit(143);
  });
  return { ranks, began: (place) => (run = place), fail };
}

/** A sentence; read at once, as mpirun soon ends this process by force. */
function howToGoOn(run: RunPlace | undefined): string {
  if (!run) return 'No run was begun; give the same command again.';
  let last: string | undefined;
  try {
    const names = readdirSync(join(run.path, 'checkpoints')).filter((name) => /^step-\d{8,}$/.test(name));
    last = names.sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).at(-1);
  } catch {
    // Another machine may not see the run's folder.
    return `Go on from the last checkpoint with ${resumeCommand(run)}`;
  }
  if (last === undefined) return 'No checkpoint was written yet; give the same command again.';
  return `Step ${Number(last.slice(5))} is in a checkpoint; go on with ${resumeCommand(run)}`;
}
