// Many images on one sheet, laid out and rounded as torchvision.utils.make_grid and save_image do it, so that
// sheets can be compared pixel by pixel with those of the official scripts.
import { ShapeError, ValueError } from '../../core/errors.ts';
import type { PixelImage } from './image.ts';

/** Float images (N, C, H, W), row-major. */
export interface ImageBatch {
  readonly data: Float32Array;
  /** [N, C, H, W] */
  readonly shape: readonly [number, number, number, number];
}

/** One float image (C, H, W), row-major. */
export interface FloatImage {
  readonly data: Float32Array;
  /** [C, H, W] */
  readonly shape: readonly [number, number, number];
}

/** How a grid of images is laid out. */
export interface GridOptions {
  /** Images in a row. Default 8. */
  nrow?: number;
  /** Pixels around and between images. Default 2. */
  padding?: number;
  /** Value of those pixels. Default 0. */
  padValue?: number;
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function checkBatch(op: string, images: ImageBatch): void {
  const { data, shape } = images;
  if (shape.length !== 4 || !shape.every((n) => Number.isSafeInteger(n) && n > 0) || product(shape) !== data.length) {
    throw new ShapeError(op, `images of shape (${shape.join(',')}) come with ${data.length} numbers`, {
      expected: '(N,C,H,W), all positive, and as many numbers',
      remedy: 'pass at least one image',
    });
  }
}

/**
 * Maps the range [low, high] to [0, 1]: `(clamp(x, low, high) - low) / max(high - low, 1e-5)`, in f32. Returns a new
 * batch.
 * @param range default: the smallest and largest value of the batch
 */
export function normalizeRange(images: ImageBatch, range?: readonly [number, number]): ImageBatch {
  checkBatch('normalizeRange', images);
  let [low, high] = range ?? [Infinity, -Infinity];
  if (!range) {
    for (const v of images.data) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  if (!(low <= high)) {
    throw new ValueError('normalizeRange', `value range is [${low}, ${high}]`, {
      expected: 'low <= high',
      remedy: 'give the range of the images, such as [-1, 1]',
    });
  }
  low = Math.fround(low);
  high = Math.fround(high);
  const span = Math.fround(Math.max(high - low, 1e-5));
  const data = images.data.map((v) => Math.fround((v < low ? low : v > high ? high : v) - low) / span);
  return { data, shape: images.shape };
}

/**
 * Lays images (N, C, H, W) out on one sheet, row by row: `min(nrow, N)` columns, `padding` pixels of `padValue` around
 * each. One-channel images become three-channel ones. A single image is returned as it is, without padding, as
 * torchvision does.
 * @returns (C', ceil(N / columns) * (H + padding) + padding, columns * (W + padding) + padding), C' = 3 if C = 1 else C
 */
export function makeGrid(images: ImageBatch, { nrow = 8, padding = 2, padValue = 0 }: GridOptions = {}): FloatImage {
  checkBatch('makeGrid', images);
  if (!Number.isSafeInteger(nrow) || nrow < 1 || !Number.isSafeInteger(padding) || padding < 0) {
    throw new ValueError('makeGrid', `nrow is ${nrow} and padding ${padding}`, {
      expected: 'integers nrow >= 1 and padding >= 0',
      remedy: "correct the sheet's layout",
    });
  }
  const [n, channels, h, w] = images.shape;
  const outChannels = channels === 1 ? 3 : channels;
  const single = n === 1;
  const columns = Math.min(nrow, n);
  const gap = single ? 0 : padding;
  const height = Math.ceil(n / columns) * (h + gap) + gap;
  const width = columns * (w + gap) + gap;
  const data = new Float32Array(outChannels * height * width).fill(padValue);
  for (let i = 0; i < n; i++) {
    const top = Math.floor(i / columns) * (h + gap) + gap;
    const left = (i % columns) * (w + gap) + gap;
    for (let c = 0; c < outChannels; c++) {
      const plane = (i * channels + (channels === 1 ? 0 : c)) * h * w;
      for (let y = 0; y < h; y++) {
        const from = plane + y * w;
        data.set(images.data.subarray(from, from + w), (c * height + top + y) * width + left);
      }
    }
  }
  return { data, shape: [outChannels, height, width] };
}

/**
 * Float image (C, H, W) in [0, 1] to pixels: `trunc(clamp(x * 255 + 0.5, 0, 255))` in f32, as torchvision's save_image;
 * NaN becomes 0.
 */
export function toPixels(image: FloatImage): PixelImage {
  const [channels, height, width] = image.shape;
  if (image.shape.length !== 3 || product(image.shape) !== image.data.length) {
    throw new ShapeError(
      'toPixels',
      `image of shape (${image.shape.join(',')}) comes with ${image.data.length} numbers`,
      { expected: '(C,H,W) and as many numbers', remedy: 'convert a batch image by image' },
    );
  }
  const plane = width * height;
  const data = new Uint8Array(image.data.length);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < plane; i++) {
      const v = Math.fround(Math.fround(image.data[c * plane + i] * 255) + 0.5);
      data[i * channels + c] = v > 255 ? 255 : v > 0 ? v : 0;
    }
  }
  return { data, width, height, channels };
}

/** The pixels of every image of a batch whose values lie in `range`. Default [-1, 1], the model's range. */
export function batchToPixels(images: ImageBatch, range: readonly [number, number] = [-1, 1]): PixelImage[] {
  const { data, shape } = normalizeRange(images, range);
  const [n, c, h, w] = shape;
  const each = c * h * w;
  return Array.from({ length: n }, (_, i) =>
    toPixels({ data: data.subarray(i * each, (i + 1) * each), shape: [c, h, w] }),
  );
}
