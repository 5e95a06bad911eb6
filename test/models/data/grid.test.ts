import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError, ValueError } from '../../../core/errors.ts';
import type { ImageBatch } from '../../../models/data/grid.ts';
import { batchToPixels, makeGrid, normalizeRange, toPixels } from '../../../models/data/grid.ts';

const batch = (...shape: [number, number, number, number]): ImageBatch => ({
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 1),
  shape,
});

test('makeGrid: every value at its place, padding elsewhere', () => {
  const images = batch(5, 2, 3, 4);
  const { data, shape } = makeGrid(images, { nrow: 3, padding: 1, padValue: -7 });
  assert.equal(shape, [2, 2 * (3 + 1) + 1, 3 * (4 + 1) + 1]);
  const expected = new Float32Array(data.length).fill(-7);
  for (let i = 0; i < 5; i++) {
    for (let c = 0; c < 2; c++) {
      for (let y = 0; y < 3; y++) {
        for (let x = 0; x < 4; x++) {
          expected[(c * 9 + Math.floor(i / 3) * 4 + 1 + y) * 16 + (i % 3) * 5 + 1 + x] =
            images.data[((i * 2 + c) * 3 + y) * 4 + x];
        }
      }
    }
  }
  assert.equal(data, expected);
});

test('makeGrid: fewer images than columns, grey images, a single image', () => {
  assert.equal(makeGrid(batch(2, 3, 5, 5)).shape, [3, 9, 16]);
  const grey = makeGrid(batch(2, 1, 1, 1), { padding: 0 });
  assert.equal(grey, { data: Float32Array.of(1, 2, 1, 2, 1, 2), shape: [3, 1, 2] });
  assert.equal(makeGrid(batch(1, 3, 2, 2)), { data: batch(1, 3, 2, 2).data, shape: [3, 2, 2] });
});

test('normalizeRange: clamps and maps to [0, 1]; the range of the values by default', () => {
  const images: ImageBatch = { data: Float32Array.of(-3, -1, 0, 1, 2, 0.5), shape: [1, 1, 2, 3] };
  assert.equal([...normalizeRange(images, [-1, 1]).data], [0, 0, 0.5, 1, 1, 0.75]);
  assert.equal(
    [...normalizeRange(images).data].map((v) => Math.round(v * 1000)),
    [0, 400, 600, 800, 1000, 700],
  );
  const plain: ImageBatch = { data: new Float32Array(4).fill(5), shape: [1, 1, 2, 2] };
  assert.equal([...normalizeRange(plain).data], [0, 0, 0, 0]);
  assert.throws(
    () => normalizeRange(images, [1, -1]),
    (e: unknown) => e instanceof ValueError && /value range is \[1, -1\]/.test(e.message),
  );
});

test('toPixels: rounds half up, clamps, and survives NaN and infinity', () => {
  const data = Float32Array.of(0, 1, 0.5, 2, -1, NaN, Infinity, -Infinity, 1 / 255);
  assert.equal([...toPixels({ data, shape: [1, 3, 3] }).data], [0, 255, 128, 255, 0, 0, 255, 0, 1]);
  const interleaved = toPixels({ data: Float32Array.of(0, 1, 1, 0), shape: [2, 1, 2] });
  assert.equal(interleaved, { data: Uint8Array.of(0, 255, 255, 0), width: 2, height: 1, channels: 2 });
});

test('batchToPixels: undoes the normalisation of pixels', () => {
  const levels = Uint8Array.from({ length: 256 }, (_, i) => i);
  const data = Float32Array.from(levels, (v) => v / 127.5 - 1);
  const images = batchToPixels({ data, shape: [2, 1, 8, 16] });
  assert.equal(
    images.flatMap((image) => [...image.data]),
    [...levels],
  );
});

test('errors name the operation and the value', () => {
  assert.throws(
    () => makeGrid({ data: new Float32Array(3), shape: [1, 1, 2, 2] }),
    (e: unknown) => e instanceof ShapeError && /shape \(1,1,2,2\) come with 3 numbers/.test(e.message),
  );
  assert.throws(
    () => makeGrid({ data: new Float32Array(0), shape: [0, 3, 2, 2] }),
    (e: unknown) => e instanceof ShapeError && /at least one image/.test(e.message),
  );
  assert.throws(
    () => makeGrid(batch(1, 1, 1, 1), { nrow: 0 }),
    (e: unknown) => e instanceof ValueError && /nrow is 0/.test(e.message),
  );
});

test.run();
