// Sorting, the largest of a row, and the standard deviation, against float64 on the host; their gradients.

import * as assert from 'uvu/assert';
import {
  Generator,
  grad,
  gradcheck,
  numelOf,
  rand,
  randn,
  scope,
  sort,
  std,
  tensor,
  topk,
  type DType,
} from '../../../core/index.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('sort');

/** Indices of a row's values in order: NaN is the largest, equal ones stay. */
function order(row: readonly number[], descending: boolean): number[] {
  const key = (v: number): number => (Number.isNaN(v) ? Infinity : v);
  const sign = descending ? -1 : 1;
  return row
    .map((_, i) => i)
    .sort((a, b) => {
      const [x, y] = [row[a], row[b]];
      if (Number.isNaN(x) !== Number.isNaN(y)) return sign * (Number.isNaN(x) ? 1 : -1);
      return sign * (key(x) - key(y) || 0) || a - b;
    });
}

/** The rows along an axis, and where their elements lie. */
function rowsOf(shape: readonly number[], axis: number): number[][] {
  const inner = numelOf(shape.slice(axis + 1));
  const n = shape[axis];
  return Array.from({ length: numelOf(shape) / n }, (_, r) =>
    Array.from({ length: n }, (_, i) => Math.floor(r / inner) * n * inner + i * inner + (r % inner)),
  );
}

test('sort and topk along any axis, both ways, with equal values, in every type', async ({ device }) => {
  const types: DType[] = device.has('shader-f16') ? ['f32', 'f16', 'i32', 'u32'] : ['f32', 'i32', 'u32'];
  for (const dtype of types) {
    for (const [shape, axis] of [
      [[1], 0],
      [[7], 0],
      [[5, 33], 1],
      [[33, 5], 0],
      [[3, 17, 2], -2],
      [[2, 130], -1],
    ] as const) {
      // Of few different values, so that many are equal.
      const values = Array.from(uniform(numelOf(shape), 3), (v) => Math.round(8 * (dtype === 'u32' ? Math.abs(v) : v)));
      const x = tensor(device, values, { shape: [...shape], dtype });
      for (const descending of [false, true]) {
        const { values: y, indices } = sort(x, axis, { descending });
        const [found, where] = [await y.data(), await indices.data()];
        assert.is(indices.dtype, 'i32');
        assert.equal([y.shape, y.dtype], [[...shape], dtype]);
        const dim = axis < 0 ? axis + shape.length : axis;
        for (const places of rowsOf(shape, dim)) {
          const wanted = order(
            places.map((at) => values[at]),
            descending,
          );
          assert.equal(
            places.map((at) => where[at]),
            wanted,
          );
          assert.equal(
            places.map((at) => found[at]),
            wanted.map((i) => values[places[i]]),
          );
        }
        const k = Math.ceil(shape[dim] / 2);
        const top = topk(x, k, axis, { largest: descending });
        const parts = [y.slice(dim, 0, k), indices.slice(dim, 0, k)];
        assert.equal(await top.values.tolist(), await parts[0].tolist());
        assert.equal(await top.indices.tolist(), await parts[1].tolist());
        for (const each of [y, indices, ...parts, top.values, top.indices]) each.dispose();
      }
      x.dispose();
    }
  }
});

test('NaN is the largest, infinities are in their places', async ({ device }) => {
  const values = [NaN, 1, -Infinity, NaN, Infinity, -2, 0];
  const x = tensor(device, values);
  const { values: y, indices } = x.sort();
  assert.equal(await indices.tolist(), [2, 5, 6, 1, 4, 0, 3]);
  assert.equal(await y.tolist(), [-Infinity, -2, 0, 1, Infinity, NaN, NaN]);
  const top = x.topk(3);
  assert.equal(await top.indices.tolist(), [0, 3, 4]);
  for (const each of [x, y, indices, top.values, top.indices]) each.dispose();
});

test('gradients of sort, topk and std', async ({ device }) => {
  const shape = [3, 5];
  const x = tensor(device, uniform(15, 9), { shape, requiresGrad: true });
  const weights = Float64Array.from({ length: 15 }, (_, i) => i + 1);
  const w = tensor(device, Float32Array.from(weights), { shape });
  const [dx] = scope(() => grad(x.sort(1, { descending: true }).values.mul(w).sum(), [x]));
  const values = Array.from(await x.data());
  const expected = new Array<number>(15).fill(0);
  for (const places of rowsOf(shape, 1))
    order(
      places.map((at) => values[at]),
      true,
    ).forEach((from, to) => (expected[places[from]] = weights[places[to]]));
  assert.equal(Array.from(await dx!.data()), expected);
  await gradcheck((a) => topk(a, 2, 0).values.square(), [x]);
  await gradcheck((a) => std(a, 1), [x]);
  await gradcheck((a) => std(a, [0, 1], true, 0), [x]);
  const same = tensor(device, [2, 2, 2], { requiresGrad: true });
  const flat = std(same);
  const [none] = scope(() => grad(flat, [same]));
  assert.equal([await flat.item(), await none!.tolist()], [0, [0, 0, 0]]);
  for (const each of [x, w, dx!, same, flat, none!]) each.dispose();
});

test('rand and randn are the generator’s numbers', async ({ device }) => {
  const [a, b] = [new Generator(device, 5), new Generator(device, 5)];
  const pairs = [
    [rand(a, [3, 7]), b.uniform([3, 7])],
    [randn(a, [65]), b.normal([65])],
  ];
  for (const [x, y] of pairs) assert.equal(await x.tolist(), await y.tolist());
  const normal = randn(a, [4096]);
  const spread = normal.std();
  assertClose(await spread.data(), [1], 0.05);
  for (const each of [...pairs.flat(), normal, spread, a, b]) each.dispose();
});

test('what makes no sense is refused', ({ device }) => {
  const x = tensor(device, [1, 2, 3]);
  const flags = tensor(device, [true, false]);
  assert.throws(() => topk(x, 4), /k is 4 for an axis of 3 elements, expected a whole number from 0 to 3/);
  assert.throws(() => sort(x, 1), /Axis 1 is out of range/);
  assert.throws(() => sort(flags), /The type is bool/);
  x.dispose();
  flags.dispose();
});

test.run();
