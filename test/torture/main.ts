// `npm run test:torture`: kills, signals and damaged files, many of them. docs/reliability.md says what came of it.
//
//   npm run test:torture -- --kills 100 --mutations 1000 --seed 1 [--signals 3]
//
// The last line is `N passed, N failed`.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { mutateFiles } from './files.ts';
import { SIGNALS, signalled, wholeRun } from './signals.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    mutations: { type: 'string', default: '1000' },
    signals: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(
    [
      'npm run test:torture -- [options]; 0 leaves a part out',
      '  --kills N      SIGKILLs, default 100',
      '  --signals N    how often each other signal is sent, default 3',
      '  --mutations N  damaged copies of each kind of file, default 1000',
      '  --seed N       other moments and other damage, default 1',
    ].join('\n'),
  );
  process.exit(0);
}
const [kills, mutations, rounds, seed] = [values.kills, values.mutations, values.signals, values.seed].map(Number);

let passed = 0,
  failed = 0;

function report(name: string, wrong: readonly string[]): void {
  if (wrong.length === 0) passed++;
  else failed++;
  console.log(`${wrong.length === 0 ? ' ok ' : 'FAIL'}  ${name}`);
  for (const line of wrong.slice(0, 10)) console.log(`      ${line}`);
}

const folder = await mkdtemp(join(tmpdir(), 'torture-'));
try {
  await wholeRun(folder);
  if (kills > 0)
    report(
      `${kills} kills, each gone on from, give the same weights`,
      await signalled(folder, new Array<NodeJS.Signals>(kills).fill('SIGKILL'), seed),
    );
  const signals = Array.from({ length: rounds }, () => SIGNALS).flat();
  if (signals.length > 0)
    report(`${rounds} times ${SIGNALS.join(', ')} give the same weights`, await signalled(folder, signals, seed + 1));
  if (mutations > 0)
    for await (const { kind, accepted, refused, wrong, slowest } of mutateFiles(join(folder, 'whole'), mutations, seed))
      report(
        `${kind}: ${mutations} mutations, ${refused} refused, ${accepted} read, the slowest in ${slowest.toFixed(2)} s`,
        wrong,
      );
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
