// Gather, scatter, selection and joining against index arithmetic, in every type.

import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { numelOf, scope, tensor, type DType, type Tensor } from '../../../core/index.ts';
import { at, build, type NdArray } from '../../reference/array.ts';
import { gpuSuite } from '../../support.ts';

const test = gpuSuite('indexing');

/** Small whole numbers, exact in every type; booleans are every third. */
function sample(device: core.Device, shape: number[], dtype: DType): { t: Tensor; array: NdArray } {
  const array = build(shape, (i) => {
    const flat = i.reduce((f, v, d) => f * shape[d] + v, 0);
    return dtype === 'bool' ? Number(flat % 3 === 0) : (flat * 7) % 120;
  });
  return { t: tensor(device, array.data, { shape, dtype }), array };
}

async function same(t: Tensor, expected: NdArray, dtype: DType, label: string): Promise<void> {
  assert.is(t.dtype, dtype, label);
  assert.equal(t.shape, [...expected.shape], label);
  assert.equal(Array.from(await t.data()), [...expected.data], label);
  t.dispose();
}

test('every type is gathered, selected, scattered, joined and padded, by i32 and u32, from views too', async ({
  device,
}) => {
  const types: DType[] = ['f32', ...(device.has('shader-f16') ? ['f16' as const] : []), 'i32', 'u32', 'bool'];
  for (const dtype of types) {
    for (const indexType of ['i32', 'u32'] as const) {
      // Slices of 8 and 12 elements are taken four at a time.
      for (const shape of [[7], [5, 7], [3, 55], [2, 7, 3], [5, 8], [3, 2, 6]]) {
        const { t: dense, array } = sample(device, shape, dtype);
        // The same values as a view that is reversed twice.
        const t = scope(() => dense.flip(0).contiguous().flip(0));
        for (let axis = 0; axis < shape.length; axis++) {
          const size = shape[axis],
            count = 9;
          const to = shape.map((s, d) => (d === axis ? count : s));
          const raw = build(
            to,
            (i) => i.reduce((f, v, d) => f + v * (5 + d), 0) % (indexType === 'i32' ? 2 * size : size),
          );
          // Half of the signed ones count from the end.
          const index = build(to, (i) => at(raw, i) - (indexType === 'i32' && at(raw, i) >= size ? 2 * size : 0));
          const place = build(to, (i) => at(raw, i) % size);
          const indices = tensor(device, index.data, { shape: to, dtype: indexType });
          const label = `${dtype} (${shape}) along ${axis} by ${indexType}`;
          await same(
            t.gather(axis, indices),
            build(to, (i) =>
              at(
                array,
                i.map((v, d) => (d === axis ? at(place, i) : v)),
              ),
            ),
            dtype,
            `gather ${label}`,
          );
          const line = index.data.slice(0, count),
            flat = tensor(device, line, { dtype: indexType });
          await same(
            t.indexSelect(axis, flat),
            build(to, (i) =>
              at(
                array,
                i.map((v, d) => (d === axis ? (line[v] + size) % size : v)),
              ),
            ),
            dtype,
            `indexSelect ${label}`,
          );
          if (dtype !== 'bool') {
            const { t: source, array: added } = sample(device, to, dtype);
            const sums = build(
              shape,
              (i) =>
                at(array, i) +
                Array.from({ length: count }, (_, j) => i.map((v, d) => (d === axis ? j : v))).reduce(
                  (s, from) => s + (at(place, from) === i[axis] ? at(added, from) : 0),
                  0,
                ),
            );
            await same(t.scatterAdd(axis, indices, source), sums, dtype, `scatterAdd ${label}`);
            source.dispose();
          }
          indices.dispose();
          flat.dispose();
        }
        if (indexType === 'i32') {
          await same(
            core.concat([t, dense], -1),
            build([...shape.slice(0, -1), 2 * shape.at(-1)!], (i) =>
              at(array, [...i.slice(0, -1), i.at(-1)! % shape.at(-1)!]),
            ),
            dtype,
            'concat',
          );
          await same(
            core.stack([t, dense], 0),
            build([2, ...shape], (i) => at(array, i.slice(1))),
            dtype,
            'stack',
          );
          await same(
            t.pad(
              shape.map(() => [1, 2]),
              1,
            ),
            build(
              shape.map((s) => s + 3),
              (i) =>
                i.every((v, d) => v >= 1 && v <= shape[d])
                  ? at(
                      array,
                      i.map((v) => v - 1),
                    )
                  : 1,
            ),
            dtype,
            'pad',
          );
        }
        t.dispose();
        dense.dispose();
      }
    }
  }
});

test('an index may reach less than the whole tensor', async ({ device }) => {
  const { t, array } = sample(device, [4, 6], 'f32'),
    index = tensor(device, Int32Array.of(3, 0, 1, 1, 2, 0), { shape: [3, 2] });
  await same(
    t.gather(1, index),
    build([3, 2], ([i, j]) => at(array, [i, [3, 0, 1, 1, 2, 0][2 * i + j]])),
    'f32',
    'gather',
  );
  const { t: source, array: added } = sample(device, [5, 3], 'f32');
  await same(
    t.scatterAdd(1, index, source),
    build(
      [4, 6],
      ([i, k]) =>
        at(array, [i, k]) +
        [0, 1].reduce((s, j) => s + (i < 3 && [3, 0, 1, 1, 2, 0][2 * i + j] === k ? at(added, [i, j]) : 0), 0),
    ),
    'f32',
    'scatterAdd',
  );
  for (const x of [t, index, source]) x.dispose();
});

test('indices out of range read NaN, add nothing, and are no class', async ({ device }) => {
  const x = tensor(device, [10, 20, 30]),
    index = tensor(device, Int32Array.of(5, -9, -1)),
    ones = tensor(device, [1, 1, 1]);
  const result = scope(() => [
    x.gather(0, index),
    x.indexSelect(0, index),
    x.scatterAdd(0, index, ones),
    core.oneHot(index, 3).sum(1),
  ]);
  assert.equal(await Promise.all(result.map((t) => t.tolist())), [
    [NaN, NaN, 30],
    [NaN, NaN, 30],
    [10, 20, 31],
    [0, 0, 0],
  ]);
  for (const t of [x, index, ones, ...result]) t.dispose();
});

test('many sources of one element are added in a fixed order', async ({ device }) => {
  const n = 1026;
  const host = Float32Array.from({ length: n }, (_, i) => Math.sin(i) * 10 ** (i % 7));
  const run = async (): Promise<number[]> => {
    const y = scope(() =>
      core.zeros(device, [3]).scatterAdd(0, core.arange(device, 0, n, 1, 'i32').remainder(3), tensor(device, host)),
    );
    const values = Array.from(await y.data());
    y.dispose();
    return values;
  };
  const first = await run();
  const exact = [0, 1, 2].map((k) => host.reduce((s, v, i) => s + (i % 3 === k ? v : 0), 0));
  first.forEach((v, k) => assert.ok(Math.abs(v - exact[k]) <= 1e-6 * host.reduce((s, w) => s + Math.abs(w), 0)));
  assert.equal(await run(), first);
});

test('one-hot rows', async ({ device }) => {
  const index = tensor(device, Int32Array.of(2, 0, 1, 2), { shape: [2, 2] });
  const y = core.oneHot(index, 3);
  assert.equal(await y.tolist(), [
    [
      [0, 0, 1],
      [1, 0, 0],
    ],
    [
      [0, 1, 0],
      [0, 0, 1],
    ],
  ]);
  assert.is(numelOf(y.shape), 12);
  index.dispose();
  y.dispose();
});

test('the gradient of selected rows is added up where they came from, one element or four at a time', async ({
  device,
}) => {
  const index = [2, 0, 2, -1, 2];
  for (const width of [7, 8]) {
    const x = tensor(device, new Float32Array(4 * width), { shape: [4, width], requiresGrad: true });
    const factors = Float32Array.from({ length: index.length * width }, (_, i) => i + 1);
    scope(() =>
      x
        .indexSelect(0, tensor(device, Int32Array.from(index)))
        .mul(tensor(device, factors, { shape: [index.length, width] }))
        .sum()
        .backward(),
    );
    const expected = new Float32Array(4 * width);
    index.forEach((row, j) => {
      for (let i = 0; i < width; i++) expected[((row + 4) % 4) * width + i] += factors[j * width + i];
    });
    assert.equal(Array.from(await x.grad!.data()), [...expected], `width ${width}`);
    x.grad = null;
    x.dispose();
  }
});

test.run();
