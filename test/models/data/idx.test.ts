import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../core/errors.ts';
import { fitSquare, idxDataset, idxHeader, parseIdx } from '../../../models/data/idx.ts';
import { centerCropArr } from '../../../models/data/centerCrop.ts';

const test = suite('idx');

function idx(shape: readonly number[], data: readonly number[], type = 8): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length);
  bytes.set([0, 0, type, shape.length]);
  shape.forEach((n, i) => new DataView(bytes.buffer).setUint32(4 + 4 * i, n));
  bytes.set(data, 4 + 4 * shape.length);
  return bytes;
}
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => (i * 37) % 256);

test('pictures and labels by index, sizes big-endian, sides not equal', async () => {
  const images = parseIdx(idx([3, 2, 4], range(24)), 'images');
  const labels = parseIdx(idx([3], [2, 0, 1]), 'labels');
  assert.equal([images.shape, labels.shape], [[3, 2, 4], [3]]);
  const set = idxDataset({ images, labels, size: 5 });
  assert.equal([set.length, set.channels, set.numClasses, set.classNames], [3, 1, 3, ['0', '1', '2']]);
  const { pixels, label } = await set.item(1);
  assert.is(label, 0);
  const rows = [8, 12].map((at) => range(24).slice(at, at + 4));
  const expected = [
    ...new Array<number>(5).fill(0),
    ...rows.flatMap((row) => [...row, 0]),
    ...new Array<number>(10).fill(0),
  ];
  assert.equal([...pixels], expected);
  assert.throws(() => set.item(3), /an integer from 0 to 2/);
  assert.throws(() => set.item(0.5), /an integer from 0 to 2/);
});

test('a border up to a quarter more, beyond it and below it resampled', () => {
  const picture = { data: Uint8Array.from(range(784)), width: 28, height: 28, channels: 1 };
  const padded = fitSquare(picture, 32);
  for (let y = 0; y < 32; y++)
    for (let x = 0; x < 32; x++) {
      const inside = x >= 2 && x < 30 && y >= 2 && y < 30;
      assert.is(padded.data[y * 32 + x], inside ? picture.data[(y - 2) * 28 + x - 2] : 0);
    }
  assert.equal(fitSquare(picture, 28).data, picture.data);
  assert.is(fitSquare(picture, 35).data[0], 0);
  for (const size of [36, 64, 27, 14]) assert.equal(fitSquare(picture, size), centerCropArr(picture, size));
});

test('names may be more than the labels that occur, not fewer; without labels there are none', () => {
  const images = parseIdx(idx([2, 1, 1], [5, 6]), 'images');
  const labels = parseIdx(idx([2], [1, 0]), 'labels');
  assert.equal(idxDataset({ images, labels, size: 1, classNames: ['a', 'b', 'c'] }).numClasses, 3);
  assert.throws(
    () => idxDataset({ images, labels, size: 1, classNames: ['a'] }),
    /label 1, and there are 1 class names/,
  );
  assert.equal(idxDataset({ images, size: 1, classNames: ['a'] }).numClasses, 0);
});

test('what is damaged is said in one sentence', () => {
  const good = idx([2, 1, 1], [5, 6]);
  const cases: readonly (readonly [bytes: Uint8Array, message: RegExp])[] = [
    [new Uint8Array(0), /ends after 0 bytes/],
    [good.subarray(0, 3), /ends after 3 bytes/],
    [good.subarray(0, 15), /ends after 15 bytes, expected a header of 16/],
    [good.subarray(0, 17), /has 17 bytes, expected 18/],
    [Uint8Array.of(...good, 0), /has 19 bytes, expected 18/],
    [Uint8Array.of(1, ...good.subarray(1)), /does not begin as an IDX file/],
    [idx([1], [0, 0, 0, 0], 0x0d), /elements of type 0x0d/],
    [idx([], []), /rank 0/],
    [Uint8Array.of(0, 0, 8, 255, ...new Uint8Array(16)), /rank 255/],
    [idx([0, 28, 28], []), /shape \(0, 28, 28\)/],
    [idx([2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1], []), /shape \(4294967295, /],
    [idx([2 ** 32 - 1], []), /has 8 bytes, expected 4294967303/],
  ];
  for (const [bytes, message] of cases) {
    assert.throws(
      () => parseIdx(bytes, 'file'),
      (error: unknown) => error instanceof FormatError && message.test(error.message),
      String(message),
    );
  }
  assert.equal(idxHeader(good.subarray(0, 16), 'file'), { bytes: 16, shape: [2, 1, 1], length: 2 });
});

test('files that do not belong together', () => {
  const images = parseIdx(idx([2, 1, 1], [5, 6]), 'images');
  const labels = parseIdx(idx([3], [1, 0, 0]), 'labels');
  assert.throws(() => idxDataset({ images, labels, size: 1 }), /labels has shape \(3\), expected \(2\)/);
  assert.throws(() => idxDataset({ images: labels, size: 1 }), /rank 1, expected 3 for pictures/);
  assert.throws(() => idxDataset({ images, labels: images, size: 1 }), /shape \(2, 1, 1\)/);
  const long = parseIdx(idx([1, 1, 8193], new Array<number>(8193).fill(0)), 'long');
  assert.throws(() => idxDataset({ images: long, size: 8 }), /8193x1, expected at most 8192/);
  assert.throws(() => idxDataset({ images, size: 0 }), /size is 0/);
});

test.run();
