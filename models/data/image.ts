// An image in memory and the few moves that need no arithmetic, plus the change between 8-bit pixels
// and the numbers a model sees. Everything in models/data works on these plain arrays, so that it runs
// in a browser, in a worker or under Node alike.
import { ShapeError } from '../../core/errors.ts';

/** Values from 0 to 255, or from 0 to 65535. */
export type Pixels = Uint8Array | Uint16Array;

/** 8-bit image, or one of 16 bits, row-major, channels last: `data[(y * width + x) * channels + c]`. */
export interface PixelImage<P extends Pixels = Uint8Array> {
  readonly data: P;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** The value of white. */
export const brightest = (data: Pixels): number => (data instanceof Uint16Array ? 65535 : 255);

/** Zeros of the same depth. */
export function alike<P extends Pixels>(data: P, length: number): P {
  return (data instanceof Uint16Array ? new Uint16Array(length) : new Uint8Array(length)) as P;
}

/** Checks that width, height and channels are positive integers and that `data` has exactly their product. */
export function checkImage(op: string, image: PixelImage<Pixels>): void {
  const { width, height, channels, data } = image;
  const positive = (n: number): boolean => Number.isSafeInteger(n) && n > 0;
  if (!positive(width) || !positive(height) || !positive(channels) || data.length !== width * height * channels) {
    throw new ShapeError(op, `image of ${width}x${height} pixels and ${channels} channels has ${data.length} values`, {
      expected: 'positive integers and width*height*channels values',
      remedy: 'pass channels-last pixels without row padding',
    });
  }
}

/** The `width` x `height` pixels whose upper left corner is (x, y). The rectangle must lie inside the image. */
export function cropImage<P extends Pixels>(
  image: PixelImage<P>,
  x: number,
  y: number,
  width: number,
  height: number,
): PixelImage<P> {
  checkImage('cropImage', image);
  if (!(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= image.width && y + height <= image.height)) {
    throw new ShapeError(
      'cropImage',
      `rectangle ${width}x${height} at (${x},${y}) is not inside the image of ${image.width}x${image.height}`,
      { expected: `0 <= x, x + width <= ${image.width} and the same for y`, remedy: 'resize the image first' },
    );
  }
  const { channels } = image;
  const data = alike(image.data, width * height * channels);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * image.width + x) * channels;
    data.set(image.data.subarray(from, from + width * channels), row * width * channels);
  }
  return { data, width, height, channels };
}

/** The image in the middle of a square of `size`, zeros around it; where the border is odd, more on the right and below. */
export function padImage<P extends Pixels>(image: PixelImage<P>, size: number): PixelImage<P> {
  checkImage('padImage', image);
  const { width, height, channels } = image;
  if (!Number.isSafeInteger(size) || width > size || height > size)
    throw new ShapeError('padImage', `image of ${width}x${height} does not fit into a square of ${size}`, {
      expected: 'a size of at least its longer side',
      remedy: 'resize the image first',
    });
  const data = alike(image.data, size * size * channels);
  const left = (size - width) >> 1,
    top = (size - height) >> 1;
  for (let row = 0; row < height; row++) {
    const pixels = image.data.subarray(row * width * channels, (row + 1) * width * channels);
    data.set(pixels, ((top + row) * size + left) * channels);
  }
  return { data, width: size, height: size, channels };
}

/** Mirror image: column x becomes column width - 1 - x. */
export function flipHorizontal<P extends Pixels>(image: PixelImage<P>): PixelImage<P> {
  checkImage('flipHorizontal', image);
  const { width, height, channels } = image;
  const data = alike(image.data, image.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * channels;
      const to = (y * width + width - 1 - x) * channels;
      for (let c = 0; c < channels; c++) data[to + c] = image.data[from + c];
    }
  }
  return { data, width, height, channels };
}

/**
 * (v / 255 - 0.5) / 0.5 for v = 0..255, and with 65535 for 16 bits, rounded to f32 after each operation as
 * torchvision's ToTensor and Normalize do.
 */
const normalize = (v: number, white: number): number => Math.fround(Math.fround(v / white) - 0.5) / 0.5;
const normalized = /* @__PURE__ */ Float32Array.from({ length: 256 }, (_, v) => normalize(v, 255));
/** Made when the first 16-bit image comes. */
let normalizedDeep: Float32Array | undefined;

function tableFor(data: Pixels): Float32Array {
  if (!(data instanceof Uint16Array)) return normalized;
  return (normalizedDeep ??= Float32Array.from({ length: 65536 }, (_, v) => normalize(v, 65535)));
}

/**
 * Pixels (H, W, C) in 0..255, or 0..65535 for 16 bits, to numbers (C, H, W) in [-1, 1]: `(v / 255 - 0.5) / 0.5` in f32,
 * as torchvision's `ToTensor` followed by `Normalize(0.5, 0.5)`.
 * @param out where to write, from `offset` on; a new array when absent
 * @param flip mirrors the image on the way
 */
export function normalizeToChw(
  image: PixelImage<Pixels>,
  {
    out = new Float32Array(image.data.length),
    offset = 0,
    flip = false,
  }: { out?: Float32Array; offset?: number; flip?: boolean } = {},
): Float32Array {
  checkImage('normalizeToChw', image);
  const { data, width, height, channels } = image;
  if (offset < 0 || out.length < offset + data.length) {
    throw new ShapeError(
      'normalizeToChw',
      `output of ${out.length} numbers cannot take ${data.length} from offset ${offset}`,
      { expected: `at least ${offset + data.length}`, remedy: 'allocate channels*height*width numbers an image' },
    );
  }
  const table = tableFor(data);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const row = y * width;
      const to = offset + (c * height + y) * width;
      if (flip) for (let x = 0; x < width; x++) out[to + x] = table[data[(row + width - 1 - x) * channels + c]];
      else for (let x = 0; x < width; x++) out[to + x] = table[data[(row + x) * channels + c]];
    }
  }
  return out;
}
