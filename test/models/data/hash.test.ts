import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash32, HashStream, mix32 } from '../../../models/data/hash.ts';

/** The same mixing with exact integers. */
function exactMix(x: number): number {
  const mask = 0xffffffffn;
  let v = BigInt(x >>> 0);
  v = ((v ^ (v >> 16n)) * 0x21f0aaadn) & mask;
  v = ((v ^ (v >> 15n)) * 0x735a2d97n) & mask;
  return Number(v ^ (v >> 15n));
}

test('mix32: equals exact integer arithmetic', () => {
  for (const x of [0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, -1, 123456789]) assert.is(mix32(x), exactMix(x));
});

test('hash32: every key counts, its order and its high bits too', () => {
  const keys = [[], [0], [0, 0], [1], [0, 1], [1, 0], [2 ** 32], [2 ** 32 + 1], [2 ** 40], [-1], [2 ** 53 - 1]];
  assert.is(new Set(keys.map((k) => hash32(...k))).size, keys.length);
});

test('HashStream: a function of its keys; uniform', () => {
  const draw = (...keys: number[]): number[] => {
    const stream = new HashStream(...keys);
    return Array.from({ length: 2000 }, () => stream.below(10));
  };
  assert.equal(draw(3, 4), draw(3, 4));
  assert.not.equal(draw(3, 4), draw(4, 3));
  for (const seed of [0, 1, 2]) {
    const counts = new Array<number>(10).fill(0);
    for (const v of draw(seed)) counts[v]++;
    // Chi-squared with 9 degrees of freedom: 27.9 is exceeded once in a thousand.
    assert.ok(counts.reduce((s, n) => s + (n - 200) ** 2 / 200, 0) < 27.9, counts.join(' '));
  }
  const stream = new HashStream(9);
  for (let i = 0; i < 1000; i++) {
    const u = stream.uniform(-2, 3);
    assert.ok(u >= -2 && u < 3);
  }
});

test('HashStream: neighbouring keys give unrelated streams', () => {
  const a = new HashStream(0, 7);
  const b = new HashStream(0, 8);
  let differing = 0;
  for (let i = 0; i < 500; i++) for (let x = a.next() ^ b.next(); x !== 0; x &= x - 1) differing++;
  // 16,000 fair bits: mean 8,000, standard deviation 63.
  assert.ok(Math.abs(differing - 8000) < 320, String(differing));
});

test.run();
