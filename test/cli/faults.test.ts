// Disks and data that fail while a run goes on: nothing that was reached is lost, and what goes on is the same run.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openData, type OpenedData } from '../../cli/data/openData.ts';
import { checkpointBytes, checkpointsAtOnce, tightDisk } from '../../cli/diskSpace.ts';
import { FileError, errorCode } from '../../cli/files.ts';
import { trainRun } from '../../cli/trainRun.ts';
import { systemError, withFault, type Fault } from './faultyDisk.ts';
import { failure, goOn, prepare, reach, said } from './runSupport.ts';
import { checkpoints, metrics, withFolder } from './support.ts';

const test = suite('faults');

const steps = async (run: string): Promise<number[]> => (await metrics(run)).map(({ step }) => step);

for (const code of ['EIO', 'EROFS', 'EFBIG', 'EDQUOT', 'ENOSPC'] as const) {
  test(`metrics that get ${code} end no run, and come when they can be written`, () =>
    withFolder(async (folder) => {
      const options = await prepare(folder, {}, { steps: 6, checkpointEvery: 0 });
      let writes = 0;
      const fault: Fault = { path: /metrics\.jsonl$/, code, when: () => ++writes <= 4 };
      const text = await said(() => withFault(fault, () => trainRun(options)));
      assert.match(
        text,
        code === 'EDQUOT' || code === 'ENOSPC' ? 'disk is full' : 'Metrics wait in memory: Cannot use ',
      );
      assert.equal(await steps(options.folder.path), [1, 2, 3, 4, 5, 6]);
      assert.equal(await checkpoints(options.folder.path), ['step-00000006']);
      options.device.destroy();
    }));
}

test('metrics that can never be written are told of, and the run is whole', () =>
  withFolder(async (folder) => {
    const options = await prepare(folder, {}, { steps: 4 });
    const text = await said(() => withFault({ path: /metrics/, code: 'EIO' }, () => trainRun(options)));
    assert.match(text, /The last metrics are lost: .* the disk reports an error/);
    assert.equal(await checkpoints(options.folder.path), ['step-00000003', 'step-00000004']);
    options.device.destroy();
  }));

for (const code of ['EIO', 'EDQUOT'] as const) {
  test(`a checkpoint that gets ${code} is tried again at the next`, () =>
    withFolder(async (folder) => {
      const options = await prepare(folder, {}, { steps: 6, checkpointEvery: 2, keep: 3 });
      let fails = true;
      const fault: Fault = { path: /step-0+4.*optimizer/, code, when: () => fails };
      const text = await said(() => withFault(fault, () => trainRun(options)));
      fails = false;
      assert.match(text, /no checkpoint of step 4, step 2 is kept; training goes on/);
      assert.ok((await checkpoints(options.folder.path)).includes('step-00000006'));
      options.device.destroy();
    }));
}

test('Node has no name for a quota; it is known by its number', () => {
  assert.is(errorCode(systemError('EDQUOT', 'x')), 'EDQUOT');
});

/** Forty pictures in two classes, two of them damaged. */
async function photos(folder: string): Promise<string> {
  const root = join(folder, 'photos');
  for (let i = 0; i < 40; i++) {
    const data = Uint8Array.from({ length: 12 * 10 * 3 }, (_, k) => (k * 7 + i * 31) & 255);
    const png = await sharp(data, { raw: { width: 12, height: 10, channels: 3 } })
      .png()
      .toBuffer();
    const path = join(root, i % 2 ? 'a' : 'b', `${String(i).padStart(2, '0')}.png`);
    await mkdir(join(root, i % 2 ? 'a' : 'b'), { recursive: true });
    await writeFile(path, i === 7 || i === 20 ? png.subarray(0, -60) : png);
  }
  return root;
}

const look = (root: string, pauses: readonly number[]): Promise<OpenedData> =>
  openData(root, { size: 8, minImages: 2, pauses, cacheBytes: 0 });

test('data that vanish end the run with a checkpoint; brought back, it goes on as if nothing had been', () =>
  withFolder(async (folder) => {
    const root = await photos(folder),
      away = join(folder, 'away');
    const whole = await prepare(join(folder, 'whole'), {}, { steps: 60, checkpointEvery: 0 }, await look(root, []));
    await trainRun(whole);
    whole.device.destroy();

    const options = await prepare(
      join(folder, 'cut'),
      {},
      { steps: 60, checkpointEvery: 0 },
      await look(root, [10, 10]),
    );
    let error: Error | undefined;
    const text = await said(async () => {
      const running = failure(trainRun(options));
      await reach(5, options, running);
      await rename(root, away);
      error = await running;
    });
    assert.instance(error, FileError);
    assert.match(error!.message, /Cannot read .*photos.*\.png: it is not there; bring it back as it was/);
    const [reached] = await checkpoints(options.folder.path);
    const step = Number(reached.slice(5));
    assert.ok(step >= 5 && step < 60, reached);
    assert.match(text, new RegExp(`Step ${step} is in a checkpoint; go on from it with .* train --resume `));
    assert.equal(
      await steps(options.folder.path),
      Array.from({ length: step }, (_, i) => i + 1),
    );

    await rename(away, root);
    const again = await goOn(options, await look(root, []));
    await said(() => trainRun(again));
    again.device.destroy();
    assert.equal(await metrics(again.folder.path), await metrics(whole.folder.path));
    const weights = (run: string): Promise<Buffer> =>
      readFile(join(run, 'checkpoints/step-00000060/model.safetensors'));
    assert.ok((await weights(again.folder.path)).equals(await weights(whole.folder.path)));
  }));

test('data that are away for a moment change nothing', () =>
  withFolder(async (folder) => {
    const root = await photos(folder);
    const data = await look(root, [50, 100, 400, 2000]);
    const options = await prepare(folder, {}, { steps: 40, checkpointEvery: 0 }, data);
    await said(async () => {
      const running = trainRun(options);
      await reach(5, options, running);
      await rename(root, `${root}-away`);
      await sleep(250);
      await rename(`${root}-away`, root);
      assert.is((await running).done, true);
    });
    // Those that are damaged, and no other.
    assert.ok(data.skipped().every(({ path }) => /(07|20)\.png$/.test(path)));
    options.device.destroy();
  }));

test('on a tight disk older checkpoints make room, the newest stays until another is whole', () =>
  withFolder(async (folder) => {
    const first = await prepare(join(folder, 'first'), {}, { steps: 1 });
    await trainRun(first);
    const each = await folderBytes(join(first.folder.path, 'checkpoints/step-00000001'));
    first.device.destroy();
    const disk = join(folder, 'disk');
    await onSmallDisk(disk, Math.ceil(2.6 * each), async () => {
      const options = await prepare(disk, {}, { steps: 9, checkpointEvery: 2, keep: 4 });
      const text = await said(() => trainRun(options));
      assert.match(text, /the checkpoint of step 2 went, to make room for that of step 6/);
      assert.is((await checkpoints(options.folder.path)).at(-1), 'step-00000009');
      assert.ok((await checkpoints(options.folder.path)).length >= 1);
      options.device.destroy();
    });
  }));

test('who keeps all checkpoints loses none', () =>
  withFolder(async (folder) => {
    const first = await prepare(join(folder, 'first'), {}, { steps: 1 });
    await trainRun(first);
    const each = await folderBytes(join(first.folder.path, 'checkpoints/step-00000001'));
    first.device.destroy();
    const disk = join(folder, 'disk');
    await onSmallDisk(disk, Math.ceil(2.6 * each), async () => {
      const options = await prepare(disk, {}, { steps: 6, checkpointEvery: 2, keep: 0 });
      let error: Error | undefined;
      await said(async () => {
        error = await failure(trainRun(options));
      });
      assert.match(error!.message, /no space is left/);
      assert.equal(await checkpoints(options.folder.path), ['step-00000002', 'step-00000004']);
      options.device.destroy();
    });
  }));

test('what the checkpoints will take is said before the first', () =>
  withFolder(async (folder) => {
    const { config, folder: run, device } = await prepare(folder, {}, { steps: 10, checkpointEvery: 3, keep: 2 });
    device.destroy();
    assert.is(checkpointsAtOnce({ ...config.plan }), 3);
    assert.is(checkpointsAtOnce({ ...config.plan, keep: 0 }), 4);
    assert.is(checkpointsAtOnce({ ...config.plan, checkpointEvery: 0 }), 1);
    assert.is(await tightDisk(run, config), undefined);
    // A model that no disk holds.
    const huge = { ...config, model: { ...config.model, embedDim: 2 ** 24, depth: 64 } };
    assert.match(
      (await tightDisk(run, huge))!,
      /The disk has .* free, and 3 more checkpoints of .* TiB take .*; free some space/,
    );
    assert.ok(checkpointBytes(config) > 0);
    await run.leave();
    assert.not(existsSync(run.path), 'a run that came to nothing leaves no folder');
  }));

async function folderBytes(folder: string): Promise<number> {
  let total = 0;
  for (const name of await readdir(folder)) total += Math.ceil((await stat(join(folder, name))).size / 4096) * 4096;
  return total;
}

/** Runs `body` with `path` on a disk of that size: a file system in memory where we may mount one, else one that counts what is written. */
async function onSmallDisk(path: string, size: number, body: () => Promise<void>): Promise<void> {
  await mkdir(path, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', path], { stdio: 'ignore' });
  } catch {
    // Full from the third checkpoint on, as far as two are there.
    const full = (): boolean => {
      const run = join(path, 'run/checkpoints');
      return (
        execFileSync('du', ['-sk', run], { encoding: 'utf8' }).split('\t').map(Number)[0] * 1024 > 2.1 * (size / 2.6)
      );
    };
    return withFault({ path: /step-.*safetensors$/, code: 'ENOSPC', when: full }, body);
  }
  try {
    await body();
  } finally {
    execFileSync('umount', [path]);
  }
}

test.run();
