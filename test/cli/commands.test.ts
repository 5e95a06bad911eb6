// What every command says when something about it is wrong, and the commands that need no training.

import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { disConfig } from '../../models/dis/config.ts';
import { disFlops } from '../../models/dis/cost.ts';
import { disParameterCount } from '../../models/dis/shapes.ts';
import { cli, refuse, succeed, withFolder } from './support.ts';

const test = suite('commands');

test('whatever is wrong is told in one sentence with a status', () =>
  withFolder(async (folder) => {
    await writeFile(join(folder, 'file.txt'), 'hello');
    await mkdir(join(folder, 'empty'));
    const cases: [args: string[], status: number, pattern: RegExp][] = [
      [['tarin'], 2, /^Unknown command "tarin", did you mean train; the commands are train, /],
      [['train', '--stesp', '3'], 2, /^Unknown option '--stesp', did you mean --steps\.$/],
      [['train', '--steps'], 2, /^Option '--steps <n>' argument missing; see --help\.$/],
      [['train'], 2, /^What to train on is missing; give --data/],
      [['train', 'shapes'], 2, /too many arguments/i],
      [
        ['train', '--data', 'shapes', '--model', 'DiS-Q/2'],
        2,
        /^--model is "DiS-Q\/2", did you mean DiS-\S+; expected one of DiS-N\/2,/,
      ],
      [['train', '--data', 'shapes', '--batch', '0'], 2, /^--batch is "0", expected a whole number of at least 1\.$/],
      [['train', '--data', 'shapes', '--lr', 'fast'], 2, /^--lr is "fast", expected a number above 0\.$/],
      [
        ['train', '--data', 'shapes', '--batch', '6', '--micro-batches', '4'],
        2,
        /^--micro-batches is 4, expected a divisor of --batch 6\.$/,
      ],
      [
        ['train', '--data', 'shapes', '--sync-every', '5'],
        2,
        /^--sync-every is for several ranks; give --gpus or --distributed with it, or leave it out\.$/,
      ],
      [
        ['train', '--data', 'shapes', '--sync-every', '0'],
        2,
        /^--sync-every is "0", expected a whole number of at least 1/,
      ],
      [['train', '--data', 'shapes', '--rank-timeout', '0'], 2, /^--rank-timeout is "0", expected a number from 1 to/],
      [
        ['train', '--data', 'shapes', '--image-size', '9', '--model', 'DiS-N/2'],
        2,
        /^--image-size is 9, expected a multiple of the patch size 2/,
      ],
      [['train', '--data', 'shapes', '--image-size', '4'], 2, /size is 4, expected an integer of at least 8/i],
      [
        ['train', '--data', 'shapes', '--warmup', '9', '--steps', '5', '--schedule', 'cosine', '--model', 'DiS-N/4'],
        2,
        /warm-up of 9/,
      ],
      [['train', '--data', 'shapes', '--steps', '3', '--epochs', '3'], 2, /cannot be used with/],
      [['train', '--data', 'nowhere'], 3, /^\S*nowhere does not exist, expected a folder; check the path\.$/],
      [['train', '--data', 'file.txt'], 3, /file\.txt is a file, expected a folder/],
      [['train', '--data', 'empty'], 3, /empty holds no image/],
      [['train', '--data', 'cifar10:empty'], 3, /holds no train files of cifar10/],
      [['train', '--data', 'shapes', '--out', 'file.txt'], 3, /file\.txt.*not a folder/],
      [['train', '--resume'], 2, /^Which run to resume is missing/],
      [['train', '--resume', 'nowhere'], 3, /^nowhere does not exist, expected the folder of a run or of a checkpoint/],
      [['train', '--resume', 'empty'], 3, /^empty holds neither a run nor a checkpoint/],
      [['train', '--resume', 'empty', '--out', 'other'], 2, /^A run goes on in its own folder/],
      [['sample'], 2, /^Missing required argument 'folder'; see --help\.$/],
      [['sample', 'file.txt'], 3, /^file\.txt: the file is neither a zip archive nor a legacy file of PyTorch/],
      [
        ['sample', 'empty', '--eta', '0.5', '--sampler', 'ddpm'],
        2,
        /^--eta is 0\.5, but only --sampler ddim has it\.$/,
      ],
      [
        ['sample', 'empty', '--animate', 'x.mp4'],
        2,
        /^--animate is "x\.mp4", expected the name of a \.gif or \.webp file\.$/,
      ],
      [['sample', 'empty', '--out', 'x.bmp'], 2, /^--out is "x\.bmp", expected/],
      [['info', 'nowhere'], 3, /^nowhere does not exist/],
      [['info', 'empty', '--model', 'DiS-S/2'], 2, /^--model describes a model, but empty has its own/],
      [['doctor', '--tier', 'fats'], 2, /^--tier is "fats", did you mean fast; expected one of stock, fast\.$/],
      [
        ['doctor', '--adapter', 'no such adapter'],
        2,
        /^--adapter is "no such adapter", expected a part of the name of one of /,
      ],
    ];
    for (const [args, status, pattern] of cases)
      assert.match(await refuse(folder, status, ...args), pattern, args.join(' '));
  }));

test('doctor describes the adapter and sees that it computes', () =>
  withFolder(async (folder) => {
    const { out } = await succeed(folder, 'doctor');
    for (const part of [
      'Adapter',
      'Features',
      'Limits',
      'shader-f16',
      'maxBufferSize',
      'measured here  nothing yet',
      'shipped        none for this adapter',
      'A matrix product gives the right numbers.',
    ])
      assert.match(out, part);
    const report = JSON.parse((await succeed(folder, 'doctor', '--json')).out) as {
      computes: boolean;
      adapter: { tier: string };
      limits: Record<string, number>;
    };
    assert.equal([report.computes, report.adapter.tier], [true, 'stock']);
    assert.ok(report.limits.maxComputeInvocationsPerWorkgroup >= 256);
  }));

test('info counts a configuration without a GPU', () =>
  withFolder(async (folder) => {
    const config = disConfig('DiS-S/2', { imgSize: 32, channels: 4, numClasses: 1000 });
    const { out } = await succeed(folder, 'info', '--model', 'dis-s/2', '--channels', '4', '--classes', '1000');
    assert.match(out, disParameterCount(config).toLocaleString('en-US'));
    assert.match(out, `${(disFlops(config).total / 1e9).toPrecision(4)} GFLOPs`);
    const report = JSON.parse(
      (await succeed(folder, 'info', '--model', 'DiS-N/4', '--image-size', '16', '--json')).out,
    ) as { parameters: number };
    assert.is(report.parameters, disParameterCount(disConfig('DiS-N/4', { imgSize: 16 })));
  }));

test('tune measures once, and remembers', () =>
  withFolder(async (folder) => {
    const args = [
      'tune',
      '--model',
      'DiS-N/4',
      '--image-size',
      '8',
      '--embed-dim',
      '8',
      '--depth',
      '1',
      '--d-state',
      '2',
      '--batch',
      '1',
    ];
    const first = await succeed(folder, ...args);
    assert.match(first.out, /^gemm .* tried$/m);
    const [, path] = /^Remembered in (.*)\.$/m.exec(first.out)!;
    const { format, entries } = JSON.parse(await readFile(path, 'utf8')) as { format: string; entries: object };
    assert.is(format, 'dis-tuning-1');
    const count = Object.keys(entries).length;
    assert.is(count, first.out.match(/ tried$/gm)!.length);
    assert.match((await succeed(folder, ...args)).err, `${count} measurements are known`);
    assert.match((await succeed(folder, 'doctor')).out, `measured here  ${count} kinds of kernel calls; `);
  }));

test('a command that fails before it began leaves no folder', () =>
  withFolder(async (folder) => {
    const none = ['--adapter', 'no such adapter'];
    await refuse(folder, 2, 'quickstart', ...none);
    await refuse(
      folder,
      2,
      'train',
      '--data',
      'shapes',
      '--model',
      'DiS-N/4',
      '--out',
      'a/b',
      '--progress',
      'none',
      ...none,
    );
    assert.equal(await readdir(folder), []);
  }));

test('help names every command; nothing asked for is help too', () =>
  withFolder(async (folder) => {
    const { out } = await succeed(folder, '--help');
    for (const name of ['train', 'sample', 'eval', 'info', 'tune', 'doctor', 'quickstart']) {
      assert.match(out, new RegExp(`^ {2}${name} `, 'm'));
      assert.match((await succeed(folder, name, '--help')).out, `Usage: dis-cli ${name}`);
    }
    assert.match((await succeed(folder, '--version')).out, /^\d+\.\d+\.\d+\n$/);
    assert.is((await cli(folder)).status, 1);
  }));

test('a tsconfig.json in the working directory names no module to run', () =>
  withFolder(async (folder) => {
    await writeFile(
      join(folder, 'tsconfig.json'),
      '{"compilerOptions":{"baseUrl":".","paths":{"commander":["./other.ts"]}}}',
    );
    await writeFile(join(folder, 'other.ts'), 'console.log("other ran");');
    const { out } = await succeed(folder, '--version');
    assert.match(out, /^\d+\.\d+\.\d+\n$/);
  }));

test.run();
