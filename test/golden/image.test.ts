// Crops, tensors and the sample sheet of the official pipeline (Pillow, torchvision). All of it is integer arithmetic
// or single f32 operations, so that nothing less than equality will do.
import { existsSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { decodeImage } from '../../cli/data/decodeImage.ts';
import { centerCropArr } from '../../models/data/centerCrop.ts';
import { makeGrid, normalizeRange, toPixels } from '../../models/data/grid.ts';
import type { PixelImage } from '../../models/data/image.ts';
import { normalizeToChw } from '../../models/data/image.ts';
import { resize, resizeShorter } from '../../models/data/resize.ts';
import type { SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { assertClose, family, goldenPath, loadGolden, loadSidecar, need } from './support.ts';

interface CropCase {
  readonly image_size: number;
  readonly box_sizes: readonly (readonly [number, number])[];
  readonly bicubic_size: readonly [number, number];
}

function imageOf({ shape: [height, width, channels], data }: SafetensorsEntry): PixelImage {
  return { data: Uint8Array.from(data as Uint8Array), width, height, channels };
}

function floatsOf({ data }: SafetensorsEntry): Float32Array {
  return Float32Array.from(data as Float32Array);
}

function assertSameImage(actual: PixelImage, expected: SafetensorsEntry, label: string): void {
  assert.equal([actual.height, actual.width, actual.channels], [...expected.shape], `${label}: shape`);
  assertClose(actual.data, expected, 0, label, { measure: 'absolute' });
}

/** The sheet's columns and padding, from the sizes of the sheet and of the images on it. */
function layoutOf(
  [n, , h, w]: readonly number[],
  [, height, width]: readonly number[],
): { nrow: number; padding: number } {
  for (let padding = 0; padding < Math.min(h, w); padding++) {
    const rows = (height - padding) / (h + padding);
    const columns = (width - padding) / (w + padding);
    if (Number.isInteger(rows) && Number.isInteger(columns) && rows === Math.ceil(n / columns))
      return { nrow: columns, padding };
  }
  throw new Error(`no layout of ${n} images of ${w}x${h} makes a sheet of ${width}x${height}`);
}

family(
  'image/image',
  (test) => {
    const golden = loadGolden('image/image');
    const crops = loadSidecar<{ cases: Record<string, CropCase> }>('image/image').cases;

    for (const [name, { image_size: size, box_sizes: boxes, bicubic_size: bicubic }] of Object.entries(crops)) {
      const input = imageOf(need(golden, `${name}.in.pixels`));

      test(`${name}: each step of the crop to ${size}`, () => {
        let current = input;
        for (const [width, height] of boxes) current = resize(current, width, height, 'box');
        const afterBox = golden.get(`${name}.tap.after_box`);
        if (afterBox) assertSameImage(current, afterBox, 'after the box filter');
        const afterBicubic = golden.get(`${name}.tap.after_bicubic`);
        if (afterBicubic)
          assertSameImage(resize(current, ...bicubic, 'bicubic'), afterBicubic, 'after the bicubic filter');
      });

      test(`${name}: centerCropArr to ${size}`, () => {
        assertSameImage(centerCropArr(input, size), need(golden, `${name}.out.pixels`), 'crop');
      });

      test(`${name}: resizeShorter to ${size}, then centerCropArr`, () => {
        assertSameImage(
          centerCropArr(resizeShorter(input, size), size),
          need(golden, `${name}.out.resize_only_pixels`),
          'crop',
        );
      });

      test(`${name}: tensors`, () => {
        const cropped = imageOf(need(golden, `${name}.out.pixels`));
        assertClose(normalizeToChw(cropped), need(golden, `${name}.out.tensor`), 0, 'tensor');
        assertClose(
          normalizeToChw(cropped, { flip: true }),
          need(golden, `${name}.out.tensor_hflip`),
          0,
          'mirrored tensor',
        );
      });

      for (const [file, tensor] of [
        [`${name}_in.png`, 'in.pixels'],
        [`${name}_out${size}.png`, 'out.pixels'],
        [`${name}_resizeonly${size}.png`, 'out.resize_only_pixels'],
      ]) {
        const path = goldenPath(`image/${file}`);
        if (existsSync(path)) {
          test(`${file} decodes to ${name}.${tensor}`, async () => {
            assertSameImage(await decodeImage(path), need(golden, `${name}.${tensor}`), file);
          });
        }
      }
    }

    const samples = golden.get('grid.in.samples');
    if (samples) {
      const [n, c, h, w] = samples.shape;
      const sheet = need(golden, 'grid.out.float');
      const grid = makeGrid(
        normalizeRange({ data: floatsOf(samples), shape: [n, c, h, w] }, [-1, 1]),
        layoutOf(samples.shape, sheet.shape),
      );

      test('grid: values', () => {
        assert.equal(grid.shape, [...sheet.shape]);
        assertClose(grid.data, sheet, 0, 'sheet');
      });

      test('grid: pixels', async () => {
        assertSameImage(toPixels(grid), need(golden, 'grid.out.pixels'), 'sheet');
        const path = goldenPath('image/grid.png');
        if (existsSync(path)) assertSameImage(await decodeImage(path), need(golden, 'grid.out.pixels'), 'grid.png');
      });
    }
  },
  ['image/image.safetensors', 'image/image.json'],
);
