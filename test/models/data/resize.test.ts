import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError, ValueError } from '../../../core/errors.ts';
import { centerCropArr, roundHalfToEven } from '../../../models/data/centerCrop.ts';
import { HashStream } from '../../../models/data/hash.ts';
import type { PixelImage } from '../../../models/data/image.ts';
import type { ResizeFilter } from '../../../models/data/resize.ts';
import { resize, resizeShorter } from '../../../models/data/resize.ts';

function noise(width: number, height: number, channels: number, seed: number): PixelImage {
  const random = new HashStream(seed);
  return {
    data: Uint8Array.from({ length: width * height * channels }, () => random.below(256)),
    width,
    height,
    channels,
  };
}

const filters: Record<ResizeFilter, (x: number) => number> = {
  box: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0),
  bilinear: (x) => Math.max(0, 1 - Math.abs(x)),
  bicubic: (x) => {
    const d = Math.abs(x);
    return d <= 1 ? 1.5 * d ** 3 - 2.5 * d ** 2 + 1 : d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
  },
  lanczos: (x) =>
    x === 0 ? 1 : Math.abs(x) < 3 ? (3 * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / 3)) / (Math.PI * x) ** 2 : 0,
};

/** The definition in float64, over every source pixel and without any rounding; clamped between the passes as 8-bit pixels are. */
function reference(image: PixelImage, width: number, height: number, filter: ResizeFilter): Float64Array {
  const weights = (inSize: number, outSize: number): number[][] =>
    Array.from({ length: outSize }, (_, out) => {
      const scale = inSize / outSize;
      const raw = Array.from({ length: inSize }, (_, i) =>
        filters[filter]((i + 0.5 - (out + 0.5) * scale) / Math.max(1, scale)),
      );
      const total = raw.reduce((a, b) => a + b, 0);
      return raw.map((w) => w / total);
    });
  const clamp = (v: number): number => Math.max(0, Math.min(255, v));
  const { channels } = image;
  const across = inSizeWeights(weights, image.width, width);
  const down = inSizeWeights(weights, image.height, height);
  const wide = new Float64Array(width * image.height * channels);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        const sum = across[x].reduce((s, w, i) => s + w * image.data[(y * image.width + i) * channels + c], 0);
        wide[(y * width + x) * channels + c] = clamp(sum);
      }
    }
  }
  const result = new Float64Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    for (let j = 0; j < width * channels; j++)
      result[y * width * channels + j] = clamp(down[y].reduce((s, w, i) => s + w * wide[i * width * channels + j], 0));
  }
  return result;
}

/** A side that stays as it is is not filtered. */
function inSizeWeights(weights: (a: number, b: number) => number[][], inSize: number, outSize: number): number[][] {
  if (inSize === outSize)
    return Array.from({ length: outSize }, (_, o) => Array.from({ length: inSize }, (_, i) => (i === o ? 1 : 0)));
  return weights(inSize, outSize);
}

for (const filter of ['box', 'bilinear', 'bicubic', 'lanczos'] as const) {
  for (const [w, h, c, toW, toH] of [
    [13, 7, 3, 5, 5],
    [5, 9, 1, 12, 20],
    [16, 6, 4, 16, 3],
    [31, 17, 3, 7, 29],
    [1, 1, 3, 4, 3],
    [40, 3, 2, 1, 1],
  ]) {
    test(`resize ${filter}: ${w}x${h}x${c} to ${toW}x${toH} is the definition within the rounding of two passes`, () => {
      const image = noise(w, h, c, w * 100 + h);
      const actual = resize(image, toW, toH, filter);
      assert.equal([actual.width, actual.height, actual.channels], [toW, toH, c]);
      const expected = reference(image, toW, toH, filter);
      // Half a level a pass, times the gain that negative lobes give the first pass's error.
      actual.data.forEach((v, i) =>
        assert.ok(Math.abs(v - expected[i]) <= 1.25, `value ${i}: ${v}, expected ${expected[i]}`),
      );
    });
  }
}

test('resize: halving with the box filter averages pairs, rounding halves up after each pass', () => {
  const image = noise(10, 6, 3, 7);
  const halved = resize(image, 5, 3, 'box');
  const at = (x: number, y: number, c: number): number => image.data[(y * 10 + x) * 3 + c];
  for (let y = 0; y < 3; y++) {
    for (let x = 0; x < 5; x++) {
      for (let c = 0; c < 3; c++) {
        const upper = (at(2 * x, 2 * y, c) + at(2 * x + 1, 2 * y, c) + 1) >> 1;
        const lower = (at(2 * x, 2 * y + 1, c) + at(2 * x + 1, 2 * y + 1, c) + 1) >> 1;
        assert.is(halved.data[(y * 5 + x) * 3 + c], (upper + lower + 1) >> 1);
      }
    }
  }
});

test('resize: a plain image stays plain, and the result is never the input itself', () => {
  for (const filter of ['box', 'bilinear', 'bicubic', 'lanczos'] as const) {
    for (const level of [0, 1, 128, 255]) {
      const plain = { data: new Uint8Array(9 * 7).fill(level), width: 9, height: 7, channels: 1 };
      assert.ok(resize(plain, 23, 4, filter).data.every((v) => v === level));
    }
  }
  const image = noise(4, 4, 3, 1);
  const same = resize(image, 4, 4, 'bicubic');
  assert.equal(same.data, image.data);
  assert.is.not(same.data, image.data);
});

test('resizeShorter: the longer side is cut to whole pixels', () => {
  assert.equal(sizeOf(resizeShorter(noise(50, 37, 1, 1), 16)), [21, 16]);
  assert.equal(sizeOf(resizeShorter(noise(37, 50, 1, 1), 16)), [16, 21]);
  assert.equal(sizeOf(resizeShorter(noise(20, 20, 1, 1), 33)), [33, 33]);
});

const sizeOf = (image: PixelImage): number[] => [image.width, image.height];

test('roundHalfToEven: as Python rounds', () => {
  const pairs = [
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, 0],
    [-1.5, -2],
    [2.4, 2],
    [2.6, 3],
    [3, 3],
    [21.5, 22],
    [22.5, 22],
  ];
  for (const [x, expected] of pairs) assert.is(roundHalfToEven(x) + 0, expected, `round(${x})`);
});

test('centerCropArr: any aspect, enlarged or reduced, gives a square of the size', () => {
  for (const [w, h] of [
    [1, 50],
    [50, 1],
    [16, 16],
    [33, 16],
    [15, 64],
    [100, 99],
  ]) {
    const cropped = centerCropArr(noise(w, h, 3, w), 16);
    assert.equal(sizeOf(cropped), [16, 16]);
    assert.is(cropped.data.length, 16 * 16 * 3);
  }
  const image = noise(16, 16, 3, 5);
  assert.equal(centerCropArr(image, 16).data, image.data);
});

test('errors name the operation and the value', () => {
  const image = noise(4, 4, 3, 1);
  assert.throws(
    () => resize(image, 0, 4, 'box'),
    (e: unknown) => e instanceof ValueError && /^\[resize\] width is 0, expected/.test(e.message),
  );
  assert.throws(
    () => centerCropArr(image, 2.5),
    (e: unknown) => e instanceof ValueError && /^\[centerCropArr\] size is 2.5, expected/.test(e.message),
  );
  assert.throws(
    () => resize({ ...image, width: 5 }, 4, 4, 'box'),
    (e: unknown) => e instanceof ShapeError && /5x4 pixels and 3 channels has 48 values/.test(e.message),
  );
});

test('16 bits are resampled as numbers are, to the nearest of 65,536', () => {
  const [width, height, channels] = [11, 7, 3];
  const data = Uint16Array.from({ length: width * height * channels }, (_, i) => (i * 40_503 + 77) % 65_536);
  // Triangle weights in float64, each direction by itself.
  const weights = (from: number, to: number, out: number): number[] => {
    const scale = Math.max(1, from / to),
      center = (out + 0.5) * (from / to);
    const raw = Array.from({ length: from }, (_, i) => Math.max(0, 1 - Math.abs((i + 0.5 - center) / scale)));
    const total = raw.reduce((a, b) => a + b, 0);
    return raw.map((w) => w / total);
  };
  for (const [toW, toH] of [
    [5, 7],
    [11, 3],
    [23, 20],
    [4, 15],
  ]) {
    const { data: result } = resize({ data, width, height, channels }, toW, toH, 'bilinear');
    assert.instance(result, Uint16Array);
    for (let y = 0; y < toH; y++)
      for (let x = 0; x < toW; x++)
        for (let c = 0; c < channels; c++) {
          const [across, down] = [weights(width, toW, x), weights(height, toH, y)];
          let expected = 0;
          for (let j = 0; j < height; j++)
            for (let i = 0; i < width; i++) expected += down[j] * across[i] * data[(j * width + i) * channels + c];
          const error = Math.abs(result[(y * toW + x) * channels + c] - expected);
          // Two roundings, and weights of 22 bits.
          assert.ok(error <= 1.2, `${toW}x${toH} at ${x},${y}: off by ${error}`);
        }
  }
  const white = { data: new Uint16Array(48).fill(65_535), width: 4, height: 4, channels: 3 };
  for (const filter of ['box', 'bilinear', 'bicubic', 'lanczos'] as const)
    assert.ok(resize(white, 9, 3, filter).data.every((v) => v === 65_535));
});

test.run();
