// Files of a run that somebody else wrote: every field through wrong types, extremes and nothing. Each ends in a sentence that names
// the file and the field, or in a run that computes.

import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readCheckpoint, readRunConfig } from '../../cli/checkpoint.ts';
import { openData } from '../../cli/data/openData.ts';
import { TrainingError } from '../../cli/errors.ts';
import { openRun } from '../../cli/runFolder.ts';
import { readSafetensorsFile } from '../../cli/safetensorsFile.ts';
import { trainRun } from '../../cli/trainRun.ts';
import { EngineError, FormatError } from '../../core/errors.ts';
import { openDevice } from '../../core/index.ts';
import { writeSafetensors, type SafetensorsEntry } from '../../nn/index.ts';
import { checkpoints, cli, metrics, refuse, succeed, withFolder } from './support.ts';

const test = suite('files of somebody else');

const TINY = (
  'train --data shapes --model DiS-N/4 --image-size 8 --embed-dim 16 --depth 2 --d-state 4 --batch 2 --diffusion-steps 20 ' +
  '--timestep-sampler loss-second-moment --schedule cosine --schedule-steps 9 --sample-every 0 --out run -q'
).split(' ');

const MISSING = Symbol('missing');
/** Stands for a number that JSON can say and a double cannot hold. */
const INFINITE = '@infinite';
const VALUES: readonly unknown[] = ['x', true, null, [], {}, -1, 0, 0.5, 1, 2 ** 31, 1e308, -1e308, INFINITE, MISSING];

type Json = Record<string, unknown>;

/** All fields of a value, the inner ones too; of a list the first three. */
function* fields(value: unknown, path: readonly string[] = []): Generator<readonly string[]> {
  if (path.length > 0) yield path;
  if (typeof value !== 'object' || value === null) return;
  const keys = Object.keys(value);
  for (const key of Array.isArray(value) ? keys.slice(0, 3) : keys) yield* fields((value as Json)[key], [...path, key]);
}

/** A copy in which one field is another. */
function changed(value: Json, path: readonly string[], to: unknown): string {
  const copy = JSON.parse(JSON.stringify(value)) as Json;
  const last = path[path.length - 1];
  const parent = path.slice(0, -1).reduce<Json>((at, key) => at[key] as Json, copy);
  if (to !== MISSING) parent[last] = to;
  else if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return JSON.stringify(copy).replaceAll(`"${INFINITE}"`, '1e999');
}

if (!process.env.ZZ)
  test('every field of config.json, state.json and tuning.json, changed in every way', () =>
    withFolder(async (folder) => {
      await succeed(folder, ...TINY, '--steps', '2');
      process.env.DIS_CACHE_DIR = join(folder, 'cache');
      const run = join(folder, 'run');
      const step = join(run, 'checkpoints', 'step-00000002');
      // A software adapter's has no entries.
      const tuning = JSON.parse(await readFile(join(run, 'tuning.json'), 'utf8')) as Json;
      tuning.entries = { 'gemm a': { form: 'tile', rows: 8, unit: [1, 2], layout: { x: 1 } }, 'gemm b': null };
      await writeFile(join(run, 'tuning.json'), JSON.stringify(tuning));
      const data = await openData('shapes', { size: 8 });
      const device = await openDevice();
      const counts = { refused: 0, right: 0, failed: 0 };
      try {
        for (const [name, file] of [
          ['config.json', join(step, 'config.json')],
          ['state.json', join(step, 'state.json')],
          ['tuning.json', join(run, 'tuning.json')],
        ] as const) {
          const original = await readFile(file, 'utf8');
          const value = JSON.parse(original) as Json;
          for (const path of fields(value)) {
            for (const to of VALUES) {
              const told = `${name}: ${path.join('.')} = ${String(to === MISSING ? 'missing' : JSON.stringify(to))}`;
              const text = changed(value, path, to);
              if (text === JSON.stringify(value)) continue;
              await writeFile(file, text);
              try {
                await resume(run, step, data, device);
                counts.right++;
              } catch (error) {
                if (error instanceof FormatError) {
                  assert.ok(
                    error.message.includes(name) || error.message.includes('.safetensors holds the weights of another'),
                    `${told}: ${error.message}`,
                  );
                  assert.ok(error.message.length < 600, told);
                  counts.refused++;
                } else {
                  assert.ok(
                    (error instanceof EngineError && error.constructor !== EngineError) ||
                      error instanceof TrainingError,
                    `${told}: ${(error as Error).stack}`,
                  );
                  counts.failed++;
                }
              }
            }
          }
          await writeFile(file, original);
        }
      } finally {
        device.destroy();
      }
      assert.ok(counts.refused > 600 && counts.right > 60, JSON.stringify(counts));
    }));

/** Goes on with a run for one step, with what the files of its checkpoint say. */
async function resume(
  run: string,
  step: string,
  data: Awaited<ReturnType<typeof openData>>,
  device: Awaited<ReturnType<typeof openDevice>>,
): Promise<void> {
  const config = await readRunConfig(step);
  const checkpoint = { step: 2, path: step };
  await readCheckpoint(checkpoint, config);
  const copy = `${run}-copy`;
  await cp(run, copy, { recursive: true });
  const folder = await openRun(copy);
  try {
    await trainRun({
      device,
      folder,
      config: { ...config, plan: { ...config.plan, steps: 3 } },
      data,
      resume: { step: 2, path: join(copy, 'checkpoints', 'step-00000002') },
      style: 'none',
    });
  } finally {
    await folder.close();
  }
}

test('weights of another model, weights that are not finite, and files that are cut are named before anything is made', () =>
  withFolder(async (folder) => {
    await succeed(folder, ...TINY, '--steps', '1');
    const step = join(folder, 'run', 'checkpoints', 'step-00000001');
    for (const [part, flags] of [
      ['ema', []],
      ['model', ['--weights', 'model']],
    ] as const) {
      const path = join(step, `${part}.safetensors`);
      const original = await readFile(path);
      const tensors = await readSafetensorsFile(path);
      const write = (entries: Iterable<readonly [string, SafetensorsEntry]>): Promise<void> =>
        writeFile(path, writeSafetensors([...entries]));
      const sample = (): Promise<string> => refuse(folder, 3, 'sample', 'run', ...flags);
      const cases: [Map<string, SafetensorsEntry>, RegExp][] = [
        [
          new Map([...tensors].filter(([name]) => name !== 'norm_f.weight')),
          /of another model: it has no norm_f\.weight/,
        ],
        [new Map([...tensors, ['more', tensors.get('norm_f.weight')!]]), /of another model: it also has more/],
        [
          new Map([...tensors, ['norm_f.weight', { dtype: 'F32', shape: [3], data: new Float32Array(3) }]]),
          /of another model: norm_f\.weight has shape \(3,?\), expected \(16,?\)/,
        ],
      ];
      for (const value of [NaN, Infinity]) {
        const { shape } = tensors.get('norm_f.weight')!;
        const data = new Float32Array(16).fill(1).fill(value, 7, 8);
        cases.push([
          new Map([...tensors, ['norm_f.weight', { dtype: 'F32', shape, data }]]),
          /holds numbers that are not finite, in norm_f\.weight; the run had diverged; use an earlier checkpoint/,
        ]);
      }
      for (const [entries, expected] of cases) {
        await write(entries);
        const sentence = await sample();
        assert.match(sentence, expected);
        assert.match(sentence, `${part}.safetensors`);
        assert.match(await refuse(folder, 3, 'train', '--resume', 'run', '--steps', '3', '-q'), expected);
      }
      await writeFile(path, original);
    }
  }));

test('configurations that would take all memory are refused', () =>
  withFolder(async (folder) => {
    await succeed(folder, ...TINY, '--steps', '1');
    const file = join(folder, 'run', 'checkpoints', 'step-00000001', 'config.json');
    const original = await readFile(file, 'utf8');
    const value = JSON.parse(original) as Json;
    for (const [path, to, expected] of [
      ['model.depth', 1e5, /depth is 100000, expected an integer from 1 to 1000/],
      ['model.depth', 1e7, /depth is 10000000, expected an integer from 1 to 1000/],
      ['model.depth', 1000, /model\.safetensors|ema\.safetensors/],
      ['model.embedDim', 16384, /ema\.safetensors holds the weights of another model/],
      ['diffusion.diffusionSteps', 1e8, /diffusion\.diffusionSteps is 100000000, expected at most 10000/],
      ['settings.diffusionSteps', 1e8, /settings\.diffusionSteps is 100000000, expected at most 10000/],
      ['classNames.0', 'n'.repeat(1e6), /classNames\.0 is "n+ …, expected at most 1000 characters/],
      ['dataFingerprint', 'n'.repeat(1e7), /config\.json has 100\d+ bytes, expected at most 4194304/],
    ] as const) {
      await writeFile(file, changed(value, path.split('.'), to));
      assert.match(await refuse(folder, 3, 'sample', 'run'), expected, path);
      if (path !== 'model.depth' && path !== 'model.embedDim')
        assert.match(await refuse(folder, 3, 'info', 'run'), expected, path);
    }
    await writeFile(file, original);
    for (const [flags, expected] of [
      [['--depth', '10000000'], /--depth is 10000000, expected an integer from 1 to 1000/],
      [['--embed-dim', '1000000'], /--embed-dim is 1000000, expected an integer from 1 to 16384/],
    ] as const)
      assert.match(await refuse(folder, 2, 'info', ...flags), expected);
  }));

test('while steps are skipped no checkpoint is written, and none goes', () =>
  withFolder(async (folder) => {
    const { status, err } = await cli(
      folder,
      ...TINY.filter((word) => word !== '-q'),
      ...'--lr 1000 --schedule constant --warmup 12 --clip 0 --checkpoint-every 1 --keep 2 --steps 400 --progress lines'.split(
        ' ',
      ),
    );
    assert.is(status, 1);
    const steps = await metrics(join(folder, 'run'));
    const skipped = steps.find((record) => record.skipped)!.step;
    assert.ok(skipped > 1 && steps.length >= skipped + 99, `${skipped} of ${steps.length}`);
    const names = await checkpoints(join(folder, 'run'));
    assert.equal(
      names,
      [skipped - 2, skipped - 1].filter((step) => step > 0).map((step) => `step-${String(step).padStart(8, '0')}`),
    );
    assert.match(
      err,
      new RegExp(
        `not finite at step ${skipped}: no checkpoints while steps are skipped, step ${skipped - 1} is kept\\.`,
      ),
    );
    assert.match(
      err,
      new RegExp(
        `not finite for 100 steps up to step ${skipped + 99}, and of checkpoints step ${skipped - 1} is kept; begin again`,
      ),
    );
  }));

test.run();
