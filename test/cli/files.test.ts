import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FileError, writeFileAtomic } from '../../cli/files.ts';

const test = suite<{ folder: string }>('files', { folder: '' });
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'files-'));
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

const failure = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (e: unknown) => e,
  );

test('text, bytes and pieces arrive whole; a file of that name is replaced', async ({ folder }) => {
  const path = join(folder, 'state.bin');
  await writeFileAtomic(path, 'first');
  assert.is(await readFile(path, 'utf8'), 'first');
  await writeFileAtomic(path, Uint8Array.of(1, 2, 3));
  assert.equal([...(await readFile(path))], [1, 2, 3]);
  await writeFileAtomic(path, [Uint8Array.of(4), new Uint8Array(0), Uint8Array.of(5, 6)]);
  assert.equal([...(await readFile(path))], [4, 5, 6]);
  await writeFileAtomic(
    path,
    (async function* () {
      for (let i = 0; i < 3; i++) yield new Uint8Array(100_000).fill(i);
    })(),
  );
  const long = await readFile(path);
  assert.equal([long.length, long[0], long[150_000], long[299_999]], [300_000, 0, 1, 2]);
  assert.equal(await readdir(folder), ['state.bin']);
});

test('while a file is written, and when writing fails half-way, the old one stays; nothing is left behind', async ({
  folder,
}) => {
  const path = join(folder, 'state.bin');
  await writeFileAtomic(path, 'old');
  const half = async function* (code?: string): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10_000);
    assert.is(await readFile(path, 'utf8'), 'old');
    throw Object.assign(new Error('write'), code === undefined ? {} : { code });
  };
  const full = await failure(writeFileAtomic(path, half('ENOSPC')));
  assert.instance(full, FileError);
  assert.equal([(full as FileError).code, (full as FileError).path], ['ENOSPC', path]);
  assert.match(
    (full as FileError).message,
    `[writeFileAtomic] Cannot write ${path}: no space is left on the device; free some space`,
  );
  assert.match(String(await failure(writeFileAtomic(path, half()))), 'Error: write');
  assert.is(await readFile(path, 'utf8'), 'old');
  assert.equal(await readdir(folder), ['state.bin']);
});

test('a missing folder, a file in the way and a folder in the way are named', async ({ folder }) => {
  await writeFile(join(folder, 'file'), '');
  await mkdir(join(folder, 'taken'));
  for (const [name, reason] of [
    ['none/x', 'the folder does not exist'],
    ['file/x', 'not a folder'],
    ['taken', 'there is a folder of that name'],
  ]) {
    const error = await failure(writeFileAtomic(join(folder, name), 'x'));
    assert.instance(error, FileError);
    assert.match((error as FileError).message, reason);
    assert.match((error as FileError).message, join(folder, name));
  }
  assert.equal((await readdir(folder)).sort(), ['file', 'taken']);
});

test.run();
