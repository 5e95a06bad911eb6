// Fused attention, beside the same from products and a softmax, and the decoder of Stable Diffusion's autoencoder.

import { Generator, grad, noGrad, scope, type FloatDType, type Tensor } from '../../core/index.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { AutoencoderKL, decoderMultiplyAdds, vaeConfig, vaeParameterCount } from '../../models/vae/index.ts';
import type { BenchCase } from '../case.ts';
import type { Work } from '../work.ts';
import type { Inputs } from './shapes.ts';
import { backwardOf, bytesOf, forwardOf } from './shapes.ts';

interface AttentionShape {
  readonly batch: number;
  readonly heads: number;
  readonly length: number;
  readonly width: number;
  readonly priority: number;
}

/** A transformer's heads; the middle of the autoencoder, one wide head; longer sequences. */
const SHAPES: readonly AttentionShape[] = [
  { batch: 8, heads: 12, length: 256, width: 64, priority: 0 },
  { batch: 1, heads: 1, length: 1024, width: 512, priority: 0 },
  { batch: 1, heads: 16, length: 4096, width: 64, priority: 1 },
];

/** Two products forward; backward five, though a kernel computes scores again. */
function attentionWork({ batch, heads, length, width }: AttentionShape, type: FloatDType, products: number): Work {
  const rows = batch * heads * length;
  return {
    bytes: (products === 2 ? 4 : 8) * rows * width * bytesOf(type),
    flops: products * 2 * rows * length * width,
    exps: rows * length,
    type,
    matrix: true,
  };
}

function attentionCases(shape: AttentionShape, type: FloatDType, form: 'fused' | 'composed'): BenchCase[] {
  const { batch, heads, length, width } = shape;
  const largest = batch * heads * length * width * bytesOf(type);
  const scores = form === 'composed' ? batch * heads * length * length * 4 : 0;
  const dims = [batch, heads, length, width];
  const common = {
    group: 'attention' as const,
    size: `${dims.join('×')}${type === 'f16' ? ' f16' : ''}`,
    largest: Math.max(largest, scores),
    priority: shape.priority + (type === 'f16' ? 1 : 0),
    ...(type === 'f16' && { needs: 'shader-f16' as const }),
  };
  const name = form === 'fused' ? 'attention' : 'attention, composed';
  const make = (inputs: Inputs): { of: readonly Tensor[]; compute: (of: readonly Tensor[]) => Tensor } => ({
    of: [0, 1, 2].map(() => inputs.random(dims, { dtype: type })),
    compute: ([q, k, v]) => attention(q, k, v, {}, form),
  });
  return [
    {
      ...common,
      name: `${name} forward`,
      work: attentionWork(shape, type, 2),
      live: 4 * largest + 3 * scores,
      dispatches: form === 'fused' ? 1 : 5,
      prepare: (device) =>
        forwardOf(device, (inputs) => {
          const { of, compute } = make(inputs);
          return () => compute(of);
        }),
    },
    {
      ...common,
      name: `${name} backward`,
      work: attentionWork(shape, type, 5),
      live: 8 * largest + 6 * scores,
      dispatches: form === 'fused' ? 5 : 12,
      prepare: (device) =>
        backwardOf(device, make, (roots, inputs, gradient) => grad(roots, inputs, { gradient, retainGraph: true })),
    },
  ];
}

/** Random weights of Stable Diffusion's shapes; a latent of `edge`² becomes a picture of (8 · edge)². */
function decoderCase(edge: number, type: FloatDType, priority: number): BenchCase {
  const config = vaeConfig();
  const pixels = (8 * edge) ** 2;
  const activations = 128 * pixels * bytesOf(type);
  return {
    group: 'step',
    name: `autoencoder decode${type === 'f16' ? ' f16' : ''}`,
    size: `1×${8 * edge}×${8 * edge}`,
    priority,
    largest: 2 * activations,
    live: 8 * activations + vaeParameterCount(config) * bytesOf(type),
    dispatches: 200,
    ...(type === 'f16' && { needs: 'shader-f16' as const }),
    work: {
      bytes: vaeParameterCount(config) * bytesOf(type),
      flops: 2 * decoderMultiplyAdds(config, edge, edge),
      exps: 0,
      type,
      matrix: true,
    },
    prepare: (device) =>
      forwardOf(device, (inputs) => {
        const generator = inputs.keep(new Generator(device, 1));
        const model = scope(() => new AutoencoderKL(generator, config)).eval();
        if (type === 'f16') model.to('f16');
        inputs.own(model);
        const latents = inputs.random([1, config.latentChannels, edge, edge]);
        return () => noGrad(() => model.decode(latents));
      }),
  };
}

export function attentionAndDecoderCases(): BenchCase[] {
  return [
    ...SHAPES.flatMap((shape) =>
      (['f32', 'f16'] as const).flatMap((type) =>
        (['fused', 'composed'] as const).flatMap((form) => attentionCases(shape, type, form)),
      ),
    ),
    decoderCase(32, 'f32', 0),
    decoderCase(32, 'f16', 1),
    decoderCase(64, 'f32', 1),
  ];
}
