// IDX, the format of MNIST and of the sets that took its place (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"):
// two zero bytes, the element's type, the rank, the sizes as big-endian 32-bit words, then the elements in row-major
// order. Pictures are (N, H, W) unsigned bytes, labels (N).
import { FormatError, ValueError } from '../../core/errors.ts';
import { centerCropArr } from './centerCrop.ts';
import type { Dataset } from './dataset.ts';
import { padImage, type PixelImage, type Pixels } from './image.ts';

/** The name and the sizes of an IDX file, before its elements. */
export interface IdxHeader {
  /** Bytes of the header. */
  readonly bytes: number;
  readonly shape: readonly number[];
  /** Elements, a byte each. */
  readonly length: number;
}

/** The content of one IDX file: bytes of a shape. */
export interface IdxArray {
  /** What to call it by in errors. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Longest header: rank 4. */
export const IDX_HEADER_BYTES = 20;
const UNSIGNED_BYTE = 8;
/** No picture of such a set is larger. */
const LONGEST_SIDE = 8192;
const REMEDY = 'download it again: it may be damaged, or no IDX file';

/**
 * Reads the header at the start of `bytes`.
 * @throws FormatError for another format or type of element, or sizes that no file has
 */
export function idxHeader(bytes: Uint8Array, name: string): IdxHeader {
  const bad = (what: string, expected: string): FormatError =>
    new FormatError('idx', `${name} ${what}`, { expected, remedy: REMEDY });
  if (bytes.length < 4) throw bad(`ends after ${bytes.length} bytes`, 'a header of at least 8');
  const [zero, zero2, type, rank] = bytes;
  if (zero !== 0 || zero2 !== 0) throw bad('does not begin as an IDX file', 'two zero bytes');
  if (type !== UNSIGNED_BYTE) throw bad(`has elements of type 0x${type.toString(16).padStart(2, '0')}`, '0x08, bytes');
  if (rank < 1 || rank > 4) throw bad(`has rank ${rank}`, '1 for labels, 3 for pictures');
  const end = 4 + 4 * rank;
  if (bytes.length < end) throw bad(`ends after ${bytes.length} bytes`, `a header of ${end}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const length = shape.reduce((a, b) => a * b, 1);
  if (length < 1 || !Number.isSafeInteger(length)) throw bad(`has shape (${shape.join(', ')})`, 'positive sizes');
  return { bytes: end, shape, length };
}

/** A whole IDX file. @throws FormatError as `idxHeader`, or where the elements are fewer or more than the header says */
export function parseIdx(bytes: Uint8Array, name: string): IdxArray {
  const header = idxHeader(bytes, name);
  if (bytes.length !== header.bytes + header.length)
    throw new FormatError('idx', `${name} has ${bytes.length} bytes`, {
      expected: `${header.bytes + header.length}, as its header says`,
      remedy: REMEDY,
    });
  return { name, shape: header.shape, data: bytes.subarray(header.bytes) };
}

/** Which arrays make the data set, and how large its pictures are. */
export interface IdxOptions {
  readonly images: IdxArray;
  /** Without them the set has no classes. */
  readonly labels?: IdxArray;
  /** Side of the square images. */
  readonly size: number;
  /** Names in label order; default numbers. There may be more of them than labels occur. */
  readonly classNames?: readonly string[];
}

/**
 * Pictures and labels of IDX files as a data set of one channel. See `fitSquare` for how the pictures come to `size`.
 * @throws FormatError where the two don't belong together, or hold no pictures
 */
export function idxDataset({ images, labels, size, classNames: named }: IdxOptions): Dataset {
  const { data, shape } = images;
  if (shape.length !== 3)
    throw new FormatError('idx', `${images.name} has rank ${shape.length}`, {
      expected: '3 for pictures: count, height, width',
      remedy: 'is it the file of labels?',
    });
  const [length, height, width] = shape;
  if (height > LONGEST_SIDE || width > LONGEST_SIDE)
    throw new FormatError('idx', `${images.name} has pictures of ${width}x${height}`, {
      expected: `at most ${LONGEST_SIDE} pixels a side`,
      remedy: REMEDY,
    });
  if (labels && (labels.shape.length !== 1 || labels.shape[0] !== length))
    throw new FormatError('idx', `${labels.name} has shape (${labels.shape.join(', ')})`, {
      expected: `(${length}), a label for each picture of ${images.name}`,
      remedy: 'take both files from one set',
    });
  const used = labels ? labels.data.reduce((most, label) => Math.max(most, label), 0) + 1 : 0;
  if (labels && named && named.length < used)
    throw new FormatError('idx', `${labels.name} has label ${used - 1}, and there are ${named.length} class names`, {
      expected: 'a name for each label',
      remedy: 'correct the file of names',
    });
  const classNames = labels ? (named ?? Array.from({ length: used }, (_, label) => String(label))) : [];
  const each = width * height;
  fitSquare({ data: new Uint8Array(each), width, height, channels: 1 }, size); // throws what is wrong with the size
  return {
    length,
    size,
    channels: 1,
    numClasses: classNames.length,
    classNames,
    item(index) {
      if (!(Number.isSafeInteger(index) && index >= 0 && index < length))
        throw new ValueError('idx', `is ${index}`, {
          option: 'index',
          expected: `an integer from 0 to ${length - 1}`,
        });
      const picture = { data: data.subarray(index * each, (index + 1) * each), width, height, channels: 1 };
      return { pixels: fitSquare(picture, size).data, label: labels?.data[index] ?? 0 };
    },
  };
}

/** Pictures get a border up to this ratio of sides, and are resampled beyond it. */
const WIDEST_BORDER = 1.25;

/** Whether `fitSquare` gives such a picture a border. */
export const isPadded = (width: number, height: number, size: number): boolean =>
  Math.max(width, height) <= size && size <= WIDEST_BORDER * Math.max(width, height);

/**
 * A picture as a square of `size`. One that is a little smaller, by up to a fifth of the side (28 for 32), gets a border
 * of zeros, which in sets of this format is the background, and keeps its pixels; others are resampled by
 * `centerCropArr`.
 */
export function fitSquare<P extends Pixels>(image: PixelImage<P>, size: number): PixelImage<P> {
  return isPadded(image.width, image.height, size) ? padImage(image, size) : centerCropArr(image, size);
}
