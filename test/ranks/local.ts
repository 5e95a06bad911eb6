// Ranks that take steps by themselves and meet after some of them.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { assertSame, CLI, folder, metrics, train, type Scene } from './support.ts';

/** Runs the command line to its end. @returns what it said */
function cli(args: readonly string[], status = 0): string {
  const ended = spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8', timeout: 600_000 });
  assert.is(ended.status, status, ended.stderr);
  return ended.stderr;
}

export const local: readonly Scene[] = [
  {
    name: 'local steps: 2 ranks have the same parameters where they meet, shared memory or messages',
    run() {
      const work = { steps: 6, syncEvery: 3 };
      const ended = [...train(2, work), ...train(2, { ...work, messages: true })];
      assertSame(ended);
      for (const { losses } of ended) assert.equal(losses, ended[0].losses);
    },
  },
  {
    name: 'local steps: a run that stops where ranks meet goes on bit for bit',
    run() {
      const [whole, halves] = [join(folder, 'local-whole'), join(folder, 'local-halves')];
      const ranks = ['--gpus', '2', '--oversubscribe', '--progress', 'none'];
      const begin = (run: string, steps: number): string[] => [
        ...['train', '--data', 'shapes', '--image-size', '16', '--model', 'DiS-N/4', '--batch', '8', '--out', run],
        ...['--sync-every', '4', '--steps', String(steps), '--checkpoint-every', '8', '--sample-every', '0', ...ranks],
      ];
      cli(begin(whole, 16));
      cli(begin(halves, 8));
      cli(['train', '--resume', halves, '--steps', '16', ...ranks]);
      assert.is(metrics(whole).length, 16);
      assert.equal(metrics(halves), metrics(whole));
      const said = cli(begin(join(folder, 'local-odd'), 10), 2);
      assert.match(said, /--steps is 10, expected a multiple of --sync-every 4: between two exchanges ranks differ\./);
    },
  },
];
