// A linear layer over a concatenation that is never made: one product for each part, added into one output; backward
// one product for each part of the weight's columns. The long skip connections of U-shaped transformers (arXiv
// 2209.12152) are such layers.

import {
  DTypeError,
  empty,
  isFloat,
  numelOf,
  ShapeError,
  show,
  type FloatDType,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, gemm, type GemmMatrix } from '../../core/kit.ts';

/**
 * `linear(concat(parts, -1), weight, bias)` = Σᵢ partsᵢ · W[:, columns of i]ᵀ + b.
 *
 * Shapes: parts (…, inᵢ), equal except in the last size; weight (out, Σ inᵢ); bias (out); result (…, out). Parts and
 * weight have one type, f32 or f16; the bias may have the other. Sums are f32, and rounded to the result's type between
 * parts. There is no second derivative.
 *
 * @throws ShapeError, DTypeError
 */
export function concatLinear(parts: readonly Tensor[], weight: Tensor, bias: Tensor | null = null): Tensor {
  check(parts, weight, bias);
  return concatLinearOp({ parts, weight, bias });
}

function check(parts: readonly Tensor[], weight: Tensor, bias: Tensor | null): void {
  const shapes = parts.map((t) => show(t.shape)).join(', ');
  if (parts.length === 0 || parts[0].ndim < 2)
    throw new ShapeError('concatLinear', `Parts have shapes ${shapes || '(none)'}`, {
      expected: 'at least one of (…, features)',
    });
  const lead = show(parts[0].shape.slice(0, -1));
  if (parts.some((t) => show(t.shape.slice(0, -1)) !== lead))
    throw new ShapeError('concatLinear', `Parts have shapes ${shapes}`, {
      expected: 'the same sizes except in the last axis',
    });
  const features = parts.reduce((sum, t) => sum + t.shape[t.ndim - 1], 0);
  if (weight.ndim !== 2 || weight.shape[1] !== features)
    throw new ShapeError('concatLinear', `weight has shape ${show(weight.shape)}`, {
      expected: `(out, ${features}), the features of parts ${shapes} together`,
    });
  if (bias && (bias.ndim !== 1 || bias.shape[0] !== weight.shape[0]))
    throw new ShapeError('concatLinear', `bias has shape ${show(bias.shape)}`, {
      expected: `(${weight.shape[0]},), the rows of weight`,
    });
  if (!isFloat(weight.dtype) || parts.some((t) => t.dtype !== weight.dtype))
    throw new DTypeError('concatLinear', `Types ${[...parts, weight].map((t) => t.dtype).join(', ')}`, {
      expected: 'one of f32 and f16 for parts and weight',
      remedy: 'cast() them',
    });
  if (bias && !isFloat(bias.dtype))
    throw new DTypeError('concatLinear', `bias is ${bias.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
}

/** A contiguous (…, columns) tensor as a matrix that begins at column `from`. */
function matrix(t: Tensor, from = 0): GemmMatrix {
  return {
    storage: t.storage,
    offset: t.offset + from,
    rowStride: t.shape[t.ndim - 1],
    dtype: t.dtype as FloatDType,
  };
}

interface ConcatLinearTensors {
  readonly parts: readonly Tensor[];
  readonly weight: Tensor;
  readonly bias: Tensor | null;
}

const concatLinearOp = defineOp({
  name: 'concatLinear',
  firstDerivativeOnly: true,
  forward(given: ConcatLinearTensors) {
    const weight = given.weight.contiguous(),
      parts = given.parts.map((t) => t.contiguous()),
      bias = given.bias && dense(given.bias);
    const shape = parts[0].shape.slice(0, -1);
    const M = numelOf(shape),
      N = weight.shape[0];
    const y = empty(weight.device, [...shape, N], weight.dtype);
    let from = 0;
    parts.forEach((part, i) => {
      const K = part.shape[part.ndim - 1];
      gemm(weight.device, {
        M,
        N,
        K,
        a: matrix(part),
        b: { ...matrix(weight, from), transposed: true },
        c: matrix(y),
        accumulate: i > 0,
        bias: i === 0 && bias ? { storage: bias.storage, offset: bias.offset, dtype: bias.dtype as FloatDType } : null,
      });
      from += K;
    });
    return { out: y, saved: { weight, parts } };
  },
  backward(upstream, { weight, parts }, needs) {
    const dy = upstream.contiguous();
    const { device, dtype } = weight;
    const N = weight.shape[0];
    const M = dy.numel / N;
    const dweight = needs.weight ? empty(device, weight.shape, dtype) : null;
    let from = 0;
    const dparts = parts.map((part, i) => {
      const K = part.shape[part.ndim - 1];
      const dpart = needs.parts[i] ? empty(device, part.shape, dtype) : null;
      if (dpart) gemm(device, { M, N: K, K: N, a: matrix(dy), b: matrix(weight, from), c: matrix(dpart) });
      if (dweight)
        gemm(device, {
          M: N,
          N: K,
          K: M,
          a: { ...matrix(dy), transposed: true },
          b: matrix(part),
          c: matrix(dweight, from),
        });
      from += K;
      return dpart;
    });
    return { parts: dparts, weight: dweight, bias: needs.bias ? dy.reshape(M, N).sum(0) : null };
  },
});
