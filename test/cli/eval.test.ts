// `dis-cli eval`: of a run, of pictures, with stored statistics; cut short and gone on with; and what it refuses.

import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { evalRecord, evalTable, type EvalOutcome } from '../../cli/evaluate/evalTable.ts';
import { evaluate, type EvalOptions } from '../../cli/evaluate/evaluate.ts';
import { readStatistics, writeStatistics } from '../../cli/evaluate/statisticsFile.ts';
import { openDevice, type Device } from '../../core/index.ts';
import { trainRun } from '../../cli/trainRun.ts';
import { prepare } from './runSupport.ts';
import { cli } from './support.ts';

const test = suite('dis-cli eval');

let folder: string, run: string, device: Device;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dis-eval-'));
  const options = await prepare(
    folder,
    { labelDropout: 0.1, diffusionSteps: 50 },
    { steps: 4, checkpointEvery: 2, keep: 0 },
  );
  await options.folder.writeConfig(options.config);
  await trainRun(options);
  await options.folder.close();
  options.device.destroy();
  run = join(folder, 'run');
  device = await openDevice();
});

test.after(async () => {
  assert.is(device.liveTensors, 0, 'live tensors');
  device.destroy();
  await rm(folder, { recursive: true });
});

const options = (given: Partial<EvalOptions> = {}): EvalOptions => ({
  device,
  metrics: ['fd', 'kid', 'pr', 'is'],
  samples: 40,
  referenceSamples: 60,
  floor: true,
  bpdSamples: 2,
  checkpoint: 'last',
  weights: 'ema',
  sampler: 'ddim',
  eta: 0,
  steps: 2,
  guidance: 1,
  seed: 0,
  batch: 16,
  precision: 'f32',
  classifierSteps: 20,
  style: 'none',
  signal: new AbortController().signal,
  ...given,
});

async function all(
  what: string,
  against: string | undefined,
  given: Partial<EvalOptions> = {},
): Promise<EvalOutcome[]> {
  const found: EvalOutcome[] = [];
  for await (const outcome of evaluate(what, against, options(given))) found.push(outcome);
  return found;
}

const numbers = (outcomes: readonly EvalOutcome[]): unknown =>
  JSON.parse(JSON.stringify(outcomes.map((outcome) => evalRecord(outcome))));

test('a run: every measure with its network, the floor, and bits per dimension', async () => {
  const [outcome] = await all(run, undefined, { metrics: ['fd', 'kid', 'pr', 'is', 'bpd'] });
  const table = evalTable(outcome);
  for (const name of ['FD', 'KID', 'precision', 'recall', 'IS']) assert.match(table, `${name}(classifier)`);
  assert.match(table, 'step 4, ema weights, ddim 2 steps');
  assert.match(table, '40 pictures against 60 of test of shapes; floor: 40 of train of shapes against the same.');
  const [{ measures, floor }] = outcome.results;
  // Samples of a model that learnt nothing are further from the data than the data themselves.
  assert.ok(measures.fd! > 2 * floor!.measures.fd!, `${measures.fd} and ${floor!.measures.fd}`);
  assert.ok(Number.isFinite(outcome.bpd!.mean) && outcome.bpd!.error > 0, `${outcome.bpd!.mean} bits per dimension`);
  assert.is(outcome.bpd!.pictures, 2);
});

test('the same again gives the same numbers from what was kept, and another seed others', async () => {
  const first = numbers(await all(run, undefined));
  const kept = await readdir(join(run, 'eval'));
  assert.equal(numbers(await all(run, undefined)), first);
  assert.equal(await readdir(join(run, 'eval')), kept);
  assert.not.equal(numbers(await all(run, undefined, { seed: 1 })), first);
});

test('what is damaged among the kept parts is computed again', async () => {
  const first = numbers(await all(run, undefined));
  for (const name of await readdir(join(run, 'eval')))
    for (const file of await readdir(join(run, 'eval', name)))
      if (!file.endsWith('.json')) await writeFile(join(run, 'eval', name, file), 'x');
  assert.equal(numbers(await all(run, undefined)), first);
});

test('all checkpoints, or those named', async () => {
  const steps = (await all(run, undefined, { checkpoint: 'all', metrics: ['fd'] })).map(({ about }) => about.step);
  assert.equal(steps, [2, 4]);
  assert.equal((await all(run, undefined, { checkpoint: '2', metrics: ['fd'] }))[0].about.step, 2);
});

test('an evaluation that is cut short goes on where it was', async () => {
  const stop = new AbortController();
  const cache = join(folder, 'cut');
  // More pictures than a part has, so that one is kept when it ends.
  const given = {
    cache,
    samples: 510,
    referenceSamples: 510,
    batch: 128,
    metrics: ['fd'] as const,
    signal: stop.signal,
  };
  const watch = setInterval(() => {
    void readdir(cache)
      .then((names) => names.some((name) => name.startsWith('samples')) && stop.abort(new Error('enough')))
      .catch(() => undefined);
  }, 5);
  await all(run, undefined, given).then(
    () => assert.unreachable('it was not cut short'),
    (error: Error) => assert.is(error.message, 'enough'),
  );
  clearInterval(watch);
  const samples = (await readdir(cache)).find((name) => name.startsWith('samples'))!;
  const before = await stat(join(cache, samples, '0-500.u8'));
  const whole = await all(run, undefined, { ...given, signal: new AbortController().signal });
  assert.is((await stat(join(cache, samples, '0-500.u8'))).mtimeMs, before.mtimeMs);
  const elsewhere = await all(run, undefined, {
    ...given,
    cache: join(folder, 'whole'),
    signal: new AbortController().signal,
  });
  assert.equal(
    whole.map(({ results }) => results[0].measures),
    elsewhere.map(({ results }) => results[0].measures),
  );
});

test('stored statistics take the place of pictures, in both forms', async () => {
  const [outcome] = await all(run, undefined, { metrics: ['fd'] });
  const { judged } = outcome.results[0].reference;
  for (const ending of ['npz', 'safetensors']) {
    const path = join(folder, `reference.${ending}`);
    await writeStatistics(path, judged.statistics, 'FD(classifier)');
    const { statistics } = await readStatistics(path);
    assert.equal([...statistics.mean], [...judged.statistics.mean]);
    assert.equal([...statistics.covariance], [...judged.statistics.covariance]);
    const [again] = await all(run, path, { metrics: ['fd', 'kid'] });
    // Labels come evenly where the reference has none, so that the samples are others.
    assert.ok(again.results[0].measures.fd! > 0);
    assert.is(again.results[0].measures.kid, undefined);
  }
});

test('damaged statistics are refused in a sentence', async () => {
  const path = join(folder, 'reference.npz');
  const whole = await readFile(path);
  for (const [name, bytes] of [
    ['short.npz', whole.subarray(0, 100)],
    ['empty.npz', new Uint8Array()],
    ['other.safetensors', whole],
  ] as const) {
    await writeFile(join(folder, name), bytes);
    const error = await readStatistics(join(folder, name)).then(
      () => undefined,
      (reason: Error) => reason,
    );
    assert.ok(error, name);
    assert.is(error.constructor.name, 'FormatError', `${name}: ${error.message}`);
  }
});

test('two folders of pictures, whose features are kept beside them', async () => {
  const ran = await cli(
    folder,
    'sample',
    run,
    '--count',
    '3',
    '--steps',
    '2',
    '--each',
    'a',
    '--out',
    'sheet.png',
    '-q',
  );
  assert.is(ran.status, 0, ran.err);
  // Class folders, for a classifier to learn from.
  for (const name of (await readdir(join(folder, 'a'))).filter((each) => each.endsWith('.png'))) {
    const target = join(folder, 'b', name.replace(/^\d+-|\.png$/g, ''));
    await mkdir(target, { recursive: true });
    await cp(join(folder, 'a', name), join(target, name));
  }
  const evaluated = await cli(
    folder,
    ...[
      'eval',
      'a',
      'b',
      '--image-size',
      '8',
      '--classifier-steps',
      '3',
      '--samples',
      '20',
      '--out',
      'out.json',
      '--stats-out',
      'a.npz',
    ],
  );
  assert.is(evaluated.status, 0, evaluated.err);
  assert.match(evaluated.out, /FD\(classifier\) +\d/);
  assert.match(evaluated.out, '20 pictures against 30 of b; floor: halves of 15 of b');
  assert.match(evaluated.out, 'the covariance is singular');
  const [record] = JSON.parse(await readFile(join(folder, 'out.json'), 'utf8')) as { results: { name: string }[] }[];
  assert.is(record.results[0].name, 'FD(classifier)');
  assert.ok((await readdir(join(folder, 'a', '.dis-eval'))).length > 0);
});

test('training measures its samples, and keeps the checkpoint that was best', async () => {
  const place = join(folder, 'trained');
  await mkdir(place);
  const training = await prepare(
    place,
    { labelDropout: 0.1, lr: 0.1 },
    { steps: 6, checkpointEvery: 2, keep: 1, evalEvery: 2, evalSamples: 20, sampleSteps: 2 },
  );
  await trainRun(training);
  const [best, steps] = [await training.folder.best(), await training.folder.checkpoints()];
  const lines = (await readFile(training.folder.metrics, 'utf8')).trim().split('\n');
  const found = lines.map((line) => JSON.parse(line) as { step: number; eval?: { name: string; value: number } });
  const measured = found.filter((line) => line.eval);
  training.device.destroy();
  await training.folder.close();
  assert.equal(
    measured.map(({ step }) => step),
    [2, 4, 6],
  );
  assert.is(measured[0].eval!.name, 'FD(classifier)');
  const least = Math.min(...measured.map((line) => line.eval!.value));
  assert.is(best!.value, least);
  assert.is(best!.step, measured.find((line) => line.eval!.value === least)!.step);
  // The newest, and the best where it is another.
  assert.equal(
    steps.map(({ step }) => step),
    [...new Set([best!.step, 6])],
  );
});

test('what makes no sense is said in a sentence, before anything is computed', async () => {
  for (const [args, words] of [
    [['eval'], "Missing required argument 'what'"],
    [['eval', 'run', '--metrics', 'fid'], '--metrics is "fid", did you mean fd'],
    [['eval', 'run', '--network', 'inception'], '--network is "inception"'],
    [['eval', 'run', '--network', 'fid'], '--network fid needs --fid-weights'],
    [['eval', 'run', '--network', 'nsfwjs'], 'The package nsfwjs is not installed'],
    [['eval', 'run', '--samples', '1'], '--samples is "1", expected a whole number of at least 2'],
    [['eval', 'run', '--checkpoint', '3'], '--checkpoint is "3", expected last, best, all, or steps of 2, 4'],
    [['eval', 'run', '--image-size', '16'], "--image-size is 16, but the run's pictures have 8"],
    [
      ['eval', 'run', '--stats-out', 'a.txt'],
      '--stats-out is "a.txt", expected a file that ends in .npz or .safetensors',
    ],
    [['eval', 'shapes'], 'shapes is no run, so it needs a second folder'],
    [['eval', 'shapes', 'shapes'], '--image-size is missing'],
    [['eval', 'shapes', 'shapes', '--image-size', '8', '--metrics', 'bpd'], 'bits per dimension are those of a run'],
    [['eval', 'run', 'reference.npz', '--metrics', 'bpd'], 'needs pictures as reference'],
    [['eval', 'run', 'reference.npz', '--split', 'test'], '--split is given, but statistics have none'],
  ] as const) {
    const { status, err } = await cli(folder, ...args);
    assert.is(status === 2 || status === 3, true, `${args.join(' ')}: ${status}`);
    assert.match(err, words);
    assert.is(err.trim().split('\n').length, 1, err);
  }
});

test.run();
