// Convolutions at the sizes of a feature network (InceptionV3) and of an autoencoder, each beside the plain product of
// the same M, N and K: the ratio of the two rates is what reading pixels by index costs.

import { conv2d, grad, matmul, type FloatDType, type Tensor } from '../../core/index.ts';
import type { BenchCase } from '../case.ts';
import type { Work } from '../work.ts';
import { productWork, type BothWays } from './count.ts';
import { backwardOf, bytesOf, forwardOf } from './shapes.ts';

interface ConvShape {
  /** Whose layer it is. */
  readonly label: string;
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Height and width of image and result, which padding keeps. */
  readonly size: number;
  readonly kernel: readonly [number, number];
  readonly priority: number;
}

const SHAPES: readonly ConvShape[] = [
  { label: 'Inception 192→192 17²', batch: 8, inputs: 192, outputs: 192, size: 17, kernel: [1, 1], priority: 0 },
  { label: 'Inception 288→64 35²', batch: 8, inputs: 288, outputs: 64, size: 35, kernel: [1, 1], priority: 1 },
  { label: 'Inception 64→192 73²', batch: 4, inputs: 64, outputs: 192, size: 73, kernel: [3, 3], priority: 0 },
  { label: 'Inception 128→192 17² 1×7', batch: 8, inputs: 128, outputs: 192, size: 17, kernel: [1, 7], priority: 1 },
  { label: 'autoencoder 128→128 256²', batch: 1, inputs: 128, outputs: 128, size: 256, kernel: [3, 3], priority: 2 },
  { label: 'autoencoder 256→256 128²', batch: 1, inputs: 256, outputs: 256, size: 128, kernel: [3, 3], priority: 1 },
  { label: 'autoencoder 512→512 64²', batch: 1, inputs: 512, outputs: 512, size: 64, kernel: [3, 3], priority: 0 },
  { label: 'autoencoder 256→128 256²', batch: 1, inputs: 256, outputs: 128, size: 256, kernel: [1, 1], priority: 2 },
];

/** Every pixel and weight once; the operations are those of the product. */
function conv2dWork(shape: ConvShape, type: FloatDType): BothWays {
  const { batch, inputs, outputs, size, kernel } = shape;
  const pixels = batch * size * size,
    taps = kernel[0] * kernel[1];
  const bytes = bytesOf(type) * (pixels * (inputs + outputs) + inputs * outputs * taps);
  const forward: Work = { bytes, flops: 2 * pixels * inputs * outputs * taps, exps: 0, type, matrix: true };
  return { forward, backward: { ...forward, bytes: 2 * forward.bytes, flops: 2 * forward.flops } };
}

function casesOf(shape: ConvShape, type: FloatDType): BenchCase[] {
  const { label, batch, inputs, outputs, size, kernel, priority } = shape;
  const pixels = batch * size * size,
    K = inputs * kernel[0] * kernel[1];
  const image = bytesOf(type) * pixels * Math.max(inputs, outputs);
  const work = conv2dWork(shape, type);
  const common = {
    group: 'conv' as const,
    size: type === 'f16' ? `${label} f16` : label,
    priority: priority + (type === 'f16' ? 1 : 0),
    ...(type === 'f16' && { needs: 'shader-f16' as const }),
  };
  const name = `conv2d ${kernel.join('×')}`;
  const padding = [(kernel[0] - 1) / 2, (kernel[1] - 1) / 2] as const;
  const make = (random: (shape: readonly number[]) => Tensor): [x: Tensor, weight: Tensor] => [
    random([batch, inputs, size, size]),
    random([outputs, inputs, ...kernel]),
  ];
  const unfolded = bytesOf(type) * pixels * K;
  return [
    {
      ...common,
      name: `${name} forward`,
      work: work.forward,
      largest: image,
      live: 3 * image,
      prepare: (device) =>
        forwardOf(device, (given) => {
          const [x, weight] = make((s) => given.random(s, { dtype: type }));
          return () => conv2d(x, weight, null, { padding });
        }),
    },
    {
      ...common,
      name: `${name} backward`,
      work: work.backward,
      largest: image,
      live: 6 * image,
      dispatches: 4,
      prepare: (device) =>
        backwardOf(
          device,
          (given) => ({
            of: make((s) => given.random(s, { dtype: type })),
            compute: ([x, weight]) => conv2d(x, weight, null, { padding }),
          }),
          (roots, of, gradient) => grad(roots, of, { gradient, retainGraph: true }),
        ),
    },
    {
      ...common,
      name: `conv2d's plain product ${kernel.join('×')}`,
      work: productWork(outputs, pixels, K, type),
      largest: unfolded,
      live: unfolded + 2 * image,
      prepare: (device) =>
        forwardOf(device, (given) => {
          const [weight, columns] = [[outputs, K] as const, [K, pixels] as const].map((s) =>
            given.random(s, { dtype: type }),
          );
          return () => matmul(weight, columns);
        }),
    },
  ];
}

/** Convolutions forward and backward, and the products that they are compared with. */
export function conv2dCases(): BenchCase[] {
  return SHAPES.flatMap((shape) => (['f32', 'f16'] as const).flatMap((type) => casesOf(shape, type)));
}
