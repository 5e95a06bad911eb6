// Attention of several heads with its projections.

import {
  DTypeError,
  linear,
  scope,
  ShapeError,
  show,
  ValueError,
  zeros,
  type Generator,
  type Tensor,
} from '../core/index.ts';
import { scaledDotProductAttention } from '../kernels/attention/index.ts';
import { checkSizes } from './checks.ts';
import { xavierUniform, zeros as zero } from './init.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Options of {@link MultiheadAttention}. */
export interface MultiheadAttentionOptions {
  /** Of all projections. Default true. */
  readonly bias?: boolean;
}

/** Masks of {@link MultiheadAttention}. */
export interface MultiheadAttentionForwardOptions {
  /**
   * (L, S), or what broadcasts to (N, numHeads, L, S). bool: true where a query may NOT see a key, as PyTorch's layer
   * has it; f32 or f16: is added to the scores.
   */
  readonly attnMask?: Tensor | null;
  /** (N, S) bool: true for keys that nobody may see. */
  readonly keyPaddingMask?: Tensor | null;
  /** Query i sees keys 0 … i. Not together with a mask. */
  readonly isCausal?: boolean;
}

/**
 * `out_proj(concat_h softmax(q_h k_hᵀ / √d) v_h)`, with `q, k, v` the projections of query, key and value and d =
 * embedDim / numHeads (Vaswani et al., arXiv 1706.03762).
 *
 * Shapes: query (N, L, embedDim), key and value (N, S, embedDim), result (N, L, embedDim): PyTorch's layer with
 * `batch_first=True`, without dropout, and without the weights as a second result (`need_weights=False`).
 * `in_proj_weight` (3 · embedDim, embedDim), `in_proj_bias`, `out_proj.weight`, `out_proj.bias`. Initialisation:
 * Xavier-uniform for in_proj_weight, 0 for biases, a linear layer's for out_proj.weight. There is no second derivative.
 */
export class MultiheadAttention extends Module {
  /** (3 · embedDim, embedDim): projections of query, key and value. */
  readonly in_proj_weight: Tensor;
  /** (3 · embedDim) */
  readonly in_proj_bias: Tensor | null;
  /** The projection of what the heads give. */
  readonly out_proj: Linear;
  /** Heads, each of embedDim / numHeads columns. */
  readonly numHeads: number;

  /**
   * @param generator draws the initial values; its device holds them
   * @throws ValueError
   */
  constructor(
    generator: Generator,
    embedDim: number,
    numHeads: number,
    { bias = true }: MultiheadAttentionOptions = {},
  ) {
    super();
    checkSizes('MultiheadAttention', { embedDim, numHeads });
    if (embedDim % numHeads)
      throw new ValueError('MultiheadAttention', `is ${embedDim}`, {
        option: 'embedDim',
        expected: `a multiple of the ${numHeads} heads`,
      });
    const { device } = generator;
    this.numHeads = numHeads;
    this.in_proj_weight = parameter(xavierUniform(zeros(device, [3 * embedDim, embedDim]), generator));
    this.in_proj_bias = bias ? parameter(zeros(device, [3 * embedDim])) : null;
    this.out_proj = new Linear(generator, embedDim, embedDim, { bias });
    if (this.out_proj.bias) zero(this.out_proj.bias);
  }

  /**
   * (N, L, embedDim) from query, key and value; without these two, the query attends to itself.
   *
   * @throws ShapeError, DTypeError, ValueError
   */
  forward(
    query: Tensor,
    key: Tensor = query,
    value: Tensor = key,
    { attnMask = null, keyPaddingMask = null, isCausal = false }: MultiheadAttentionForwardOptions = {},
  ): Tensor {
    const [, width] = this.in_proj_weight.shape;
    for (const [name, t] of Object.entries({ query, key, value }))
      if (t.ndim !== 3 || t.shape[2] !== width)
        throw new ShapeError('MultiheadAttention', `${name} has shape ${show(t.shape)}`, {
          expected: `(N, length, ${width})`,
        });
    return scope(() => {
      const [q, k, v] = this.projected(query, key, value).map((t) => this.inHeads(t));
      const out = scaledDotProductAttention(q, k, v, { attnMask: visible(attnMask, keyPaddingMask), isCausal });
      return this.out_proj.forward(out.transpose(1, 2).reshape(...query.shape));
    });
  }

  /** Queries, keys and values: one product where all come from the same tensor. */
  private projected(query: Tensor, key: Tensor, value: Tensor): Tensor[] {
    const { in_proj_weight: weight, in_proj_bias: bias } = this;
    const project = (x: Tensor, w: Tensor, b: Tensor | null): Tensor =>
      linear(x.cast(weight.dtype), w, b && b.cast(weight.dtype));
    if (query === key && key === value) return project(query, weight, bias).chunk(3, -1);
    const weights = weight.chunk(3, 0),
      biases = bias?.chunk(3, 0);
    return [query, key, value].map((x, i) => project(x, weights[i], biases?.[i] ?? null));
  }

  /** (N, length, width) as (N, heads, length, width / heads). */
  private inHeads(x: Tensor): Tensor {
    const [batch, length, width] = x.shape;
    return x.reshape(batch, length, this.numHeads, width / this.numHeads).transpose(1, 2);
  }
}

/** The two masks of the layer as the one of the function, which says true where a key may be seen. */
function visible(mask: Tensor | null, padding: Tensor | null): Tensor | null {
  if (padding && (padding.ndim !== 2 || padding.dtype !== 'bool'))
    throw new DTypeError('MultiheadAttention', `keyPaddingMask is ${padding.dtype} of shape ${show(padding.shape)}`, {
      expected: 'bool of shape (N, S)',
    });
  const hidden = padding && padding.unsqueeze(1).unsqueeze(1);
  if (!mask) return hidden && hidden.logicalNot();
  if (mask.dtype === 'bool') return (hidden ? mask.logicalOr(hidden) : mask).logicalNot();
  return hidden ? mask.cast('f32').add(hidden.cast('f32').mul(-1e30)) : mask;
}
