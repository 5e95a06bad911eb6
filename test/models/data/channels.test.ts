import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { centerCropArr } from '../../../models/data/centerCrop.ts';
import { convertChannels, withChannels } from '../../../models/data/channels.ts';
import type { PixelImage } from '../../../models/data/image.ts';
import { shapesDataset, shapesItem } from '../../../models/data/shapes.ts';

const test = suite('channels');

const noise = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7919 + (i >> 3) * 31) % 256);
const image = (channels: number, width = 5, height = 3): PixelImage => ({
  data: noise(width * height * channels),
  width,
  height,
  channels,
});

test('grey is the luma of ITU-R 601, and grey stays grey through colour', () => {
  const colour = image(3);
  const grey = convertChannels(colour, 1);
  for (let p = 0; p < 15; p++) {
    const [r, g, b] = colour.data.subarray(p * 3);
    assert.ok(Math.abs(grey.data[p] - (0.299 * r + 0.587 * g + 0.114 * b)) <= 0.51);
  }
  // Pillow: Image.new('RGB', (1, 1), colour).convert('L')
  const pillow = [
    [255, 0, 0, 76],
    [0, 255, 0, 150],
    [0, 0, 255, 29],
    [10, 20, 30, 18],
    [255, 255, 255, 255],
  ];
  for (const [r, g, b, l] of pillow)
    assert.is(convertChannels({ data: Uint8Array.of(r, g, b), width: 1, height: 1, channels: 3 }, 1).data[0], l);
  const all = { data: Uint8Array.from({ length: 256 }, (_, v) => v), width: 16, height: 16, channels: 1 };
  for (const via of [3, 4] as const) assert.equal(convertChannels(convertChannels(all, via), 1), all);
});

test('alpha is added opaque and dropped without a trace; other counts are refused', () => {
  const colour = image(3);
  const opaque = convertChannels(colour, 4);
  assert.ok(opaque.data.every((v, i) => i % 4 !== 3 || v === 255));
  assert.equal(convertChannels(opaque, 3), colour);
  assert.is(convertChannels(colour, 3), colour);
  assert.throws(() => convertChannels(image(2), 3), /2 channels, expected 1, 3 or 4/);
});

test('a data set with other channels', async () => {
  const set = shapesDataset({ size: 8 });
  const { pixels, label } = shapesItem(4, { size: 8 });
  for (const channels of [1, 4] as const) {
    const other = withChannels(set, channels);
    const item = await other.item(4);
    assert.equal([other.channels, other.numClasses, item.label], [channels, 10, label]);
    assert.equal(item.pixels, convertChannels({ data: pixels, width: 8, height: 8, channels: 3 }, channels).data);
  }
  assert.is(withChannels(set, 3), set);
});

test('hidden colours do not bleed when a transparent picture is resampled', () => {
  // Left half white and opaque, right half bright red and wholly transparent.
  const [width, height] = [40, 40];
  const data = new Uint8Array(width * height * 4);
  for (let p = 0; p < width * height; p++) data.set(p % width < 20 ? [255, 255, 255, 255] : [255, 0, 0, 0], p * 4);
  for (const size of [40, 13, 64]) {
    const { data: result } = centerCropArr({ data, width, height, channels: 4 }, size);
    let seen = 0;
    for (let p = 0; p < result.length; p += 4) {
      const [r, g, b, a] = result.subarray(p);
      if (a === 0) assert.equal([r, g, b], [0, 0, 0]);
      // Rounding of small alphas is coarse, but grey stays grey.
      else assert.ok(r === g && g === b && (a < 128 || r > 252), `${r},${g},${b},${a}`);
      seen += a;
    }
    assert.ok(Math.abs(seen / (size * size * 255) - 0.5) < 0.02);
  }
});

test('an opaque picture is resampled as without alpha', () => {
  const colour = image(3, 37, 41);
  for (const size of [37, 20, 9, 50])
    assert.equal(convertChannels(centerCropArr(convertChannels(colour, 4), size), 3), centerCropArr(colour, size));
});

test('16 bits stay 16 bits, with opaque alpha and luma of their own', () => {
  const data = Uint16Array.of(65_535, 0, 0, 0, 65_535, 0, 300, 300, 300, 65_535, 65_535, 65_535);
  const colour = { data, width: 2, height: 2, channels: 3 };
  const grey = convertChannels(colour, 1).data;
  assert.equal([...grey], [19_595, 38_469, 300, 65_535]);
  assert.ok(convertChannels(colour, 4).data.every((v, i) => i % 4 !== 3 || v === 65_535));
  const cropped = centerCropArr(convertChannels(colour, 4), 4);
  assert.instance(cropped.data, Uint16Array);
  assert.is(cropped.data[3], 65_535);
});

test.run();
