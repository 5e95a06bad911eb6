// InceptionV3 up to its last mean over positions, for features. Batch normalisation is folded into the convolutions,
// since nothing is trained. Source: Szegedy et al. 2015 (arXiv 1512.00567); FID's variant (Heusel et al. 2017) and
// Keras' differ in one pooling.

import { ShapeError } from '../../../core/errors.ts';
import {
  concat,
  conv2d,
  avgPool2d,
  maxPool2d,
  noGrad,
  scope,
  show,
  type Device,
  type Tensor,
} from '../../../core/index.ts';

/** Names and shapes of the convolutions, in PyTorch's order and by its names; of the weight (out, in, kH, kW). */
export const INCEPTION_CONVOLUTIONS: ReadonlyMap<string, readonly [number, number, number, number]> = convolutions();

/** Features: channels of the last block. */
export const INCEPTION_FEATURES = 2048;

/** Side of the pictures it was made for. */
export const INCEPTION_SIDE = 299;

/** Bytes of a picture in the largest layer: 64 channels of 147 × 147. */
const LARGEST = 64 * 147 * 147 * 4;

/** Pictures at once: at most 64, as many as fit into a binding, and few on a CPU, where more would save nothing. */
export function inceptionBatch({ limits, adapter }: Device): number {
  const fit = Math.floor(limits.maxStorageBufferBindingSize / LARGEST);
  return Math.max(1, Math.min(adapter.software ? 4 : 64, fit));
}

/** A convolution with its batch normalisation folded in. */
export interface FoldedConvolution {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/**
 * @param images (N, 3, 299, 299) in [-1, 1]
 * @param lastPool of the last block's pooling branch: `max` for FID's network, `mean` for Keras'
 * @returns what is asked for of the four blocks' outputs, spatial means, (N, channels)
 * @throws ShapeError
 */
export function inceptionMeans(
  images: Tensor,
  layers: ReadonlyMap<string, FoldedConvolution>,
  { lastPool, blocks = [3] }: { readonly lastPool: 'max' | 'mean'; readonly blocks?: readonly number[] },
): Tensor[] {
  if (images.ndim !== 4 || images.shape[1] !== 3 || images.shape[2] < 75 || images.shape[3] < 75)
    throw new ShapeError('InceptionV3', `The images have shape ${show(images.shape)}`, {
      expected: `(N,3,${INCEPTION_SIDE},${INCEPTION_SIDE})`,
    });
  const conv = (name: string, x: Tensor, stride = 1, padding: number | readonly [number, number] = 0): Tensor =>
    scope(() => {
      const { weight, bias } = layers.get(name)!;
      return conv2d(x, weight, bias, { stride, padding: padding as number }).relu();
    });
  const mean3 = (x: Tensor): Tensor => avgPool2d(x, 3, { stride: 1, padding: 1, countIncludePad: false });
  const max3 = (x: Tensor): Tensor => maxPool2d(x, 3, { stride: 2 });
  /** 1×1, 5×5, and two 3×3 convolutions after a 1×1. */
  const a = (name: string, x: Tensor): Tensor =>
    scope(() => {
      const five = conv(`${name}.branch5x5_2`, conv(`${name}.branch5x5_1`, x), 1, 2);
      const first = conv(`${name}.branch3x3dbl_2`, conv(`${name}.branch3x3dbl_1`, x), 1, 1);
      const parts = [conv(`${name}.branch1x1`, x), five, conv(`${name}.branch3x3dbl_3`, first, 1, 1)];
      return concat([...parts, conv(`${name}.branch_pool`, mean3(x))], 1);
    });
  /** Halves the side. */
  const b = (name: string, x: Tensor): Tensor =>
    scope(() => {
      const double = conv(`${name}.branch3x3dbl_2`, conv(`${name}.branch3x3dbl_1`, x), 1, 1);
      return concat([conv(`${name}.branch3x3`, x, 2), conv(`${name}.branch3x3dbl_3`, double, 2), max3(x)], 1);
    });
  /** 7×7 as 1×7 and 7×1. */
  const c = (name: string, x: Tensor): Tensor =>
    scope(() => {
      const [row, column] = [[0, 3] as const, [3, 0] as const];
      const seven = conv(`${name}.branch7x7_2`, conv(`${name}.branch7x7_1`, x), 1, row);
      let double = conv(`${name}.branch7x7dbl_1`, x);
      for (const [i, padding] of [column, row, column, row].entries())
        double = conv(`${name}.branch7x7dbl_${i + 2}`, double, 1, padding);
      const parts = [conv(`${name}.branch1x1`, x), conv(`${name}.branch7x7_3`, seven, 1, column), double];
      return concat([...parts, conv(`${name}.branch_pool`, mean3(x))], 1);
    });
  /** Halves the side again. */
  const d = (name: string, x: Tensor): Tensor =>
    scope(() => {
      const three = conv(`${name}.branch3x3_2`, conv(`${name}.branch3x3_1`, x), 2);
      const row = conv(`${name}.branch7x7x3_2`, conv(`${name}.branch7x7x3_1`, x), 1, [0, 3]);
      const seven = conv(`${name}.branch7x7x3_4`, conv(`${name}.branch7x7x3_3`, row, 1, [3, 0]), 2);
      return concat([three, seven, max3(x)], 1);
    });
  /** Branches that end in a 1×3 and a 3×1 side by side. */
  const e = (name: string, x: Tensor, pool: 'max' | 'mean'): Tensor =>
    scope(() => {
      const both = (branch: string, y: Tensor, first: string, second: string): Tensor =>
        concat(
          [conv(`${name}.${branch}_${first}`, y, 1, [0, 1]), conv(`${name}.${branch}_${second}`, y, 1, [1, 0])],
          1,
        );
      const three = both('branch3x3', conv(`${name}.branch3x3_1`, x), '2a', '2b');
      const double = conv(`${name}.branch3x3dbl_2`, conv(`${name}.branch3x3dbl_1`, x), 1, 1);
      const pooled = pool === 'max' ? maxPool2d(x, 3, { stride: 1, padding: 1 }) : mean3(x);
      const parts = [conv(`${name}.branch1x1`, x), three, both('branch3x3dbl', double, '3a', '3b')];
      return concat([...parts, conv(`${name}.branch_pool`, pooled)], 1);
    });
  // One at a time: an input is freed as soon as its output is there.
  const stages: readonly (readonly ((x: Tensor) => Tensor)[])[] = [
    [(x) => conv('Conv2d_1a_3x3', x, 2), (x) => conv('Conv2d_2a_3x3', x), (x) => conv('Conv2d_2b_3x3', x, 1, 1), max3],
    [(x) => conv('Conv2d_3b_1x1', x), (x) => conv('Conv2d_4a_3x3', x), max3],
    [
      ...['Mixed_5b', 'Mixed_5c', 'Mixed_5d'].map((name) => (x: Tensor) => a(name, x)),
      (x) => b('Mixed_6a', x),
      ...['Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'].map((name) => (x: Tensor) => c(name, x)),
    ],
    [(x) => d('Mixed_7a', x), (x) => e('Mixed_7b', x, 'mean'), (x) => e('Mixed_7c', x, lastPool)],
  ];
  return noGrad(() =>
    scope(() => {
      const found: Tensor[] = [];
      let x = images;
      for (const [block, stage] of stages.entries()) {
        for (const layer of stage) {
          const y = layer(x);
          if (x !== images) x.dispose();
          x = y;
        }
        if (blocks.includes(block)) found.push(x.mean([2, 3]));
      }
      return found;
    }),
  );
}

function convolutions(): Map<string, [number, number, number, number]> {
  const found = new Map<string, [number, number, number, number]>();
  const add = (name: string, inputs: number, outputs: number, height = 1, width = height): number => {
    found.set(name, [outputs, inputs, height, width]);
    return outputs;
  };
  add('Conv2d_1a_3x3', 3, 32, 3);
  add('Conv2d_2a_3x3', 32, 32, 3);
  add('Conv2d_2b_3x3', 32, 64, 3);
  add('Conv2d_3b_1x1', 64, 80);
  add('Conv2d_4a_3x3', 80, 192, 3);
  for (const [name, inputs, pool] of [
    ['Mixed_5b', 192, 32],
    ['Mixed_5c', 256, 64],
    ['Mixed_5d', 288, 64],
  ] as const) {
    add(`${name}.branch1x1`, inputs, 64);
    add(`${name}.branch5x5_2`, add(`${name}.branch5x5_1`, inputs, 48), 64, 5);
    add(`${name}.branch3x3dbl_2`, add(`${name}.branch3x3dbl_1`, inputs, 64), 96, 3);
    add(`${name}.branch3x3dbl_3`, 96, 96, 3);
    add(`${name}.branch_pool`, inputs, pool);
  }
  add('Mixed_6a.branch3x3', 288, 384, 3);
  add('Mixed_6a.branch3x3dbl_2', add('Mixed_6a.branch3x3dbl_1', 288, 64), 96, 3);
  add('Mixed_6a.branch3x3dbl_3', 96, 96, 3);
  for (const [name, inner] of [
    ['Mixed_6b', 128],
    ['Mixed_6c', 160],
    ['Mixed_6d', 160],
    ['Mixed_6e', 192],
  ] as const) {
    add(`${name}.branch1x1`, 768, 192);
    add(`${name}.branch7x7_1`, 768, inner);
    add(`${name}.branch7x7_2`, inner, inner, 1, 7);
    add(`${name}.branch7x7_3`, inner, 192, 7, 1);
    add(`${name}.branch7x7dbl_1`, 768, inner);
    add(`${name}.branch7x7dbl_2`, inner, inner, 7, 1);
    add(`${name}.branch7x7dbl_3`, inner, inner, 1, 7);
    add(`${name}.branch7x7dbl_4`, inner, inner, 7, 1);
    add(`${name}.branch7x7dbl_5`, inner, 192, 1, 7);
    add(`${name}.branch_pool`, 768, 192);
  }
  add('Mixed_7a.branch3x3_2', add('Mixed_7a.branch3x3_1', 768, 192), 320, 3);
  add('Mixed_7a.branch7x7x3_1', 768, 192);
  add('Mixed_7a.branch7x7x3_2', 192, 192, 1, 7);
  add('Mixed_7a.branch7x7x3_3', 192, 192, 7, 1);
  add('Mixed_7a.branch7x7x3_4', 192, 192, 3);
  for (const [name, inputs] of [
    ['Mixed_7b', 1280],
    ['Mixed_7c', 2048],
  ] as const) {
    add(`${name}.branch1x1`, inputs, 320);
    add(`${name}.branch3x3_1`, inputs, 384);
    add(`${name}.branch3x3_2a`, 384, 384, 1, 3);
    add(`${name}.branch3x3_2b`, 384, 384, 3, 1);
    add(`${name}.branch3x3dbl_2`, add(`${name}.branch3x3dbl_1`, inputs, 448), 384, 3);
    add(`${name}.branch3x3dbl_3a`, 384, 384, 1, 3);
    add(`${name}.branch3x3dbl_3b`, 384, 384, 3, 1);
    add(`${name}.branch_pool`, inputs, 192);
  }
  return found;
}
