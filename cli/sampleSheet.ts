// The sheets that samples are shown on: a row for each class.

import type { ImageBatch } from '../models/data/grid.ts';
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
export function sampleSheet(images: ImageBatch, { classes, classNames }: SheetLayout): PixelImage {
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
