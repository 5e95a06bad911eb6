// An evaluation by rank 0, for which the others wait longer than a rank may be silent.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { CLI, folder, Job, metrics, type Scene } from './support.ts';

/** s; an evaluation on a software adapter trains a classifier and judges 10,000 pictures, which takes longer. */
const TIMEOUT = 10;

export const evaluated: readonly Scene[] = [
  {
    name: 'an evaluation that is longer than --rank-timeout ends nothing: the ranks that wait give signs of life',
    async run() {
      const run = join(folder, 'evaluated');
      const job = new Job(process.execPath, [
        ...[
          CLI,
          'train',
          '--data',
          'shapes',
          '--image-size',
          '8',
          '--model',
          'DiS-N/4',
          '--batch',
          '8',
          '--steps',
          '4',
        ],
        ...['--eval-every', '2', '--eval-samples', '500', '--sample-every', '0', '--checkpoint-every', '0'],
        ...['--gpus', '2', '--oversubscribe', '--rank-timeout', String(TIMEOUT), '--progress', 'none', '--out', run],
      ]);
      await job.until('step 2', () => metrics(run).length >= 2);
      const began = performance.now();
      await job.until('step 3', () => metrics(run).length >= 4);
      const seconds = (performance.now() - began) / 1000;
      assert.is(await job.ended, 0, job.said);
      assert.ok(seconds > TIMEOUT, `the evaluation took ${seconds} s, which shows nothing`);
      assert.not.match(job.said, /sign of life|died/);
      const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trim().split('\n');
      const found = lines.map((line) => JSON.parse(line) as { step: number; eval?: { value: number } });
      assert.equal(
        found.map(({ step, eval: each }) => [step, each !== undefined]),
        [1, 2, 2, 3, 4, 4].map((step, i) => [step, i === 2 || i === 5]),
      );
    },
  },
];
