import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeImage } from '../../cli/data/decodeImage.ts';
import {
  comfortableScale,
  enlarge,
  sheet,
  writeAnimation,
  writeImage,
  writeImages,
  writeSheet,
} from '../../cli/pictures.ts';
import { drawText, textHeight, textWidth } from '../../cli/pixelFont.ts';
import { ShapeError, ValueError } from '../../core/errors.ts';
import type { ImageBatch } from '../../models/data/grid.ts';
import { batchToPixels, makeGrid, normalizeRange, toPixels } from '../../models/data/grid.ts';
import { FileError } from '../../cli/files.ts';

const test = suite<{ folder: string }>('pictures', { folder: '' });
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'pictures-'));
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

const failure = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (e: unknown) => e,
  );

function images(n: number, channels: number, h: number, w: number): ImageBatch {
  return {
    data: Float32Array.from({ length: n * channels * h * w }, (_, i) => Math.sin(i * 1.7)),
    shape: [n, channels, h, w],
  };
}

test('sheet: without labels and enlargement it is make_grid and save_image', () => {
  const batch = images(5, 3, 7, 9);
  assert.equal(sheet(batch, { nrow: 3 }), toPixels(makeGrid(normalizeRange(batch, [-1, 1]), { nrow: 3 })));
});

test('enlarge: each pixel becomes a square', () => {
  const image = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), width: 3, height: 1, channels: 2 };
  assert.equal(enlarge(image, 2), {
    data: Uint8Array.of(1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6),
    width: 6,
    height: 2,
    channels: 2,
  });
  assert.throws(
    () => enlarge(image, 0),
    (e: unknown) => e instanceof ValueError && /scale is 0/.test(e.message),
  );
  assert.equal([8, 16, 32, 48, 64, 256].map(comfortableScale), [8, 4, 2, 2, 1, 1]);
});

test('sheet: row labels stand in a margin beside their rows and leave the images as they are', () => {
  const batch = images(6, 3, 16, 16);
  const plain = sheet(batch, { nrow: 2, scale: 2 });
  const labelled = sheet(batch, { nrow: 2, scale: 2, rowLabels: ['circle', '', 'x'] });
  const margin = labelled.width - plain.width;
  assert.ok(margin >= textWidth('circle'));
  assert.is(labelled.height, plain.height);
  const inkOf = (row: number): number => {
    let ink = 0;
    for (let y = 0; y < 36; y++) {
      for (let x = 0; x < margin; x++)
        ink += Number(labelled.data[(Math.min(row * 36 + y, labelled.height - 1) * labelled.width + x) * 3] > 0);
    }
    return ink;
  };
  assert.ok(inkOf(0) > inkOf(2) && inkOf(2) > 0);
  assert.is(inkOf(1), 0);
  for (let y = 0; y < plain.height; y++) {
    const row = labelled.data.subarray((y * labelled.width + margin) * 3, (y + 1) * labelled.width * 3);
    assert.equal(row, plain.data.subarray(y * plain.width * 3, (y + 1) * plain.width * 3));
  }
  assert.throws(
    () => sheet(batch, { nrow: 2, rowLabels: ['a'] }),
    (e: unknown) => e instanceof ShapeError && /1 row labels for 3 rows/.test(e.message),
  );
});

test('the font has a glyph of its own for every printable ASCII character, inside its box', () => {
  const seen = new Set<string>();
  for (let code = 33; code < 127; code++) {
    const pixels: string[] = [];
    drawText(String.fromCharCode(code), (x, y) => {
      assert.ok(x >= 0 && x < 5 && y >= 0 && y < textHeight);
      pixels.push(`${x},${y}`);
    });
    assert.ok(pixels.length > 0, String.fromCharCode(code));
    seen.add(pixels.join(' '));
  }
  assert.is(seen.size, 94);
  const drawn = (text: string): string => {
    const pixels: string[] = [];
    drawText(text, (x, y) => pixels.push(`${x},${y}`));
    return pixels.join(' ');
  };
  assert.is(drawn('é'), drawn('e'));
  assert.ok(drawn('猫').length > 0);
  assert.equal([textWidth(''), textWidth('a'), textWidth('ab')], [0, 5, 11]);
});

test('writeImage, writeSheet, writeImages: what is read back is what was drawn', async ({ folder }) => {
  const batch = images(3, 3, 8, 8);
  for (const name of ['sheet.png', 'sheet.webp']) {
    await writeSheet(join(folder, name), batch, { nrow: 2 });
    assert.equal((await decodeImage(join(folder, name))).data, sheet(batch, { nrow: 2 }).data, name);
  }
  const paths = await writeImages(folder, batch, (i) => `${String(i).padStart(3, '0')}.png`);
  assert.equal(
    paths.map((path) => basename(path)),
    ['000.png', '001.png', '002.png'],
  );
  for (const [i, image] of batchToPixels(batch).entries()) assert.equal((await decodeImage(paths[i])).data, image.data);
  const grey = { data: Uint8Array.of(0, 128, 255, 7), width: 2, height: 2, channels: 1 };
  await writeImage(join(folder, 'grey.png'), grey);
  assert.is((await sharp(join(folder, 'grey.png')).metadata()).channels, 1);
  assert.equal(
    [...(await decodeImage(join(folder, 'grey.png'))).data].filter((_, i) => i % 3 === 0),
    [...grey.data],
  );
  assert.equal(
    (await readdir(folder)).filter((name) => name.includes('tmp')),
    [],
  );
});

for (const ending of ['gif', 'webp']) {
  test(`writeAnimation: .${ending} with every frame, its times and endless`, async ({ folder }) => {
    const frames = [0, 1, 2].map((k) => ({
      data: new Uint8Array(6 * 4 * 3).fill(k * 100),
      width: 6,
      height: 4,
      channels: 3,
    }));
    const path = join(folder, `a.${ending}`);
    await writeAnimation(path, frames, { delay: 60, hold: 900 });
    const { pages, pageHeight, width, delay, loop } = await sharp(path, { animated: true }).metadata();
    assert.equal([pages, pageHeight, width, delay, loop], [3, 4, 6, [60, 60, 900], 0]);
    for (const [page, frame] of frames.entries()) {
      const { data } = await sharp(path, { page }).removeAlpha().raw().toBuffer({ resolveWithObject: true });
      assert.ok(
        data.every((v) => Math.abs(v - frame.data[0]) <= 4),
        `frame ${page}`,
      );
    }
  });
}

test('errors name the path or the value', async ({ folder }) => {
  const frame = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 };
  const fails = async (
    promise: Promise<unknown>,
    type: new (...args: never[]) => Error,
    pattern: RegExp,
  ): Promise<void> => {
    const error = await failure(promise);
    assert.ok(error instanceof type, String(error));
    assert.match(error.message, pattern);
  };
  await fails(
    writeImage(join(folder, 'a.bmp'), frame),
    ValueError,
    /a\.bmp has no image ending, expected one of \.png/,
  );
  await fails(writeImage(join(folder, 'no', 'a.png'), frame), FileError, /the folder does not exist/);
  await fails(
    writeImage(join(folder, 'a.png'), { ...frame, data: new Uint8Array(8), channels: 2 }),
    ShapeError,
    /2 channels, expected 1, 3 or 4/,
  );
  await fails(writeAnimation(join(folder, 'a.mp4'), [frame]), ValueError, /ends in "\.mp4", expected \.gif or \.webp/);
  await fails(writeAnimation(join(folder, 'a.gif'), []), ValueError, /no frame given/);
  await fails(
    writeAnimation(join(folder, 'a.gif'), [frame, { ...frame, width: 4, height: 1 }]),
    ShapeError,
    /frame 1 is 4x1x3, expected 2x2x3/,
  );
  assert.equal(await readdir(folder), []);
});

test.run();
