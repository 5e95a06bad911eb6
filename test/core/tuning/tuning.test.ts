// Choosing configurations by measuring: with a kernel whose configurations differ in work, so that the winner is known.

import * as assert from 'uvu/assert';
import {
  adapterKey,
  capture,
  defineKernel,
  grid1d,
  loadTuning,
  saveTuning,
  emptyTensor,
  ValueError,
  type Device,
  type Tunable,
  type TuningResult,
  tuningOf,
} from '../../../core/index.ts';
import { Storage } from '../../../core/gpu/storage.ts';
import { findShipped, useShippedTuning } from '../../../core/tuning/shipped.ts';
import type { ShippedTable } from '../../../core/tuning/shippedTable.ts';
import { TABLES } from '../../../core/tuning/tuned/tables.ts';
import {
  chooseConfig,
  gemm,
  gemmTunable,
  type GemmConfig,
  type GemmLayout,
  type GemmProblem,
  type GemmSpec,
} from '../../../core/gemm/index.ts';
import { gpuSuite } from '../../support.ts';

const test = gpuSuite('tuning');

interface Steps {
  readonly steps: number;
}

const loopKernel = defineKernel<object>('test.loop', () => ({
  bindings: [{ name: 'x', type: 'array<f32>', access: 'write' }],
  params: [{ name: 'steps', type: 'u32' }],
  workgroupSize: [64],
  body: 'var v = f32(flat);\nfor (var i = 0u; i < p.steps; i++) { v = fract(v * 1.7 + 0.3); }\nx[flat] = v;',
}));

/** A computation that takes as long as its configuration says. */
function loop(slow: number, fast: number): Tunable<{ size: number }, Steps> {
  return {
    name: 'loop',
    key: ({ size }) => `${size}`,
    outline: ({ size }) => ({ size }),
    heuristic: () => ({ steps: slow }),
    candidates: () => [{ steps: slow }, { steps: 40 * slow }, { steps: fast }],
    accepts: (_device, _problem, config): config is Steps => [slow, fast].includes((config as Steps).steps),
    prepare(device, { size }) {
      const storage = new Storage(device, size * 4, 'test');
      return {
        run: ({ steps }) => device.run(loopKernel, {}, [{ storage, byteOffset: 0 }], [steps], grid1d(size, 64)),
        dispose: () => storage.release(),
      };
    },
  };
}

/** Leaves a device with nothing to measure, whatever ran before. */
async function fresh(device: Device): Promise<void> {
  await tuningOf(device).tune({ rounds: 1 });
  assert.is(tuningOf(device).pending, 0);
}

test('the heuristic answers at once, measuring improves it, JSON carries it over', async ({ device }) => {
  await fresh(device);
  const tuning = tuningOf(device);
  const kernel = loop(2000, 50),
    problem = { size: 4096 };
  assert.equal(tuning.choose(kernel, problem), { steps: 2000 });
  assert.equal(tuning.choose(kernel, problem), { steps: 2000 });
  assert.is(tuning.pending, 1);
  const told: TuningResult[] = [];
  const results = await tuning.tune({
    onResult: (result, done, total) => {
      told.push(result);
      assert.equal([done, total], [1, 1]);
    },
  });
  assert.equal(told, results);
  assert.is(results[0].key, 'loop 4096');
  assert.equal(results[0].config, { steps: 50 });
  assert.is(results[0].candidates, 3);
  assert.ok(results[0].ms > 0 && results[0].ms < results[0].heuristicMs);
  assert.equal(tuning.choose(kernel, problem), { steps: 50 });
  assert.is(tuning.pending, 0);

  const data = JSON.parse(JSON.stringify(tuning.exportTuning())) as {
    adapter: string;
    entries: Record<string, unknown>;
  };
  assert.is(data.adapter, adapterKey(device));
  assert.equal(data.entries['loop 4096'], { steps: 50 });
  // Another device's export, or another format, is not taken.
  const mine = { ...data, entries: { 'loop 128': { steps: 50 }, 'loop 256': { steps: 999 }, 'loop 512': null } };
  for (const other of [
    null,
    7,
    {},
    { ...mine, adapter: 'other' },
    { ...mine, format: 'dis-tuning-0' },
    { ...mine, entries: 3 },
  ])
    assert.is(tuning.importTuning(other), 0);
  assert.is(tuning.importTuning(mine), 3);
  assert.equal(tuning.choose(kernel, { size: 128 }), { steps: 50 });
  assert.equal(tuning.choose(kernel, { size: 512 }), { steps: 2000 }, 'null keeps the heuristic');
  assert.is(tuning.pending, 0);
  assert.equal(tuning.choose(kernel, { size: 256 }), { steps: 2000 }, 'a configuration that the kernel does not know');
  assert.is(tuning.pending, 1);
});

test('configurations of an earlier version, whose fields had other names, are understood', async ({ device }) => {
  const layout = (rowStride: number): GemmLayout => ({ offset: 0, rowStride, dtype: 'f32' });
  const problem: GemmProblem = { M: 264, N: 24, K: 64, a: layout(64), b: layout(24), c: layout(24) };
  const config = gemmTunable.candidates(device, problem).find((c) => c.transposeOutput);
  if (!config) return;
  const { transposeOutput, ...rest } = config;
  const count = tuningOf(device).importTuning({
    format: 'dis-tuning-1',
    adapter: adapterKey(device),
    entries: { [`gemm ${gemmTunable.key(problem)}`]: { ...rest, flip: transposeOutput } },
  });
  assert.is(count, 1);
  assert.equal(tuningOf(device).choose(gemmTunable, problem), config);
});

test('a driver that is updated throws nothing away, another adapter or tier is refused', async ({ device }) => {
  const { adapter, tier } = device;
  assert.not.match(adapterKey(device), adapter.description || /^$/);
  const of = (...parts: string[]): unknown => ({
    format: 'dis-tuning-1',
    adapter: parts.filter((part) => part).join(' / '),
    entries: { 'loop 7': null },
  });
  const { vendor, architecture, device: name } = adapter;
  assert.is(tuningOf(device).importTuning(of(vendor, architecture, name, tier)), 1);
  // As earlier versions wrote it, with the driver.
  assert.is(tuningOf(device).importTuning(of(vendor, architecture, name, 'driver 1.2', tier)), 1);
  for (const other of [
    of(vendor, architecture, `${name}x`, tier),
    of(vendor, architecture, name, 'driver 1.2', 'other'),
    of(vendor, architecture, name, 'a', 'b', tier),
    of(tier),
  ]) {
    assert.is(tuningOf(device).importTuning(other), 0, JSON.stringify(other));
  }
});

test('a shipped table answers what was not measured here, as far as this build computes it', async ({ device }) => {
  await fresh(device);
  const tuning = tuningOf(device);
  const kernel = loop(500, 100),
    choose = (size: number): number => tuning.choose(kernel, { size }).steps;
  const known = tuning.measured;
  tuning.ship({
    name: 'such',
    match: 'device',
    entries: {
      'loop 1001': { steps: 100 },
      'loop 1002': null,
      'loop 1003': { steps: 999 },
      'loop 1004': 'no configuration',
    },
  });
  try {
    assert.equal([1001, 1002, 1003, 1004, 1005].map(choose), [100, 500, 500, 500, 500]);
    assert.is(tuning.pending, 3, 'what the table answers is not measured');
    assert.is(tuning.measured, known);
    assert.is(tuning.shipped?.name, 'such');
    // What is kept as measured here is not the table, unless all that is computed with is asked for.
    assert.not.ok('loop 1001' in tuning.exportTuning().entries);
    assert.equal(tuning.exportTuning({ shipped: true }).entries['loop 1001'], { steps: 100 });
    // What was measured here wins, whether it comes before or after.
    const mine = {
      format: 'dis-tuning-1',
      adapter: adapterKey(device),
      entries: { 'loop 1001': null, 'loop 1006': { steps: 100 } },
    };
    assert.is(tuning.importTuning(mine), 2);
    tuning.ship({
      name: 'such',
      match: 'device',
      entries: { 'loop 1001': { steps: 100 }, 'loop 1006': null, 'loop 1007': { steps: 100 } },
    });
    assert.equal([1001, 1002, 1006, 1007].map(choose), [500, 500, 100, 100]);
    assert.is(tuning.measured, known + 2);
    // A run that goes on computes with what it began with, and with nothing that came since.
    assert.is(tuning.importTuning({ ...mine, entries: {} }, { alone: true }), 0);
    assert.is(tuning.shipped, null);
    assert.equal([1001, 1006, 1007].map(choose), [500, 100, 500]);
  } finally {
    tuning.ship(null);
  }
});

test('tune measures what a table answers only when told to', async ({ device }) => {
  await fresh(device);
  const tuning = tuningOf(device);
  tuning.ship({ name: 'such', match: 'architecture', entries: { 'loop 70': { steps: 2000 } } });
  try {
    // The candidate of 80,000 steps is slower on anything.
    const kernel = loop(2000, 2000);
    tuning.choose(kernel, { size: 70 });
    assert.is(tuning.pending, 0);
    assert.equal(await tuning.tune({ rounds: 1 }), []);
    assert.equal(
      (await tuning.tune({ rounds: 1, shipped: true })).map(({ key }) => key),
      ['loop 70'],
    );
    assert.equal(tuning.exportTuning().entries['loop 70'], null);
  } finally {
    tuning.ship(null);
  }
});

test('a table is found by device, else by architecture, within a tier', async () => {
  const table = (vendor: string, architecture: string, name: string, tier: 'stock' | 'fast'): ShippedTable => ({
    vendor,
    architecture,
    device: name,
    tier,
    load: () => Promise.reject(new Error('no')),
  });
  const tables = [
    table('acme', 'one', 'acme-100', 'stock'),
    table('acme', 'one', 'acme-200', 'stock'),
    table('acme', 'one', 'acme-100', 'fast'),
    table('acme', '', 'acme-300', 'stock'),
  ];
  const find = (vendor: string, architecture: string, name: string, tier: 'stock' | 'fast' = 'stock'): unknown => {
    const found = findShipped({ vendor, architecture, device: name }, tier, tables);
    return found && [tables.indexOf(found.table), found.match];
  };
  assert.equal(find('acme', 'one', 'acme-200'), [1, 'device']);
  assert.equal(find('acme', 'one', 'acme-100', 'fast'), [2, 'device']);
  assert.equal(find('acme', '', 'acme-300'), [3, 'device']);
  // Browsers tell no device; a device that was not measured has relatives.
  assert.equal(find('acme', 'one', ''), [0, 'architecture']);
  assert.equal(find('acme', 'one', 'acme-150'), [0, 'architecture']);
  assert.equal(
    [
      find('acme', '', ''),
      find('acme', '', 'acme-400'),
      find('', 'one', 'acme-100'),
      find('other', 'one', 'acme-100'),
      find('acme', '', 'acme-300', 'fast'),
    ],
    [null, null, null, null, null],
  );
});

test('the tables that are shipped can be read, and a device takes its own', async ({ device }) => {
  for (const table of TABLES) {
    const { configs } = await table.load();
    const keys = configs.flatMap(([, list]) => list);
    assert.ok(keys.length > 0 && new Set(keys).size === keys.length, `${table.device} has keys, each once`);
    for (const [config, list] of configs)
      assert.ok(
        config === null || (typeof config === 'object' && list.every((key) => /^\w+ \S/.test(key))),
        JSON.stringify(config),
      );
  }
  const { vendor, architecture, device: name } = device.adapter;
  const mine: ShippedTable = {
    vendor,
    architecture,
    device: name,
    tier: device.tier,
    load: () =>
      Promise.resolve({
        configs: [
          [{ steps: 3 }, ['loop a', 'loop b']],
          [null, ['loop c']],
        ],
      }),
  };
  try {
    await useShippedTuning(device, [{ ...mine, tier: device.tier === 'fast' ? 'stock' : 'fast' }, mine]);
    assert.equal(tuningOf(device).shipped, {
      name,
      match: 'device',
      entries: { 'loop a': { steps: 3 }, 'loop b': { steps: 3 }, 'loop c': null },
    });
    tuningOf(device).ship(null);
    await useShippedTuning(device, [{ ...mine, load: () => Promise.reject(new Error('The chunk did not arrive.')) }]);
    assert.is(tuningOf(device).shipped, null);
  } finally {
    tuningOf(device).ship(null);
  }
});

/** As much of IndexedDB as the store uses. */
function memoryDatabase(): { open(): unknown } {
  const records = new Map<string, unknown>();
  const request = (result: () => unknown): object => {
    const made: { result?: unknown; onsuccess?: () => void; onupgradeneeded?: () => void } = {};
    queueMicrotask(() => {
      made.result = result();
      made.onupgradeneeded?.();
      made.onsuccess?.();
    });
    return made;
  };
  const store = {
    get: (key: string) => request(() => structuredClone(records.get(key))),
    put: (value: unknown, key: string) =>
      request(() => {
        records.set(key, structuredClone(value));
        return key;
      }),
  };
  return {
    open: () =>
      request(() => ({
        createObjectStore: () => store,
        transaction: () => ({ objectStore: () => store }),
        close: () => undefined,
      })),
  };
}

test('a browser keeps it in IndexedDB; without that nothing happens', async ({ device }) => {
  assert.is(await loadTuning(device), 0);
  assert.is(await saveTuning(device), false);
  tuningOf(device).importTuning({
    format: 'dis-tuning-1',
    adapter: adapterKey(device),
    entries: { 'loop 1': { steps: 3 } },
  });
  const holder = globalThis as { indexedDB?: unknown };
  holder.indexedDB = memoryDatabase();
  try {
    assert.is(await loadTuning(device), 0);
    assert.is(await saveTuning(device), true);
    assert.is(await loadTuning(device), Object.keys(tuningOf(device).exportTuning().entries).length);
  } finally {
    delete holder.indexedDB;
  }
});

test('what is not clearly faster does not replace the heuristic', async ({ device }) => {
  await fresh(device);
  const kernel = loop(400, 400);
  tuningOf(device).choose(kernel, { size: 2048 });
  const [result] = await tuningOf(device).tune({ rounds: 4 });
  assert.is(result.config, null);
  assert.is(result.ms, result.heuristicMs);
});

test('stops when told to, and not in the middle of a captured step', async ({ device }) => {
  await fresh(device);
  tuningOf(device).choose(loop(10, 10), { size: 64 });
  assert.equal(await tuningOf(device).tune({ signal: AbortSignal.abort() }), []);
  assert.is(tuningOf(device).pending, 1);
  const x = emptyTensor(device, [4], 'f32');
  let refused: Promise<unknown> | undefined;
  const step = capture(device, () => {
    x.add(1).dispose();
    refused = tuningOf(device)
      .tune()
      .catch((error: unknown) => error);
  });
  const error = await refused;
  assert.instance(error, ValueError);
  assert.match((error as Error).message, /^\[tune\] A step is being captured/);
  step.dispose();
  x.dispose();
});

test('matrix products are measured on what their shape says', async ({ device }) => {
  await fresh(device);
  const storages: Storage[] = [];
  const matrix = (rows: number, cols: number): GemmSpec['a'] => {
    const storage = new Storage(device, rows * cols * 4, 'test');
    storages.push(storage);
    return { storage, offset: 0, rowStride: cols, dtype: 'f32' };
  };
  const spec = (M: number, N: number, K: number): GemmSpec => ({
    M,
    N,
    K,
    a: matrix(M, K),
    b: { ...matrix(N, K), transposed: true },
    c: matrix(M, N),
  });
  const first = spec(48, 40, 36);
  gemm(device, first);
  // The same class: sizes within a quarter of an octave.
  gemm(device, spec(44, 44, 32));
  assert.is(tuningOf(device).pending, 1);
  const [result] = await tuningOf(device).tune({ rounds: 2 });
  assert.is(result.key, 'gemm 2^5.5×2^5.5×2^5 f32 f32t f32');
  assert.ok(result.candidates > 3);
  const chosen = tuningOf(device).choose(gemmTunable, first);
  assert.equal(chosen, result.config ?? chooseConfig(device, first));
  const taken: GemmConfig = { form: 'register', rows: 8, quads: 1, x: 8, y: 8, depth: 4, splits: 3 };
  for (const config of [
    null,
    {},
    'tile',
    { ...taken, splits: 0 },
    { ...taken, splits: 1.5 },
    { ...taken, rows: 7 },
    { ...taken, other: 1 },
  ]) {
    assert.not(gemmTunable.accepts(device, first, config), JSON.stringify(config));
  }
  assert.ok(gemmTunable.accepts(device, first, taken));
  for (const s of storages) s.release();
});

test.run();
