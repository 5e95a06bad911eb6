import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleSheet } from '../../cli/sampleSheet.ts';
import type { ImageBatch } from '../../models/data/grid.ts';

const test = suite('sampleSheet');

/** Images of 64 pixels, which a sheet doesn't enlarge, each channel of one value. */
function images(...colours: readonly (readonly number[])[]): ImageBatch {
  const plane = 64 * 64;
  const channels = colours[0].length;
  const data = new Float32Array(colours.length * channels * plane);
  colours.flat().forEach((value, k) => data.fill(value, k * plane, (k + 1) * plane));
  return { data, shape: [colours.length, channels, 64, 64] };
}
const layout = { classNames: [] };

test('grey images make a grey sheet of the same values', () => {
  const { data, channels, width } = sampleSheet(images([-1], [0], [1], [0.5]), layout);
  assert.is(channels, 1);
  const at = (k: number): number => data[((k >> 1) * 66 + 10) * width + (k & 1) * 66 + 10];
  assert.equal([0, 1, 2, 3].map(at), [0, 128, 255, 191]);
});

test('transparent images lie on a chequerboard, opaque ones hide it', () => {
  const { data, channels, width } = sampleSheet(images([-1, 0, 1, 1], [1, 1, 1, -1], [1, -1, -1, 0]), layout);
  assert.is(channels, 3);
  const pixel = (k: number, x: number, y: number): number[] => {
    const at = ((k >> 1) * 66 + 2 + y) * width + (k & 1) * 66 + 2 + x;
    return [...data.subarray(at * 3, at * 3 + 3)];
  };
  assert.equal(pixel(0, 0, 0), [0, 128, 255]);
  assert.equal(pixel(0, 8, 0), [0, 128, 255]);
  // Light and dark in turn, in both directions; what is hidden doesn't show.
  assert.equal(
    [pixel(1, 0, 0), pixel(1, 8, 8), pixel(1, 7, 7)],
    [
      [230, 230, 230],
      [230, 230, 230],
      [230, 230, 230],
    ],
  );
  assert.equal(
    [pixel(1, 8, 0), pixel(1, 0, 8)],
    [
      [191, 191, 191],
      [191, 191, 191],
    ],
  );
  assert.equal(
    [pixel(2, 0, 0), pixel(2, 8, 0)],
    [
      [242, 115, 115],
      [223, 96, 96],
    ],
  );
});

test('a row that is not full stays black', () => {
  const { data } = sampleSheet(images(...new Array<number[]>(17).fill([1, 1, 1, 1])), {
    classes: [0],
    classNames: ['x'],
  });
  assert.equal([...data.subarray(data.length - 3)], [0, 0, 0]);
  assert.equal(
    [...data.subarray(data.length - 3 * (2 * 200))].filter((v) => v > 0),
    [],
  );
});

test.run();
