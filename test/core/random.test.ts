import * as assert from 'uvu/assert';
import { Generator, philox4x32 } from '../../core/index.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('random');

test('Philox gives the published vectors', () => {
  // Random123, kat_vectors, philox4x32 with 10 rounds.
  assert.equal(philox4x32([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const f = 0xffffffff;
  assert.equal(philox4x32([f, f, f, f], [f, f]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  assert.equal(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
});

test('the GPU draws the same bits, across the carry into the high word', async ({ device }) => {
  for (const state of [{ seed: 0, position: 0 }, { seed: 2 ** 40 + 12345, position: 2 ** 32 - 3 }]) {
    const g = new Generator(device, 0);
    g.setState(state);
    const first = g.bits([5]), second = g.bits([21]);
    const got = [...(await first.data()), ...(await second.data())];
    const block = (k: number): number[] => philox4x32([(state.position + k) >>> 0, Math.floor((state.position + k) / 2 ** 32), 0, 0], [state.seed >>> 0, Math.floor(state.seed / 2 ** 32)]);
    assert.equal(got, [...block(0), block(1)[0], ...[2, 3, 4, 5, 6, 7].flatMap(block).slice(0, 21)]);
    assert.is(g.position, state.position + 8);
    for (const t of [first, second, g]) t.dispose();
  }
});

test('host and GPU share the sequence, and a state resumes it', async ({ device }) => {
  const g = new Generator(device, 7), h = new Generator(device, 7);
  const a = g.uniform([8]);
  assert.equal(Array.from(await a.data()), Array.from(h.hostUniform(8)));
  h.setState(g.getState());
  const b = g.normal([66]), c = h.normal([66]);
  assert.equal(Array.from(await b.data()), Array.from(await c.data()));
  for (const t of [a, b, c, g, h]) t.dispose();
});

test('distributions have their moments and bounds', async ({ device }) => {
  const g = new Generator(device, 1);
  const n = 40000;
  const draws = [g.uniform([n], { low: -1, high: 3 }), g.normal([n], { mean: 2, std: 0.5 }), g.randint([n], -3, 4), g.bernoulli([n], 0.3)];
  const [u, z, k, b] = await Promise.all(draws.map(async (t) => Array.from(await t.data())));
  const mean = (v: number[]): number => v.reduce((s, x) => s + x, 0) / v.length;
  const std = (v: number[]): number => { const m = mean(v); return Math.sqrt(mean(v.map((x) => (x - m) ** 2))); };
  assert.ok(Math.abs(mean(u) - 1) < 0.03 && Math.abs(std(u) - 4 / Math.sqrt(12)) < 0.02 && u.every((x) => x >= -1 && x < 3));
  assert.ok(Math.abs(mean(z) - 2) < 0.015 && Math.abs(std(z) - 0.5) < 0.01 && z.every(Number.isFinite));
  assert.equal([...new Set(k)].sort((x, y) => x - y), [-3, -2, -1, 0, 1, 2, 3]);
  assert.ok(Math.abs(mean(b) - 0.3) < 0.012);
  draws.forEach((t) => t.dispose());
  g.dispose();
});

test('a permutation has every number once', async ({ device }) => {
  const g = new Generator(device, 3);
  for (const n of [1, 7, 258]) {
    const t = g.permutation(n);
    const p = Array.from(await t.data());
    assert.equal([...p].sort((a, b) => a - b), p.map((_, i) => i));
    if (n > 7) assert.not.equal(p, p.map((_, i) => i));
    t.dispose();
  }
  g.dispose();
});

test.run();
