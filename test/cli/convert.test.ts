// Official checkpoints through the command line: converted, continued, begun from, sampled; and files that are none.

import { execFile } from 'node:child_process';
import { copyFile, cp, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { learningRate, parseRunConfig } from '../../cli/runConfig.ts';
import { readSafetensorsFile } from '../../cli/safetensorsFile.ts';
import { openPt, ptTensors, writeSafetensors, type PtValue, type SafetensorsEntry } from '../../nn/index.ts';
import { goldenDir, hasGolden } from '../golden/support.ts';
import { officialPath, officialRun } from '../models/officialRun.ts';
import { checkpoints, metrics, refuse, succeed, withFolder } from './support.ts';

const test = suite('convert');
const run = officialRun();
const ZIP = officialPath('zip.pt'),
  LEGACY = officialPath('legacy.pt');
const STEP = `step-${String(run.step).padStart(8, '0')}`;
const files = ['model', 'ema', 'optimizer'].map((part) => `${part}.safetensors`);

const bytesOf = ({ data }: SafetensorsEntry): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
const dictionary = (value: PtValue | undefined): Map<PtValue, PtValue> => value as Map<PtValue, PtValue>;

test('both forms become the same run, with every number of the file', () =>
  withFolder(async (folder) => {
    await succeed(folder, 'convert', ZIP, 'zip', '-q');
    const { out } = await succeed(folder, 'convert', LEGACY, 'legacy');
    assert.match(
      out,
      /^legacy\.pt: DiS-S\/4, 8\.88 k parameters, step 17 → legacy\nGo on with \S+.* train --resume legacy --data FOLDER\n$/,
    );
    const at = (name: string, file: string): string => join(folder, name, 'checkpoints', STEP, file);
    for (const file of [...files, 'config.json', 'state.json'])
      assert.ok((await readFile(at('zip', file))).equals(await readFile(at('legacy', file))), file);
    const file = await openPt(await readFile(ZIP));
    const root = dictionary(file.value);
    const names = [...ptTensors(root.get('model')!).keys()];
    for (const part of ['model', 'ema']) {
      const written = await readSafetensorsFile(at('zip', `${part}.safetensors`));
      assert.equal([...written.keys()], names);
      for (const [name, tensor] of ptTensors(root.get(part)!))
        assert.equal(bytesOf(written.get(name)!), bytesOf(await file.read(tensor)), name);
    }
    const moments = await readSafetensorsFile(at('zip', 'optimizer.safetensors'));
    const state = dictionary(dictionary(root.get('opt')).get('state'));
    assert.is(moments.size, 2 * names.length);
    for (const [i, name] of names.entries())
      for (const [key, official] of [
        ['m', 'exp_avg'],
        ['v', 'exp_avg_sq'],
      ]) {
        const [[, tensor]] = ptTensors(dictionary(state.get(i)).get(official)!);
        assert.equal(bytesOf(moments.get(`${key}.${name}`)!), bytesOf(await file.read(tensor)), name);
      }
  }));

test('the run goes on as its arguments say, from the folder and from the file', () =>
  withFolder(async (folder) => {
    await succeed(folder, 'convert', ZIP, 'folder', '-q');
    const train = (from: string, ...more: string[]): ReturnType<typeof succeed> =>
      succeed(
        folder,
        'train',
        '--resume',
        from,
        '--data',
        'shapes',
        '--steps',
        String(run.step + 3),
        '--sample-every',
        '0',
        '-q',
        ...more,
      );
    const { err } = await train('folder');
    assert.is(err, '', 'an imported run chooses its kernels, and misses none');
    await train(LEGACY, '--out', 'file');
    await succeed(folder, 'convert', ZIP, 'known', '--data', 'shapes', '-q');
    await succeed(folder, 'train', '--resume', 'known', '--steps', String(run.step + 3), '-q');
    for (const name of ['folder', 'file', 'known']) {
      assert.equal(await metrics(join(folder, name)), await metrics(join(folder, 'folder')), name);
      assert.ok((await checkpoints(join(folder, name))).includes(`step-${String(run.step + 3).padStart(8, '0')}`));
    }
    assert.equal(
      (await metrics(join(folder, 'folder'))).map(({ step }) => step),
      [1, 2, 3].map((n) => run.step + n),
    );
    const path = join(folder, 'file', 'config.json');
    const { settings, plan, classNames } = parseRunConfig(
      JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>,
      path,
    );
    const { args } = run as { args: Record<string, number> };
    assert.is(settings.batch, args.global_batch_size);
    assert.is(classNames.length, args.num_classes);
    assert.is(plan.checkpointEvery, args.ckpt_every);
    // The rate that adjust_learning_rate gives at each step, at the number of steps that an epoch of these data has.
    const perEpoch = Math.floor(50_000 / args.global_batch_size);
    const rate = learningRate(settings);
    for (const step of [
      0,
      1,
      run.step,
      args.warmup_epochs * perEpoch,
      20 * perEpoch + 3,
      (args.epochs - 1) * perEpoch,
    ]) {
      const epoch = step / perEpoch;
      const expected =
        epoch < args.warmup_epochs
          ? (args.lr * epoch) / args.warmup_epochs
          : args.min_lr +
            (args.lr - args.min_lr) *
              0.5 *
              (1 + Math.cos((Math.PI * (epoch - args.warmup_epochs)) / (args.epochs - args.warmup_epochs)));
      assert.ok(Math.abs(rate(step) - expected) < 1e-12, `step ${step}: ${rate(step)}, expected ${expected}`);
    }
  }));

test('weights become one file, from which a run begins and images are drawn', () =>
  withFolder(async (folder) => {
    await succeed(folder, 'convert', ZIP, 'run', '-q');
    await succeed(folder, 'convert', ZIP, 'pt.safetensors', '-q');
    const { out } = await succeed(folder, 'convert', 'run', 'run.safetensors');
    assert.match(out, /^Wrote run\.safetensors: \d+ tensors of DiS-S\/4\.\n$/);
    assert.ok((await readFile(join(folder, 'pt.safetensors'))).equals(await readFile(join(folder, 'run.safetensors'))));
    await succeed(folder, 'convert', 'run', 'model.safetensors', '--weights', 'model', '-q');
    const written = await readSafetensorsFile(join(folder, 'model.safetensors'));
    const own = await readSafetensorsFile(join(folder, 'run', 'checkpoints', STEP, 'model.safetensors'));
    assert.equal(written, own);
    const sample = async (from: string): Promise<Buffer> => {
      await succeed(folder, 'sample', from, '--steps', '2', '--count', '1', '--out', 'sheet.png', '-q');
      return readFile(join(folder, 'sheet.png'));
    };
    const sheet = await sample('run');
    for (const from of [ZIP, LEGACY, 'pt.safetensors']) assert.ok((await sample(from)).equals(sheet), from);
    assert.match(
      (await succeed(folder, 'info', ZIP)).out,
      /^DiS-S\/4, step 17 of .*\n {2}input +3 × 8 × 8, 10 classes/,
    );

    const begin = async (from: string, out: string, ...more: string[]): Promise<string> =>
      (
        await succeed(
          folder,
          'train',
          '--init-from',
          from,
          '--data',
          'shapes',
          '--batch',
          '2',
          '--steps',
          '1',
          '--lr',
          '1e-9',
          '--out',
          out,
          '-q',
          ...more,
        )
      ).err;
    for (const [i, from] of ['run', ZIP, 'pt.safetensors'].entries()) {
      assert.is(await begin(from, `begun${i}`), '');
      assert.equal(await metrics(join(folder, `begun${i}`)), await metrics(join(folder, 'begun0')));
    }
    // After one step at a rate of nothing the weights are those that it began with.
    const ema = await readSafetensorsFile(join(folder, 'run', 'checkpoints', STEP, 'ema.safetensors'));
    const begun = await readSafetensorsFile(
      join(folder, 'begun0', 'checkpoints', 'step-00000001', 'model.safetensors'),
    );
    for (const [name, { data }] of ema)
      (begun.get(name)!.data as Float32Array).forEach((value, i) =>
        assert.ok(Math.abs(value - (data[i] as number)) < 1e-7),
      );
    assert.match(
      await refuse(folder, 2, 'train', '--init-from', 'run', '--data', 'shapes', '--depth', '4', '--out', 'other'),
      /^The weights of run are not of this model: it has no in_blocks\.1\.\S+; leave the model's flags out/,
    );
  }));

test('classes of its own begin without the labels that were learned', () =>
  withFolder(async (folder) => {
    await mkdir(join(folder, 'two'));
    const picture = await readFile(fileURLToPath(new URL('../fixtures/image/img0_in.png', import.meta.url)));
    for (const name of ['cat', 'dog']) {
      await mkdir(join(folder, 'two', name));
      for (const i of [0, 1]) await writeFile(join(folder, 'two', name, `${i}.png`), picture);
    }
    const { err } = await succeed(
      folder,
      'train',
      '--init-from',
      ZIP,
      '--data',
      'two',
      '--batch',
      '2',
      '--steps',
      '1',
      '--out',
      'run',
      '--progress',
      'none',
    );
    assert.match(err, /has 11 rows of labels and this run 3: its classes begin without them\./);
    assert.match(
      await refuse(folder, 2, 'train', '--resume', ZIP, '--data', 'two', '--out', 'more'),
      /^The run is of 10 classes and 3 channels, and the data in \S+ have 2 and 3;/,
    );
    assert.equal(
      (await readdir(folder)).filter((name) => name !== 'cache').sort(),
      ['run', 'two'],
      'nothing is left of what was refused',
    );
  }));

test('what is wrong is told in one sentence', () =>
  withFolder(async (folder) => {
    await cp(ZIP, join(folder, 'run.pt'));
    await succeed(folder, 'convert', 'run.pt', 'weights.safetensors', '-q');
    await succeed(folder, 'convert', 'run.pt', 'taken', '-q');
    const whole = await readFile(ZIP);
    await writeFile(join(folder, 'cut.pt'), whole.subarray(0, whole.length / 2));
    const file = await openPt(whole);
    const [tensor] = ptTensors(dictionary(file.value).get('ema')!).values();
    const flipped = Buffer.from(whole);
    flipped[flipped.indexOf(bytesOf(await file.read(tensor))) + 9] ^= 1;
    await writeFile(join(folder, 'flipped.pt'), flipped);
    const vit: [string, SafetensorsEntry][] = ['cls_token', 'pos_embed', 'blocks.0.attn.qkv.weight'].map((name) => [
      name,
      { dtype: 'F32', shape: [1], data: new Float32Array(1) },
    ]);
    await writeFile(join(folder, 'vit.safetensors'), writeSafetensors(vit));
    const nan = await readSafetensorsFile(join(folder, 'weights.safetensors'));
    (nan.get('pos_embed')!.data as Float32Array)[3] = NaN;
    await writeFile(join(folder, 'nan.safetensors'), writeSafetensors(nan));
    const cases: [args: string[], status: number, pattern: RegExp][] = [
      [['convert'], 2, /^Missing required argument 'from'/],
      [['convert', 'nowhere.pt'], 3, /^nowhere\.pt does not exist, expected a \.pt file; check the path\.$/],
      [['convert', 'nowhere.pt', 'x.safetensors'], 3, /^nowhere\.pt does not exist/],
      [['convert', 'taken'], 2, /^taken is no file/],
      [['convert', 'run.pt', 'taken'], 3, /^taken holds another run; go on with it by --resume taken/],
      [
        ['convert', 'weights.safetensors', 'x'],
        2,
        /holds weights without an optimizer's state.*begin a new one with --init-from weights\.safetensors\.$/,
      ],
      [['convert', 'run.pt', 'x.safetensors', '--data', 'shapes'], 2, /^--data is of a run/],
      [['convert', 'run.pt', 'x', '--data', 'nowhere'], 3, /nowhere does not exist/],
      [['convert', 'run.pt', 'x', '--weights', 'best'], 2, /^--weights is "best"/],
      [['convert', 'cut.pt'], 3, /^cut\.pt: the zip archive has no end-of-directory record; the file is cut\.$/],
      [['convert', 'flipped.pt', 'x'], 3, /^flipped\.pt: record "\S+" has the CRC-32 [0-9a-f]{8}; it is damaged/],
      [
        ['convert', 'vit.safetensors', 'x'],
        3,
        /^vit\.safetensors: the weights are none of DiS: they look like a timm vision transformer, expected/,
      ],
      [['sample', 'vit.safetensors'], 3, /look like a timm vision transformer/],
      [
        ['sample', 'nan.safetensors', '--steps', '1', '-q'],
        3,
        /^nan\.safetensors holds numbers that are not finite, in pos_embed;/,
      ],
      [
        ['train', '--resume', 'run.pt'],
        2,
        /^Where the data of the run in run\.pt lie is missing; give them with --data or --latents\.$/,
      ],
      [['train', '--resume', 'run.pt', '--data', 'shapes', '--batch', '9'], 2, /--batch is 9 and was 4/],
      [
        ['train', '--resume', 'run.pt', '--data', 'shapes', '--noise-schedule', 'squaredcos_cap_v2'],
        2,
        /--noise-schedule is squaredcos_cap_v2 and was linear/,
      ],
      [['train', '--resume', 'taken'], 3, /the run's data, is not there; bring it back, or say with --data/],
      [
        ['train', '--resume', 'taken', '--init-from', 'run.pt'],
        2,
        /^--resume goes on with a run and --init-from begins one/,
      ],
      [['train', '--init-from', 'nowhere', '--data', 'shapes'], 3, /^nowhere does not exist/],
    ];
    for (const [args, status, pattern] of cases)
      assert.match(await refuse(folder, status, ...args), pattern, args.join(' '));
    const left = (await readdir(folder)).filter((name) => !/\.(pt|safetensors)$|^(taken|cache)$/.test(name));
    assert.equal(left, [], 'files and folders that nobody asked for');
  }));

/** Files that are read: the golden set says that they may be, and DiS they are not. */
test('every malformed file is refused with its reason, within two seconds and 300 MB', async () => {
  assert.ok(hasGolden('checkpoint/malformed'));
  const script = fileURLToPath(new URL('openWeights.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', script, join(goldenDir(), 'checkpoint/malformed')],
    { maxBuffer: 2 ** 24 },
  );
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as { file?: string; message?: string; ours?: boolean; seconds?: number; megabytes?: number },
    );
  const { megabytes } = lines.pop()!;
  assert.equal(
    lines.map(({ file }) => file),
    (await readdir(join(goldenDir(), 'checkpoint/malformed'))).sort(),
  );
  for (const { file, message, ours, seconds } of lines) {
    assert.ok(ours, `${file} ended in ${message ?? 'weights that were read'}`);
    assert.match(message!, new RegExp(`${file!.replaceAll('.', '\\.')}: .{10,}`));
    assert.ok(seconds! < 2, `${file} took ${seconds} s of the processor`);
  }
  assert.ok(megabytes! < 300, `all of them took ${megabytes} MB, the program itself included`);
});

for (const name of ['ckpt_zip.pt', 'ckpt_legacy.pt'])
  if (hasGolden(`checkpoint/${name}`))
    test(`golden ${name} becomes a run with the tensors of its safetensors`, () =>
      withFolder(async (folder) => {
        const golden = join(goldenDir(), 'checkpoint');
        await copyFile(join(golden, name), join(folder, 'a.pt'));
        await succeed(folder, 'convert', 'a.pt', 'run', '-q');
        const [step] = await checkpoints(join(folder, 'run'));
        const { opt_step } = JSON.parse(await readFile(join(golden, 'ckpt.json'), 'utf8')) as { opt_step: number };
        assert.is(Number(step.slice('step-'.length)), opt_step);
        for (const part of ['model', 'ema']) {
          const written = await readSafetensorsFile(join(folder, 'run', 'checkpoints', step, `${part}.safetensors`));
          for (const [tensor, entry] of await readSafetensorsFile(join(golden, `ckpt_${part}.safetensors`)))
            assert.equal(written.get(tensor), entry, tensor);
        }
        assert.ok((await stat(join(folder, 'run', 'config.json'))).size > 0);
      }));

test.run();
