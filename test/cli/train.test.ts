// Training as a user sees it: processes that are killed, stopped, refused and resumed.

import { cp, mkdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp, { type Sharp } from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkpoints, cli, metrics, refuse, start, succeed, until, withFolder } from './support.ts';

const test = suite('train');

// The smallest model that has every part: classes, skip connections, learned variance, drop path and label dropout.
const TINY = [
  '--data',
  'shapes',
  '--model',
  'DiS-N/4',
  '--image-size',
  '8',
  '--embed-dim',
  '16',
  '--depth',
  '2',
  '--d-state',
  '4',
  '--batch',
  '4',
  '--sample-every',
  '0',
];
const PARTS = ['model.safetensors', 'ema.safetensors', 'optimizer.safetensors', 'state.json'];

async function assertSameCheckpoint(actual: string, expected: string): Promise<void> {
  for (const part of PARTS)
    assert.ok((await readFile(join(actual, part))).equals(await readFile(join(expected, part))), `${part} differs`);
}

test('killed at random moments, a run resumes and gives the same losses, bit for bit', () =>
  withFolder(async (folder) => {
    const args = [
      ...TINY,
      '--steps',
      '60',
      '--checkpoint-every',
      '4',
      '--flip',
      '--timestep-sampler',
      'loss-second-moment',
      '--micro-batches',
      '2',
    ];
    await succeed(folder, 'train', ...args, '--out', 'whole');
    const run = join(folder, 'killed');
    let kills = 0;
    for (let resume: string[] = []; kills < 4; kills++) {
      const before = (await metrics(run).catch(() => [])).length;
      const running = start(folder, 'train', ...(resume.length > 0 ? resume : [...args, '--out', 'killed']));
      // Some steps after the last checkpoint, then anywhere in what a step or a checkpoint does.
      const wanted = before + 1 + Math.floor(Math.random() * 12);
      await until(
        running,
        async () => (await readFile(join(run, 'metrics.jsonl'), 'utf8').catch(() => '')).split('\n').length > wanted,
      );
      await sleep(Math.random() * 25);
      running.child.kill('SIGKILL');
      const { signal, status } = await running.done;
      if (signal === null) assert.is(status, 0);
      resume =
        existsSync(join(run, 'checkpoints')) && (await checkpoints(run)).some((name) => name.startsWith('step-'))
          ? ['--resume', 'killed']
          : [];
      if (signal === null) break;
    }
    await succeed(folder, 'train', '--resume', 'killed');
    assert.equal(await metrics(run), await metrics(join(folder, 'whole')));
    assert.is((await metrics(run)).length, 60);
    await assertSameCheckpoint(join(run, 'checkpoints/step-00000060'), join(folder, 'whole/checkpoints/step-00000060'));
    assert.equal(await checkpoints(run), ['step-00000052', 'step-00000056', 'step-00000060']);
  }));

test('Ctrl-C finishes the step, writes a checkpoint and says how to go on; the rest is as if it had not been', () =>
  withFolder(async (folder) => {
    const args = [...TINY, '--checkpoint-every', '0', '--precision', 'f16'];
    const running = start(folder, 'train', ...args, '--out', 'run', '--steps', '100k');
    await until(running, async () => (await metrics(join(folder, 'run'))).length >= 3);
    running.child.kill('SIGINT');
    const { status, err } = await running.done;
    assert.is(status, 130);
    assert.match(err, 'Ctrl-C again leaves at once');
    const reached = (await metrics(join(folder, 'run'))).length;
    assert.match(
      err,
      new RegExp(
        `Stopped at step ${reached.toLocaleString('en-US')}, which is in a checkpoint; go on with .*train --resume run`,
      ),
    );
    assert.equal(await checkpoints(join(folder, 'run')), [`step-${String(reached).padStart(8, '0')}`]);
    const steps = String(reached + 5);
    await succeed(folder, 'train', '--resume', 'run', '--steps', steps);
    await succeed(folder, 'train', ...args, '--out', 'whole', '--steps', steps);
    assert.equal(await metrics(join(folder, 'run')), await metrics(join(folder, 'whole')));
  }));

test('a second Ctrl-C leaves at once, and what was there stays', () =>
  withFolder(async (folder) => {
    const running = start(folder, 'train', ...TINY, '--out', 'run', '--steps', '100k', '--checkpoint-every', '2');
    await until(
      running,
      async () =>
        existsSync(join(folder, 'run/checkpoints')) &&
        (await checkpoints(join(folder, 'run'))).some((name) => name.startsWith('step-')),
    );
    running.child.kill('SIGTERM');
    await until(running, () => running.err().includes('Ctrl-C again'));
    running.child.kill('SIGINT');
    assert.is((await running.done).status, 130);
    const steps = String((await metrics(join(folder, 'run'))).length + 2);
    await succeed(folder, 'train', '--resume', 'run', '--steps', steps);
    assert.is(String((await metrics(join(folder, 'run'))).at(-1)!.step), steps);
  }));

test('a run keeps its settings; what may change, changes', () =>
  withFolder(async (folder) => {
    await succeed(folder, 'train', ...TINY, '--out', 'run', '--steps', '2', '--schedule', 'cosine', '--warmup', '1');
    assert.is(
      await refuse(
        folder,
        2,
        'train',
        '--resume',
        'run',
        '--lr',
        '0.1',
        '--batch',
        '4',
        '--data',
        'shapes',
        '--norm',
        'layer',
      ),
      'A resumed run keeps its settings, but --norm is layer and was rms, --lr is 0.1 and was 0.0001; leave them out, or begin a new run with another --out.',
    );
    const { err } = await succeed(folder, 'train', '--resume', 'run');
    assert.match(err, 'The run has reached step 2 of 2; give more with --steps to go on.');
    const further = await succeed(
      folder,
      'train',
      '--resume',
      '--out',
      'run',
      '--steps',
      '4',
      '--keep',
      '1',
      '--sample-every',
      '3',
      '--sample-steps',
      '2',
    );
    assert.match(further.err, 'The cosine of this run ended at step 2');
    assert.equal(await checkpoints(join(folder, 'run')), ['step-00000004']);
    const { width, height } = await sharp(join(folder, 'run/samples/step-00000003.png')).metadata();
    // Four images of ten classes, enlarged eightfold, with names beside them.
    assert.ok(height === (10 * (8 + 2) + 2) * 8 && width! > (4 * (8 + 2) + 2) * 8, `${width}×${height}`);
    assert.match(
      await refuse(folder, 3, 'train', ...TINY, '--out', 'run'),
      'run holds another run; go on with it by --resume run',
    );
    await cp(join(folder, 'run/checkpoints/step-00000004'), join(folder, 'copy'), { recursive: true });
    assert.match(await refuse(folder, 2, 'train', '--resume', 'copy'), 'copy is a checkpoint outside of a run');
  }));

test('metrics are machine-readable on a pipe, and a sheet of samples is drawn from what was trained', () =>
  withFolder(async (folder) => {
    const { out } = await succeed(folder, 'train', ...TINY, '--out', 'run', '--steps', '3');
    const last = JSON.parse(out.trimEnd().split('\n').at(-1)!) as { step: number; total: number };
    assert.equal([last.step, last.total], [3, 3]);
    const [first] = await metrics(join(folder, 'run'));
    assert.equal(Object.keys(first), ['step', 'loss', 'mse', 'vb', 'gradNorm', 'lr', 'skipped', 'epoch']);
    const quiet = await succeed(folder, 'train', '--resume', 'run', '--steps', '4', '--quiet');
    assert.equal([quiet.out, quiet.err], ['', '']);

    const args = ['sample', 'run', '--classes', 'Ring,0', '--count', '3', '--steps', '3', '--seed', '5'];
    await succeed(folder, ...args, '--out', 'a.png', '--each', 'each', '--animate', 'a.gif');
    await succeed(folder, ...args, '--out', 'b.png', '--batch', '2');
    await succeed(folder, ...args, '--out', 'c.png', '--guidance', '4');
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => readFile(join(folder, `${name}.png`))));
    assert.ok(a.equals(b), 'the batch changes the images');
    assert.not.ok(a.equals(c), 'guidance changes nothing');
    assert.ok(existsSync(join(folder, 'each/0-ring.png')) && existsSync(join(folder, 'each/5-circle.png')));
    assert.is((await sharp(join(folder, 'a.gif')).metadata()).pages, 3);
  }));

test('a folder of pictures as they are: sizes, formats and colours mixed, two of them damaged', () =>
  withFolder(async (folder) => {
    const photos = join(folder, 'photos');
    await mkdir(photos);
    const picture = (width: number, height: number): Sharp => {
      const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + (i >> 5) * 13) & 255);
      return sharp(data, { raw: { width, height, channels: 3 } });
    };
    await picture(40, 30).png().toFile(join(photos, 'plain.png'));
    await picture(30, 50).greyscale().png().toFile(join(photos, 'grey.png'));
    await picture(64, 20).png({ palette: true, colours: 8 }).toFile(join(photos, 'palette.png'));
    await picture(20, 20).ensureAlpha(0.5).webp({ lossless: true }).toFile(join(photos, 'alpha.webp'));
    await picture(48, 33).toColourspace('cmyk').jpeg().toFile(join(photos, 'cmyk.jpg'));
    await picture(25, 60).withMetadata({ orientation: 6 }).jpeg().toFile(join(photos, 'turned.JPG'));
    await picture(32, 32).avif().toFile(join(photos, 'small.avif'));
    await picture(50, 40).jpeg().toFile(join(photos, 'cut.jpg'));
    await truncate(join(photos, 'cut.jpg'), 1000);
    await writeFile(join(photos, 'not-an-image.png'), 'hello');
    await writeFile(join(photos, 'notes.txt'), 'hello');
    const { err } = await succeed(
      folder,
      'train',
      ...TINY,
      '--data',
      'photos',
      '--out',
      'run',
      '--epochs',
      '2',
      '--progress',
      'lines',
    );
    assert.match(err, /^Skipped .*photos\/not-an-image\.png: .*\.$/m);
    assert.match(err, /^Skipped .*photos\/cut\.jpg: .*\.$/m);
    assert.match(err, /^2 files could not be read and were skipped\.$/m);
    assert.match(err, '8 images, cropped to 8x8; 1 unreadable file skipped; 1 other file ignored');
    assert.equal(
      (await metrics(join(folder, 'run'))).map(({ step }) => step),
      [1, 2, 3, 4],
    );
    // Without class folders there are no classes.
    assert.match(await refuse(folder, 2, 'sample', 'run', '--classes', '0'), 'the model was trained without classes');
    await succeed(folder, 'sample', 'run', '--steps', '2', '--count', '4', '--sampler', 'ddpm');
    // A name with a slash at its end is a folder, whatever it looks like; so is one that is there.
    for (const out of ['results/v1.0/', 'results/v1.0'])
      assert.match(
        (await succeed(folder, 'sample', 'run', '--steps', '1', '--count', '1', '--out', out)).out,
        'sheet.png',
      );
    assert.ok(existsSync(join(folder, 'results/v1.0/sheet.png')));
    assert.match(
      await refuse(folder, 2, 'sample', 'run', '--out', 'results/v2.0'),
      'or a folder, which ends in a slash',
    );
    // What cannot be written is found before anything is drawn, and leaves no folder.
    await mkdir(join(folder, 'sheet.png'));
    assert.match(
      await refuse(
        folder,
        3,
        'sample',
        'run',
        '--out',
        'new/x.png',
        '--animate',
        'plain/a.gif',
        '--each',
        'run/config.json',
      ),
      /config\.json/,
    );
    assert.not(existsSync(join(folder, 'new')));
    assert.is((await sharp(join(folder, 'samples.png')).metadata()).width, (2 * (8 + 2) + 2) * 8);

    // Moved, it is the same data; with a picture replaced by one of the same size, it is not.
    const moved = join(folder, 'moved');
    await rename(photos, moved);
    assert.match(
      await refuse(folder, 3, 'train', '--resume', 'run', '--steps', '5', '-q'),
      /photos, .* --data where it is now/,
    );
    await succeed(folder, 'train', '--resume', 'run', '--data', 'moved', '--steps', '5', '-q');
    const plain = await readFile(join(moved, 'plain.png'));
    await writeFile(join(moved, 'plain.png'), Buffer.from(plain).fill(0, plain.length - 20, plain.length - 16));
    const replaced = await cli(folder, 'train', '--resume', 'run', '--steps', '9');
    assert.is(replaced.status, 2);
    assert.match(replaced.err, /^Of the run's pictures, plain\.png is other than before\.$/m);
    await rename(moved, photos);
    await rm(join(photos, 'plain.png'));
    const changed = await cli(folder, 'train', '--resume', 'run', '--data', 'photos', '--steps', '9');
    assert.is(changed.status, 2);
    assert.match(
      changed.err,
      /^dis-cli: The data in .*photos is not what the run was begun with; bring it back, or begin a new run\.$/m,
    );
  }));

test('a background that is no colour is told at once', () =>
  withFolder(async (folder) => {
    await mkdir(join(folder, 'photos'));
    assert.match(
      await refuse(folder, 2, 'train', ...TINY, '--data', 'photos', '--background', 'notacolour'),
      /^--background is "notacolour", which is no colour, expected an opaque colour/,
    );
  }));

test('a damaged checkpoint is named', () =>
  withFolder(async (folder) => {
    await succeed(folder, 'train', ...TINY, '--out', 'run', '--steps', '1');
    const step = join(folder, 'run/checkpoints/step-00000001');
    await truncate(join(step, 'ema.safetensors'), (await stat(join(step, 'ema.safetensors'))).size - 4);
    assert.match(await refuse(folder, 3, 'sample', 'run'), /ema\.safetensors is damaged: .*the file is cut/);
    await writeFile(join(step, 'state.json'), '{"step":');
    assert.match(
      await refuse(folder, 3, 'train', '--resume', 'run', '--steps', '2', '-q'),
      /state\.json is not a JSON object; it is damaged/,
    );
    await rm(join(step, 'config.json'));
    assert.match(await refuse(folder, 3, 'sample', 'run'), /cannot read .*config\.json/i);
  }));

test.run();
