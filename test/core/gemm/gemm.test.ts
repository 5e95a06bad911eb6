// Matrix products against float64: every configuration, layout, type and epilogue, at sizes that fit no tile.

import { Float16Array } from '@petamoriken/float16';
import * as assert from 'uvu/assert';
import type { Device } from '../../../core/gpu/device.ts';
import { ValueError } from '../../../core/errors.ts';
import { scope, zeros, type FloatDType } from '../../../core/index.ts';
import { defineKernel } from '../../../core/gpu/kernel.ts';
import { CUT_OFF } from '../../../core/gemm/matrix.ts';
import { Storage } from '../../../core/gpu/storage.ts';
import {
  chooseConfig,
  configs,
  gemm,
  gemmTunable,
  type GemmActivation,
  type GemmAdapter,
  type GemmConfig,
  type GemmLayout,
  type GemmMatrix,
  type GemmSpec,
} from '../../../core/gemm/index.ts';
import { gpuSuite, notRun } from '../../support.ts';

interface Case {
  M: number;
  N: number;
  K: number;
  batch?: number;
  ta?: boolean;
  tb?: boolean;
  /** Elements before the first one. */
  offset?: number;
  /** Elements between the end of a row and the next. */
  gap?: number;
  /** Whether the gap behind the last row is there too. */
  room?: boolean;
  dtype?: FloatDType;
  cDtype?: FloatDType;
  bias?: boolean;
  activation?: GemmActivation | null;
  accumulate?: boolean;
}

interface Stored extends GemmMatrix {
  readonly values: Float64Array;
}

let state = 1;
/** Numbers in (-1, 1), the same in every run. */
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 31 - 1;
}

/** What f16 or f32 makes of numbers. */
function typed(values: ArrayLike<number>, dtype: FloatDType): Float32Array | Float16Array {
  return dtype === 'f16' ? Float16Array.from(values) : Float32Array.from(values);
}

/** A random matrix. The elements that lie between its rows are numbers too: whoever reads them gets a wrong result, not zeros. */
function matrix(device: Device, rows: number, cols: number, transposed: boolean, c: Case, dtype: FloatDType): Stored {
  const { batch = 1, offset = 0, gap = 0, room = false } = c;
  const [outer, inner] = transposed ? [cols, rows] : [rows, cols];
  const rowStride = inner + gap;
  const batchStride = outer * rowStride;
  // The last row ends the storage, or its gap: nothing may be read behind it. A gap that is there too holds NaN, which spoils every sum.
  const values = typed(
    Float64Array.from({ length: offset + batch * batchStride - (room ? 0 : gap) }, (_, i) =>
      room && (i - offset) % rowStride >= inner ? NaN : random(),
    ),
    dtype,
  );
  return {
    storage: upload(device, values),
    offset,
    rowStride,
    transposed,
    batchStride,
    dtype,
    values: Float64Array.from(values),
  };
}

function upload(device: Device, values: Float32Array | Float16Array): Storage {
  const storage = new Storage(device, values.byteLength, 'test');
  const bytes = new Uint8Array(Math.ceil(values.byteLength / 4) * 4);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  device.stream.flush();
  device.gpu.queue.writeBuffer(storage.buffer.gpu, 0, bytes);
  return storage;
}

function at(m: Stored, z: number, i: number, j: number): number {
  return m.offset + z * (m.batchStride ?? 0) + (m.transposed ? j * m.rowStride + i : i * m.rowStride + j);
}

function erf(x: number): number {
  // Taylor's series where it converges fast, otherwise the continued fraction of erfc (Abramowitz and Stegun 7.1.5, 7.1.14).
  const z = Math.abs(x);
  let value: number;
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let n = 1; n < 80; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    value = (2 / Math.sqrt(Math.PI)) * sum;
  } else {
    let fraction = z;
    for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
    value = 1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction;
  }
  return Math.sign(x) * value;
}

const activate: Record<GemmActivation, (x: number) => number> = {
  relu: (x) => Math.max(x, 0),
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

interface Problem {
  spec: GemmSpec;
  a: Stored;
  b: Stored;
  c: Stored;
  bias: Float64Array | null;
  expected: Float64Array;
}

function problem(device: Device, c: Case): Problem {
  const { M, N, K, dtype = 'f32', batch = 1 } = c;
  const a = matrix(device, M, K, c.ta ?? false, c, dtype);
  const b = matrix(device, K, N, c.tb ?? false, c, dtype);
  const out = matrix(device, M, N, false, { ...c, room: false }, c.cDtype ?? dtype);
  const biasValues = c.bias ? typed(Float64Array.from({ length: N + 3 }, random), dtype) : null;
  const bias = biasValues ? Float64Array.from(biasValues).subarray(3) : null;
  const expected = out.values.slice();
  for (let z = 0; z < batch; z++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = bias?.[n] ?? 0;
        for (let k = 0; k < K; k++) sum += a.values[at(a, z, m, k)] * b.values[at(b, z, k, n)];
        const to = at(out, z, m, n);
        if (c.accumulate) sum += out.values[to];
        expected[to] = c.activation ? activate[c.activation](sum) : sum;
      }
    }
  }
  const spec: GemmSpec = {
    M,
    N,
    K,
    batch,
    a,
    b,
    c: out,
    bias: biasValues ? { storage: upload(device, biasValues), offset: 3, dtype } : null,
    activation: c.activation ?? null,
    accumulate: c.accumulate ?? false,
  };
  return { spec, a, b, c: out, bias, expected };
}

async function read(device: Device, m: Stored): Promise<ArrayLike<number>> {
  const bytes = await device.readBytes(m.storage, 0, m.values.length * (m.dtype === 'f16' ? 2 : 4));
  return m.dtype === 'f16' ? new Float16Array(bytes) : new Float32Array(bytes);
}

/** Every configuration that some product may get, with K whole or cut into 3 parts. */
function everyConfig(device: Device, software = device.adapter.software): GemmConfig[] {
  const adapter: GemmAdapter = {
    adapter: { software },
    limits: device.limits,
    subgroupMinSize: device.subgroupMinSize,
    subgroupMaxSize: device.subgroupMaxSize,
    subgroupMatrixConfigs: device.subgroupMatrixConfigs,
    has: (f) => device.has(f),
  };
  // The matrix unit takes f16 only.
  const matrix = { offset: 0, rowStride: 4096, dtype: 'f16' } as const;
  const shapes = [
    [1, 368, 368],
    [8, 1, 4096],
    [55, 736, 2064],
    [2064, 736, 368],
    [4096, 4096, 4096],
  ];
  const found = new Map<string, GemmConfig>();
  for (const [M, N, K] of shapes) {
    for (const config of configs(adapter, { M, N, K, a: matrix, b: matrix, c: matrix })) {
      const kind = { ...config, splits: config.splits > 1 ? 3 : 1 };
      found.set(JSON.stringify(kind), kind);
    }
  }
  return [...found.values()];
}

/** Runs one case in some configurations and compares all of c's storage, so that a write between the rows shows. */
async function compare(device: Device, given: Case, candidates?: readonly GemmConfig[]): Promise<void> {
  const c: Case = device.has('shader-f16') ? given : { ...given, dtype: 'f32', cDtype: 'f32' };
  const { spec, c: out, expected } = problem(device, c);
  const initial = typed(out.values, out.dtype);
  for (const config of candidates ?? [chooseConfig(device, spec)]) {
    const storage = upload(device, initial);
    const target = { ...out, storage };
    gemm(device, { ...spec, c: target }, config);
    const got = await read(device, target);
    // f32 rounds each of K sums; f16 once more at the end, by half of 2⁻¹⁰ of the value.
    const sums = (3e-7 * Math.sqrt(c.K) + 4e-7) * Math.max(1, Math.sqrt(c.K) / 2);
    for (let i = 0; i < expected.length; i++) {
      const tolerance = sums + (out.dtype === 'f16' ? 5e-4 * Math.abs(expected[i]) + 1e-7 : 0);
      if (!(Math.abs(got[i] - expected[i]) <= tolerance)) {
        assert.unreachable(
          `${JSON.stringify(c)} ${JSON.stringify(config)}: element ${i} is ${got[i]}, expected ${expected[i]}`,
        );
      }
    }
    storage.release();
  }
  for (const s of new Set([spec.a.storage, spec.b.storage, spec.c.storage, ...(spec.bias ? [spec.bias.storage] : [])]))
    s.release();
}

const layouts = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;

/**
 * Four for each layout. A driver that compiles on the CPU takes about a second for each pair of a case and a configuration, so every
 * configuration gets some of them, in turn, of different layouts: what a configuration of a form doesn't meet, the next one does.
 */
const cases: readonly Case[] = [
  { M: 20, N: 36, K: 44, bias: true, activation: 'silu' },
  { M: 7, N: 23, K: 55, tb: true, accumulate: true, offset: 5, gap: 3 },
  { M: 24, N: 20, K: 36, ta: true, batch: 2, gap: 4 },
  { M: 33, N: 9, K: 70, ta: true, tb: true, bias: true, activation: 'gelu' },
  { M: 66, N: 55, K: 23, batch: 3 },
  { M: 40, N: 68, K: 132, tb: true, dtype: 'f16', bias: true, activation: 'silu', accumulate: true },
  { M: 23, N: 37, K: 129, ta: true, dtype: 'f16', cDtype: 'f32', accumulate: true },
  { M: 36, N: 132, K: 64, ta: true, tb: true, offset: 8, bias: true },
  // Some operands are vec4 and some are not.
  { M: 9, N: 22, K: 20, accumulate: true, activation: 'gelu' },
  // Aligned but for the number of elements: a vec4 at the end of the last row would reach behind the storage.
  { M: 12, N: 20, K: 18, tb: true, gap: 2 },
  { M: 22, N: 20, K: 70, ta: true, dtype: 'f16', gap: 2 },
  // Rows of which the last eight elements are not all theirs, in memory that is there.
  { M: 39, N: 23, K: 55, gap: 1, dtype: 'f16', room: true },
  { M: 55, N: 47, K: 39, ta: true, tb: true, gap: 1, dtype: 'f16', room: true, offset: 8 },
  { M: 12, N: 24, K: 16, ta: true, tb: true, offset: 2050, accumulate: true, bias: true, activation: 'silu' },
  // More than one of the largest tiles each way.
  { M: 133, N: 140, K: 36, bias: true },
  { M: 130, N: 133, K: 72, tb: true },
  { M: 132, N: 3, K: 700, ta: true, bias: true },
  { M: 3, N: 130, K: 71, ta: true, tb: true, dtype: 'f16' },
];

const test = gpuSuite<'plain'>('gemm', {
  device: { tier: 'fast' },
  plain: { without: ['subgroups', 'shader-f16'], defaultLimits: true },
});

for (const form of ['subgroup', 'register', 'tile', 'vector', 'matrix'] as const) {
  test(`every configuration of the ${form} form`, async ({ device }) => {
    // What a GPU would get as well: a software adapter leaves out what is slow on it.
    const offered = new Map(
      [...everyConfig(device, false), ...everyConfig(device, true)].map((config) => [JSON.stringify(config), config]),
    );
    const candidates = [...offered.values()].filter((config) => config.form === form);
    if (candidates.length === 0) return notRun('no configuration of this form is offered on this adapter');
    for (let i = 0; i < candidates.length; i++) {
      // What is large compiles for seconds. With K in parts, only the beginning and the end of a kernel differ.
      const { splits, rows, quads } = candidates[i];
      const large = rows * quads > 8;
      const count = splits > 1 ? Number(!large && i % 2 === 0) : large ? 1 : 2;
      for (let j = 0; j < count; j++) {
        const c = cases[(i + 5 * j) % cases.length];
        await compare(device, form === 'matrix' ? { cDtype: j % 2 ? 'f16' : 'f32', ...c, dtype: 'f16' } : c, [
          candidates[i],
        ]);
      }
    }
  });
}

test('rows in runs of four and alone, transposed outputs', async ({ device }) => {
  const size = device.subgroupMinSize;
  if (!everyConfig(device).some((c) => c.form === 'subgroup'))
    return notRun('the subgroup form is not offered on this adapter');
  const subgroup: GemmConfig = { form: 'subgroup', rows: 5 * size, quads: 1, x: size, y: 1, depth: 4, splits: 1 };
  await compare(device, { M: 12 * size + 4, N: 36, K: 22, ta: true, gap: 4 }, [subgroup]);
  for (const [i, c] of cases.entries()) {
    // 7 rows, none in runs; 12, in runs where they lie side by side.
    await compare(device, c, [{ ...subgroup, rows: i % 2 ? 7 : 12, transposeOutput: true }]);
  }
});

test('every case', async ({ device }) => {
  for (const c of cases)
    await compare(device, c, [{ form: 'register', rows: 4, quads: 1, x: 8, y: 8, depth: 4, splits: 1 }]);
});

test('without optional features, under the default limits', async ({ plain }) => {
  const candidates = everyConfig(plain).filter(({ splits }) => splits === 1);
  assert.not(candidates.some((c) => c.form === 'subgroup'));
  for (let i = 0; i < candidates.length; i++) await compare(plain, cases[(3 * i) % cases.length], [candidates[i]]);
});

test('a panel takes a long K in parts, and many rows by several workgroups', async ({ device }) => {
  const size = device.subgroupMinSize;
  if (!device.has('subgroups') || size !== device.subgroupMaxSize)
    return notRun('the adapter has no subgroups of one size');
  const panel = (rows: number, quads: number): GemmConfig => ({
    form: 'panel',
    rows,
    quads,
    x: size,
    y: 1,
    depth: 16,
    splits: 1,
  });
  for (const [ta, tb] of layouts) {
    await compare(device, { M: 28, N: 68, K: 44, ta, tb, bias: true, activation: 'silu', accumulate: true, batch: 2 }, [
      panel(24, 2),
    ]);
    await compare(device, { M: 55, N: 23, K: 66, ta, tb, bias: true, activation: 'gelu', gap: 3 }, [
      panel(32, 1),
      { ...panel(24, 2), transposeOutput: true },
    ]);
  }
  await compare(device, { M: 530, N: 36, K: 20, tb: true }, [panel(24, 2)]);
  // In f16 as it is chosen: all of K in one part, or sums in f32.
  await compare(
    device,
    { M: 50, N: 68, K: 44, tb: true, dtype: 'f16', bias: true, activation: 'silu', accumulate: true },
    [{ ...panel(24, 2), depth: 384 }],
  );
  await compare(device, { M: 55, N: 23, K: 66, ta: true, dtype: 'f16', gap: 3 }, [
    { ...panel(32, 1), depth: 384 },
    { ...panel(24, 2), depth: 384, transposeOutput: true },
  ]);
  await compare(device, { M: 55, N: 36, K: 70, ta: true, tb: true, dtype: 'f16', cDtype: 'f32', accumulate: true }, [
    panel(24, 2),
  ]);
});

test('sizes of one', async ({ device }) => {
  await compare(device, { M: 1, N: 1, K: 1 });
  await compare(device, { M: 1, N: 9, K: 1, ta: true });
  await compare(device, { M: 9, N: 1, K: 33, tb: true });
});

test('one matrix for all of a batch', async ({ device }) => {
  const { spec, a, b, c } = problem(device, { M: 4, N: 8, K: 12, batch: 2 });
  gemm(device, { ...spec, b: { ...spec.b, batchStride: 0 } });
  const got = await read(device, c);
  let sum = 0;
  for (let k = 0; k < 12; k++) sum += a.values[at(a, 1, 2, k)] * b.values[at(b, 0, k, 5)];
  assert.ok(Math.abs(got[at(c, 1, 2, 5)] - sum) < 1e-6);
});

test('activations far from zero stay finite', async ({ device }) => {
  for (const activation of ['silu', 'gelu'] as const) {
    const { spec, c, b } = problem(device, { M: 1, N: 8, K: 1, activation });
    const a = { ...spec.a, storage: upload(device, Float32Array.of(1000)) };
    gemm(device, { ...spec, a });
    const got = await read(device, c);
    for (let n = 0; n < 8; n++)
      assert.ok(
        Math.abs(got[n] - activate[activation](1000 * b.values[n])) < 1e-3,
        `${activation} ${1000 * b.values[n]} gave ${got[n]}`,
      );
  }
});

test('the same bits every time', async ({ device }) => {
  const { spec, c } = problem(device, { M: 23, N: 23, K: 700, ta: true });
  for (const splits of [1, 5]) {
    const config = { ...chooseConfig(device, spec), splits };
    gemm(device, spec, config);
    const first = Array.from(await read(device, c));
    gemm(device, spec, config);
    assert.equal(Array.from(await read(device, c)), first);
  }
});

test('no rows, no columns, no products; an empty sum is the bias', async ({ device }) => {
  const { spec, c, bias } = problem(device, { M: 3, N: 5, K: 4, bias: true });
  gemm(device, { ...spec, M: 0 });
  gemm(device, { ...spec, N: 0 });
  gemm(device, { ...spec, batch: 0 });
  assert.equal(Array.from(await read(device, c)), Array.from(c.values));
  gemm(device, { ...spec, K: 0 });
  assert.equal(Array.from(await read(device, c)), [...bias!, ...bias!, ...bias!]);
});

test('what it refuses', ({ device }) => {
  const { spec } = problem(device, { M: 3, N: 5, K: 4 });
  const refused = (change: Partial<GemmSpec>, pattern: RegExp): void => {
    assert.throws(
      () => gemm(device, { ...spec, ...change }),
      (error: Error) => error instanceof ValueError && pattern.test(error.message),
    );
  };
  refused({ M: 4 }, /^\[gemm\] a \(4 × 4, .* ends at element 15, expected less than the storage's 12;/);
  refused({ b: { ...spec.b, offset: -1 } }, /^\[gemm\] b /);
  refused({ c: { ...spec.c, transposed: true, rowStride: 3 } }, /^\[gemm\] c is transposed/);
  refused({ c: { ...spec.c, storage: spec.a.storage }, K: 1, N: 1 }, /^\[gemm\] c shares the storage of a/);
});

test('every configuration compiles under the default limits', async ({ open }) => {
  const device = await open({ backend: 'null', defaultLimits: true, without: ['subgroups'] });
  const candidates = everyConfig(device, false);
  for (const [ta, tb] of layouts) {
    for (const dtype of ['f32', ...(device.has('shader-f16') ? (['f16'] as const) : [])] as const) {
      for (const [M, N, K] of [
        [12, 20, 516],
        [7, 23, 515],
      ]) {
        const { spec } = problem(device, {
          M,
          N,
          K,
          ta,
          tb,
          dtype,
          bias: true,
          activation: 'gelu',
          accumulate: true,
        });
        for (const config of candidates) gemm(device, spec, config);
      }
    }
  }
  await device.synchronize();
});

test('what lies behind the end of a row is cut off, whatever it is', async ({ device }) => {
  const kernel = defineKernel<object>('test.cutOff', () => ({
    bindings: [{ name: 'out', type: 'array<vec4<u32>>', access: 'write' }],
    workgroupSize: [9],
    declarations: CUT_OFF,
    body: 'out[li] = cutOff(vec4<u32>(0x7e017c00u, 0x7e037e02u, 0x7e057e04u, 0x7e077e06u), li);',
  }));
  const out = scope(() => zeros(device, [9 * 4], 'i32'));
  device.run(kernel, {}, [{ storage: out.storage, byteOffset: 0 }], [], [1]);
  const halves = new Uint16Array(Int32Array.from(await out.data()).buffer);
  // Infinity and NaN in all eight places.
  for (let n = 0; n <= 8; n++)
    for (let i = 0; i < 8; i++) assert.is(halves[8 * n + i], i >= n ? 0 : i === 0 ? 0x7c00 : 0x7e00 + i);
  out.dispose();
});

test("the matrix unit's form compiles", async ({ open }) => {
  const device = await open({ backend: 'null', tier: 'fast' });
  if (!device.has('subgroup-matrix')) return notRun('the adapter has no matrix unit');
  for (const unit of [
    [8, 8, 8],
    [16, 16, 16],
    [16, 8, 16],
  ] as const) {
    // As many subgroups as this adapter's workgroup holds.
    const config: GemmConfig = { form: 'matrix', rows: 32, quads: 8, x: 2, y: 1, depth: 32, splits: 1, unit };
    for (const [i, c] of cases.entries())
      gemm(device, problem(device, { ...c, dtype: 'f16', cDtype: i % 2 ? 'f16' : 'f32' }).spec, {
        ...config,
        splits: 1 + (i % 3),
      });
  }
  await device.synchronize();
});

test('what a file says of a candidate is taken again', ({ device }) => {
  // As a GPU with a matrix unit has it, and as this adapter does.
  const units = [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }];
  const gpu = {
    adapter: { software: false },
    limits: device.limits,
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    subgroupMatrixConfigs: units,
    has: () => true,
  } as unknown as Device;
  const rows = (rowStride: number, transposed = false): GemmLayout => ({
    offset: 0,
    rowStride,
    transposed,
    dtype: 'f16',
  });
  for (const d of [device, gpu]) {
    for (const [M, N, K] of [
      [2064, 56, 736],
      [2064, 55, 736],
      [8, 368, 4096],
    ]) {
      const problem = { M, N, K, a: rows(K), b: rows(K, true), c: rows(N) };
      for (const config of configs(d, problem))
        assert.ok(gemmTunable.accepts(d, problem, JSON.parse(JSON.stringify(config))), JSON.stringify(config));
      assert.not(gemmTunable.accepts(d, problem, { ...chooseConfig(d, problem), rows: 7 }));
      assert.not(gemmTunable.accepts(d, problem, { ...chooseConfig(d, problem), splits: 0 }));
    }
  }
});

test('the choice is a candidate', ({ device, plain }) => {
  for (const d of [device, plain]) {
    for (const [M, N, K] of [
      [1, 736, 368],
      [2064, 736, 368],
      [55, 736, 2064],
      [8, 8, 8],
      [2064, 1, 368],
    ]) {
      const a = { storage: null as unknown as Storage, offset: 0, rowStride: 1, dtype: 'f32' } as const;
      const spec: GemmSpec = { M, N, K, a, b: a, c: a };
      assert.equal(configs(d, spec)[0], chooseConfig(d, spec));
    }
  }
});

test.run();
