import * as assert from 'uvu/assert';
import { type SampleRange, Generator, philox4x32 } from '../../../core/index.ts';
import { gpuSuite, hasFeature } from '../../support.ts';

const test = gpuSuite('random');

test('Philox gives the published vectors', () => {
  // Random123, kat_vectors, philox4x32 with 10 rounds.
  assert.equal(philox4x32([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const f = 0xffffffff;
  assert.equal(philox4x32([f, f, f, f], [f, f]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  assert.equal(
    philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});

test('the GPU draws the same bits, across the carry into the high word', async ({ device }) => {
  for (const state of [
    { seed: 0, position: 0 },
    { seed: 2 ** 40 + 12345, position: 2 ** 32 - 3 },
  ]) {
    const g = new Generator(device, 0);
    g.setState(state);
    const first = g.bits([5]),
      second = g.bits([21]);
    const got = [...(await first.data()), ...(await second.data())];
    const block = (k: number): number[] =>
      philox4x32(
        [(state.position + k) >>> 0, Math.floor((state.position + k) / 2 ** 32), 0, 0],
        [state.seed >>> 0, Math.floor(state.seed / 2 ** 32)],
      );
    assert.equal(got, [...block(0), block(1)[0], ...[2, 3, 4, 5, 6, 7].flatMap(block).slice(0, 21)]);
    assert.is(g.position, state.position + 8);
    for (const t of [first, second, g]) t.dispose();
  }
});

test('host and GPU share the sequence, and a state resumes it', async ({ device }) => {
  const g = new Generator(device, 7),
    h = new Generator(device, 7);
  const a = g.uniform([8]);
  assert.equal(Array.from(await a.data()), Array.from(h.hostUniform(8)));
  h.setState(g.getState());
  const b = g.normal([66]),
    c = h.normal([66]);
  assert.equal(Array.from(await b.data()), Array.from(await c.data()));
  for (const t of [a, b, c, g, h]) t.dispose();
});

test('distributions have their moments and bounds', async ({ device }) => {
  const g = new Generator(device, 1);
  const n = 40000;
  const draws = [
    g.uniform([n], { low: -1, high: 3 }),
    g.normal([n], { mean: 2, std: 0.5 }),
    g.randint([n], -3, 4),
    g.bernoulli([n], 0.3),
  ];
  const [u, z, k, b] = await Promise.all(draws.map(async (t) => Array.from(await t.data())));
  const mean = (v: number[]): number => v.reduce((s, x) => s + x, 0) / v.length;
  const std = (v: number[]): number => {
    const m = mean(v);
    return Math.sqrt(mean(v.map((x) => (x - m) ** 2)));
  };
  assert.ok(
    Math.abs(mean(u) - 1) < 0.03 && Math.abs(std(u) - 4 / Math.sqrt(12)) < 0.02 && u.every((x) => x >= -1 && x < 3),
  );
  assert.ok(Math.abs(mean(z) - 2) < 0.015 && Math.abs(std(z) - 0.5) < 0.01 && z.every(Number.isFinite));
  assert.equal(
    [...new Set(k)].sort((x, y) => x - y),
    [-3, -2, -1, 0, 1, 2, 3],
  );
  assert.ok(Math.abs(mean(b) - 0.3) < 0.012);
  draws.forEach((t) => t.dispose());
  g.dispose();
});

test('a permutation orders numbers by their keys, every number once', async ({ device }) => {
  const g = new Generator(device, 3);
  for (const n of [0, 1, 2, 7, 64, 258, 1026]) {
    const from = g.getState();
    const order = g.permutation(n);
    g.setState(from);
    const bits = g.bits([n]);
    const keys = Array.from(await bits.data());
    assert.equal(
      Array.from(await order.data()),
      keys.map((_, i) => i).sort((a, b) => keys[a] - keys[b] || a - b),
    );
    assert.is(order.dtype, 'i32');
    order.dispose();
    bits.dispose();
  }
  g.dispose();
});

test('types, ranges and what is refused', async ({ device }) => {
  const g = new Generator(device, 5);
  const n = 30000;
  const draws = [
    g.bernoulli([n], 0.5, 'bool'),
    g.bernoulli([n], 1, 'i32'),
    g.randint([n], -(2 ** 31), 0),
    g.uniform([n], { low: 1, high: 1 + 2 ** -20 }),
  ];
  if (device.has('shader-f16')) draws.push(g.uniform([n], { dtype: 'f16' }), g.normal([n], { dtype: 'f16' }));
  const values = await Promise.all(draws.map((t) => t.data()));
  assert.equal(
    draws.slice(0, 3).map((t) => t.dtype),
    ['bool', 'i32', 'i32'],
  );
  assert.ok(
    values[0].every((v: number) => v === 0 || v === 1) &&
      values[1].every((v: number) => v === 1) &&
      values[2].every((v: number) => v < 0),
  );
  assert.ok(values[3].every((v: number) => v >= 1 && v < 1 + 2 ** -20));
  if (values[4]) assert.ok(values[4].every((v: number) => v >= 0 && v < 1) && values[5].every(Number.isFinite));
  assert.throws(() => g.uniform([2], { dtype: 'i32' }), /^\[uniform\] The type is i32, expected f32 or f16/);
  assert.throws(() => g.randint([2], 3, 3), /^\[randint\] The range 3 to 3 is empty/);
  assert.throws(() => g.bernoulli([2], 1.5), /^\[bernoulli\] The probability is 1.5/);
  assert.throws(() => new Generator(device, -1), /^\[Generator\] The seed is -1/);
  assert.throws(() => g.setState({ seed: 1, position: 0.5 }), /^\[Generator\] Position 0.5/);
  draws.forEach((t) => t.dispose());
  g.dispose();
});

test('parts of a batch are drawn as in the whole', async ({ device }) => {
  const shapes = [[6], [6, 4], [6, 7], [6, 2, 3, 5], [12, 5]];
  const dtype = hasFeature(device, 'shader-f16') ? 'f16' : 'f32';
  const draw = async (range: SampleRange | null): Promise<Float32Array[]> => {
    const generator = new Generator(device, 11);
    generator.samples = range;
    const rows = (range?.count ?? 6) / 6;
    const tensors = shapes.flatMap(([first, ...rest]) => [
      generator.normal([first * rows, ...rest]),
      generator.uniform([first * rows, ...rest], { dtype }),
      generator.randint([first * rows, ...rest], -5, 100),
    ]);
    const values = await Promise.all(tensors.map(async (t) => Float32Array.from(await t.data())));
    for (const t of tensors) t.dispose();
    values.push(Float32Array.of(generator.position));
    generator.dispose();
    return values;
  };
  const whole = await draw(null);
  for (const parts of [2, 3, 6]) {
    const count = 6 / parts;
    const drawn: Float32Array[][] = [];
    for (let k = 0; k < parts; k++) drawn.push(await draw({ first: k * count, count, total: 6 }));
    whole.slice(0, -1).forEach((values, i) => {
      const joined = drawn.flatMap((part) => Array.from(part[i]));
      assert.equal(joined, Array.from(values), `draw ${i} in ${parts} parts`);
    });
    for (const part of drawn) assert.equal(part.at(-1), whole.at(-1), 'position');
  }
});

test.run();
