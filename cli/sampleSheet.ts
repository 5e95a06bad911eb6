// The sheets that samples are shown on: a row for each class. Grey samples make a grey sheet; transparent ones lie on a
// chequerboard, so that one sees where they are transparent and the names beside them stay readable.

import type { ImageBatch } from '../models/data/grid.ts';
import { convertChannels } from '../models/data/channels.ts';
import type { PixelImage } from '../models/data/image.ts';
import { comfortableScale, sheet, writeImage } from './pictures.ts';

/** The label of each image of a sheet: `count` of each class, or none for a model without classes. */
export function labelsOfRows(classes: readonly number[] | undefined, count: number): number[] | undefined {
  return classes?.flatMap((label) => new Array<number>(count).fill(label));
}

export interface SheetLayout {
  /** Labels of the rows' images, as they were sampled. */
  readonly classes?: readonly number[];
  readonly classNames: readonly string[];
}

const COLUMNS = 16;
/** Characters of a name that a sheet has room for. */
const LONGEST_NAME = 40;

const shorten = (name: string): string =>
  name.length <= LONGEST_NAME ? name : `${name.slice(0, LONGEST_NAME - 3)}...`;

/**
 * A sheet with a row for each class, or several where there are more than sixteen images of it, and the class names
 * beside them.
 */
export function sampleSheet(images: ImageBatch, layout: SheetLayout): PixelImage {
  if (images.shape[1] === 4) return opaqueSheet(onChequerboard(images), layout);
  const image = opaqueSheet(images, layout);
  // make_grid has made three channels of one.
  return images.shape[1] === 1 ? convertChannels(image, 1) : image;
}

/** Squares of the chequerboard across an image, and their light and dark. */
const SQUARES = 8,
  LIGHT = 0.8,
  DARK = 0.5;

/** Images (N, 4, H, W) in [-1, 1] over a chequerboard: (N, 3, H, W). */
function onChequerboard({ data, shape: [n, , h, w] }: ImageBatch): ImageBatch {
  const square = Math.max(1, Math.round(h / SQUARES));
  const plane = h * w;
  const result = new Float32Array(n * 3 * plane);
  for (let i = 0; i < n; i++)
    for (let p = 0; p < plane; p++) {
      const odd = (Math.floor(Math.floor(p / w) / square) + Math.floor((p % w) / square)) % 2;
      const below = odd ? DARK : LIGHT;
      const alpha = Math.min(1, Math.max(0, (data[(i * 4 + 3) * plane + p] + 1) / 2));
      for (let c = 0; c < 3; c++)
        result[(i * 3 + c) * plane + p] = alpha * data[(i * 4 + c) * plane + p] + (1 - alpha) * below;
    }
  return { data: result, shape: [n, 3, h, w] };
}

function opaqueSheet(images: ImageBatch, { classes, classNames }: SheetLayout): PixelImage {
  const [n, c, h, w] = images.shape;
  const scale = comfortableScale(h);
  if (!classes) return sheet(images, { nrow: Math.min(COLUMNS, Math.ceil(Math.sqrt(n))), scale });
  const count = n / classes.length;
  const columns = Math.min(COLUMNS, count),
    rows = Math.ceil(count / columns);
  // Each class begins a row; places that stay free are black.
  const each = c * h * w;
  const data = new Float32Array(classes.length * rows * columns * each).fill(-1);
  for (let k = 0; k < classes.length; k++)
    data.set(images.data.subarray(k * count * each, (k + 1) * count * each), k * rows * columns * each);
  const rowLabels = classes.flatMap((label) => [
    shorten(classNames[label] ?? String(label)),
    ...new Array<string>(rows - 1).fill(''),
  ]);
  return sheet({ data, shape: [classes.length * rows * columns, c, h, w] }, { nrow: columns, scale, rowLabels });
}

/** Writes a sheet; see `sampleSheet`. */
export async function writeSamples(path: string, images: ImageBatch, layout: SheetLayout): Promise<void> {
  await writeImage(path, sampleSheet(images, layout));
}
