// Matrix products against float64: every configuration, layout, type and epilogue, at sizes that fit no tile.

import { Float16Array } from '@petamoriken/float16';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Device } from '../../core/device.ts';
import { ValueError } from '../../core/errors.ts';
import { openDevice } from '../../core/open.ts';
import { Storage } from '../../core/storage.ts';
import { chooseConfig, configs, gemm, type GemmActivation, type GemmConfig, type GemmDType, type GemmMatrix, type GemmSpec } from '../../core/gemm/index.ts';

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
  dtype?: GemmDType;
  cDtype?: GemmDType;
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
function typed(values: ArrayLike<number>, dtype: GemmDType): Float32Array | Float16Array {
  return dtype === 'f16' ? Float16Array.from(values) : Float32Array.from(values);
}

/** A random matrix. The elements that lie between its rows are numbers too: whoever reads them gets a wrong result, not zeros. */
function matrix(device: Device, rows: number, cols: number, transposed: boolean, c: Case, dtype: GemmDType): Stored {
  const { batch = 1, offset = 0, gap = 0 } = c;
  const [outer, inner] = transposed ? [cols, rows] : [rows, cols];
  const rowStride = inner + gap;
  const batchStride = outer * rowStride;
  // The last row ends the storage: nothing may be read behind it.
  const values = typed(Float64Array.from({ length: offset + batch * batchStride - gap }, random), dtype);
  return { storage: upload(device, values), offset, rowStride, transposed, batchStride, dtype, values: Float64Array.from(values) };
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
      term *= -z * z / n;
      sum += term / (2 * n + 1);
    }
    value = 2 / Math.sqrt(Math.PI) * sum;
  } else {
    let fraction = z;
    for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
    value = 1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction;
  }
  return Math.sign(x) * value;
}

const activate: Record<GemmActivation, (x: number) => number> = {
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
  const out = matrix(device, M, N, false, c, c.cDtype ?? dtype);
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
    M, N, K, batch, a, b, c: out,
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

/** Runs one case in every configuration and compares all of c's storage, so that a write between the rows shows. */
async function compare(device: Device, c: Case, only?: (config: GemmConfig) => boolean): Promise<void> {
  const { spec, c: out, expected } = problem(device, c);
  const initial = typed(out.values, out.dtype);
  const candidates = configs(device, spec).filter((config) => only?.(config) ?? true);
  assert.ok(candidates.length > 0);
  for (const config of candidates) {
    const storage = upload(device, initial);
    const target = { ...out, storage };
    gemm(device, { ...spec, c: target }, config);
    const got = await read(device, target);
    // f32 rounds each of K sums; f16 once more at the end.
    const tolerance = (out.dtype === 'f16' ? 1e-3 : 3e-7 * Math.sqrt(c.K) + 4e-7) * Math.max(1, Math.sqrt(c.K) / 2);
    for (let i = 0; i < expected.length; i++) {
      if (!(Math.abs(got[i] - expected[i]) <= tolerance)) {
        assert.unreachable(`${JSON.stringify(c)} ${JSON.stringify(config)}: element ${i} is ${got[i]}, expected ${expected[i]}`);
      }
    }
    storage.release();
  }
  for (const s of new Set([spec.a.storage, spec.b.storage, spec.c.storage, ...(spec.bias ? [spec.bias.storage] : [])])) s.release();
}

const test = suite<{ device: Device; plain: Device }>('gemm');

test.before(async (context) => {
  context.device = await openDevice();
  context.plain = await openDevice({ without: ['subgroups', 'shader-f16'], defaultLimits: true });
});
test.after((context) => {
  context.device.destroy();
  context.plain.destroy();
});

const layouts = [[false, false], [false, true], [true, false], [true, true]] as const;
const sizes: readonly (readonly [number, number, number])[] = [[1, 1, 1], [7, 23, 55], [66, 55, 23], [64, 36, 20], [5, 132, 44], [3, 2, 70], [33, 1, 9]];

for (const [M, N, K] of sizes) {
  test(`every configuration and layout: ${M}×${N}×${K}`, async ({ device }) => {
    for (const [ta, tb] of layouts) await compare(device, { M, N, K, ta, tb });
  });
}

test('without subgroups, under the default limits', async ({ plain }) => {
  assert.not(configs(plain, problem(plain, { M: 4, N: 4, K: 4 }).spec).some((c) => c.form === 'subgroup'));
  for (const [ta, tb] of layouts) {
    await compare(plain, { M: 23, N: 55, K: 66, ta, tb });
    await compare(plain, { M: 20, N: 68, K: 36, ta, tb });
  }
});

test('operands that are part of something wider', async ({ device }) => {
  for (const [ta, tb] of layouts) {
    await compare(device, { M: 9, N: 23, K: 18, ta, tb, offset: 5, gap: 3 });
    await compare(device, { M: 12, N: 20, K: 16, ta, tb, offset: 8, gap: 4 });
    // Aligned but for the number of elements: a vec4 at the end of the last row would reach behind the storage.
    await compare(device, { M: 9, N: 22, K: 18, ta, tb, gap: 2 });
    await compare(device, { M: 12, N: 20, K: 16, ta, tb, offset: 2050 });
  }
});

test('a batch, and one matrix for all of a batch', async ({ device }) => {
  for (const [ta, tb] of layouts) {
    await compare(device, { M: 7, N: 10, K: 19, batch: 3, ta, tb });
    await compare(device, { M: 8, N: 12, K: 20, batch: 3, ta, tb, gap: 4 });
  }
  const { spec, a, b, c } = problem(device, { M: 4, N: 8, K: 12, batch: 2 });
  gemm(device, { ...spec, b: { ...spec.b, batchStride: 0 } });
  const got = await read(device, c);
  let sum = 0;
  for (let k = 0; k < 12; k++) sum += a.values[at(a, 1, 2, k)] * b.values[at(b, 0, k, 5)];
  assert.ok(Math.abs(got[at(c, 1, 2, 5)] - sum) < 1e-6);
});

test('bias, activation and accumulation', async ({ device }) => {
  for (const N of [20, 23]) {
    for (const activation of [null, 'silu', 'gelu'] as const) {
      await compare(device, { M: 10, N, K: 18, bias: true, activation });
      await compare(device, { M: 10, N, K: 18, bias: true, activation, accumulate: true, gap: 4 });
    }
    await compare(device, { M: 10, N, K: 18, accumulate: true, batch: 2 });
  }
});

test('activations far from zero stay finite', async ({ device }) => {
  for (const activation of ['silu', 'gelu'] as const) {
    const { spec, c, b } = problem(device, { M: 1, N: 8, K: 1, activation });
    const a = { ...spec.a, storage: upload(device, Float32Array.of(1000)) };
    gemm(device, { ...spec, a });
    const got = await read(device, c);
    for (let n = 0; n < 8; n++) assert.ok(Math.abs(got[n] - Math.max(0, 1000 * b.values[n])) < 1e-3, `${activation} ${1000 * b.values[n]} gave ${got[n]}`);
  }
});

test('f16 storage', async ({ device }) => {
  if (!device.has('shader-f16')) return;
  for (const [ta, tb] of layouts) {
    await compare(device, { M: 12, N: 20, K: 16, ta, tb, dtype: 'f16' });
    await compare(device, { M: 7, N: 23, K: 55, ta, tb, dtype: 'f16', bias: true, activation: 'silu' });
    await compare(device, { M: 7, N: 12, K: 23, ta, tb, dtype: 'f16', cDtype: 'f32', accumulate: true });
  }
});

test('a long sum, as in the gradient of a weight', async ({ device }) => {
  await compare(device, { M: 23, N: 12, K: 2064, ta: true });
  await compare(device, { M: 5, N: 7, K: 1026, ta: true, bias: true, activation: 'silu', accumulate: true });
});

test('the same bits every time', async ({ device }) => {
  const { spec, c } = problem(device, { M: 23, N: 23, K: 700, ta: true });
  for (const config of configs(device, spec)) {
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
  for (const config of configs(device, { ...spec, K: 0 })) {
    gemm(device, { ...spec, K: 0 }, config);
    assert.equal(Array.from(await read(device, c)), [...bias!, ...bias!, ...bias!]);
  }
});

test('what it refuses', ({ device }) => {
  const { spec } = problem(device, { M: 3, N: 5, K: 4 });
  const refused = (change: Partial<GemmSpec>, pattern: RegExp): void => {
    assert.throws(() => gemm(device, { ...spec, ...change }), (error: Error) => error instanceof ValueError && pattern.test(error.message));
  };
  refused({ M: 4 }, /^\[gemm\] a \(4 × 4, .* ends at element 15, expected less than the storage's 12;/);
  refused({ b: { ...spec.b, offset: -1 } }, /^\[gemm\] b /);
  refused({ c: { ...spec.c, transposed: true, rowStride: 3 } }, /^\[gemm\] c is transposed/);
  refused({ c: { ...spec.c, storage: spec.a.storage }, K: 1, N: 1 }, /^\[gemm\] c shares the storage of a/);
});

test('every configuration compiles under the default limits', async () => {
  const device = await openDevice({ backend: 'null', defaultLimits: true, without: ['subgroups'] });
  try {
    for (const [ta, tb] of layouts) {
      for (const dtype of ['f32', ...(device.has('shader-f16') ? ['f16'] as const : [])] as const) {
        for (const [M, N, K] of [[12, 20, 516], [7, 23, 515]]) {
          const { spec } = problem(device, { M, N, K, ta, tb, dtype, bias: true, activation: 'gelu', accumulate: true });
          for (const config of configs(device, spec)) gemm(device, spec, config);
        }
      }
    }
    await device.synchronize();
  } finally {
    device.destroy();
  }
});

test('the choice is a candidate', ({ device, plain }) => {
  for (const d of [device, plain]) {
    for (const [M, N, K] of [[1, 736, 368], [2064, 736, 368], [55, 736, 2064], [8, 8, 8], [2064, 1, 368]]) {
      const a = { storage: null as unknown as Storage, offset: 0, rowStride: 1, dtype: 'f32' } as const;
      const spec: GemmSpec = { M, N, K, a, b: a, c: a };
      assert.equal(configs(d, spec)[0], chooseConfig(d, spec));
    }
  }
});

test.run();
