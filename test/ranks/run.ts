// Several ranks on the adapter of this machine, started by Open MPI's mpirun. The last line is `N passed, N failed`.
//
//   npm run test:ranks
//   npm run test:ranks -- --kills 10 --seed 1 --filter killed

import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { requireMpirun } from '../../cli/distributed/mpirun.ts';
import { evaluated } from './evaluated.ts';
import { local } from './local.ts';
import { lost } from './lost.ts';
import { network } from './network.ts';
import { same } from './same.ts';
import { folder } from './support.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    filter: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`npm run test:ranks -- [options]

  --kills N      how often a rank is killed at a random moment (3)
  --seed N       decides the moments and the ranks (1)
  --filter TEXT  only scenes whose name has this text`);
  process.exit(0);
}
const all = [...same, ...local, ...evaluated, ...lost(Number(values.kills), Number(values.seed)), ...network()];
const scenes = all.filter(({ name }) => name.includes(values.filter));

let passed = 0,
  failed = 0;
try {
  requireMpirun();
  for (const { name, notRun, run } of scenes) {
    if (notRun !== undefined) {
      console.log(`not run: ${name}: ${notRun}`);
      continue;
    }
    const start = performance.now();
    let problem: string | undefined;
    try {
      await run();
      passed++;
    } catch (error) {
      failed++;
      problem = error instanceof Error ? error.message : String(error);
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${problem === undefined ? ' ok ' : 'FAIL'}  ${name}  ${seconds} s`);
    if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, '      '));
  }
} finally {
  for (const { end } of all) end?.();
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
