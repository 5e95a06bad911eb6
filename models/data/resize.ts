// Resampling with the results of Pillow, bit for bit, because the official training pipeline uses Pillow and a
// model is sensitive to how its images were reduced. Pillow's way: a separable filter whose support grows with the
// reduction (so that it antialiases), weights as 22-bit fixed-point integers, and 8-bit rounding between the
// horizontal and the vertical pass. 16-bit images, which Pillow doesn't resample, have the same weights and are
// rounded to 16 bits in the same places. Specification: Pillow, "Image resampling" (Resample.c); Keys 1981 for bicubic.
import { ValueError } from '../../core/errors.ts';
import { alike, checkImage, type PixelImage, type Pixels } from './image.ts';

/** The resampling filters. `bicubic` is Keys' cubic convolution with a = -0.5. */
export type ResizeFilter = 'box' | 'bilinear' | 'bicubic' | 'lanczos';

interface Kernel {
  /** Half the width of the filter when the image is enlarged, in source pixels. */
  readonly support: number;
  weight(x: number): number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const kernels: Record<ResizeFilter, Kernel> = {
  // Half open, so that a pixel on the border between two belongs to one of them.
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
      return 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** 32 bits less 8 for the pixel and 2 for the overshoot of filters with negative lobes. */
const precisionBits = 22;
const half = 1 << (precisionBits - 1);

interface Weights {
  /** First source pixel of each output pixel. */
  readonly first: Int32Array;
  /** Number of source pixels of each output pixel. */
  readonly count: Int32Array;
  /** `stride` fixed-point weights for each output pixel, of which `count` are used. */
  readonly values: Int32Array;
  readonly stride: number;
}

function filterWeights(inSize: number, outSize: number, kernel: Kernel): Weights {
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = kernel.support * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const inverse = 1 / filterScale;
  const first = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const values = new Int32Array(outSize * stride);
  const raw = new Float64Array(stride);
  for (let out = 0; out < outSize; out++) {
    const center = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(inSize, Math.trunc(center + support + 0.5)) - start;
    let total = 0;
    for (let i = 0; i < n; i++) total += raw[i] = kernel.weight((i + start - center + 0.5) * inverse);
    for (let i = 0; i < n; i++) {
      const scaled = (total === 0 ? raw[i] : raw[i] / total) * (1 << precisionBits);
      values[out * stride + i] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
    first[out] = start;
    count[out] = n;
  }
  return { first, count, values, stride };
}

const clamp = (v: number, white: number): number => (v < 0 ? 0 : v > white ? white : v);
/** A sum of pixels times weights as a pixel; of 16-bit pixels it has more than 32 bits, and is exact as a number. */
const settle = (sum: number): number => clamp(sum >> precisionBits, 255);
const settleDeep = (sum: number): number => clamp(Math.floor(sum / (1 << precisionBits)), 65535);
const settleOf = (data: Pixels): ((sum: number) => number) => (data instanceof Uint16Array ? settleDeep : settle);

function resampleRows<P extends Pixels>(image: PixelImage<P>, width: number, kernel: Kernel): PixelImage<P> {
  const { data, height, channels, width: inWidth } = image;
  const { first, count, values, stride } = filterWeights(inWidth, width, kernel);
  const result = alike(data, width * height * channels);
  const finish = settleOf(data);
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * inWidth + first[x]) * channels;
      const n = count[x];
      const w = x * stride;
      for (let c = 0; c < channels; c++) {
        let sum = half;
        for (let i = 0, p = from + c; i < n; i++, p += channels) sum += data[p] * values[w + i];
        result[to++] = finish(sum);
      }
    }
  }
  return { data: result, width, height, channels };
}

function resampleColumns<P extends Pixels>(image: PixelImage<P>, height: number, kernel: Kernel): PixelImage<P> {
  const { data, width, channels, height: inHeight } = image;
  const { first, count, values, stride } = filterWeights(inHeight, height, kernel);
  const rowLength = width * channels;
  const result = alike(data, rowLength * height);
  const finish = settleOf(data);
  // A row of sums at a time, so that memory is read in order.
  const sums = data instanceof Uint16Array ? new Float64Array(rowLength) : new Int32Array(rowLength);
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    for (let i = 0; i < count[y]; i++) {
      const weight = values[y * stride + i];
      const from = (first[y] + i) * rowLength;
      for (let j = 0; j < rowLength; j++) sums[j] += data[from + j] * weight;
    }
    for (let j = 0; j < rowLength; j++) result[y * rowLength + j] = finish(sums[j]);
  }
  return { data: result, width, height, channels };
}

/**
 * Resamples an image to `width` x `height`, with the pixels that Pillow's `Image.resize` gives (8-bit channels).
 *
 * Output pixel x covers the source interval around `(x + 0.5) * scale`, with `scale = inWidth / width`; the filter is
 * widened by `max(scale, 1)`. Horizontal pass first; a direction whose size stays is not filtered. Returns a new image
 * always.
 * @throws ValueError when a size is not a positive integer
 */
export function resize<P extends Pixels>(
  image: PixelImage<P>,
  width: number,
  height: number,
  filter: ResizeFilter,
): PixelImage<P> {
  checkImage('resize', image);
  for (const [name, size] of [
    ['width', width],
    ['height', height],
  ] as const) {
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new ValueError('resize', `is ${size}`, {
        option: name,
        expected: 'a positive integer',
        remedy: 'check the requested image size',
      });
    }
  }
  const kernel = kernels[filter];
  const wide = width === image.width ? image : resampleRows(image, width, kernel);
  const done = height === image.height ? wide : resampleColumns(wide, height, kernel);
  return done === image ? { ...image, data: image.data.slice() as P } : done;
}

/**
 * Resizes so that the shorter side is `size` and the longer one `trunc(size * long / short)`: torchvision's
 * `Resize(size)` on an 8-bit image (bilinear, antialiased).
 */
export function resizeShorter<P extends Pixels>(
  image: PixelImage<P>,
  size: number,
  filter: ResizeFilter = 'bilinear',
): PixelImage<P> {
  const { width, height } = image;
  const long = Math.trunc((size * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? resize(image, size, long, filter) : resize(image, long, size, filter);
}
