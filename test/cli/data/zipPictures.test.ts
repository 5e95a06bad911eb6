import { mkdir, mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openData, type OpenDataOptions, type OpenedData } from '../../../cli/data/openData.ts';
import type { SkippedFile } from '../../../cli/data/pictureSource.ts';
import { FileError } from '../../../cli/files.ts';
import { FormatError } from '../../../core/errors.ts';
import { png, zipped } from './zipFiles.ts';

const test = suite<{ folder: string }>('zipPictures', { folder: '' });
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'zip-'));
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

const skipped: SkippedFile[] = [];
test.before.each(() => {
  skipped.length = 0;
});

function opened(path: string, options: Partial<OpenDataOptions> = {}): Promise<OpenedData> {
  return openData(path, { size: 8, pauses: [], onSkip: (file) => skipped.push(file), ...options });
}

async function archive(folder: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const path = join(folder, 'a.zip');
  await writeFile(path, await zipped(files));
  return path;
}

async function refused(
  promise: Promise<unknown>,
  type: new (...args: never[]) => Error,
  pattern: RegExp,
): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(error instanceof type, String(error));
  assert.match(error.message, pattern);
}

/** The first pixel and the label of every item. */
async function items({ dataset }: OpenedData): Promise<number[][]> {
  const all = await Promise.all(Array.from({ length: dataset.length }, async (_, i) => dataset.item(i)));
  return all.map(({ pixels, label }) => [...pixels.subarray(0, 3), label]);
}

test('class folders in an archive are the same data as in a folder', async ({ folder }) => {
  const files: Record<string, Buffer> = {
    'dogs/b.png': await png([3, 3, 9]),
    'cats/z.png': await png([1, 1, 7]),
    'cats/a.PNG': await png([2, 2, 8]),
  };
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(join(folder, 'plain', dirname(name)), { recursive: true });
    await writeFile(join(folder, 'plain', name), bytes);
  }
  const plain = await opened(join(folder, 'plain'));
  for (const prefix of ['', 'photos/', 'photos/of/']) {
    const wrapped = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [prefix + name, bytes]));
    const path = await archive(folder, { ...wrapped, 'readme.txt': 'x', '__MACOSX/cats/._a.png': 'x' });
    for (const spec of [path, `zip:${path}`]) {
      const packed = await opened(spec);
      assert.equal([packed.kind, packed.dataset.classNames], ['zip', ['cats', 'dogs']]);
      assert.equal(await items(packed), [
        [2, 2, 8, 0],
        [1, 1, 7, 0],
        [3, 3, 9, 1],
      ]);
      assert.is(packed.fingerprint, plain.fingerprint);
      assert.match(packed.description, '3 images in 2 classes, cropped to 8x8; 1 other file ignored');
    }
  }
  assert.equal(skipped, []);
  const bare = await opened(join(folder, 'a.zip'), { unlabelled: true });
  assert.equal([bare.dataset.length, bare.dataset.numClasses], [3, 0]);
});

test("EDM's dataset.json gives labels, in archives and folders; null says that there are none", async ({ folder }) => {
  const pictures: Record<string, Buffer> = {};
  for (let i = 0; i < 5; i++) pictures[`0000${i % 2}/img${i}.png`] = await png([10 * i, 0, 255]);
  const labels = [3, 0, 3, 1].map((label, i) => [
    `0000${i % 2}\\img${i}.png`.replaceAll('\\', i === 0 ? '\\' : '/'),
    label,
  ]);
  const json = JSON.stringify({ labels });
  for (const prefix of ['', 'wrapped/']) {
    const wrapped = Object.fromEntries(
      Object.entries({ ...pictures, 'dataset.json': json }).map(([name, bytes]) => [prefix + name, bytes]),
    );
    const packed = await opened(await archive(folder, wrapped));
    assert.equal([packed.dataset.numClasses, packed.dataset.classNames], [4, ['0', '1', '2', '3']]);
    assert.equal(await items(packed), [
      [0, 0, 255, 3],
      [20, 0, 255, 3],
      [10, 0, 255, 0],
      [30, 0, 255, 1],
    ]);
    assert.match(packed.description, '4 images in 4 classes, cropped to 8x8; 1 image without a class left out');
  }
  assert.match(skipped[0].reason, 'dataset.json gives it no class');
  const plain = join(folder, 'plain');
  for (const [name, bytes] of Object.entries({ ...pictures, 'dataset.json': json })) {
    await mkdir(dirname(join(plain, name)), { recursive: true });
    await writeFile(join(plain, name), bytes);
  }
  assert.is((await opened(plain)).fingerprint, (await opened(join(folder, 'a.zip'))).fingerprint);
  const none = await opened(await archive(folder, { ...pictures, 'dataset.json': '{"labels": null}' }));
  assert.equal([none.dataset.length, none.dataset.numClasses], [5, 0]);
  // Another program's file of this name says nothing.
  const other = await opened(await archive(folder, { ...pictures, 'dataset.json': '{"name": "x"}' }));
  assert.equal(other.dataset.classNames, ['00000', '00001']);
  assert.match(other.description, '1 other file ignored');
});

test('a dataset.json that is wrong is named with the field', async ({ folder }) => {
  for (const [json, pattern] of [
    ['{', /dataset.json is no JSON, expected|dataset.json is no JSON; make it again/],
    ['{"labels": 3}', /dataset.json: labels is 3, expected a list; make it again/],
    ['{"labels": [["a.png", -1]]}', /labels.0.1 is -1, expected at least 0/],
    ['{"labels": [["a.png", 1.5]]}', /labels.0.1 is 1.5, expected a whole number/],
    ['{"labels": [["a.png", 1e9]]}', /labels.0.1 is 1000000000, expected at most 999999/],
    ['{"labels": [[7, 1]]}', /labels.0.0 is 7, expected a text/],
  ] as const)
    await refused(
      opened(await archive(folder, { 'a.png': await png([1, 2, 3]), 'dataset.json': json })),
      FormatError,
      pattern,
    );
});

test('damaged pictures in an archive are named and left out, as in a folder', async ({ folder }) => {
  const noise = Buffer.from(Uint8Array.from({ length: 3000 }, (_, i) => (i * i * 7919) >> 5));
  const good = await png([1, 2, 3]);
  const bytes = await zipped({ 'a.png': good, 'b.png': 'no picture', 'c.png': noise, 'd.png': '', 'e.jpg': good });
  // The deflated stream of c.png: no block begins so.
  const at = bytes.indexOf('c.png') + 'c.png'.length;
  bytes.fill(0xff, at, at + 200);
  await writeFile(join(folder, 'a.zip'), bytes);
  const data = await opened(join(folder, 'a.zip'));
  assert.is(data.dataset.length, 2);
  assert.equal(
    skipped.map(({ path }) => path.slice(folder.length)),
    ['/a.zip/b.png', '/a.zip/c.png', '/a.zip/d.png'],
  );
  assert.match(skipped[1].reason, /damaged/);
  assert.match(skipped[2].reason, 'the file is empty');
});

test('an archive that changes while it is read, or goes away', async ({ folder }) => {
  const path = await archive(folder, { 'a.png': await png([1, 2, 3]), 'b.png': await png([4, 5, 6]) });
  const data = await opened(path, { cacheBytes: 0 });
  assert.equal(await items(data), [
    [1, 2, 3, 0],
    [4, 5, 6, 0],
  ]);
  const before = await readFile(path);
  const changed = await zipped({ 'a.png': await png([1, 2, 3]), 'b.png': await png([4, 5, 7]) });
  await writeFile(path, changed);
  await refused(
    Promise.resolve(data.dataset.item(1)),
    FileError,
    /Cannot read .*a.zip\/b.png: its content is not what it was/,
  );
  await rm(path);
  await refused(Promise.resolve(data.dataset.item(1)), FileError, /Cannot read .*: it is not there/);
  await writeFile(path, before);
  assert.equal(await items(data), [
    [1, 2, 3, 0],
    [4, 5, 6, 0],
  ]);
});

test('what an earlier look found is taken where the archive was not touched', async ({ folder }) => {
  const path = await archive(folder, { 'a.png': await png([1, 2, 3]), 'b.png': await png([4, 5, 6]) });
  const { index, fingerprint } = await opened(path);
  const bytes = await readFile(path);
  // Damage that leaves size and times as they were: only a look would find it.
  const known = await opened(path, { known: index, channels: 3 });
  assert.is(known.fingerprint, fingerprint);
  for (const name of ['a.png', 'b.png']) assert.is(known.index!.get(name), index!.get(name));
  await writeFile(path, bytes);
  await utimes(path, 1, 1);
  const looked = await opened(path, { known: index, channels: 3 });
  assert.is.not(looked.index!.get('a.png'), index!.get('a.png'));
  assert.is(looked.fingerprint, fingerprint);
});

test('hostile archives: overlapping entries, counts and sizes that lie, names that lead outside', async ({
  folder,
}) => {
  const path = join(folder, 'a.zip');
  const good = await zipped({ 'aa.png': await png([1, 2, 3]), 'bb.png': Buffer.alloc(200_000, 7) });
  const patched = async (patch: (bytes: Buffer) => void): Promise<Promise<OpenedData>> => {
    const bytes = Buffer.from(good);
    patch(bytes);
    await writeFile(path, bytes);
    return opened(path);
  };
  const end = good.length - 22;
  const directory = good.readUInt32LE(end + 16);
  const second = good.indexOf(Buffer.from('PK\x01\x02', 'latin1'), directory + 4);
  // A count that does not fit into the file, and one beyond what follows.
  await refused(
    patched((bytes) => {
      bytes.writeUInt16LE(60_000, end + 8);
      bytes.writeUInt16LE(60_000, end + 10);
    }),
    FormatError,
    /says that it holds 60000 files, more than fit|cannot be read as a ZIP archive/,
  );
  await refused(
    patched((bytes) => {
      bytes.writeUInt16LE(3, end + 8);
      bytes.writeUInt16LE(3, end + 10);
    }),
    FormatError,
    /cannot be read as a ZIP archive/,
  );
  // More packed bytes than the file has.
  await refused(
    patched((bytes) => void bytes.writeUInt32LE(1_000_000, second + 20)),
    FormatError,
    /entries that overlap/,
  );
  // Sizes that no deflate reaches, and one that is merely wrong.
  for (const size of [4_000_000_000, 1_000_000_000, 900_000_000, 199_999, 200_001]) {
    skipped.length = 0;
    const data = await patched((bytes) => void bytes.writeUInt32LE(size, second + 24));
    assert.is((await data).dataset.length, 1);
    assert.match(skipped[0].reason, /too large|more than it can|damaged/);
  }
  // Names.
  for (const name of ['../a.p', '/aa.pn', 'C:/a.p'])
    await refused(
      patched((bytes) => void bytes.write(name, directory + 46)),
      FormatError,
      /cannot be read as a ZIP archive/,
    );
  // Encrypted.
  skipped.length = 0;
  await patched((bytes) => void bytes.writeUInt16LE(bytes.readUInt16LE(second + 8) | 1, second + 8));
  assert.match(skipped[0].reason, 'it is encrypted');
  skipped.length = 0;
  await patched((bytes) => void bytes.writeUInt16LE(14, second + 10));
  assert.match(skipped[0].reason, 'packed by method 14');
  // Cut short, or no archive.
  for (const bytes of [good.subarray(0, good.length - 10), good.subarray(0, 40), good.subarray(50)]) {
    await writeFile(path, bytes);
    await refused(opened(`zip:${path}`), FormatError, /cannot be read as a ZIP archive/);
  }
  await writeFile(path, 'text');
  await refused(opened(path), FileError, /is a file, expected a folder or a ZIP archive/);
  await refused(opened(join(folder, 'none.zip')), FileError, /does not exist/);
  await refused(opened(`zip:${join(folder, 'none.zip')}`), FileError, /Cannot read .*none.zip: it is not there/);
});

test.run();
