import { appendFile, mkdir, mkdtemp, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkBackground, decodeImage } from '../../../cli/data/decodeImage.ts';
import type { ImageFolderOptions } from '../../../cli/data/imageFolder.ts';
import type { SkippedFile } from '../../../cli/data/pictureSource.ts';
import { openImageFolder } from '../../../cli/data/imageFolder.ts';
import { limiter } from '../../../cli/data/limit.ts';
import { describeDifference, readIndex, writeIndex } from '../../../cli/data/pictureIndex.ts';
import { FileError } from '../../../cli/files.ts';
import { FormatError, ValueError } from '../../../core/errors.ts';
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

test('16-bit pictures keep their precision up to the tensor', async ({ folder }) => {
  // Values that 8 bits cannot tell apart.
  const deep = Uint16Array.from({ length: 16 * 16 * 4 }, (_, i) => 30_000 + (i % 200));
  const part = (channels: number): Uint16Array => deep.subarray(0, 256 * channels);
  const save16 = (name: string, channels: 1 | 3 | 4): Promise<string> =>
    save(
      join(folder, name, 'a.png'),
      sharp(part(channels), { raw: { width: 16, height: 16, channels } })
        .toColourspace(channels === 1 ? 'grey16' : 'rgb16')
        .png(),
    );
  for (const channels of [1, 3, 4] as const) {
    await save16(String(channels), channels);
    const data = await openImageFolder(join(folder, String(channels)), { size: 16 });
    assert.is(data.channels, channels);
    const { pixels } = await data.item(0);
    assert.instance(pixels, Uint16Array);
    assert.equal([...pixels], [...part(channels)]);
    const { value } = await new DataLoader(data, { batchSize: 1 }).next();
    for (let i = 0; i < 256 * channels; i++) {
      const expected = (part(channels)[i] / 65_535) * 2 - 1;
      assert.ok(Math.abs(value!.images[(i % channels) * 256 + Math.floor(i / channels)] - expected) < 2 ** -23);
    }
    // Reduced, it still has more than 8 bits.
    const half = (await (await openImageFolder(join(folder, String(channels)), { size: 8 })).item(0)).pixels;
    assert.ok(half.some((v) => v % 257 !== 0));
  }
  // On a background, and beside 8-bit pictures.
  await save(join(folder, '4', 'b.png'), plain([1, 2, 3]).png());
  const data = await openImageFolder(join(folder, '4'), { size: 16, background: 'white' });
  const [laid, byte] = [await data.item(0), await data.item(1)];
  const [red, , , alpha] = part(4);
  assert.is(laid.pixels[0], Math.round((red * alpha + 65_535 * (65_535 - alpha)) / 65_535));
  assert.equal([byte.pixels instanceof Uint8Array, [...byte.pixels.subarray(0, 3)]], [true, [1, 2, 3]]);
});

test('decodeImage: transparency is dropped, or laid on a background', async ({ folder }) => {
  const half = sharp(Uint8Array.of(200, 100, 0, 0, 40, 50, 60, 255), { raw: { width: 2, height: 1, channels: 4 } });
  const path = await save(join(folder, 'rgba.png'), half.png());
  assert.equal([...(await decodeImage(path)).data], [200, 100, 0, 40, 50, 60]);
  assert.equal([...(await decodeImage(path, { background: '#fff' })).data], [255, 255, 255, 40, 50, 60]);
});

test('decodeImage: a background is a colour of sRGB, whatever the file holds', async ({ folder }) => {
  const raw = { width: 2, height: 2, channels: 4 } as const;
  const colours = Uint8Array.of(10, 10, 10, 0, 200, 200, 200, 128, 90, 90, 90, 255, 250, 250, 250, 0);
  const deep = Uint16Array.from(colours, (v) => v * 257);
  const grey = Uint8Array.of(10, 0, 200, 128, 90, 255, 250, 0);
  const images: Record<string, Sharp> = {
    'rgba.png': sharp(colours, { raw }).png(),
    'rgba.webp': sharp(colours, { raw }).webp({ lossless: true, exact: true }),
    'palette.png': sharp(colours, { raw }).png({ palette: true }),
    'deep.png': sharp(deep, { raw }).toColourspace('rgb16').png(),
    'deep.tif': sharp(deep, { raw }).toColourspace('rgb16').tiff({ compression: 'none' }),
    'grey.png': sharp(grey, { raw: { ...raw, channels: 2 } })
      .toColourspace('b-w')
      .png(),
    'grey.tif': sharp(grey, { raw: { ...raw, channels: 2 } })
      .toColourspace('b-w')
      .tiff({ compression: 'none' }),
    'deepgrey.png': sharp(
      Uint16Array.from(grey, (v) => v * 257),
      { raw: { ...raw, channels: 2 } },
    )
      .toColourspace('grey16')
      .png(),
    'float.tif': sharp(colours, { raw }).toColourspace('scrgb').tiff({ compression: 'none' }),
    'cmyk.tif': sharp(colours, { raw }).toColourspace('cmyk').tiff({ compression: 'none' }),
  };
  // A share of 128/255 of 200, and the rest of the background's.
  const expected = [255, 0, 0, 227, 100, 100, 90, 90, 90, 255, 0, 0];
  for (const [name, image] of Object.entries(images)) {
    const path = await save(join(folder, name), image);
    const { data } = await decodeImage(path, { background: 'red' });
    assertNear([...data], expected, name.startsWith('cmyk') ? 30 : 2, name);
  }
  await checkBackground('rgb(1, 2, 3)');
  assert.match(String(await failure(checkBackground('#ff000080'))), /background is "#ff000080", which is transparent/);
  const error = await failure(open(folder, { background: 'notacolour' }));
  assert.instance(error, ValueError);
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
  const data = await openImageFolder(folder, {
    size: 8,
    pauses: [5, 5],
    onSkip: (file) => reported.push(file),
    ...options,
  });
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

test('a few stray images beside class folders are named and left out; empty classes are named', async ({ folder }) => {
  for (const name of ['cat/1.png', 'cat/2.png', 'dog/1.png', 'stray.png'])
    await save(join(folder, name), plain([1, 2, 3]).png());
  await mkdir(join(folder, 'bird'));
  await mkdir(join(folder, 'newt'));
  await writeFile(join(folder, 'newt', 'bad.png'), 'no image');
  const notices: string[] = [];
  const { data, reported } = await open(folder, { onNotice: (text) => notices.push(text) });
  assert.equal([data.classNames, data.length, data.beside], [['cat', 'dog'], 3, [join(folder, 'stray.png')]]);
  assert.equal(
    reported.map(({ path }) => basename(path)),
    ['bad.png', 'stray.png'],
  );
  assert.match(reported[1].reason, /beside the class folders/);
  assert.equal(data.skipped.length, 1);
  assert.is(notices.length, 1);
  assert.match(notices[0], /The folders bird, newt in .* hold no readable image and are no classes/);
});

test('names are the same in both Unicode forms: one order, one class, one index', async ({ folder }) => {
  const composed = 'caf\u00e9',
    decomposed = 'cafe\u0301';
  await save(join(folder, 'mac', decomposed, 'z\u0308.png'), plain([1, 2, 3]).png());
  await save(join(folder, 'mac', 'cafz', 'a.png'), plain([4, 5, 6]).png());
  await save(join(folder, 'linux', composed, 'z\u0308.png'.normalize('NFC')), plain([1, 2, 3]).png());
  await save(join(folder, 'linux', 'cafz', 'a.png'), plain([4, 5, 6]).png());
  const [mac, linux] = await Promise.all(['mac', 'linux'].map(async (name) => (await open(join(folder, name))).data));
  assert.equal(mac.classNames, linux.classNames);
  assert.equal(mac.classNames, ['cafz', composed]);
  assert.equal(
    mac.files.map(({ name, hash }) => [name, hash]),
    linux.files.map(({ name, hash }) => [name, hash]),
  );
  await save(join(folder, 'mac', composed, 'b.png'), plain([7, 8, 9]).png());
  assert.is((await open(join(folder, 'mac'))).data.numClasses, 2);
});

test('many images beside the folders, or asked for, make one unlabelled set, and it is said', async ({ folder }) => {
  await save(join(folder, 'top.png'), plain([1, 2, 3]).png());
  await save(join(folder, 'sub', 'x.png'), plain([1, 2, 3]).png());
  const notices: string[] = [];
  const { data } = await open(folder, { onNotice: (text) => notices.push(text) });
  assert.equal([data.length, data.numClasses, data.classNames], [2, 0, []]);
  assert.match(notices.join(), /1 image beside its folders and 1 in them: all are one set without classes/);
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
  // The third was not kept, and its file is gone: without it the data are others.
  const error = await failure(data.item(2));
  assert.instance(error, FileError);
  assert.match((error as Error).message, /Cannot read .*2\.png: it is not there; bring it back/);
  assert.equal(data.skipped, []);
});

test('what fails for a moment is tried again; what stays away ends the reading, whatever else is there', async ({
  folder,
}) => {
  for (let i = 0; i < 4; i++) await save(join(folder, `${i}.png`), plain([i, i, i]).png());
  const told: string[] = [];
  const { data } = await open(folder, { cacheBytes: 0, pauses: [20, 100, 400], onRetry: (_, why) => told.push(why) });
  const away = join(folder, 'away'),
    file = join(folder, '1.png');
  await rename(file, away);
  const item = data.item(1);
  await sleep(60);
  await rename(away, file);
  assert.is((await item).pixels[0], 1);
  assert.equal(told, ['it is not there']);
  // A file that is cut while it is trained on isn't a damaged one: once it is whole again, it is what it was.
  const whole = await readFile(file);
  await cut(file, 0.5);
  const error = await failure(data.item(1));
  assert.match((error as Error).message, /1\.png: its content is not what it was when the run began/);
  await writeFile(file, whole);
  assert.is((await data.item(1)).pixels[0], 1);
  assert.equal(data.skipped, []);
});

test('waiting for a file ends with the signal', async ({ folder }) => {
  await save(join(folder, 'a.png'), plain([1, 1, 1]).png());
  const controller = new AbortController();
  const { data } = await open(folder, { pauses: [60_000], signal: controller.signal });
  await rm(join(folder, 'a.png'));
  const item = failure(data.item(0));
  await sleep(30);
  controller.abort();
  assert.is(await item, controller.signal.reason);
});

test('of files that fail together, each has its own reason, the same each time', async ({ folder }) => {
  const formats = ['jpeg', 'png', 'webp', 'gif', 'avif', 'tiff'] as const;
  for (let i = 0; i < 24; i++) {
    const path = await save(
      join(folder, `${String(i).padStart(2, '0')}.${formats[i % 6]}`),
      detailed().toFormat(formats[i % 6]),
    );
    if (i % 2 === Math.floor(i / 6) % 2) await cut(path, 0.7);
  }
  const look = async (concurrency: number): Promise<[string, string][]> => {
    const { data, reported } = await open(folder, { concurrency });
    await Promise.all(data.files.map((_, i) => data.item(i)));
    return reported.map(({ path, reason }): [string, string] => [basename(path), reason]).sort();
  };
  const alone = await look(1);
  assert.is(alone.length, 12);
  for (let run = 0; run < 3; run++) assert.equal(await look(12), alone);
  for (const [name, reason] of alone) {
    if (name.endsWith('jpeg')) assert.match(reason, /premature end of JPEG/);
    if (name.endsWith('png')) assert.match(reason, /png/);
  }
});

test('an index remembers what was looked into, and says what differs', async ({ folder }) => {
  const pictures = join(folder, 'pictures'),
    path = join(folder, 'data.jsonl');
  for (let i = 0; i < 3; i++) await save(join(pictures, `${i}.tif`), plain([i, i, i]).tiff({ compression: 'none' }));
  await writeFile(join(pictures, 'bad.png'), 'x');
  const { index } = (await open(pictures)).data;
  await writeIndex(path, index);
  const known = (await readIndex(path))!;
  assert.equal([...known], [...index]);
  // Nobody touched them: nothing is read, and the damaged one is known.
  const again = (await open(pictures, { known })).data;
  assert.is(describeDifference(known, again.index), undefined);
  assert.ok([...again.index].every(([name, entry]) => known.get(name) === entry));
  // Another picture of the same size, with the old times.
  const target = join(pictures, '1.tif'),
    before = await stat(target);
  await save(target, plain([9, 9, 9]).tiff({ compression: 'none' }));
  await utimes(target, before.atime, before.mtime);
  assert.is((await stat(target)).size, before.size);
  await rm(join(pictures, '2.tif'));
  await save(join(pictures, '3.tif'), plain([9, 9, 9]).png());
  assert.is(
    describeDifference(known, (await open(pictures, { known })).data.index),
    '1.tif is other than before, 2.tif is missing, 3.tif is new',
  );
  for (const damaged of ['', '[1]', '{"a":1}', '["a",1,2,3,"zz"]', `["${'x'.repeat(100_000)}`, 'x'.repeat(1_000_000)]) {
    await writeFile(path, damaged);
    assert.is(await readIndex(path), undefined);
  }
  assert.is(await readIndex(join(folder, 'none')), undefined);
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
