// Attention of general operations: faster than this folder's kernel as long as the scores, which are written to memory,
// are not too many. On a software adapter always: there the kernel takes seconds to compile. It has second derivatives.

import { arange, type Tensor } from '../../core/index.ts';

export interface ComposedOptions {
  readonly mask: Tensor | null;
  readonly causal: boolean;
  readonly scale: number;
}

/** Below every score; 0 where the exponential of the difference to another is taken. */
const LOWEST = -1e30;

/** `softmax(q kᵀ · scale + mask) v` in f32, 0 for a query that may see no key. */
export function composedAttention(q: Tensor, k: Tensor, v: Tensor, { mask, causal, scale }: ComposedOptions): Tensor {
  const { device } = q;
  const wide = [q, k, v].map((t) => t.cast('f32'));
  let scores = wide[0].matmul(wide[1].transpose(-1, -2)).mul(scale);
  const visible = causal
    ? arange(device, q.shape.at(-2)!)
        .unsqueeze(1)
        .ge(arange(device, k.shape.at(-2)!))
    : mask;
  if (visible) scores = scores.add(visible.dtype === 'bool' ? visible.cast('f32').sub(1).mul(-LOWEST) : visible);
  // -∞ of a mask would become NaN where a whole row has it.
  scores = scores.maximum(LOWEST);
  const weights = visible ? scores.softmax(-1).mul(scores.gt(LOWEST / 2).cast('f32')) : scores.softmax(-1);
  return weights.matmul(wide[2]).cast(q.dtype);
}
