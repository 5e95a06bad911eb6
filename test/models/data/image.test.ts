import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../../core/errors.ts';
import { cropImage, flipHorizontal, normalizeToChw } from '../../../models/data/image.ts';

const image = { data: Uint8Array.from({ length: 3 * 2 * 2 }, (_, i) => i * 20), width: 3, height: 2, channels: 2 };

test('cropImage: takes the rectangle', () => {
  assert.equal(cropImage(image, 1, 1, 2, 1), {
    data: Uint8Array.of(160, 180, 200, 220),
    width: 2,
    height: 1,
    channels: 2,
  });
  assert.throws(
    () => cropImage(image, 2, 0, 2, 1),
    (e: unknown) => e instanceof ShapeError && /2x1 at \(2,0\) is not inside the image of 3x2/.test(e.message),
  );
});

test('flipHorizontal: mirrors columns, keeps channels in order', () => {
  assert.equal([...flipHorizontal(image).data], [80, 100, 40, 60, 0, 20, 200, 220, 160, 180, 120, 140]);
  assert.equal(flipHorizontal(flipHorizontal(image)).data, image.data);
});

test('normalizeToChw: channels first, in [-1, 1], from an offset, mirrored on request', () => {
  const out = new Float32Array(14).fill(9);
  normalizeToChw(image, { out, offset: 1 });
  assert.is(out[0], 9);
  assert.is(out[13], 9);
  for (let c = 0; c < 2; c++) {
    for (let p = 0; p < 6; p++) assert.ok(Math.abs(out[1 + c * 6 + p] - (image.data[p * 2 + c] / 127.5 - 1)) < 1e-6);
  }
  assert.equal(normalizeToChw(image, { flip: true }), normalizeToChw(flipHorizontal(image)));
  const ends = normalizeToChw({ data: Uint8Array.of(0, 255), width: 2, height: 1, channels: 1 });
  assert.equal([...ends], [-1, 1]);
  assert.throws(
    () => normalizeToChw(image, { out: new Float32Array(12), offset: 1 }),
    (e: unknown) => e instanceof ShapeError && /expected at least 13/.test(e.message),
  );
});

test('normalizeToChw: 16 bits are divided by 65,535, and differ where 8 bits would not', () => {
  const data = Uint16Array.of(0, 1, 255, 256, 32_767, 32_768, 65_534, 65_535);
  const numbers = normalizeToChw({ data, width: 8, height: 1, channels: 1 });
  for (const [i, v] of data.entries()) assert.ok(Math.abs(numbers[i] - ((v / 65_535) * 2 - 1)) < 2 ** -23);
  assert.is(new Set(numbers).size, 8);
  const opposite = normalizeToChw({ data, width: 8, height: 1, channels: 1 }, { flip: true });
  assert.equal([...opposite], [...numbers].reverse());
});

test.run();
