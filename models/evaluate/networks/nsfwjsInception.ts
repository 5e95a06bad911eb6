// The InceptionV3 of the npm package nsfwjs (MIT): Keras' network, fine-tuned to tell five kinds of pictures, its weights
// quantised to 8 bits. A distance over its features is `FD(nsfwjs-incv3)`, never FID.

import { FormatError } from '../../../core/errors.ts';
import { interpolate, linear, keep, noGrad, scope, tensor, type Device, type Tensor } from '../../../core/index.ts';
import { foldConvolution } from './folding.ts';
import {
  INCEPTION_CONVOLUTIONS,
  INCEPTION_FEATURES,
  INCEPTION_SIDE,
  inceptionBatch,
  inceptionMeans,
  type FoldedConvolution,
} from './inceptionV3.ts';
import { threeChannels, type FeatureNetwork, type Judgement } from './network.ts';

/** A tensor in TensorFlow.js' order of dimensions, already multiplied by its scale. */
export interface KerasTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Layers after the mean over positions, each with the inputs and outputs of its kernel. */
const DENSE = [
  ['dense_1', 2048, 256],
  ['dense_2', 256, 128],
  ['dense_3', 128, 5],
] as const;

/** Which of Keras' numbered convolutions is which of PyTorch's, in the order in which Keras makes them. */
const NUMBERED = [
  ...['Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'Conv2d_3b_1x1', 'Conv2d_4a_3x3'],
  ...['Mixed_5b', 'Mixed_5c', 'Mixed_5d'].flatMap((block) =>
    ['1x1', '5x5_1', '5x5_2', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3', '_pool'].map((branch) => `${block}.branch${branch}`),
  ),
  ...['3x3', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3'].map((branch) => `Mixed_6a.branch${branch}`),
  ...['Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'].flatMap((block) =>
    ['1x1', '7x7_1', '7x7_2', '7x7_3', '7x7dbl_1', '7x7dbl_2', '7x7dbl_3', '7x7dbl_4', '7x7dbl_5', '_pool'].map(
      (branch) => `${block}.branch${branch}`,
    ),
  ),
  ...['3x3_1', '3x3_2', '7x7x3_1', '7x7x3_2', '7x7x3_3', '7x7x3_4'].map((branch) => `Mixed_7a.branch${branch}`),
  ...['Mixed_7b', 'Mixed_7c'].flatMap((block) =>
    ['1x1', '3x3_1', '3x3_2a', '3x3_2b', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3a', '3x3dbl_3b', '_pool'].map(
      (branch) => `${block}.branch${branch}`,
    ),
  ),
];

/** Names and shapes of the weights, as the package has them: kernels are (kH, kW, in, out). */
export function nsfwjsShapes(): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const [i, name] of NUMBERED.entries()) {
    const [outputs, inputs, height, width] = INCEPTION_CONVOLUTIONS.get(name)!;
    shapes.set(`conv2d_${i + 1}/kernel`, [height, width, inputs, outputs]);
    for (const part of ['beta', 'moving_mean', 'moving_variance'])
      shapes.set(`batch_normalization_${i + 1}/${part}`, [outputs]);
  }
  for (const [name, inputs, outputs] of DENSE)
    shapes.set(`${name}/kernel`, [inputs, outputs]).set(`${name}/bias`, [outputs]);
  return shapes;
}

/** nsfwjs' network. */
export class NsfwjsInception implements FeatureNetwork {
  readonly distanceName = 'FD(nsfwjs-incv3)';
  readonly identity: string;
  readonly features = INCEPTION_FEATURES;
  readonly classes = 5;
  readonly batch: number;
  private readonly layers: ReadonlyMap<string, FoldedConvolution>;
  private readonly dense: readonly FoldedConvolution[];

  /**
   * @param weights under the names of {@link nsfwjsShapes}
   * @param identity tells these weights from others, a hash for one
   * @throws FormatError naming the first tensor that is missing or of another shape
   */
  constructor(device: Device, weights: ReadonlyMap<string, KerasTensor>, { identity }: { identity: string }) {
    this.identity = identity;
    this.batch = inceptionBatch(device);
    for (const [name, shape] of nsfwjsShapes())
      if (String(weights.get(name)?.shape) !== String(shape))
        throw new FormatError('NsfwjsInception', `${name} has shape (${weights.get(name)?.shape.join(',')})`, {
          expected: `(${shape.join(',')})`,
          remedy: 'install nsfwjs 4',
        });
    const values = (name: string): Float32Array => weights.get(name)!.data;
    this.layers = new Map(
      NUMBERED.map((name, i) => {
        const shape = INCEPTION_CONVOLUTIONS.get(name)!;
        const bn = `batch_normalization_${i + 1}`;
        return [
          name,
          foldConvolution(device, shape, outputsFirst(values(`conv2d_${i + 1}/kernel`), shape), {
            beta: values(`${bn}/beta`),
            mean: values(`${bn}/moving_mean`),
            variance: values(`${bn}/moving_variance`),
          }),
        ];
      }),
    );
    this.dense = DENSE.map(([name, inputs, outputs]) => ({
      weight: keep(
        tensor(device, outputsFirst(values(`${name}/kernel`), [outputs, inputs, 1, 1]), { shape: [outputs, inputs] }),
      ),
      bias: keep(tensor(device, values(`${name}/bias`))),
    }));
  }

  judge(images: Tensor): Judgement {
    return noGrad(() => {
      const [features] = scope(() => {
        // Pixels in [0, 1], corners on corners, as the package feeds its network.
        const resized = interpolate(threeChannels(images).add(1).mul(0.5), {
          size: INCEPTION_SIDE,
          mode: 'bilinear',
          alignCorners: true,
        });
        return inceptionMeans(resized, this.layers, { lastPool: 'mean' });
      });
      const logits = scope(() => {
        const [first, second, last] = this.dense;
        const hidden = linear(linear(features, first.weight, first.bias).relu(), second.weight, second.bias).relu();
        return linear(hidden, last.weight, last.bias);
      });
      return { features, logits };
    });
  }

  /** Frees its weights. */
  dispose(): void {
    for (const { weight, bias } of [...this.layers.values(), ...this.dense]) {
      weight.dispose();
      bias.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** (kH, kW, in, out) → (out, in, kH, kW). */
function outputsFirst(
  kernel: Float32Array,
  [outputs, inputs, height, width]: readonly [number, number, number, number],
): Float32Array {
  const moved = new Float32Array(kernel.length);
  const window = height * width;
  for (let at = 0, k = 0; k < window; k++)
    for (let i = 0; i < inputs; i++)
      for (let o = 0; o < outputs; o++, at++) moved[(o * inputs + i) * window + k] = kernel[at];
  return moved;
}
