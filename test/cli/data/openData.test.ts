import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { detectCifar, openCifar } from '../../../cli/data/cifarFiles.ts';
import { openData } from '../../../cli/data/openData.ts';
import { FileError } from '../../../cli/files.ts';
import { FormatError, ValueError } from '../../../core/errors.ts';
import type { Channels } from '../../../models/data/channels.ts';
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

function idx(shape: readonly number[], fill: (i: number) => number): Buffer {
  const length = shape.reduce((a, b) => a * b, 1);
  const header = Buffer.from([
    0,
    0,
    8,
    shape.length,
    ...shape.flatMap((n) => [n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]),
  ]);
  return Buffer.concat([header, Buffer.from(Uint8Array.from({ length }, (_, i) => fill(i)))]);
}

/** Seven training pictures and three for tests, gzipped or not. */
async function mnist(folder: string, { zip = false, ending = '-' } = {}): Promise<void> {
  for (const [part, n] of [
    ['train', 7],
    ['t10k', 3],
  ] as const) {
    const files: Record<string, Buffer> = {
      [`${part}-images${ending}idx3-ubyte`]: idx([n, 28, 28], (i) => Math.floor(i / 784) + n),
      [`${part}-labels${ending}idx1-ubyte`]: idx([n], (i) => i % 3),
    };
    for (const [name, bytes] of Object.entries(files))
      await writeFile(join(folder, zip ? `${name}.gz` : name), zip ? gzipSync(bytes) : bytes);
  }
}

test('IDX files are found, gzipped or not, in both splits, and are the same data', async ({ folder }) => {
  const opened = [];
  for (const [name, options] of Object.entries({ plain: {}, packed: { zip: true }, dotted: { ending: '.' } })) {
    await mkdir(join(folder, name));
    await mnist(join(folder, name), options);
    opened.push(await openData(join(folder, name), { size: 32 }));
  }
  const [{ kind, dataset, description, fingerprint }] = opened;
  assert.equal([kind, dataset.length, dataset.channels, dataset.numClasses], ['idx', 7, 1, 3]);
  assert.match(description, 'IDX train, 7 grey images in 3 classes, padded to 32x32');
  assert.ok(opened.every((other) => other.fingerprint === fingerprint));
  const { pixels, label } = await dataset.item(5);
  assert.equal([label, pixels[0], pixels[2 * 32 + 2], pixels.length], [2, 0, 12, 1024]);
  const test = await openData(join(folder, 'packed'), { size: 28, split: 'test', channels: 3 });
  assert.equal(
    [test.dataset.length, test.dataset.channels, (await test.dataset.item(0)).pixels.length],
    [3, 3, 28 * 28 * 3],
  );
  assert.match(test.description, 'as RGB');
  const bare = await openData(`idx:${join(folder, 'plain')}`, { size: 32, unlabelled: true });
  assert.equal([bare.dataset.numClasses, (await bare.dataset.item(5)).label], [0, 0]);
  assert.is(new Set([fingerprint, test.fingerprint, bare.fingerprint]).size, 3);
});

test('classes.txt beside IDX files names the classes', async ({ folder }) => {
  await mnist(folder);
  await writeFile(join(folder, 'classes.txt'), 'shirt\r\ntrouser\n\nbag\nboot\n');
  assert.equal((await openData(folder, { size: 28 })).dataset.classNames, ['shirt', 'trouser', 'bag', 'boot']);
});

test('IDX files that are missing, cut, padded or lie about their size', async ({ folder }) => {
  const images = join(folder, 'train-images-idx3-ubyte.gz'),
    labels = join(folder, 'train-labels-idx1-ubyte');
  const refused = async (type: new (...args: never[]) => Error, pattern: RegExp): Promise<void> => {
    const error = await failure(openData(folder, { size: 28, pauses: [] }));
    assert.ok(error instanceof type, String(error));
    assert.match(error.message, pattern);
  };
  const good = idx([4, 28, 28], (i) => i % 251);
  await writeFile(images, gzipSync(good));
  await refused(FileError, /no labels of the train split, expected train-labels-idx1-ubyte or/);
  await writeFile(
    labels,
    idx([4], () => 1),
  );
  await openData(folder, { size: 28 });
  const bomb = Buffer.concat([good.subarray(0, 16), Buffer.alloc(50_000_000)]);
  const liar = Buffer.from(good);
  liar.writeUInt32BE(4_000_000_000, 4);
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [gzipSync(good).subarray(0, 100), /cannot be unpacked|bytes less than its header says/],
    [gzipSync(good.subarray(0, 2000)), /unpacks to 1152 bytes less than its header says/],
    [gzipSync(Buffer.concat([good, Buffer.alloc(1)])), /unpacks to more bytes than its header says/],
    [gzipSync(bomb), /unpacks to more bytes than its header says/],
    [gzipSync(liar), /holds 3136000000000 bytes of elements, expected at most/],
    [gzipSync(Buffer.alloc(3)), /ends after 3 bytes/],
    [Buffer.from([0x1f, 0x8b, 8]), /cannot be unpacked/],
    [liar, /holds 3136000000000 bytes of elements/],
    [good.subarray(0, 500), /holds 3136 bytes of elements, expected as many as/],
    [Buffer.alloc(0), /ends after 0 bytes/],
  ];
  for (const [bytes, pattern] of cases) {
    await writeFile(images, bytes);
    await refused(FormatError, pattern);
  }
  await writeFile(images, gzipSync(good));
  await writeFile(join(folder, 'classes.txt'), 'x\n'.repeat(65536));
  await refused(FormatError, /classes.txt is too long/);
});

test('one, three and four channels of a folder of pictures; what cannot be asked for', async ({ folder }) => {
  const background = { r: 10, g: 200, b: 30, alpha: 0 };
  const half = { r: 200, g: 100, b: 0, alpha: 0.5 };
  for (const [name, colour] of Object.entries({ a: background, b: half }))
    await sharp({ create: { width: 9, height: 9, channels: 4, background: colour } })
      .png()
      .toFile(join(folder, `${name}.png`));
  const first = async (channels: Channels, background?: string): Promise<number[][]> => {
    const { dataset } = await openData(folder, { size: 9, channels, background });
    assert.is(dataset.channels, channels);
    return Promise.all([0, 1].map(async (i) => [...(await dataset.item(i)).pixels.subarray(0, dataset.channels)]));
  };
  assert.equal(await first(4), [
    [0, 0, 0, 0],
    [200, 100, 0, 128],
  ]);
  assert.equal(await first(3, 'white'), [
    [255, 255, 255],
    [227, 177, 127],
  ]);
  assert.equal(await first(1, 'white'), [[255], [186]]);
  const marks = await Promise.all(
    ([undefined, 3, 1, 4] as const).map(
      async (channels) => (await openData(folder, { size: 9, channels })).fingerprint,
    ),
  );
  // Without a word, what the pictures have.
  assert.is(marks[0], marks[3]);
  assert.is(new Set(marks).size, 3);
  const notices: string[] = [];
  const { dataset: own } = await openData(folder, { size: 9, onNotice: (line) => notices.push(line) });
  assert.is(own.channels, 4);
  assert.match(notices.join(), '--channels 3 drops it');
  assert.is((await openData(folder, { size: 9, background: 'white' })).dataset.channels, 3);
  // Colour and transparency in equal parts: colour. Grey alone: grey.
  for (const name of ['c', 'd'])
    await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } })
      .png()
      .toFile(join(folder, `${name}.png`));
  assert.is((await openData(folder, { size: 9 })).dataset.channels, 3);
  await mkdir(join(folder, 'grey'));
  await sharp(new Uint8Array(81), { raw: { width: 9, height: 9, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toFile(join(folder, 'grey', 'a.png'));
  assert.is((await openData(join(folder, 'grey'), { size: 9 })).dataset.channels, 1);
  for (const [options, pattern] of [
    [{ channels: 4, background: 'white' }, /channels is 4, and a background takes the transparency away/],
    [{ split: 'test' }, /split is test, but .* is a folder of images/],
  ] as const) {
    const error = await failure(openData(folder, { size: 9, ...options }));
    assert.ok(error instanceof ValueError && pattern.test(error.message), String(error));
  }
});

test('the test split of shapes is another set', async () => {
  const { dataset, fingerprint } = await openData('shapes', { size: 16, split: 'test' });
  assert.equal([dataset.length, await dataset.item(3)], [10_000, shapesItem(3, { size: 16, seed: 1 })]);
  const grey = await openData('shapes', { size: 16, split: 'test', channels: 1 });
  assert.equal([grey.dataset.channels, (await grey.dataset.item(3)).pixels.length], [1, 256]);
  assert.is.not(fingerprint, grey.fingerprint);
});

test.run();
