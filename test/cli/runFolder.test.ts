import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../core/errors.ts';
import { UsageError } from '../../cli/errors.ts';
import { FileError, sweepTemporary, writeFileAtomic } from '../../cli/files.ts';
import { acquireLock } from '../../cli/lock.ts';
import { MetricsFile, truncateMetrics } from '../../cli/metricsFile.ts';
import { readJson } from '../../cli/jsonFile.ts';
import { beginning } from '../../cli/processes.ts';
import { createRun, locateCheckpoint, openRun } from '../../cli/runFolder.ts';
import { checkpoints, withFolder } from './support.ts';

const test = suite('runFolder');

const failure = async (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => {
      throw new Error('nothing failed');
    },
    (error: Error) => error,
  );
const files = (step: number): [string, string][] => [
  ['model.bin', `weights of ${step}`],
  ['state.json', `{"step":${step}}`],
];

test('checkpoints are whole folders, found by their step, and only the newest are kept', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    for (const step of [1, 2, 10, 123_456_789]) await run.writeCheckpoint(step, files(step));
    assert.equal(
      (await run.checkpoints()).map(({ step }) => step),
      [1, 2, 10, 123_456_789],
    );
    const located = await locateCheckpoint(run.path);
    assert.equal([located.run, located.checkpoint.step], [run.path, 123_456_789]);
    assert.is(await readFile(join(located.checkpoint.path, 'model.bin'), 'utf8'), 'weights of 123456789');

    await run.prune(0);
    assert.is((await run.checkpoints()).length, 4);
    await run.prune(2);
    assert.equal(await checkpoints(run.path), ['step-00000010', 'step-123456789']);
    // What is there already is not written again.
    await run.writeCheckpoint(10, [['model.bin', 'other']]);
    assert.is(await readFile(join(run.path, 'checkpoints/step-00000010/model.bin'), 'utf8'), 'weights of 10');
    await run.close();
  }));

test('a checkpoint that cannot be written leaves nothing, and the older ones', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    await run.writeCheckpoint(1, files(1));
    const full = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(1000);
      throw Object.assign(new Error('write'), { code: 'ENOSPC' });
    };
    const error = await failure(run.writeCheckpoint(2, [['model.bin', full()]]));
    assert.instance(error, FileError);
    assert.is((error as FileError).code, 'ENOSPC');
    assert.match(error.message, 'no space is left');
    assert.equal(await readdir(join(run.path, 'checkpoints')), ['step-00000001']);
    await run.close();
  }));

test('what a killed process left half-written is no checkpoint, and goes when the run is opened', () =>
  withFolder(async (folder) => {
    const path = join(folder, 'run');
    const run = await createRun(path);
    await run.writeConfig({});
    await run.writeCheckpoint(1, files(1));
    await run.close();
    const half = join(path, 'checkpoints', '.step-00000002.4711.tmp');
    await mkdir(half);
    await writeFile(join(half, 'model.bin'), 'half');
    assert.is((await locateCheckpoint(path)).checkpoint.step, 1);
    const again = await openRun(path);
    assert.equal(await readdir(join(path, 'checkpoints')), ['step-00000001']);
    await again.close();
  }));

test('another run is not overwritten, nor any other folder; one without a checkpoint is begun again', () =>
  withFolder(async (folder) => {
    const path = join(folder, 'run');
    const run = await createRun(path);
    await run.writeConfig({});
    await writeFile(run.metrics, '{"step":1}\n');
    await run.close();
    const again = await createRun(path);
    assert.not(existsSync(again.metrics));
    await again.writeCheckpoint(1, files(1));
    await again.close();
    assert.match((await failure(createRun(path))).message, /holds another run; go on with it by --resume/);

    await mkdir(join(folder, 'photos'));
    await writeFile(join(folder, 'photos', 'cat.jpg'), '');
    const foreign = await failure(createRun(join(folder, 'photos')));
    assert.instance(foreign, FileError);
    assert.match(foreign.message, /photos holds cat\.jpg, expected a new or empty folder/);
    await writeFile(join(folder, 'file'), '');
    assert.match((await failure(createRun(join(folder, 'file')))).message, 'not a folder');
  }));

test('two processes cannot train in one folder; a lock of a dead process is replaced', () =>
  withFolder(async (folder) => {
    const path = join(folder, 'run'),
      lock = join(path, 'run.lock');
    const run = await createRun(path);
    await run.close();
    assert.not(existsSync(lock));

    const elsewhere = JSON.stringify({ pid: process.ppid, host: hostname() });
    await writeFile(lock, elsewhere);
    const busy = await failure(openRun(path));
    assert.instance(busy, UsageError);
    assert.match(busy.message, `in use by process ${process.ppid}; wait for it`);
    assert.is(await readFile(lock, 'utf8'), elsewhere);

    await writeFile(lock, JSON.stringify({ pid: 1, host: 'another-machine' }));
    assert.match((await failure(openRun(path))).message, 'process 1 on another-machine');

    // Above the largest process number of any system.
    for (const stale of [JSON.stringify({ pid: 2 ** 30, host: hostname() }), '', 'cut']) {
      await writeFile(lock, stale);
      const opened = await openRun(path);
      assert.is((JSON.parse(await readFile(lock, 'utf8')) as { pid: number }).pid, process.pid);
      await opened.close();
    }
    assert.equal(
      (await readdir(path)).filter((name) => name.endsWith('.tmp')),
      [],
    );
  }));

test('a lock of another machine ends without a sign of life, and the holder gives them', () =>
  withFolder(async (folder) => {
    const lock = join(folder, 'run.lock');
    const elsewhere = JSON.stringify({ pid: 1, host: 'another-machine' });
    await writeFile(lock, elsewhere);
    const busy = await failure(acquireLock(lock, 'run'));
    assert.instance(busy, UsageError);
    assert.match(
      busy.message,
      /process 1 on another-machine, which was last seen \d+ s ago; .* its lock ends after 3:00/,
    );
    const longAgo = new Date(Date.now() - 10 * 60_000);
    await utimes(lock, longAgo, longAgo);
    const held = await acquireLock(lock, 'run', { heartbeat: 0.02 });
    await utimes(lock, longAgo, longAgo);
    for (let i = 0; i < 200 && (await stat(lock)).mtimeMs < Date.now() - 60_000; i++) await sleep(10);
    assert.ok((await stat(lock)).mtimeMs > Date.now() - 60_000, 'touched');
    // One that stood still for too long may find another's lock there, and leaves it.
    await writeFile(lock, elsewhere);
    assert.is(await held.isHeld(), false);
    await held.release();
    assert.is(await readFile(lock, 'utf8'), elsewhere);
  }));

test("a lock of this machine whose number another process has by now is nobody's", () =>
  withFolder(async (folder) => {
    if (beginning(process.ppid) === undefined) return; // the system doesn't tell
    const lock = join(folder, 'run.lock');
    await writeFile(lock, JSON.stringify({ pid: process.ppid, host: hostname(), began: 'an earlier boot 1' }));
    await (await acquireLock(lock, 'run')).release();
    await writeFile(lock, JSON.stringify({ pid: process.ppid, host: hostname(), began: beginning(process.ppid) }));
    assert.instance(await failure(acquireLock(lock, 'run')), UsageError);
    // What is no lock at all is replaced, whatever its size.
    await truncate(lock, 2 ** 33);
    await (await acquireLock(lock, 'run')).release();
  }));

test('a run that another process took over gets no checkpoint', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    await writeFile(join(run.path, 'run.lock'), JSON.stringify({ pid: 1, host: 'another-machine' }));
    assert.match((await failure(run.writeCheckpoint(1, files(1)))).message, /was taken over by another process/);
    assert.equal(await checkpoints(run.path), []);
  }));

test("links named as a run's folders are not followed", () =>
  withFolder(async (folder) => {
    const precious = join(folder, 'precious'),
      path = join(folder, 'run');
    for (const step of [1, 2, 3]) await mkdir(join(precious, `step-0000000${step}`), { recursive: true });
    for (const name of ['checkpoints', 'samples', 'metrics.jsonl']) {
      await mkdir(path);
      const target = name === 'metrics.jsonl' ? join(precious, 'note') : precious;
      await writeFile(join(precious, 'note'), 'mine\n');
      await symlink(target, join(path, name));
      for (const use of [createRun, openRun, locateCheckpoint]) {
        const error = await failure(use(path));
        assert.instance(error, FileError);
        assert.match(error.message, /is a link, expected the run's own/);
      }
      await rm(path, { recursive: true });
    }
    assert.equal((await readdir(precious)).length, 4);
    assert.is(await readFile(join(precious, 'note'), 'utf8'), 'mine\n');
  }));

test('what killed processes left goes at the next start', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    await run.close();
    const left = [
      '.config.json.4711.aabbccdd.tmp',
      'samples/.step-00000003.png.4711.aabbccdd.tmp',
      'run.lock.4711.tmp',
    ];
    for (const name of left) await writeFile(join(run.path, name), 'half');
    await (await openRun(run.path)).close();
    for (const name of left) assert.not(existsSync(join(run.path, name)), name);
    // In a folder that isn't ours alone, only what no process of this machine writes any more.
    await writeFileAtomic(join(folder, 'a.txt'), 'a');
    let temporary = '';
    const pieces = (async function* () {
      [temporary] = (await readdir(folder)).filter((name) => name.endsWith('.tmp'));
      yield await Promise.resolve(Buffer.from('b'));
    })();
    await writeFileAtomic(join(folder, 'b.txt'), pieces);
    const dead = temporary.replace(`-${process.pid}.`, `-${2 ** 30}.`),
      other = temporary.replace(/\.[0-9a-f]{6}-/, '.zzzzzz-');
    assert.is.not(dead, temporary);
    for (const name of [temporary, dead, other]) await writeFile(join(folder, name), '');
    await sweepTemporary(folder);
    assert.equal(
      [temporary, dead, other].map((name) => existsSync(join(folder, name))),
      [true, false, true],
    );
  }));

test('a path that is no run says what it is instead', () =>
  withFolder(async (folder) => {
    const cases: [string, RegExp][] = [
      ['nowhere', /nowhere does not exist/],
      ['file', /file is a file/],
      ['empty', /holds neither a run nor a checkpoint/],
      ['young', /without a checkpoint yet/],
    ];
    await writeFile(join(folder, 'file'), '');
    await mkdir(join(folder, 'empty'));
    await (await createRun(join(folder, 'young'))).close();
    for (const [name, pattern] of cases) {
      const error = await failure(locateCheckpoint(join(folder, name)));
      assert.instance(error, FileError);
      assert.match(error.message, pattern);
    }
    await writeFile(join(folder, 'broken.json'), '{"step":');
    assert.instance(await failure(readJson(join(folder, 'broken.json'))), FormatError);
    assert.match((await failure(readJson(join(folder, 'none.json')))).message, 'none.json');
  }));

test('a checkpoint may be copied to another place', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    await run.writeConfig({});
    const path = await run.writeCheckpoint(7, files(7));
    await run.close();
    const inside = await locateCheckpoint(path);
    assert.equal([inside.run, inside.checkpoint.step], [run.path, 7]);
    await mkdir(join(folder, 'copy'));
    await writeFile(join(folder, 'copy', 'state.json'), '{"step":7}');
    const alone = await locateCheckpoint(join(folder, 'copy'));
    assert.equal([alone.run, alone.checkpoint.step], [undefined, 7]);
  }));

test('metrics beyond a step are forgotten, and a line that was cut', () =>
  withFolder(async (folder) => {
    const run = await createRun(join(folder, 'run'));
    const lines = [1, 2, 3].map((step) => JSON.stringify({ step, loss: step / 3 }));
    await writeFile(run.metrics, `${lines.join('\n')}\n{"step":4,"lo`);
    await truncateMetrics(run.metrics, 2);
    assert.is(await readFile(run.metrics, 'utf8'), `${lines.slice(0, 2).join('\n')}\n`);
    await rm(run.metrics);
    await truncateMetrics(run.metrics, 2);
    assert.not(existsSync(run.metrics));
    const file = await MetricsFile.open(run.metrics);
    assert.is(await file.append({ step: 1 }), true);
    assert.is(await file.close(), true);
    assert.is(await readFile(run.metrics, 'utf8'), '{"step":1}\n');
    await run.close();
  }));

test('metrics of any size are cut from their end in bounded time and memory', () =>
  withFolder(async (folder) => {
    const path = join(folder, 'metrics.jsonl');
    // Two hundred thousand records before, as many after, and one line of 600 MB, of which the disk holds nothing.
    const record = (step: number): string => `{"step":${step},"loss":0.123456789,"lr":0.0001}\n`;
    const before = Array.from({ length: 200_000 }, (_, i) => record(i + 1)).join('');
    const after = Array.from({ length: 200_000 }, (_, i) => record(200_001 + i)).join('');
    await writeFile(path, before + after);
    await truncate(path, before.length + after.length + 600e6);
    const memory = process.memoryUsage().rss;
    const began = performance.now();
    await truncateMetrics(path, 200_000);
    assert.ok(performance.now() - began < 20_000);
    assert.ok(process.memoryUsage().rss - memory < 200e6);
    assert.is(await readFile(path, 'utf8'), before);
    // A note of somebody else's stays, a line that was cut goes.
    for (const [text, kept] of [
      ['{"note":"x"}\n{"step":9}\n', '{"note":"x"}\n'],
      ['{"step":1}', ''],
      ['\n\n', ''],
      ['null\n', ''],
      ['', ''],
    ]) {
      await writeFile(path, text);
      await truncateMetrics(path, 5);
      assert.is(await readFile(path, 'utf8'), kept, text);
    }
  }));

// A device that is always full, where the system has one.
if (existsSync('/dev/full')) {
  test('metrics that a full disk refuses wait', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'metrics.jsonl');
      await symlink('/dev/full', path);
      const file = await MetricsFile.open(path);
      assert.is(await file.append({ step: 1 }), false);
      assert.is(await file.append({ step: 2 }), false);
      assert.is(await file.close(), false);
    }));
}

test.run();
