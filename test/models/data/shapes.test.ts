import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ValueError } from '../../../core/errors.ts';
import { resize } from '../../../models/data/resize.ts';
import { SHAPE_CLASSES, shapesDataset, shapesItem } from '../../../models/data/shapes.ts';

/** How far each pixel is from the background, which the upper left corner shows, on the scale of the brightest one. */
function silhouette(pixels: Uint8Array): number[] {
  const far = Array.from({ length: pixels.length / 3 }, (_, i) =>
    Math.hypot(pixels[i * 3] - pixels[0], pixels[i * 3 + 1] - pixels[1], pixels[i * 3 + 2] - pixels[2]),
  );
  const peak = Math.max(...far);
  return far.map((v) => v / peak);
}

test('at least eight classes, by turns, with unique names', () => {
  assert.ok(SHAPE_CLASSES.length >= 8);
  assert.is(new Set(SHAPE_CLASSES).size, SHAPE_CLASSES.length);
  for (let i = 0; i < 30; i++) assert.is(shapesItem(i, { size: 8 }).label, i % SHAPE_CLASSES.length);
});

test('an item is a function of seed and index', () => {
  assert.equal(shapesItem(17, { size: 24, seed: 5 }), shapesItem(17, { size: 24, seed: 5 }));
  assert.not.equal(shapesItem(17, { size: 24, seed: 5 }).pixels, shapesItem(17, { size: 24, seed: 6 }).pixels);
  assert.not.equal(shapesItem(7, { size: 24 }).pixels, shapesItem(17, { size: 24 }).pixels);
});

test('the same scene at another size: only the sampling differs', () => {
  for (let index = 0; index < SHAPE_CLASSES.length; index++) {
    const [small, large] = [16, 48].map((size) => shapesItem(index, { size }).pixels);
    const boxed = resize({ data: large, width: 48, height: 48, channels: 3 }, 16, 16, 'box').data;
    const difference = small.reduce((sum, v, i) => sum + Math.abs(v - boxed[i]), 0) / small.length;
    assert.ok(difference < 2, `${SHAPE_CLASSES[index]}: ${difference} levels on average`);
  }
});

test('antialiasing keeps the area: circle, square, ring and diamond in place', () => {
  const size = 64;
  const radius = 0.76 * (size / 2);
  const areas: Record<string, number> = {
    circle: Math.PI * 0.85 ** 2,
    square: 1.56 ** 2,
    ring: Math.PI * (0.92 ** 2 - 0.48 ** 2),
    diamond: 2 * 1.02 * 0.6,
  };
  for (const [name, area] of Object.entries(areas)) {
    const { pixels } = shapesItem(SHAPE_CLASSES.indexOf(name as (typeof SHAPE_CLASSES)[number]), {
      size,
      variation: 0,
    });
    const covered = silhouette(pixels).reduce((a, b) => a + b, 0);
    assert.ok(
      Math.abs(covered / (area * radius ** 2) - 1) < 0.01,
      `${name}: ${covered}, expected ${area * radius ** 2}`,
    );
  }
});

test('colours stand out from the background, which the corners show', () => {
  for (let i = 0; i < 200; i++) {
    const { pixels } = shapesItem(i, { size: 16, variation: 1 });
    let contrast = 0;
    for (let p = 0; p < pixels.length; p += 3) {
      contrast = Math.max(
        contrast,
        Math.abs(pixels[p] - pixels[0]),
        Math.abs(pixels[p + 1] - pixels[1]),
        Math.abs(pixels[p + 2] - pixels[2]),
      );
    }
    assert.ok(contrast > 100, `item ${i}: ${contrast}`);
  }
});

for (const size of [8, 16]) {
  test(`classes can be told apart at ${size}x${size}: the nearest mean silhouette is nearly always the right one`, () => {
    const classes = SHAPE_CLASSES.length;
    const means = Array.from({ length: classes }, () => new Array<number>(size * size).fill(0));
    for (let i = 0; i < 30 * classes; i++) {
      const { pixels, label } = shapesItem(i, { size, seed: 1, variation: 0.2 });
      silhouette(pixels).forEach((v, p) => (means[label][p] += v / 30));
    }
    let right = 0;
    const trials = 10 * classes;
    for (let i = 0; i < trials; i++) {
      const { pixels, label } = shapesItem(i, { size, seed: 2, variation: 0.2 });
      const shape = silhouette(pixels);
      const distance = means.map((mean) => mean.reduce((s, m, p) => s + (m - shape[p]) ** 2, 0));
      if (distance.indexOf(Math.min(...distance)) === label) right++;
    }
    assert.ok(right / trials >= (size === 8 ? 0.85 : 0.95), `${right} of ${trials}`);
  });
}

test('shapesDataset: length, and errors that name the value', () => {
  const data = shapesDataset({ size: 8, length: 25 });
  assert.equal([data.length, data.size, data.channels, data.numClasses], [25, 8, 3, SHAPE_CLASSES.length]);
  const fails = (run: () => unknown, pattern: RegExp): void =>
    assert.throws(run, (e: unknown) => e instanceof ValueError && pattern.test(e.message));
  fails(() => data.item(25), /index is 25, expected less than the length 25/);
  fails(() => shapesDataset({ size: 7 }), /size is 7, expected an integer of at least 8/);
  fails(() => shapesDataset({ size: 8, variation: 2 }), /variation is 2, expected a number in \[0, 1\]/);
  fails(() => shapesDataset({ size: 8, length: 0 }), /length is 0, expected a positive integer/);
  fails(() => shapesItem(-1, { size: 8 }), /index is -1, expected/);
});

test.run();
