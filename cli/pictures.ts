// Pictures that the command line writes: sheets with class names beside the rows, single images, animations. Encoding
// is sharp's (libvips); the layout of a sheet is torchvision's, so that without labels and enlargement it equals
// save_image's.

import { extname, join } from 'node:path';
import type { Sharp } from 'sharp';
import { ShapeError, ValueError } from '../core/errors.ts';
import type { GridOptions, ImageBatch } from '../models/data/grid.ts';
import { batchToPixels, makeGrid, normalizeRange, toPixels } from '../models/data/grid.ts';
import { convertChannels } from '../models/data/channels.ts';
import type { PixelImage } from '../models/data/image.ts';
import { checkImage } from '../models/data/image.ts';
import { writeFileAtomic } from './files.ts';
import { sharp } from './sharp.ts';
import { withVips } from './libvips.ts';
import { drawText, textHeight, textWidth } from './pixelFont.ts';

export interface SheetOptions extends GridOptions {
  /** Range of the values that is shown from black to white. Default [-1, 1]. */
  range?: readonly [number, number];
  /** Each pixel becomes a square of this side. Default 1. */
  scale?: number;
  /** A name for each row, written to its left. */
  rowLabels?: readonly string[];
}

/** The enlargement at which images of this side are at least 64 pixels wide on a sheet, and so easy to look at. */
export function comfortableScale(size: number): number {
  return Math.max(1, Math.ceil(64 / size));
}

/** Enlarges by a whole factor without smoothing. */
export function enlarge(image: PixelImage, scale: number): PixelImage {
  checkImage('enlarge', image);
  if (!Number.isSafeInteger(scale) || scale < 1) {
    throw new ValueError('enlarge', `is ${scale}`, {
      option: 'scale',
      expected: 'a positive integer',
      remedy: 'give how many pixels one becomes',
    });
  }
  if (scale === 1) return image;
  const { data, channels } = image;
  const width = image.width * scale;
  const height = image.height * scale;
  const result = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / scale) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (row + Math.floor(x / scale)) * channels;
      const to = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) result[to + c] = data[from + c];
    }
  }
  return { data: result, width, height, channels };
}

/**
 * Sheet of images (N, C, H, W), laid out by `makeGrid` and enlarged, with the rows' names in a margin on the left where
 * there are any.
 */
export function sheet(
  images: ImageBatch,
  { range = [-1, 1], scale = 1, rowLabels, ...grid }: SheetOptions = {},
): PixelImage {
  const plain = enlarge(toPixels(makeGrid(normalizeRange(images, range), grid)), scale);
  if (!rowLabels || rowLabels.length === 0) return plain;
  const [n, , h] = images.shape;
  const { nrow = 8, padding = 2 } = grid;
  const rows = Math.ceil(n / Math.min(nrow, n));
  if (rowLabels.length !== rows) {
    throw new ShapeError('sheet', `${rowLabels.length} row labels for ${rows} rows`, {
      expected: 'one a row',
      remedy: "pass '' for a row without a name",
    });
  }
  const gap = n === 1 ? 0 : padding;
  return addRowLabels(plain, rowLabels, { first: gap * scale, pitch: (h + gap) * scale, rowHeight: h * scale });
}

function addRowLabels(
  image: PixelImage,
  labels: readonly string[],
  { first, pitch, rowHeight }: { first: number; pitch: number; rowHeight: number },
): PixelImage {
  const font = Math.max(1, Math.min(3, Math.floor(rowHeight / (2.5 * textHeight))));
  const space = 4 * font;
  const margin = Math.max(...labels.map(textWidth)) * font + 2 * space;
  const { channels, height } = image;
  const width = image.width + margin;
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    data.set(
      image.data.subarray(y * image.width * channels, (y + 1) * image.width * channels),
      (y * width + margin) * channels,
    );
  }
  labels.forEach((label, row) => {
    // Right-aligned, and centred on the letters' body of seven rows.
    const left = margin - space - textWidth(label) * font;
    const top = first + row * pitch + Math.floor((rowHeight - 7 * font) / 2);
    drawText(label, (x, y) => {
      for (let j = 0; j < font; j++) {
        const py = top + y * font + j;
        if (py < 0 || py >= height) continue;
        const at = (py * width + left + x * font) * channels;
        data.fill(255, at, at + font * channels);
      }
    });
  });
  return { data, width, height, channels };
}

function pixelsOf(image: PixelImage): Sharp {
  checkImage('pictures', image);
  const { data, width, height, channels } = image;
  if (channels !== 1 && channels !== 3 && channels !== 4) {
    throw new ShapeError('pictures', `image has ${channels} channels`, {
      expected: '1, 3 or 4',
      remedy: 'decode latents to pixels first',
    });
  }
  const opened = sharp(data, { raw: { width, height, channels } });
  // Else one channel is written as three.
  return channels === 1 ? opened.toColourspace('b-w') : opened;
}

const ENCODERS: Readonly<Record<string, (image: Sharp) => Sharp>> = {
  '.png': (s) => s.png(),
  '.webp': (s) => s.webp({ lossless: true }),
  '.avif': (s) => s.avif({ quality: 90 }),
  '.jpg': (s) => s.jpeg({ quality: 95 }),
  '.jpeg': (s) => s.jpeg({ quality: 95 }),
};

/** Endings of the files that `writeImage` writes. */
export const IMAGE_ENDINGS: readonly string[] = Object.keys(ENCODERS);

/**
 * Writes one image, whole or not at all; the name's ending (.png, .webp, .avif, .jpg) chooses the format. PNG and WebP
 * are lossless.
 * @throws ValueError for another ending; FileError when the file cannot be written
 */
export async function writeImage(path: string, image: PixelImage): Promise<void> {
  const encode = ENCODERS[extname(path).toLowerCase()];
  if (!encode)
    throw new ValueError('writeImage', `${path} has no image ending`, {
      expected: `one of ${IMAGE_ENDINGS.join(', ')}`,
      remedy: 'rename the output',
    });
  await writeFileAtomic(path, await withVips(() => encode(pixelsOf(image)).toBuffer()));
}

/** Writes a sheet of images (N, C, H, W); see `sheet` and `writeImage`. */
export async function writeSheet(path: string, images: ImageBatch, options?: SheetOptions): Promise<void> {
  await writeImage(path, sheet(images, options));
}

/**
 * Writes each image of a batch (N, C, H, W) to a file of its own in `folder`.
 * @param nameOf the file name of image i, ending included
 * @returns the paths, in order
 */
export async function writeImages(
  folder: string,
  images: ImageBatch,
  nameOf: (i: number) => string,
  range?: readonly [number, number],
): Promise<string[]> {
  const paths: string[] = [];
  for (const [i, image] of batchToPixels(images, range).entries()) {
    const path = join(folder, nameOf(i));
    await writeImage(path, image);
    paths.push(path);
  }
  return paths;
}

export interface AnimationOptions {
  /** Milliseconds a frame. Default 80. */
  delay?: number;
  /** Milliseconds that the last frame stays. Default 1500. */
  hold?: number;
  /** How often it plays; 0 is forever. Default 0. */
  loop?: number;
}

/**
 * Writes frames of one size, grey, RGB or RGBA, as an animated .gif or .webp (lossless).
 * @throws ValueError for another ending or no frame; ShapeError when frames differ in size
 */
export async function writeAnimation(
  path: string,
  given: readonly PixelImage[],
  options: AnimationOptions = {},
): Promise<void> {
  const { delay = 80, hold = 1500, loop = 0 } = options;
  const ending = extname(path).toLowerCase();
  if (ending !== '.gif' && ending !== '.webp') {
    throw new ValueError('writeAnimation', `${path} ends in "${ending}"`, {
      expected: '.gif or .webp',
      remedy: 'rename the output',
    });
  }
  // A strip of grey pages would not be read as one.
  const frames = given.map((frame) => (frame.channels === 1 ? convertChannels(frame, 3) : frame));
  if (frames.length === 0)
    throw new ValueError('writeAnimation', `no frame given for ${path}`, {
      expected: 'at least one',
      remedy: 'keep frames while sampling',
    });
  const [{ width, height, channels }] = frames;
  for (const [i, frame] of frames.entries()) {
    checkImage('writeAnimation', frame);
    if (frame.width !== width || frame.height !== height || frame.channels !== channels) {
      throw new ShapeError('writeAnimation', `frame ${i} is ${frame.width}x${frame.height}x${frame.channels}`, {
        expected: `${width}x${height}x${channels} as the first`,
        remedy: 'give frames of one size',
      });
    }
  }
  if (channels !== 3 && channels !== 4) {
    throw new ShapeError('writeAnimation', `frames have ${channels} channels`, {
      expected: '1, 3 or 4',
      remedy: 'decode latents to pixels first',
    });
  }
  const strip = new Uint8Array(frames.length * height * width * channels);
  frames.forEach(({ data }, i) => strip.set(data, i * data.length));
  const image = sharp(strip, {
    raw: { width, height: height * frames.length, channels, pageHeight: height },
    limitInputPixels: false,
  });
  const timing = { loop, delay: frames.map((_, i) => (i === frames.length - 1 ? hold : delay)) };
  await writeFileAtomic(
    path,
    await withVips(() =>
      (ending === '.gif' ? image.gif(timing) : image.webp({ ...timing, lossless: true })).toBuffer(),
    ),
  );
}
