import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { detectCifar, openCifar } from '../../../cli/data/cifarFiles.ts';
import { openData } from '../../../cli/data/openData.ts';
import { FileError } from '../../../cli/files.ts';
import { FormatError, ValueError } from '../../../core/errors.ts';
import { CIFAR10_CLASSES } from '../../../models/data/cifar.ts';
import { shapesItem } from '../../../models/data/shapes.ts';

const test = suite<{ folder: string }>('openData', { folder: '' });
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'data-'));
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

const failure = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (e: unknown) => e,
  );

/** Records whose pixels all equal the last label byte. */
const records = (...labels: number[][]): Uint8Array =>
  Uint8Array.from(labels.flatMap((l) => [...l, ...new Array<number>(3072).fill(l[l.length - 1])]));

async function cifar10(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const i of [1, 2, 3]) await writeFile(join(folder, `data_batch_${i}.bin`), records([i], [i + 3]));
  await writeFile(join(folder, 'test_batch.bin'), records([9]));
}

test('shapes: drawn items, seed, length, without labels', async () => {
  const { kind, dataset, description, skipped } = await openData('shapes', {
    size: 16,
    shapesSeed: 3,
    shapesLength: 40,
  });
  assert.equal([kind, dataset.length, dataset.size, skipped()], ['shapes', 40, 16, []]);
  assert.equal(await dataset.item(7), shapesItem(7, { size: 16, seed: 3 }));
  assert.match(description, '40 drawn images in 10 classes, 16x16');
  const { dataset: bare } = await openData('shapes', { size: 16, unlabelled: true });
  assert.equal([bare.numClasses, (await bare.item(7)).label], [0, 0]);
});

test('CIFAR-10 is found in its folder or the one above, by content or by name; train and test apart', async ({
  folder,
}) => {
  await cifar10(join(folder, 'cifar-10-batches-bin'));
  for (const spec of [folder, `cifar10:${folder}`, join(folder, 'cifar-10-batches-bin')]) {
    const { kind, dataset } = await openData(spec, { size: 32 });
    assert.equal([kind, dataset.length, dataset.classNames], ['cifar10', 6, CIFAR10_CLASSES]);
    const items = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => dataset.item(i)));
    assert.equal(
      items.map(({ label }) => label),
      [1, 4, 2, 5, 3, 6],
    );
    assert.ok(items.every(({ pixels, label }) => pixels.every((v) => v === label)));
  }
  assert.is((await openData(folder, { size: 32, split: 'test' })).dataset.length, 1);
});

test('CIFAR-100: names from the text files, fine and coarse', async ({ folder }) => {
  await writeFile(join(folder, 'train.bin'), records([4, 30], [19, 99]));
  await writeFile(
    join(folder, 'coarse_label_names.txt'),
    `${Array.from({ length: 20 }, (_, i) => `coarse${i}`).join('\r\n')}\n\n`,
  );
  assert.is(await detectCifar(folder), 'cifar100');
  const fine = await openCifar(folder, 'cifar100');
  assert.equal([fine.numClasses, fine.classNames[30], (await fine.item(1)).label], [100, '30', 99]);
  const { dataset: coarse } = await openData(folder, { size: 16, cifarLabels: 'coarse' });
  assert.equal(
    [coarse.numClasses, coarse.classNames[4], (await coarse.item(0)).label, coarse.size],
    [20, 'coarse4', 4, 16],
  );
});

test('a folder of images; the description counts what was left out', async ({ folder }) => {
  const png = await sharp({ create: { width: 9, height: 9, channels: 3, background: '#123456' } })
    .png()
    .toBuffer();
  for (const name of ['cat', 'dog']) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'a.png'), png);
  }
  await writeFile(join(folder, 'cat', 'bad.png'), 'x');
  await writeFile(join(folder, 'readme.md'), 'x');
  const opened = await openData(folder, { size: 8 });
  assert.equal([opened.kind, opened.dataset.classNames, opened.skipped().length], ['folder', ['cat', 'dog'], 1]);
  assert.match(
    opened.description,
    '2 images in 2 classes, cropped to 8x8; 1 unreadable file skipped; 1 other file ignored',
  );
  assert.is((await openData(`folder:${folder}`, { size: 8, unlabelled: true })).dataset.numClasses, 0);
});

test('the fingerprint is the same for the same data, and another for other data', async ({ folder }) => {
  const png = await sharp({ create: { width: 9, height: 9, channels: 3, background: '#123456' } })
    .png()
    .toBuffer();
  await writeFile(join(folder, 'a.png'), png);
  const print = async (spec: string, size = 8, shapesSeed = 0): Promise<string> =>
    (await openData(spec, { size, shapesSeed })).fingerprint;
  const before = await print(folder);
  assert.is(await print(folder), before);
  // A picture replaced by another of the same size, and the same picture in another place.
  const other = Buffer.from(png);
  other[other.length - 20] ^= 1;
  await writeFile(join(folder, 'a.png'), other);
  const replaced = await print(folder);
  await writeFile(join(folder, 'a.png'), png);
  await mkdir(join(folder, 'moved'));
  await writeFile(join(folder, 'moved', 'a.png'), png);
  assert.is(await print(join(folder, 'moved')), before);
  await rm(join(folder, 'moved'), { recursive: true });
  await writeFile(join(folder, 'b.png'), png);
  const cifar = join(folder, 'cifar');
  await cifar10(cifar);
  const first = await print(cifar);
  await writeFile(join(cifar, 'data_batch_2.bin'), records([2], [6]));
  assert.is.not(await print(cifar), first, 'a batch file of the same size');
  await rm(cifar, { recursive: true });
  const all = [
    before,
    replaced,
    await print(folder),
    await print(folder, 9),
    await print('shapes'),
    await print('shapes', 9),
    await print('shapes', 8, 1),
  ];
  assert.is(new Set(all).size, all.length);
});

test('errors are one sentence each', async ({ folder }) => {
  const fails = async (spec: string, type: new (...args: never[]) => Error, pattern: RegExp): Promise<void> => {
    const error = await failure(openData(spec, { size: 32 }));
    assert.ok(error instanceof type, String(error));
    assert.match(error.message, pattern);
    assert.not.match(error.message, /\n/);
  };
  await fails(join(folder, 'no'), FileError, /no does not exist, expected a folder/);
  await fails('', FileError, /does not exist/);
  await fails(folder, FileError, /holds no image/);
  await fails(
    `cifar10:${folder}`,
    FileError,
    /holds no train files of cifar10, expected data_batch_1\.bin …; unpack the archive/,
  );
  await writeFile(join(folder, 'data_batch_1'), 'pickle');
  await fails(`cifar10:${folder}`, FileError, /Python version, get the binary version/);
  await writeFile(join(folder, 'data_batch_1.bin'), new Uint8Array(100));
  await fails(folder, FormatError, /data_batch_1\.bin has 100 bytes, expected a multiple of 3073/);
  assert.instance(await failure(openData('shapes', { size: 4 })), ValueError);
});

test.run();
