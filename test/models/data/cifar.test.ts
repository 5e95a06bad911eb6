import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../core/errors.ts';
import { centerCropArr } from '../../../models/data/centerCrop.ts';
import type { CifarFile, CifarOptions } from '../../../models/data/cifar.ts';
import { CIFAR10_CLASSES, cifarDataset } from '../../../models/data/cifar.ts';
import type { DatasetItem } from '../../../models/data/dataset.ts';

const valueAt = (record: number, channel: number, pixel: number): number =>
  (record * 91 + channel * 57 + pixel * 3) & 255;

/** A file of records with the given label bytes; pixels are `valueAt`, channels first. */
function file(name: string, labels: number[][], firstRecord = 0): CifarFile {
  const bytes = labels.flatMap((label, r) => [
    ...label,
    ...Array.from({ length: 3072 }, (_, i) => valueAt(firstRecord + r, Math.floor(i / 1024), i % 1024)),
  ]);
  return { name, bytes: Uint8Array.from(bytes) };
}

test('cifar10: records over several files, channels last', () => {
  const data = cifarDataset([file('a.bin', [[3], [9]]), file('b.bin', [[0]], 2)], { kind: 'cifar10' });
  assert.equal([data.length, data.size, data.numClasses, data.classNames], [3, 32, 10, CIFAR10_CLASSES]);
  for (const [i, label] of [3, 9, 0].entries()) {
    const item = data.item(i) as DatasetItem;
    assert.is(item.label, label);
    assert.ok(item.pixels.every((v, p) => v === valueAt(i, p % 3, Math.floor(p / 3))));
  }
});

test('cifar100: fine and coarse labels', () => {
  const files = [
    file('train.bin', [
      [19, 99],
      [0, 1],
    ]),
  ];
  const labels = (options: Partial<CifarOptions>): number[] => {
    const data = cifarDataset(files, { kind: 'cifar100', ...options });
    return [data.numClasses, ...[0, 1].map((i) => (data.item(i) as DatasetItem).label)];
  };
  assert.equal(labels({}), [100, 99, 1]);
  assert.equal(labels({ labels: 'coarse' }), [20, 19, 0]);
});

test('another size is resampled as images of a folder are', () => {
  const files = [file('a.bin', [[1]])];
  const pixels = (cifarDataset(files, { kind: 'cifar10' }).item(0) as DatasetItem).pixels;
  const small = cifarDataset(files, { kind: 'cifar10', size: 16 });
  assert.is(small.size, 16);
  assert.equal(
    (small.item(0) as DatasetItem).pixels,
    centerCropArr({ data: pixels, width: 32, height: 32, channels: 3 }, 16).data,
  );
});

test('errors name the file', () => {
  const fails = (run: () => unknown, pattern: RegExp): void =>
    assert.throws(run, (e: unknown) => e instanceof FormatError && pattern.test(e.message));
  const good = file('a.bin', [[1], [2]]);
  fails(
    () => cifarDataset([good, { name: 'cut.bin', bytes: good.bytes.subarray(0, 4000) }], { kind: 'cifar10' }),
    /cut\.bin has 4000 bytes, expected a multiple of 3073/,
  );
  fails(
    () => cifarDataset([{ name: 'empty.bin', bytes: new Uint8Array(0) }], { kind: 'cifar100' }),
    /empty\.bin has 0 bytes, expected a multiple of 3074/,
  );
  fails(
    () => cifarDataset([file('odd.bin', [[1], [10]])], { kind: 'cifar10' }),
    /odd\.bin has label 10 in record 1, expected less than 10/,
  );
  fails(() => cifarDataset([], { kind: 'cifar10' }), /no file given/);
  fails(() => cifarDataset([good], { kind: 'cifar10', classNames: ['a'] }), /1 class names given, expected 10/);
  fails(() => cifarDataset([good], { kind: 'cifar10' }).item(2), /index is 2, expected an integer from 0 to 1/);
});

test.run();
