// What the command line keeps of measured kernels: its own cache for each adapter, and a whole account in the folder of a run.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { FormatError } from '../../core/errors.ts';
import { adapterKey, tuningOf } from '../../core/index.ts';
import { describeTuning, loadRunTuning, loadTuning, storeTuning, tuningPath } from '../../cli/tuningCache.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('tuningCache');

test('the cache holds what was measured here, a run all that it computes with', async ({ device }) => {
  const folder = await mkdtemp(join(tmpdir(), 'dis-tuning-'));
  const before = process.env.DIS_CACHE_DIR;
  process.env.DIS_CACHE_DIR = join(folder, 'cache');
  const tuning = tuningOf(device);
  const table = {
    name: 'a relative',
    match: 'architecture',
    entries: { 'gemm a': { form: 'tile' }, 'gemm b': null },
  } as const;
  const entriesOf = async (path: string): Promise<unknown> =>
    (JSON.parse(await readFile(path, 'utf8')) as { entries: unknown }).entries;
  try {
    assert.is(await loadTuning(device), 0);
    assert.equal(describeTuning(device), { measured: 'nothing yet', shipped: 'none for this adapter' });
    tuning.ship(table);
    tuning.importTuning({
      format: 'dis-tuning-1',
      adapter: adapterKey(device),
      entries: { 'gemm b': { form: 'vector' } },
    });
    assert.equal(describeTuning(device), {
      measured: '1 kind of kernel calls',
      shipped: '2 kinds of kernel calls, measured on an adapter of this architecture, a relative',
    });
    await storeTuning(device);
    assert.equal(await entriesOf(tuningPath(device)), { 'gemm b': { form: 'vector' } });
    const run = join(folder, 'tuning.json');
    await storeTuning(device, run);
    assert.equal(await entriesOf(run), { 'gemm a': { form: 'tile' }, 'gemm b': { form: 'vector' } });
    assert.is(await loadTuning(device), 1);
    assert.is(tuning.shipped, table);
    // A run that goes on takes nothing from a table that came since.
    assert.is(await loadRunTuning(device, run), undefined);
    assert.is(tuning.measured, 2);
    assert.is(tuning.shipped, null);
    // It needs the file: without it, or with another adapter's, it is told; a damaged one is refused.
    assert.match((await loadRunTuning(device, join(folder, 'none.json')))!, /none\.json is missing.* not bit for bit/);
    await writeFile(run, JSON.stringify({ format: 'dis-tuning-1', adapter: 'another\n', entries: {} }));
    assert.match((await loadRunTuning(device, run))!, /begun on "another\\n": here it goes on, but not bit for bit/);
    for (const [text, expected] of [
      ['{"format":', /tuning\.json is not a JSON object/],
      ['{"format":"dis-tuning-1","adapter":"a","entries":[]}', /entries is a list of 0, expected an object|record/],
      ['{"format":"dis-tuning-1","adapter":"a","entries":{"gemm a":{"x":null}}}', /entries\.gemm a\.x is null/],
    ] as const) {
      await writeFile(run, text);
      await loadRunTuning(device, run).then(
        () => assert.unreachable(),
        (error: Error) => {
          assert.instance(error, FormatError);
          assert.match(error.message, expected);
        },
      );
      // That of the cache is only a help.
      await writeFile(tuningPath(device), text);
      assert.is(await loadTuning(device), 0);
    }
  } finally {
    if (before === undefined) delete process.env.DIS_CACHE_DIR;
    else process.env.DIS_CACHE_DIR = before;
    await rm(folder, { recursive: true });
  }
});

test.run();
