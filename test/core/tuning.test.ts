// Choosing configurations by measuring: with a kernel whose configurations differ in work, so that the winner is known.

import * as assert from 'uvu/assert';
import { adapterName, capture, defineKernel, grid1d, loadTuning, saveTuning, Tensor, ValueError, type Device, type Tunable, type TuningResult } from '../../core/index.ts';
import { Storage } from '../../core/storage.ts';
import { chooseConfig, gemm, gemmTunable, type GemmConfig, type GemmSpec } from '../../core/gemm/index.ts';
import { gpuSuite } from '../support.ts';

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
  await device.tuning.tune({ rounds: 1 });
  assert.is(device.tuning.pending, 0);
}

test('the heuristic answers at once, measuring improves it, JSON carries it over', async ({ device }) => {
  await fresh(device);
  const { tuning } = device;
  const kernel = loop(2000, 50), problem = { size: 4096 };
  assert.equal(tuning.choose(kernel, problem), { steps: 2000 });
  assert.equal(tuning.choose(kernel, problem), { steps: 2000 });
  assert.is(tuning.pending, 1);
  const told: TuningResult[] = [];
  const results = await tuning.tune({ onResult: (result, done, total) => { told.push(result); assert.equal([done, total], [1, 1]); } });
  assert.equal(told, results);
  assert.is(results[0].key, 'loop 4096');
  assert.equal(results[0].config, { steps: 50 });
  assert.is(results[0].candidates, 3);
  assert.ok(results[0].ms > 0 && results[0].ms < results[0].heuristicMs);
  assert.equal(tuning.choose(kernel, problem), { steps: 50 });
  assert.is(tuning.pending, 0);

  const data = JSON.parse(JSON.stringify(tuning.exportTuning())) as { adapter: string; entries: Record<string, unknown> };
  assert.is(data.adapter, adapterName(device));
  assert.equal(data.entries['loop 4096'], { steps: 50 });
  // Another device's export, or another format, is not taken.
  const mine = { ...data, entries: { 'loop 128': { steps: 50 }, 'loop 256': { steps: 999 }, 'loop 512': null } };
  for (const other of [null, 7, {}, { ...mine, adapter: 'other' }, { ...mine, format: 'dis-tuning-0' }, { ...mine, entries: 3 }]) assert.is(tuning.importTuning(other), 0);
  assert.is(tuning.importTuning(mine), 3);
  assert.equal(tuning.choose(kernel, { size: 128 }), { steps: 50 });
  assert.equal(tuning.choose(kernel, { size: 512 }), { steps: 2000 }, 'null keeps the heuristic');
  assert.is(tuning.pending, 0);
  assert.equal(tuning.choose(kernel, { size: 256 }), { steps: 2000 }, 'a configuration that the kernel does not know');
  assert.is(tuning.pending, 1);
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
    put: (value: unknown, key: string) => request(() => { records.set(key, structuredClone(value)); return key; }),
  };
  return { open: () => request(() => ({ createObjectStore: () => store, transaction: () => ({ objectStore: () => store }), close: () => undefined })) };
}

test('a browser keeps it in IndexedDB; without that nothing happens', async ({ device }) => {
  assert.is(await loadTuning(device), 0);
  assert.is(await saveTuning(device), false);
  device.tuning.importTuning({ format: 'dis-tuning-1', adapter: adapterName(device), entries: { 'loop 1': { steps: 3 } } });
  const holder = globalThis as { indexedDB?: unknown };
  holder.indexedDB = memoryDatabase();
  try {
    assert.is(await loadTuning(device), 0);
    assert.is(await saveTuning(device), true);
    assert.is(await loadTuning(device), Object.keys(device.tuning.exportTuning().entries).length);
  } finally {
    delete holder.indexedDB;
  }
});

test('what is not clearly faster does not replace the heuristic', async ({ device }) => {
  await fresh(device);
  const kernel = loop(400, 400);
  device.tuning.choose(kernel, { size: 2048 });
  const [result] = await device.tuning.tune({ rounds: 4 });
  assert.is(result.config, null);
  assert.is(result.ms, result.heuristicMs);
});

test('stops when told to, and not in the middle of a captured step', async ({ device }) => {
  await fresh(device);
  device.tuning.choose(loop(10, 10), { size: 64 });
  assert.equal(await device.tuning.tune({ signal: AbortSignal.abort() }), []);
  assert.is(device.tuning.pending, 1);
  const x = Tensor.empty(device, [4], 'f32');
  let refused: Promise<unknown> | undefined;
  const step = capture(device, () => { x.add(1).dispose(); refused = device.tuning.tune().catch((error: unknown) => error); });
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
  const spec = (M: number, N: number, K: number): GemmSpec => ({ M, N, K, a: matrix(M, K), b: { ...matrix(N, K), transposed: true }, c: matrix(M, N) });
  const first = spec(48, 40, 36);
  gemm(device, first);
  // The same class: sizes within a quarter of an octave.
  gemm(device, spec(44, 44, 32));
  assert.is(device.tuning.pending, 1);
  const [result] = await device.tuning.tune({ rounds: 2 });
  assert.is(result.key, 'gemm 2^5.5×2^5.5×2^5 f32 f32t f32');
  assert.ok(result.candidates > 3);
  const chosen = device.tuning.choose(gemmTunable, first);
  assert.equal(chosen, result.config ?? chooseConfig(device, first));
  const taken: GemmConfig = { form: 'register', rows: 8, quads: 1, x: 8, y: 8, depth: 4, splits: 3 };
  for (const config of [null, {}, 'tile', { ...taken, splits: 0 }, { ...taken, splits: 1.5 }, { ...taken, rows: 7 }, { ...taken, other: 1 }]) {
    assert.not(gemmTunable.accepts(device, first, config), JSON.stringify(config));
  }
  assert.ok(gemmTunable.accepts(device, first, taken));
  for (const s of storages) s.release();
});

test.run();
