// Products whose operands are images (N, C, H, W): what they compute, and which form a kernel gets. See `ImageForm`.

import type { Storage } from '../../gpu/storage.ts';
import type { FloatDType } from '../../tensor/dtype.ts';
import type { GemmActivation, GemmBias, GemmConfig, GemmProblem, ImageForm, ProblemForm } from '../spec.ts';

type Pair = readonly [number, number];

/** What has memory of its own; without it, the description of a product. */
export interface Stored {
  readonly storage: Storage;
}

/** An image whose planes are dense, (samples, groups · channels, height, width). */
export interface ImageLayout {
  /** First element. */
  readonly offset: number;
  readonly dtype: FloatDType;
  readonly height: number;
  readonly width: number;
}

/** How windows lie: result (i, j) meets, by tap (u, v), pixel `(i, j) · stride + origin + (u, v) · step`. */
export interface WindowGrid {
  /** Taps, (height, width). */
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly origin: Pair;
  readonly step: Pair;
  /** Rows and columns of windows. */
  readonly grid: Pair;
}

/** Elements of a weight from one to the next in each direction. */
export interface WeightLayout {
  readonly offset: number;
  readonly dtype: FloatDType;
  readonly group: number;
  readonly row: number;
  readonly channel: number;
  readonly tap: Pair;
}

/** Where results go: elements from sample to sample, channel to channel, row to row, column to column. */
export interface ResultLayout {
  readonly offset: number;
  readonly dtype: FloatDType;
  readonly sample: number;
  readonly channel: number;
  readonly row: number;
  readonly column: number;
}

/**
 * `result[n, g·rows + m, i, j] = activation(bias[g·rows + m] + Σ_{c,u,v} weight[g, m, c, u, v] image[n, g·channels + c, …])`
 * for all groups g; the pixel is that of `windows`, and 0 outside of the image.
 */
export interface PixelsOf<Memory> {
  readonly gives: 'pixels';
  readonly batch: number;
  readonly groups: number;
  /** Channels of the result and of the image, in a group. */
  readonly rows: number;
  readonly channels: number;
  readonly windows: WindowGrid;
  readonly weight: WeightLayout & Memory;
  readonly image: ImageLayout & Memory;
  readonly result: ResultLayout & Memory;
  readonly bias?: (Omit<GemmBias, 'storage'> & Memory) | null;
  readonly activation?: GemmActivation | null;
}

/**
 * `result[g, u, v, m, c] = Σ_{n,i,j} gradient[n, g·rows + m, i, j] image[n, g·channels + c, …]`, dense f32. The gradient
 * is an image of `windows.grid`.
 */
export interface WeightsOf<Memory> {
  readonly gives: 'weights';
  readonly batch: number;
  readonly groups: number;
  readonly rows: number;
  readonly channels: number;
  readonly windows: WindowGrid;
  readonly gradient: Omit<ImageLayout, 'height' | 'width'> & Memory;
  readonly image: ImageLayout & Memory;
  readonly result: Memory;
}

export type PixelsSpec = PixelsOf<Stored>;
export type WeightsSpec = WeightsOf<Stored>;
export type ImageSpec = PixelsSpec | WeightsSpec;
/** What a configuration is chosen by. */
export type ImageProblem = PixelsOf<unknown> | WeightsOf<unknown>;

export const area = ([y, x]: Pair): number => y * x;

/** Whether windows are the pixels of the image in their order. */
export function pointwise({ windows: { kernel, stride, origin, grid }, image }: ImageProblem): boolean {
  return (
    area(kernel) === 1 &&
    stride.every((s) => s === 1) &&
    origin.every((o) => o === 0) &&
    grid[0] === image.height &&
    grid[1] === image.width
  );
}

/** Whether a window reaches beyond the image. */
function padded({ windows: { kernel, stride, origin, step, grid }, image }: ImageProblem): boolean {
  return [image.height, image.width].some((size, d) => {
    const taps = [0, (kernel[d] - 1) * step[d]];
    return origin[d] + Math.min(...taps) < 0 || origin[d] + (grid[d] - 1) * stride[d] + Math.max(...taps) >= size;
  });
}

/** Whether results of a sample and channel lie side by side. */
function dense({ result, windows: { grid } }: PixelsOf<unknown>): boolean {
  return result.column === 1 && (result.row === grid[1] || grid[0] === 1);
}

/** Whether a kernel goes through the channels within a tap: then a step of K needs one tap, and no divisions. */
export function tapsOutside(
  { channels, windows: { kernel } }: PixelsOf<unknown>,
  { form, depth }: GemmConfig,
): boolean {
  return form === 'matrix' && area(kernel) > 1 && paddedChannels(channels, depth) <= 1.2 * channels;
}

export const paddedChannels = (channels: number, depth: number): number => Math.ceil(channels / depth) * depth;

/** The matrix of weights as the kernel reads it: row by row, as it lies or copied. */
export function weightMatrix(
  spec: PixelsOf<unknown>,
  config: GemmConfig,
): { readonly K: number; readonly rowStride: number; readonly groupStride: number; readonly copied: boolean } {
  const { channels, rows, weight, windows } = spec;
  const [height, width] = windows.kernel;
  const outside = tapsOutside(spec, config);
  const K = area(windows.kernel) * (outside ? paddedChannels(channels, config.depth) : channels);
  const ordered =
    (width === 1 || weight.tap[1] === 1) &&
    (height === 1 || weight.tap[0] === width) &&
    (channels === 1 || weight.channel === height * width);
  if (ordered && !outside) return { K, rowStride: weight.row, groupStride: weight.group, copied: false };
  return { K, rowStride: K, groupStride: rows * K, copied: true };
}

/** The same sizes as a product of matrices: what a configuration is chosen by. */
export function asProduct(spec: ImageProblem): GemmProblem {
  const { batch, groups, rows, channels, windows, image } = spec;
  const taps = area(windows.kernel),
    pixels = batch * area(windows.grid);
  if (spec.gives === 'pixels') {
    const K = channels * taps;
    return {
      M: rows,
      N: pixels,
      K,
      batch: groups,
      a: { offset: 0, rowStride: K, dtype: spec.weight.dtype, batchStride: rows * K },
      b: { offset: 0, rowStride: pixels, dtype: image.dtype, batchStride: 0 },
      c: { offset: 0, rowStride: pixels, dtype: spec.result.dtype, batchStride: 0 },
    };
  }
  return {
    M: rows,
    N: channels,
    K: pixels,
    batch: groups * taps,
    a: { offset: 0, rowStride: pixels, dtype: spec.gradient.dtype, batchStride: 0 },
    b: { offset: 0, rowStride: pixels, transposed: true, dtype: image.dtype, batchStride: 0 },
    c: { offset: 0, rowStride: channels, dtype: 'f32', batchStride: rows * channels },
  };
}

const multiples = (n: number, ...values: readonly number[]): boolean => values.every((v) => v % n === 0);

/** The form of an image product as a configuration will compile it. */
export function imageForm(spec: ImageProblem, config: GemmConfig): ProblemForm {
  const { channels, windows, image, batch } = spec;
  const matrix = config.form === 'matrix';
  const grid = area(windows.grid);
  const split = config.splits > 1;
  const form: ImageForm = {
    gives: spec.gives,
    kernel: windows.kernel,
    tapsOutside: spec.gives === 'pixels' && tapsOutside(spec, config),
    channelTail: spec.gives === 'pixels' && tapsOutside(spec, config) && channels % config.depth !== 0,
    padded: padded(spec),
    dense: spec.gives === 'pixels' && dense(spec),
  };
  const runs = (n: number): boolean => pointwise(spec) && multiples(n, grid, image.offset);
  const b = {
    dtype: image.dtype,
    transposed: spec.gives === 'weights',
    // Of f16 on the matrix unit, items are of 8 elements.
    vec: matrix ? false : runs(4),
    ...(matrix && { wide: runs(8) }),
  };
  const common = { accumulate: false, split, long: false, image: form };
  if (spec.gives === 'weights') {
    const { gradient } = spec;
    const inRuns = (n: number): boolean => multiples(n, grid, gradient.offset);
    return {
      ...common,
      a: {
        dtype: gradient.dtype,
        transposed: false,
        vec: matrix ? false : inRuns(4),
        ...(matrix && { wide: inRuns(8) }),
      },
      b,
      c: { dtype: 'f32', transposed: false, vec: channels % 4 === 0 },
      bias: null,
      activation: null,
      tail: (batch * grid) % (config.form === 'panel' ? 4 : config.depth) !== 0,
    };
  }
  const { K, rowStride, groupStride, copied } = weightMatrix(spec, config);
  const offset = copied ? 0 : spec.weight.offset;
  const { result } = spec;
  // Eight at a time, a row's last ones may lie beyond it, but not beyond the memory.
  const aligned = (n: number): boolean => multiples(n, K, offset, rowStride, groupStride);
  return {
    ...common,
    a: {
      dtype: spec.weight.dtype,
      transposed: false,
      vec: aligned(4),
      ...(matrix && { wide: aligned(8) }),
    },
    b,
    c: split
      ? { dtype: 'f32', transposed: false, vec: (batch * grid) % 4 === 0 }
      : { dtype: result.dtype, transposed: false, vec: storesFours(spec) },
    bias: split ? null : (spec.bias?.dtype ?? null),
    activation: split ? null : (spec.activation ?? null),
    tail: K % (config.form === 'panel' ? 4 : config.depth) !== 0,
  };
}

/** Whether four neighbouring pixels of the result are one vec4. */
export function storesFours(spec: PixelsOf<unknown>): boolean {
  const { result, windows, rows } = spec;
  return (
    dense(spec) && multiples(4, area(windows.grid), result.sample, result.channel, result.offset, rows * result.channel)
  );
}
