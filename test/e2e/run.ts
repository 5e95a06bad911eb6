// The command line from end to end, as a user runs it: train a few steps, resume, sample, look at the picture. Each step is a
// process of its own in a fresh folder. The last line is `N passed, N failed`.
//
//   npm run test:e2e

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import * as assert from 'uvu/assert';

const CLI = fileURLToPath(new URL('../../cli/dis-cli.mjs', import.meta.url));
const TIMEOUT_MS = 240_000;

interface Ran {
  status: number | null;
  signal: string | null;
  out: string;
  err: string;
}

const folder = mkdtempSync(join(tmpdir(), 'dis-e2e-'));
const run = join(folder, 'run'),
  pictures = join(folder, 'pictures');
// The smallest run that has everything: classes, checkpoints, a sampler with guidance.
const TRAIN = [
  'train',
  '--data',
  'shapes',
  '--image-size',
  '16',
  '--model',
  'DiS-XS/2',
  '--batch',
  '4',
  '--seed',
  '3',
  '--out',
  run,
  '--checkpoint-every',
  '2',
];

function cli(...args: string[]): Ran {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
    cwd: folder,
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
  return { status, signal, out: stdout, err: stderr };
}

function succeed(...args: string[]): Ran {
  const ran = cli(...args);
  assert.is(
    ran.status,
    0,
    `dis-cli ${args.join(' ')} ended with ${ran.signal ?? `status ${ran.status}`}:\n${ran.out}${ran.err}`,
  );
  return ran;
}

const filesIn = (where: string, extension: string): string[] =>
  readdirSync(where, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => join(where, name))
    .sort();

/** The numbered records of a run's metrics. */
function steps(): { step: number; loss: number }[] {
  const lines = filesIn(run, '.jsonl').flatMap((file) => readFileSync(file, 'utf8').trim().split('\n'));
  return lines
    .map((line) => JSON.parse(line) as { step?: number; loss?: number })
    .filter(
      (record): record is { step: number; loss: number } => record.step !== undefined && record.loss !== undefined,
    );
}

const scenes: [string, () => void | Promise<void>][] = [
  [
    'doctor names the adapter',
    () => {
      assert.match(succeed('doctor').out, /adapter/i);
    },
  ],
  [
    'info counts parameters',
    () => {
      assert.match(succeed('info', '--model', 'DiS-S/2').out, /parameters/i);
    },
  ],
  [
    'train writes metrics and checkpoints',
    () => {
      succeed(...TRAIN, '--steps', '4');
      assert.equal(
        steps().map(({ step }) => step),
        [1, 2, 3, 4],
      );
      assert.ok(steps().every(({ loss }) => Number.isFinite(loss) && loss > 0));
      assert.ok(filesIn(run, '.safetensors').length > 0, 'no checkpoint');
    },
  ],
  [
    'resume goes on where the run ended',
    () => {
      succeed(...TRAIN, '--steps', '6', '--resume');
      assert.equal(
        steps().map(({ step }) => step),
        [1, 2, 3, 4, 5, 6],
      );
    },
  ],
  [
    'sample writes pictures of the right size that are not blank',
    async () => {
      succeed(
        'sample',
        run,
        '--classes',
        '0,1',
        '--count',
        '2',
        '--steps',
        '3',
        '--sampler',
        'ddim',
        '--guidance',
        '1.5',
        '--seed',
        '1',
        '--out',
        pictures,
      );
      const files = filesIn(pictures, '.png');
      assert.ok(files.length > 0, 'no PNG');
      for (const file of files) {
        const { width, height, channels } = await sharp(file).metadata();
        assert.ok(width! >= 16 && height! >= 16 && channels! >= 3, `${file}: ${width}×${height}, ${channels} channels`);
        const { channels: statistics } = await sharp(file).stats();
        assert.ok(
          statistics.some(({ stdev }) => stdev > 1),
          `${file} is blank`,
        );
      }
    },
  ],
  [
    'what is wrong is told in one sentence and a status',
    () => {
      for (const args of [
        ['train', '--no-such-flag'],
        ['train', '--data', join(folder, 'nowhere')],
        ['train', '--model', 'DiS-Q/2', '--data', 'shapes'],
        ['sample', join(folder, 'nowhere')],
        ['nonsense'],
      ]) {
        const { status, out, err } = cli(...args);
        assert.ok(status !== null && status > 0, `dis-cli ${args.join(' ')} ended with status ${status}`);
        assert.not.match(out + err, /^\s+at .*:\d+:\d+\)?$/m, `dis-cli ${args.join(' ')} shows a stack:\n${err}`);
      }
    },
  ],
];

let passed = 0,
  failed = 0;
try {
  for (const [name, scene] of scenes) {
    const start = performance.now();
    let problem: string | undefined;
    try {
      await scene();
      passed++;
    } catch (error) {
      failed++;
      problem = error instanceof Error ? error.message : String(error);
    }
    console.log(
      `${problem === undefined ? ' ok ' : 'FAIL'}  ${name}  ${((performance.now() - start) / 1000).toFixed(1)} s`,
    );
    if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, '      '));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
