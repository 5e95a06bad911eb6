// Presets: their values reach the run but for flags that are given, info tells what they take, and their page lists them.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PRESET_NAMES, PRESETS, presetValues } from '../../cli/presets.ts';
import { disConfig } from '../../models/dis/config.ts';
import { disFlops } from '../../models/dis/cost.ts';
import { refuse, succeed, withFolder } from './support.ts';

const test = suite('presets');

test('a run has the values of its preset, and the flags that are given', () =>
  withFolder(async (folder) => {
    const small = ['--embed-dim', '8', '--depth', '2', '--batch', '2', '--steps', '1', '--image-size', '8'];
    await succeed(
      folder,
      'train',
      '--preset',
      'cifar10-s2',
      '--data',
      'shapes',
      ...small,
      '--ema',
      '0.5',
      '--out',
      'run',
      '-q',
    );
    const { settings, plan, model } = JSON.parse(await readFile(join(folder, 'run', 'config.json'), 'utf8')) as Record<
      string,
      Record<string, unknown>
    >;
    const given = { batch: 2, steps: 1, imageSize: 8, ema: 0.5 };
    for (const [flag, value] of Object.entries({ ...presetValues('cifar10-s2'), ...given }))
      assert.equal({ ...settings, ...plan }[flag], value, flag);
    assert.is(model.numClasses, 0);
    assert.match(
      await refuse(folder, 2, 'train', '--preset', 'imagenet256-h2', '--data', 'shapes'),
      /^--preset imagenet256-h2 is a model of latents/,
    );
    assert.match(
      await refuse(folder, 2, 'train', '--resume', 'run', '--preset', 'cifar10-s2'),
      /^A resumed run keeps its settings; leave --preset out/,
    );
    assert.match(
      await refuse(folder, 2, 'info', '--preset', 'imagenet256'),
      /^--preset is "imagenet256", did you mean imagenet256-h2/,
    );
  }));

test('info says operations, with and without the scan, and days once a step was measured', () =>
  withFolder(async (folder) => {
    for (const name of PRESET_NAMES) {
      const { out } = await succeed(folder, 'info', '--preset', name);
      const { channels, classes } = PRESETS[name];
      const { model, imageSize, steps, batch } = presetValues(name);
      const flops = disFlops(disConfig(model as 'DiS-S/2', { imgSize: imageSize, channels, numClasses: classes }));
      const gflops = (n: number): string => (Math.abs(n / 1e9) >= 9999.5 ? '' : (n / 1e9).toPrecision(4));
      assert.ok(out.includes(`per image              ${gflops(flops.total)} GFLOPs`), out);
      assert.ok(out.includes(`without the scan       ${gflops(flops.total - flops.scan)} GFLOPs`), out);
      assert.ok(
        out.includes(`The run: ${steps!.toLocaleString('en-US')} steps of ${batch!.toLocaleString('en-US')} images`),
        out,
      );
      assert.match(out, /days on this adapter {5}after .* tune --model \S+ has measured a step/);
    }
    const { out: tuned } = await succeed(
      folder,
      'tune',
      '--model',
      'DiS-N/4',
      '--embed-dim',
      '8',
      '--depth',
      '2',
      '--image-size',
      '8',
      '--batch',
      '2',
    );
    assert.match(tuned, /A training step of 2 images takes \S+ ms: \S+ images a second\./);
    const { out } = await succeed(folder, 'info', '--preset', 'cifar10-s2');
    assert.match(out, /\n {2}on .+ {2}[\d,.]+ days in f32, by operations, from a step of DiS-N\/4\n$/);
  }));

test('the page of the presets lists every value with its source', async () => {
  const page = await readFile(fileURLToPath(new URL('../../docs/presets.md', import.meta.url)), 'utf8');
  const rows = page.split('\n').filter((line) => line.startsWith('| '));
  for (const [i, name] of PRESET_NAMES.entries())
    for (const [flag, [value, source]] of Object.entries(PRESETS[name].values)) {
      const option = `\`--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}\``;
      const row = rows.find((line) => line.includes(option));
      assert.ok(row, `${name}: no row of ${option}`);
      const cells = row!.split('|').map((cell) => cell.trim());
      assert.is(cells[2 + i], String(value), `${name}: ${option}`);
      assert.ok(cells[6].includes(source), `${name}: ${option} from ${source}`);
    }
});

test.run();
