// Pictures to tokens and back (arXiv 2010.11929, §3.1).

import { linear, numelOf, ShapeError, show, type Generator, type Tensor } from '../../core/index.ts';
import { Conv2d, Module } from '../../nn/index.ts';

/**
 * (batch, channels, height, width) → (batch, h w, channels p p): rows of patches, each with the order of a
 * convolution's weight.
 */
export function patchify(x: Tensor, patchSize: number): Tensor {
  const [batch, channels, height, width] = x.shape;
  const [h, w] = [height / patchSize, width / patchSize];
  return x
    .reshape(batch, channels, h, patchSize, w, patchSize)
    .permute(0, 2, 4, 1, 3, 5)
    .reshape(batch, h * w, channels * patchSize ** 2);
}

/**
 * (batch, h w, p p channels) → (batch, channels, h p, w p) for a square of patches; a token holds its pixels row by
 * row, channels innermost.
 *
 * @throws ShapeError
 */
export function unpatchify(x: Tensor, patchSize: number, channels: number): Tensor {
  const [batch, patches, features] = x.shape;
  const edge = Math.round(Math.sqrt(patches));
  if (x.ndim !== 3 || edge ** 2 !== patches || features !== channels * patchSize ** 2) {
    throw new ShapeError('unpatchify', `x has shape ${show(x.shape)}`, {
      expected: `(batch, a square number, ${channels * patchSize ** 2}) for ${channels} channels and patches of ${patchSize}`,
    });
  }
  return x
    .reshape(batch, edge, edge, patchSize, patchSize, channels)
    .permute(0, 5, 1, 3, 2, 4)
    .reshape(batch, channels, edge * patchSize, edge * patchSize);
}

/**
 * A linear layer on patches: the convolution whose stride is its kernel, with that convolution's parameters.
 *
 * Shapes: x (batch, channels, height, width) → (batch, h w, width of the model). Initial weights and bias
 * U(±1/√(channels p p)).
 */
export class PatchEmbed extends Module {
  readonly proj: Conv2d;
  private readonly patchSize: number;

  constructor(
    generator: Generator,
    options: { readonly channels: number; readonly patchSize: number; readonly embedDim: number },
  ) {
    super();
    const { channels, patchSize, embedDim } = options;
    this.patchSize = patchSize;
    this.proj = new Conv2d(generator, channels, embedDim, patchSize, { stride: patchSize });
  }

  forward(x: Tensor): Tensor {
    const { weight, bias } = this.proj;
    const matrix = weight.reshape(weight.shape[0], numelOf(weight.shape.slice(1)));
    return linear(patchify(x, this.patchSize), matrix, bias);
  }
}
