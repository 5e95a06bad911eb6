import { appendFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeImage } from '../../../cli/data/decodeImage.ts';
import type { ImageFolderOptions, SkippedFile } from '../../../cli/data/imageFolder.ts';
import { openImageFolder } from '../../../cli/data/imageFolder.ts';
import { limiter } from '../../../cli/data/limit.ts';
import { FileError } from '../../../cli/files.ts';
import { FormatError } from '../../../core/errors.ts';
import { centerCropArr } from '../../../models/data/centerCrop.ts';
import { DataLoader } from '../../../models/data/dataset.ts';

const test = suite<{ folder: string }>('imageFolder', { folder: '' });
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'images-'));
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

const failure = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (e: unknown) => e,
  );
type Rgb = readonly [number, number, number];

function plain([r, g, b]: Rgb, width = 20, height = 12): Sharp {
  return sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
}

/** Detail that no encoder can shorten to nothing, so that a cut file lacks pixels. */
function detailed(): Sharp {
  const data = Uint8Array.from({ length: 64 * 48 * 3 }, (_, i) => (i * i * 7919) >> 5);
  return sharp(data, { raw: { width: 64, height: 48, channels: 3 } });
}

async function save(path: string, image: Sharp): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, await image.toBuffer());
  return path;
}

async function cut(path: string, fraction: number): Promise<void> {
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, Math.floor(bytes.length * fraction)));
}

async function firstPixel(path: string, background?: string): Promise<number[]> {
  const { data, channels } = await decodeImage(path, { background });
  assert.is(channels, 3);
  return [...data.subarray(0, 3)];
}

function assertNear(actual: readonly number[], expected: readonly number[], tolerance: number, label: string): void {
  assert.ok(
    actual.every((v, i) => Math.abs(v - expected[i]) <= tolerance),
    `${label}: ${actual}, expected ${expected}`,
  );
}

test('decodeImage: every format gives the colours that went in', async ({ folder }) => {
  const colour: Rgb = [200, 100, 40];
  for (const [name, tolerance] of [
    ['a.png', 0],
    ['a.jpg', 4],
    ['a.webp', 6],
    ['a.avif', 6],
    ['a.tiff', 4],
    ['a.gif', 4],
  ] as const) {
    const format = name.slice(2) as 'png';
    assertNear(
      await firstPixel(await save(join(folder, name), plain(colour).toFormat(format))),
      colour,
      tolerance,
      name,
    );
  }
});

test('decodeImage: grey, grey with alpha, palette and 16 bits become 8-bit RGB', async ({ folder }) => {
  const grey = Uint8Array.of(10, 200, 90, 250);
  const raw = { raw: { width: 2, height: 2, channels: 1 } } as const;
  const path = await save(join(folder, 'grey.png'), sharp(grey, raw).toColourspace('b-w').png());
  assert.equal(
    [...(await decodeImage(path)).data],
    [...grey].flatMap((v) => [v, v, v]),
  );

  const greyAlpha = await save(
    join(folder, 'la.png'),
    sharp(grey, raw)
      .toColourspace('b-w')
      .joinChannel(Buffer.of(0, 9, 99, 255), raw)
      .png(),
  );
  assert.is((await sharp(greyAlpha).metadata()).channels, 2);
  assert.equal(
    [...(await decodeImage(greyAlpha)).data],
    [...grey].flatMap((v) => [v, v, v]),
  );

  const palette = await save(join(folder, 'palette.png'), plain([12, 250, 3]).png({ palette: true }));
  assert.is((await sharp(palette).metadata()).isPalette, true);
  assert.equal(await firstPixel(palette), [12, 250, 3]);

  const deep = Uint16Array.from({ length: 12 }, (_, i) => i * 5461 + 200);
  const deepRgb = sharp(deep, { raw: { width: 2, height: 2, channels: 3 } }).toColourspace('rgb16');
  for (const [name, image] of [
    ['deep.png', deepRgb.clone().png()],
    ['deep.tif', deepRgb.clone().tiff({ compression: 'none' })],
  ] as const) {
    const saved = await save(join(folder, name), image);
    assert.is((await sharp(saved).metadata()).depth, 'ushort');
    assert.equal(
      [...(await decodeImage(saved)).data],
      [...deep].map((v) => v >> 8),
      name,
    );
  }
  const deepGrey = await save(
    join(folder, 'deepgrey.png'),
    sharp(deep.subarray(0, 4), raw).toColourspace('grey16').png(),
  );
  assertNear(
    [...(await decodeImage(deepGrey)).data],
    [...deep.subarray(0, 4)].flatMap((v) => [v >> 8, v >> 8, v >> 8]),
    1,
    'deep grey',
  );
});

test('decodeImage: transparency is dropped, or laid on a background', async ({ folder }) => {
  const half = sharp(Uint8Array.of(200, 100, 0, 0, 40, 50, 60, 255), { raw: { width: 2, height: 1, channels: 4 } });
  const path = await save(join(folder, 'rgba.png'), half.png());
  assert.equal([...(await decodeImage(path)).data], [200, 100, 0, 40, 50, 60]);
  assert.equal([...(await decodeImage(path, { background: '#fff' })).data], [255, 255, 255, 40, 50, 60]);
});

test('decodeImage: CMYK, EXIF orientation, first frame of an animation', async ({ folder }) => {
  const cmyk = await save(join(folder, 'cmyk.jpg'), plain([220, 40, 30]).toColourspace('cmyk').jpeg({ quality: 95 }));
  assert.is((await sharp(cmyk).metadata()).space, 'cmyk');
  assertNear(await firstPixel(cmyk), [220, 40, 30], 40, 'cmyk');

  const upright = Uint8Array.from({ length: 2 * 3 * 3 }, (_, i) => i * 14);
  const stored = await save(
    join(folder, 'rotated.png'),
    // Orientation 6: the stored image must be turned a quarter to the right.
    sharp(upright, { raw: { width: 2, height: 3, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .png(),
  );
  const turned = await decodeImage(stored);
  assert.equal([turned.width, turned.height], [3, 2]);
  const pixel = (x: number, y: number): number[] => [...upright.subarray((y * 2 + x) * 3, (y * 2 + x) * 3 + 3)];
  assert.equal(
    [...turned.data],
    [...pixel(0, 2), ...pixel(0, 1), ...pixel(0, 0), ...pixel(1, 2), ...pixel(1, 1), ...pixel(1, 0)],
  );

  const frames = Uint8Array.from({ length: 2 * 8 * 8 * 3 }, (_, i) => (i < 8 * 8 * 3 ? 255 : 0));
  const animated = await save(
    join(folder, 'two.gif'),
    sharp(frames, { raw: { width: 8, height: 16, channels: 3, pageHeight: 8 } }).gif({ delay: [50, 50] }),
  );
  assert.is((await sharp(animated).metadata()).pages, 2);
  const first = await decodeImage(animated);
  assert.equal([first.width, first.height, first.data[0]], [8, 8, 255]);
});

async function open(
  folder: string,
  options: Partial<ImageFolderOptions> = {},
): Promise<{ data: Awaited<ReturnType<typeof openImageFolder>>; reported: SkippedFile[] }> {
  const reported: SkippedFile[] = [];
  const data = await openImageFolder(folder, { size: 8, onSkip: (file) => reported.push(file), ...options });
  return { data, reported };
}

test('a folder of class folders: labels by folder name, images cropped as the official script does', async ({
  folder,
}) => {
  const red = await save(join(folder, 'b', 'deep', 'red.png'), detailed().png());
  await save(join(folder, 'a', 'z.PNG'), plain([0, 255, 0], 30, 9).png());
  await save(join(folder, 'Z', 'blue.webp'), plain([0, 0, 255]).webp({ lossless: true }));
  const { data, reported } = await open(folder);
  assert.equal(
    data.files.map(({ name }) => name),
    ['Z/blue.webp', 'a/z.PNG', 'b/deep/red.png'],
  );
  assert.equal([data.numClasses, data.classNames], [3, ['Z', 'a', 'b']]);
  const items = await Promise.all([0, 1, 2].map((i) => data.item(i)));
  assert.equal(
    items.map(({ label }) => label),
    [0, 1, 2],
  );
  assert.equal([...items[1].pixels.subarray(0, 3)], [0, 255, 0]);
  assert.equal(items[2].pixels, centerCropArr(await decodeImage(red), 8).data);
  assert.equal(reported, []);
  assert.equal((await open(folder, { labels: 'none' })).data.numClasses, 0);
});

test('images beside the folders, or asked for, make one unlabelled set', async ({ folder }) => {
  await save(join(folder, 'top.png'), plain([1, 2, 3]).png());
  await save(join(folder, 'sub', 'x.png'), plain([1, 2, 3]).png());
  const { data } = await open(folder);
  assert.equal([data.length, data.numClasses, data.classNames], [2, 0, []]);
  const error = await failure(open(folder, { labels: 'folders' }));
  assert.instance(error, FileError);
  assert.match((error as Error).message, /top\.png lies outside of a class folder/);
});

test('damaged files are named once, counted, and replaced by the next good one; others are ignored', async ({
  folder,
}) => {
  const colours: Rgb[] = [
    [250, 0, 0],
    [0, 250, 0],
    [0, 0, 250],
  ];
  for (const [i, colour] of colours.entries()) await save(join(folder, `${'acg'[i]}.png`), plain(colour).png());
  for (const [name, format] of [
    ['b.jpg', 'jpeg'],
    ['d.png', 'png'],
    ['h.jpeg', 'jpeg'],
  ] as const) {
    await save(join(folder, name), detailed().toFormat(format));
    await cut(join(folder, name), 0.6);
  }
  await writeFile(join(folder, 'e.png'), 'this is no image');
  await writeFile(join(folder, 'f.jpg'), '');
  await writeFile(join(folder, 'notes.txt'), 'text');
  await writeFile(join(folder, '._a.png'), 'resource fork');
  const { data, reported } = await open(folder);
  assert.equal(
    data.files.map(({ name }) => name),
    ['a.png', 'b.jpg', 'c.png', 'd.png', 'g.png', 'h.jpeg'],
  );
  assert.is(data.ignored, 2);
  assert.equal(
    reported.map(({ path }) => basename(path)),
    ['e.png', 'f.jpg'],
  );
  const at = async (i: number): Promise<number[]> => [...(await data.item(i)).pixels.subarray(0, 3)];
  for (let epoch = 0; epoch < 2; epoch++) {
    assert.equal(
      await Promise.all([0, 1, 2, 3, 4, 5].map(at)),
      [0, 1, 1, 2, 2, 0].map((c) => [...colours[c]]),
    );
  }
  assert.equal(reported.map(({ path }) => basename(path)).sort(), ['b.jpg', 'd.png', 'e.png', 'f.jpg', 'h.jpeg']);
  assert.equal(data.skipped, reported);
  assert.ok(reported.every(({ reason }) => reason.length > 5 && !reason.includes('\n')));
});

test('two runs over a folder with damaged files see the same batches, with and without a cache', async ({ folder }) => {
  for (let i = 0; i < 7; i++) await save(join(folder, `${i}.png`), plain([i * 30, 0, 255 - i * 30]).png());
  await save(join(folder, '3b.jpg'), detailed().jpeg());
  await cut(join(folder, '3b.jpg'), 0.5);
  const run = async (cacheBytes: number): Promise<number[][]> => {
    const loader = new DataLoader((await open(folder, { cacheBytes })).data, { batchSize: 3, seed: 4, flip: true });
    const batches: number[][] = [];
    for (let i = 0; i < 6; i++) batches.push([...(await loader.next()).value!.images]);
    return batches;
  };
  const first = await run(2 ** 20);
  assert.equal(await run(2 ** 20), first);
  assert.equal(await run(0), first);
});

test('the cache saves decoding within its bound', async ({ folder }) => {
  for (let i = 0; i < 3; i++) await save(join(folder, `${i}.png`), plain([i, i, i]).png());
  const { data } = await open(folder, { cacheBytes: 2 * 8 * 8 * 3 });
  for (let i = 0; i < 3; i++) await data.item(i);
  for (let i = 0; i < 3; i++) await rm(join(folder, `${i}.png`));
  assert.equal([(await data.item(0)).pixels[0], (await data.item(1)).pixels[0]], [0, 1]);
  // The third was not kept; its file is gone, so that the next good one stands in.
  assert.is((await data.item(2)).pixels[0], 0);
  assert.equal(
    data.skipped.map(({ path }) => basename(path)),
    ['2.png'],
  );
});

test('links in a circle end', async ({ folder }) => {
  await save(join(folder, 'a', 'x.png'), plain([1, 2, 3]).png());
  await symlink(folder, join(folder, 'a', 'loop'));
  await symlink(join(folder, 'nowhere'), join(folder, 'a', 'dangling.png'));
  assert.is((await open(folder)).data.length, 1);
});

test('errors say what is wrong with the folder', async ({ folder }) => {
  const fails = async (path: string, options: Partial<ImageFolderOptions>, pattern: RegExp): Promise<void> => {
    const error = await failure(open(path, options));
    assert.instance(error, FileError);
    assert.match((error as Error).message, pattern);
  };
  await fails(join(folder, 'none'), {}, /none does not exist, expected a folder/);
  await fails(folder, {}, /holds no image, expected PNG/);
  await writeFile(join(folder, 'a.txt'), '');
  await fails(join(folder, 'a.txt'), {}, /a\.txt is a file, expected a folder/);
  await fails(folder, {}, /holds no image among its 1 files/);
  await writeFile(join(folder, 'bad.png'), 'x');
  await fails(folder, {}, /holds 0 readable images \(1 more cannot be read\), expected at least 1/);
  await save(join(folder, 'good.png'), plain([0, 0, 0]).png());
  await fails(
    folder,
    { minImages: 4 },
    /holds 1 readable image \(1 more cannot be read\), expected at least 4; add images or lower/,
  );
});

test('when nothing can be decoded, the item says so', async ({ folder }) => {
  await save(join(folder, 'a.jpg'), detailed().jpeg());
  await cut(join(folder, 'a.jpg'), 0.5);
  const { data } = await open(folder);
  const error = await failure(data.item(0));
  assert.instance(error, FormatError);
  assert.match((error as Error).message, /none of the 1 images in .* can be decoded/);
});

test('a file with rubbish after the image still counts', async ({ folder }) => {
  const path = await save(join(folder, 'a.jpg'), plain([90, 90, 90]).jpeg());
  await appendFile(path, 'trailing bytes');
  const { data } = await open(folder);
  assertNear([...(await data.item(0)).pixels.subarray(0, 3)], [90, 90, 90], 3, 'pixel');
});

test('scanning reports progress and can be aborted', async ({ folder }) => {
  for (let i = 0; i < 5; i++) await save(join(folder, `${i}.png`), plain([i, i, i]).png());
  const seen: number[] = [];
  await open(folder, { onScan: (done, total) => seen.push(done, total) });
  assert.equal(seen, [1, 5, 2, 5, 3, 5, 4, 5, 5, 5]);
  const reason = new Error('stop');
  assert.is(await failure(open(folder, { signal: AbortSignal.abort(reason) })), reason);
});

test('limiter: never more than its number at a time, in order, failures included', async () => {
  const limit = limiter(2);
  let running = 0;
  let most = 0;
  const started: number[] = [];
  const results = await Promise.allSettled(
    Array.from({ length: 9 }, (_, i) =>
      limit(async () => {
        started.push(i);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, i % 3));
        running--;
        if (i === 4) throw new Error('four');
        return i;
      }),
    ),
  );
  assert.is(most, 2);
  assert.equal(started, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(
    results.map((r) => (r.status === 'fulfilled' ? r.value : 'failed')),
    [0, 1, 2, 3, 'failed', 5, 6, 7, 8],
  );
});

test.run();
