// Sums, extrema, their indices, variances and running sums against float64, over rows and columns of every length class.

import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { grad, numelOf, scope, tensor, type DType, type Tensor } from '../../../core/index.ts';
import { build, reduceAxes, type NdArray } from '../../reference/array.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('reduce');

const total = (values: number[]): number => values.reduce((s, v) => s + v, 0);
const reductions: Record<string, (values: number[]) => number> = {
  sum: total,
  mean: (v) => total(v) / v.length,
  max: (v) => Math.max(...v),
  min: (v) => Math.min(...v),
  var: (v) => total(v.map((x) => (x - total(v) / v.length) ** 2)) / (v.length - 1),
  std: (v) => Math.sqrt(total(v.map((x) => (x - total(v) / v.length) ** 2)) / (v.length - 1)),
};

const run = (name: string, x: Tensor, axes: number[]): Tensor =>
  (x as unknown as Record<string, (axes: number[]) => Tensor>)[name](axes);

test('reductions at odd sizes, over rows, columns and both, in f32 and f16', async ({ device }) => {
  const cases: [shape: number[], axes: number[]][] = [
    [[7, 55], [1]],
    [[7, 55], [0]],
    [
      [7, 55],
      [0, 1],
    ],
    [[2, 66, 7], [1]],
    [[3, 1, 5], [1]],
    [
      [3, 2, 5],
      [0, 2],
    ],
    [[2, 258, 3], [1]],
    [[1026, 3], [0]],
    [[3, 1026], [1]],
    [
      [2, 7, 3, 5],
      [1, 3],
    ],
    // Rows enough for a CPU not to share one.
    [[258, 66], [1]],
  ];
  for (const dtype of (device.has('shader-f16') ? ['f32', 'f16'] : ['f32']) as DType[]) {
    for (const [shape, axes] of cases) {
      const x = tensor(device, uniform(numelOf(shape), 7), { shape, dtype });
      const reference: NdArray = { shape, data: Array.from(await x.data()) };
      for (const [name, fn] of Object.entries(reductions)) {
        if ((name === 'var' || name === 'std') && numelOf(axes.map((a) => shape[a])) === 1) continue;
        const y = run(name, x, axes);
        assert.is(y.dtype, dtype);
        assert.equal(
          y.shape,
          shape.filter((_, d) => !axes.includes(d)),
        );
        const exact = name === 'max' || name === 'min';
        assertClose(
          await y.data(),
          reduceAxes(reference, axes, fn).data,
          exact ? 0 : dtype === 'f16' ? 1e-3 : 2e-6,
          `${name} of ${core.show(shape)} over ${axes} in ${dtype}`,
        );
        y.dispose();
      }
      x.dispose();
    }
  }
});

test('many elements are reduced in pieces', async ({ device }) => {
  for (const [shape, axes] of [
    [[70001], [0]],
    [[3, 20011], [1]],
    [[5003, 3], [0]],
    [[2, 4111, 2], [1]],
  ]) {
    const host = uniform(numelOf(shape), 3);
    const x = tensor(device, host, { shape });
    const reference: NdArray = { shape, data: Array.from(host) };
    for (const name of ['sum', 'max', 'min']) {
      const y = run(name, x, axes);
      const largest = (values: number[]): number => values.reduce((a, b) => Math.max(a, b)),
        smallest = (values: number[]): number => values.reduce((a, b) => Math.min(a, b));
      assertClose(
        await y.data(),
        reduceAxes(reference, axes, name === 'max' ? largest : name === 'min' ? smallest : total).data,
        name === 'sum' ? 1e-5 : 0,
        `${name} of ${core.show(shape)}`,
      );
      y.dispose();
    }
    x.dispose();
  }
});

test('extrema and their indices of many rows, with NaN in some', async ({ device }) => {
  const [rows, width] = [300, 55];
  const host = uniform(rows * width, 9);
  for (let r = 0; r < rows; r += 7) host[r * width + (r % width)] = NaN;
  const x = tensor(device, host, { shape: [rows, width] });
  const result = scope(() => [x.max(1), x.min(1), x.argmax(1), x.argmin(1)]);
  const got = await Promise.all(result.map((t) => t.data()));
  for (let r = 0; r < rows; r++) {
    const row = Array.from(host.subarray(r * width, (r + 1) * width)),
      nan = row.findIndex(Number.isNaN);
    const expected =
      nan >= 0
        ? [NaN, NaN, nan, nan]
        : [Math.max(...row), Math.min(...row), row.indexOf(Math.max(...row)), row.indexOf(Math.min(...row))];
    assert.equal(
      got.map((values) => values[r]),
      expected,
      `row ${r}`,
    );
  }
  [x, ...result].forEach((t) => t.dispose());
});

test('NaN decides extrema and their indices, wherever it stands', async ({ device }) => {
  for (const [count, at] of [
    [3, [0]],
    [3, [2]],
    [40, [17]],
    [200, [3, 130]],
    [200, [199]],
    [70000, [69999]],
  ] as [number, number[]][]) {
    const host = uniform(count, 5);
    for (const i of at) host[i] = NaN;
    for (const column of [false, true]) {
      const result = scope(() => {
        const x = tensor(device, host),
          shaped = column ? core.stack([x, x], 1) : x.reshape(1, count),
          axis = column ? 0 : 1;
        return [shaped.max(axis), shaped.min(axis), shaped.argmax(axis), shaped.argmin(axis)];
      });
      const [max, min, first, last] = await Promise.all(result.map((t) => t.data()));
      assert.ok(Number.isNaN(max[0]) && Number.isNaN(min[0]), `${count} with NaN at ${at}: ${max[0]}, ${min[0]}`);
      assert.is(first[0], at[0]);
      assert.is(last[0], at[0]);
      result.forEach((t) => t.dispose());
    }
  }
});

test('the first of equal extrema is the one whose index is given', async ({ device }) => {
  for (const count of [5, 64, 200]) {
    const host = Float32Array.from({ length: count }, (_, i) => (i % 4 === 3 ? 2 : i % 4 === 1 ? -2 : 0));
    const result = scope(() => {
      const x = tensor(device, host);
      return [x.argmax(), x.argmin(), x.reshape(count, 1).expand(count, 3).argmax(0), x.argmax(0, true)];
    });
    assert.equal(await Promise.all(result.map(async (t) => Array.from(await t.data()))), [[3], [1], [3, 3, 3], [3]]);
    assert.equal(
      result.map((t) => [t.shape, t.dtype]),
      [
        [[], 'i32'],
        [[], 'i32'],
        [[3], 'i32'],
        [[1], 'i32'],
      ],
    );
    result.forEach((t) => t.dispose());
  }
});

test('infinities, integers, booleans, scalars and nothing at all', async ({ device }) => {
  const cases: [fn: () => Tensor, dtype: DType, values: number[]][] = [
    [() => tensor(device, [-Infinity, -Infinity]).max(), 'f32', [-Infinity]],
    [() => tensor(device, [Infinity, 1]).sum(), 'f32', [Infinity]],
    [() => tensor(device, [Infinity, -Infinity]).sum(), 'f32', [NaN]],
    [() => tensor(device, Int32Array.of(16777217, 16777217)).sum(), 'i32', [33554434]],
    [() => tensor(device, Int32Array.of(-5, 3, 16777217)).max(), 'i32', [16777217]],
    [() => tensor(device, Uint32Array.of(2 ** 32 - 1, 3)).max(), 'u32', [2 ** 32 - 1]],
    [() => tensor(device, Uint32Array.of(2 ** 32 - 1, 3)).min(), 'u32', [3]],
    [() => tensor(device, Int32Array.of(1, 2)).mean(), 'f32', [1.5]],
    [() => tensor(device, [true, true, false]).sum(), 'i32', [2]],
    [() => tensor(device, [true, false]).max(), 'bool', [1]],
    [() => tensor(device, [true, true, false]).cumsum(0), 'i32', [1, 2, 2]],
    [() => tensor(device, 3).sum(), 'f32', [3]],
    [() => tensor(device, 3).max(), 'f32', [3]],
    [() => tensor(device, 3).mean(), 'f32', [3]],
    [() => tensor(device, 3).argmax(), 'i32', [0]],
    [() => core.zeros(device, [0]).sum(), 'f32', [0]],
    [() => core.zeros(device, [0, 3]).sum(0), 'f32', [0, 0, 0]],
    [() => core.zeros(device, [3, 0]).sum(0), 'f32', []],
    [() => core.zeros(device, [0]).mean(), 'f32', [NaN]],
    [() => tensor(device, [4]).var(), 'f32', [NaN]],
    [() => tensor(device, [4, 6]).var(0, false, 0), 'f32', [1]],
    [() => core.zeros(device, [0, 3]).max(1), 'f32', []],
    [() => core.zeros(device, [2, 0]).cumsum(1), 'f32', []],
    [() => core.zeros(device, [0, 3]).softmax(1), 'f32', []],
  ];
  for (const [fn, dtype, values] of cases) {
    const y = scope(fn);
    assert.is(y.dtype, dtype, String(fn));
    assert.equal(Array.from(await y.data()), values, String(fn));
    y.dispose();
  }
  scope(() => {
    assert.throws(
      () => core.zeros(device, [2, 0]).max(1),
      /^\[max\] Nothing to reduce over axes \[1\] of shape \(2,0\)/,
    );
    assert.throws(
      () => core.zeros(device, [2, 3]).sum(2),
      /^\[sum\] Axis 2 is out of range for 2 dimensions, expected -2 to 1/,
    );
    assert.throws(() => core.zeros(device, [2, 3]).sum([0, -2]), /name a dimension twice/);
    assert.throws(() => core.zeros(device, [2], 'i32').softmax(0), /^\[softmax\] The type is i32, expected f32 or f16/);
    assert.throws(() => core.zeros(device, [2], 'i32').var(), /^\[var\] The type is i32/);
  });
});

test('f16 means, variances and softmaxes are computed in f32', { needs: 'shader-f16' }, async ({ device }) => {
  const result = scope(() => {
    const x = core.full(device, [3000], 100, 'f16'),
      spread = tensor(device, [-300, 300, -300, 300], { dtype: 'f16' });
    const logits = tensor(
      device,
      uniform(2000).map((v) => 0.01 * v),
      { dtype: 'f16' },
    );
    return [
      x.mean(),
      spread.var(0, false, 0),
      logits.softmax(0).cast('f32').sum(),
      logits.logSoftmax(0).cast('f32').exp().sum(),
    ];
  });
  const [mean, variance, one, other] = await Promise.all(result.map((t) => t.item()));
  assert.equal([mean, variance], [100, Infinity]); // 90,000 is more than f16 holds
  assert.ok(Math.abs(one - 1) < 2e-3 && Math.abs(other - 1) < 2e-2, `${one} ${other}`);
  result.forEach((t) => t.dispose());
});

test('equal extrema share the gradient', async ({ device }) => {
  const x = tensor(
    device,
    [
      [1, 3, 3],
      [2, 2, 2],
    ],
    { requiresGrad: true },
  );
  const grads = scope(() => [grad(x.max(1).sum(), [x])[0]!, grad(x.min().sum(), [x])[0]!]);
  const [max, min] = await Promise.all(grads.map((g) => g.data()));
  assertClose(max, [0, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3], 1e-6);
  assertClose(min, [1, 0, 0, 0, 0, 0], 1e-6);
  for (const t of [x, ...grads]) t.dispose();
});

test('running sums at odd lengths, in pieces of pieces too', async ({ device }) => {
  for (const [shape, axis] of [
    [[1], 0],
    [[7, 55], 1],
    [[7, 55], 0],
    [[66, 2, 3], 0],
    [[2, 1026, 3], 1],
    [[300007], 0],
  ] as [number[], number][]) {
    const host = uniform(numelOf(shape), 4);
    const x = tensor(device, host, { shape }),
      y = x.cumsum(axis);
    const size = shape[axis],
      inner = numelOf(shape.slice(axis + 1));
    const expected = new Float64Array(host.length);
    host.forEach((v, i) => {
      expected[i] = v + (Math.floor(i / inner) % size ? expected[i - inner] : 0);
    });
    assertClose(await y.data(), expected, 2e-5, core.show(shape));
    x.dispose();
    y.dispose();
  }
});

test('softmax and logSoftmax against float64, far from zero too', async ({ device }) => {
  for (const [shape, axis] of [
    [[1, 1], 1],
    [[7, 55], 1],
    [[7, 55], 0],
    [[2, 368, 3], 1],
    [[3, 1026], -1],
  ] as [number[], number][]) {
    const host = uniform(numelOf(shape), 2).map((v) => 40 * v + 500);
    const d = axis < 0 ? axis + shape.length : axis;
    const reference: NdArray = { shape, data: Array.from(host) };
    const peak = reduceAxes(reference, [d], (v) => Math.max(...v)),
      norm = reduceAxes(reference, [d], (v) => {
        const m = Math.max(...v);
        return total(v.map((e) => Math.exp(e - m)));
      });
    const logs = build(shape, (i) => {
      const over = i.map((v, k) => (k === d ? 0 : v));
      const flat = (of: NdArray, index: number[]): number => of.data[index.reduce((f, v, k) => f * of.shape[k] + v, 0)];
      return flat(reference, i) - flat(peak, over) - Math.log(flat(norm, over));
    });
    const [p, l] = scope(() => {
      const x = tensor(device, host, { shape });
      return [x.softmax(axis), x.logSoftmax(axis)];
    });
    assertClose(await p.data(), logs.data.map(Math.exp), 2e-5, `softmax of ${core.show(shape)}`);
    assertClose(await l.data(), logs.data, 2e-6, `logSoftmax of ${core.show(shape)}`);
    p.dispose();
    l.dispose();
  }
});

test.run();
