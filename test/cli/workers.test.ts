// Samples that several processes draw: the same as those of one, whatever ends a process.

import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { trainRun } from '../../cli/trainRun.ts';
import { prepare } from './runSupport.ts';
import { refuse, start, succeed, until, type Running } from './support.ts';

const test = suite('several processes that sample');

let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dis-workers-'));
  const options = await prepare(folder, { diffusionSteps: 50, lr: 1e-2 }, { steps: 4, checkpointEvery: 2, keep: 0 });
  await options.folder.writeConfig(options.config);
  await trainRun(options);
  await options.folder.close();
  options.device.destroy();
});

test.after(async () => {
  await rm(folder, { recursive: true });
});

/** The files below a folder, by name. */
async function contents(path: string): Promise<Record<string, Buffer>> {
  const names = (await readdir(path, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const files = names.map(async ({ parentPath, name }) => {
    const file = join(parentPath, name);
    return [file.slice(path.length), await readFile(file)] as const;
  });
  return Object.fromEntries((await Promise.all(files)).sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function assertSame(path: string, expected: string): Promise<void> {
  const [found, wanted] = [await contents(path), await contents(expected)];
  assert.equal(Object.keys(found), Object.keys(wanted));
  for (const [name, data] of Object.entries(wanted)) assert.ok(data.equals(found[name]), `${name} differs`);
}

const WORKERS = ['--gpus', '2', '--oversubscribe'];
const sampling = (out: string, steps: number, ...more: string[]): string[] => [
  ...['sample', 'run', '--weights', 'model', '--count', '90', '--batch', '4', '--steps', String(steps)],
  ...['--folder', out, ...more],
];

/** The processes of workers that a launcher has started. */
function workersOf({ child }: Running): number[] {
  try {
    const found = execFileSync('pgrep', ['-P', String(child.pid), '-f', 'dis-cli'], { encoding: 'utf8' });
    return found.split('\n').map(Number).filter(Boolean);
  } catch {
    return []; // pgrep fails where it finds none
  }
}

const pictures = async (out: string): Promise<number> =>
  (await readdir(join(folder, out, '00000')).catch(() => [])).filter((name) => /^img.*png$/.test(name)).length;

test('sample: two processes draw the pictures of one, and more processes than groups are none', async () => {
  await succeed(folder, ...sampling('one', 3));
  const ran = await succeed(folder, ...sampling('two', 3, ...WORKERS));
  assert.match(ran.err, /90 images in two on shared adapters, by 2 processes/);
  assert.match(ran.err, /image 90\/90/);
  await assertSame(join(folder, 'two'), join(folder, 'one'));
  const few = [
    'sample',
    'run',
    '--weights',
    'model',
    '--count',
    '5',
    '--batch',
    '4',
    '--steps',
    '3',
    '--folder',
    'few',
  ];
  assert.match((await succeed(folder, ...few, '--gpus', '3', '--oversubscribe')).err, /by 2 processes/);
  const name = join('00000', 'img00000004.png');
  assert.equal(await readFile(join(folder, 'few', name)), await readFile(join(folder, 'one', name)));
});

test('sample: a process that is killed, and Ctrl-C, end all with a sentence; the same command goes on', async () => {
  await succeed(folder, ...sampling('whole', 50));
  const killed = start(folder, ...sampling('parts', 50, ...WORKERS));
  await until(killed, async () => workersOf(killed).length === 2 && (await pictures('parts')) > 0);
  const [, worker] = workersOf(killed);
  process.kill(worker, 'SIGKILL');
  const first = await killed.done;
  assert.is(first.status, 5, first.err);
  assert.match(
    first.err,
    /^dis-cli: Worker [12] of 2 on \S+ \S+ ended with SIGKILL; the same command goes on with what is there\.$/m,
  );
  const before = await pictures('parts');
  assert.ok(before < 90, 'all was there');
  const stopped = start(folder, ...sampling('parts', 50, ...WORKERS));
  await until(stopped, async () => workersOf(stopped).length === 2 && (await pictures('parts')) > before);
  const workers = workersOf(stopped);
  stopped.child.kill('SIGINT');
  const second = await stopped.done;
  assert.is(second.status, 130, second.err);
  assert.match(second.err, /Stopping; the same command goes on with what is there\./);
  for (const pid of workers) assert.throws(() => process.kill(pid, 0), /ESRCH/);
  const third = await succeed(folder, ...sampling('parts', 50, ...WORKERS));
  assert.match(third.err, /of the images are there already\./);
  await assertSame(join(folder, 'parts'), join(folder, 'whole'));
});

test('eval: two processes draw the samples of all checkpoints, and the numbers are those of one', async () => {
  const judged = (name: string, ...more: string[]): string[] => [
    ...['eval', 'run', '--samples', '1010', '--reference-samples', '600', '--batch', '250', '--steps', '2'],
    ...['--weights', 'model', '--metrics', 'fd', '--classifier-steps', '20', '--checkpoint', 'all'],
    ...['--no-floor', '--cache', name, '--out', `${name}.json`, ...more],
  ];
  await succeed(folder, ...judged('alone'));
  const ran = await succeed(folder, ...judged('shared', ...WORKERS));
  assert.match(ran.err, /sample 2,020\/2,020/);
  await assertSame(join(folder, 'shared'), join(folder, 'alone'));
  assert.equal(await readFile(join(folder, 'shared.json')), await readFile(join(folder, 'alone.json')));
  // What is there needs no processes.
  assert.not.match((await succeed(folder, ...judged('shared', ...WORKERS))).err, /sample /);
});

test('flags that make no sense are refused', async () => {
  assert.match(
    await refuse(folder, 2, 'sample', 'run', '--gpus', '2'),
    /--gpus divides a set of samples; give --folder/,
  );
  assert.match(await refuse(folder, 2, 'sample', 'run', '--oversubscribe'), /--oversubscribe belongs to --gpus/);
  assert.match(await refuse(folder, 2, 'eval', 'run', '--oversubscribe'), /--oversubscribe belongs to --gpus/);
  assert.match(await refuse(folder, 2, 'sample', 'run', '--gpus', '0'), /--gpus is "0", expected a whole number of at/);
  assert.match(
    await refuse(folder, 2, 'eval', 'shapes', 'shapes', '--image-size', '8', '--gpus', '2'),
    /--gpus divides the samples of a run, and these are pictures/,
  );
});

test.run();
