// Ranks that are killed or stopped: under the launcher the run goes on by itself, under a user's mpirun by the command
// that is said.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import {
  assertNear,
  CLI,
  flags,
  folder,
  Job,
  metrics,
  saidCommand,
  seeded,
  STEPS,
  undisturbed,
  type Scene,
} from './support.ts';

/** Kills that one run gets at most: the first finds four ranks, the second two, the third one. */
const A_RUN = 3;

/** Kills ranks of one run at moments that `random` decides. */
async function killed(run: string, kills: number, random: () => number): Promise<void> {
  const launcher = new Job(process.execPath, [CLI, ...flags(run), '--gpus', '4', '--oversubscribe']);
  const steps = Array.from({ length: kills }, () => Math.floor(random() * (STEPS - 1))).sort((a, b) => a - b);
  for (const [k, step] of steps.entries()) {
    // Step 0 is any moment before the first step: while MPI begins, while kernels compile.
    await launcher.until(`step ${step}`, () => metrics(run).length >= step && launcher.ranks().size > 0);
    await sleep(random() * (step === 0 ? 3000 : 300));
    const ranks = [...launcher.ranks().keys()];
    const rank = ranks[Math.floor(random() * ranks.length)];
    await launcher.hit(rank, 'SIGKILL');
    await launcher.until(`restart ${k + 1}`, () => launcher.said.includes(`(restart ${k + 1} of 3)`));
    console.log(`      killed rank ${rank} of ${ranks.length} after step ${step}`);
  }
  assert.is(await launcher.ended, 0, launcher.said);
  assert.is(launcher.said.match(/died; going on from/g)?.length, kills, launcher.said);
  assertNear(metrics(run), await undisturbed());
}

export function lost(kills: number, seed: number): readonly Scene[] {
  return [
    {
      name: `${kills} times a rank is killed at a random moment: the run goes on, with the losses of one that was left alone`,
      async run() {
        const random = seeded(seed);
        for (let done = 0; done < kills; done += A_RUN)
          await killed(join(folder, `killed-${done}`), Math.min(A_RUN, kills - done), random);
      },
    },
    {
      name: 'a rank that is stopped is noticed by its silence, and the run goes on without it',
      async run() {
        const run = join(folder, 'silent');
        const args = [...flags(run), '--gpus', '2', '--oversubscribe', '--rank-timeout', '8'];
        const launcher = new Job(process.execPath, [CLI, ...args]);
        await launcher.until('step 15', () => metrics(run).length >= 15);
        await launcher.hit(1, 'SIGSTOP');
        assert.is(await launcher.ended, 0, launcher.said);
        assert.match(launcher.said, /Rank 1 on \S+ has given no sign of life for 8 s \(--rank-timeout\): it hangs, or/);
        assert.match(launcher.said, /Rank 1 died; going on from step [1-3]0 with 1 of 2 ranks \(restart 1 of 3\)/);
        assertNear(metrics(run), await undisturbed());
      },
    },
    {
      name: "under one's own mpirun a lost rank ends the job with the command to go on with, and that command goes on",
      async run() {
        const run = join(folder, 'own');
        const own = ['--oversubscribe', '--allow-run-as-root', '--bind-to', 'none', '-n', '2'];
        const args = [...flags(run), '--distributed', '--oversubscribe', '--rank-timeout', '8'];
        const first = new Job('mpirun', [...own, process.execPath, CLI, ...args]);
        await first.until('step 12', () => metrics(run).length >= 12);
        await first.hit(0, 'SIGKILL');
        assert.is.not(await first.ended, 0);
        const command = saidCommand(first.said);
        assert.match(first.said, /A rank is gone, or mpirun was told to end\. Step 10 is in a checkpoint; go on with/);
        const second = new Job('sh', ['-c', `exec ${command} --steps ${STEPS}`]);
        await second.until('step 22', () => metrics(run).length >= 22);
        await second.hit(1, 'SIGSTOP');
        assert.is.not(await second.ended, 0);
        assert.match(second.said, /Rank 1 on \S+ has given no sign of life for 8 s .* is in a checkpoint; go on with/);
        assert.is(saidCommand(second.said), command);
        const third = new Job('sh', ['-c', `exec ${command}`]);
        assert.is(await third.ended, 0, third.said);
        assertNear(metrics(run), await undisturbed());
      },
    },
  ];
}
