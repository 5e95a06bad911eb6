// Matrix products: batched, broadcasting, with transposed operands taken as they lie.

import { defineOp } from '../autograd/defineOp.ts';
import { isFloat, type FloatDType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError } from '../errors.ts';
import { gemm, type GemmMatrix } from '../gemm/index.ts';
import { scope } from '../tensor/scope.ts';
import { broadcastShapes, numelOf, sameShape, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { checkOperands } from '../tensor/arguments.ts';
import { contiguous } from './elementwise.ts';
import { expand, reshape, transpose } from './movement.ts';
import { sum } from './reduce.ts';
import { full } from './create.ts';

/** The last two dimensions as a matrix, or null where neither of them is walked with stride 1. */
function matrixOf(x: Tensor): Omit<GemmMatrix, 'batchStride'> | null {
  const [rows, cols] = x.strides.slice(-2);
  const [m, n] = x.shape.slice(-2);
  const common = { storage: x.storage, offset: x.offset, dtype: x.dtype as FloatDType };
  // A dimension of size 1 may have any stride.
  if ((cols === 1 || n === 1) && (rows >= n || m === 1))
    return { ...common, rowStride: m === 1 ? n : rows, transposed: false };
  if ((rows === 1 || m === 1) && (cols >= m || n === 1))
    return { ...common, rowStride: n === 1 ? m : cols, transposed: true };
  return null;
}

/** The batch dimensions walked with one stride, or null. */
function batchStride(x: Tensor): number | null {
  let expected: number | null = null;
  let stride = 0;
  for (let i = x.ndim - 3; i >= 0; i--) {
    if (x.shape[i] === 1) continue;
    if (expected === null) stride = x.strides[i];
    else if (x.strides[i] !== expected) return null;
    expected = x.strides[i] * x.shape[i];
  }
  return stride;
}

function operand(x: Tensor): GemmMatrix {
  const matrix = matrixOf(x),
    stride = batchStride(x);
  if (matrix && stride !== null && stride >= 0) return { ...matrix, batchStride: stride };
  const dense = contiguous(x).isContiguous && x.isContiguous ? x : x.clone();
  return { ...matrixOf(dense)!, batchStride: numelOf(dense.shape.slice(-2)) };
}

const matmulOp = defineOp({
  name: 'matmul',
  forward({ a, b }: { a: Tensor; b: Tensor }) {
    const saved = { a, b };
    const batch = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2));
    const [M, K] = a.shape.slice(-2);
    const N = b.shape.at(-1)!;
    const shape = [...batch, M, N];
    if (K === 0) return { out: full(a.device, shape, 0, a.dtype), saved };
    // Many rows by one matrix are one product.
    if (b.ndim === 2 && a.ndim > 2 && a.isContiguous) {
      const rows = multiply(reshape(a, [-1, K]), b, [numelOf(batch) * M, N], 1);
      return { out: reshape(rows, shape), saved };
    }
    return { out: multiply(expand(a, [...batch, M, K]), expand(b, [...batch, K, N]), shape, numelOf(batch)), saved };
  },
  backward(g, { a, b }, needs) {
    if (b.ndim === 2 && a.ndim > 2) {
      const [K, N] = b.shape,
        M = numelOf(a.shape.slice(0, -1));
      return {
        a: needs.a ? matmul(g, transpose(b, 0, 1)) : null,
        b: needs.b ? matmul(transpose(reshape(a, [M, K]), 0, 1), reshape(g, [M, N])) : null,
      };
    }
    return {
      a: needs.a ? matmul(g, transpose(b, -1, -2)).sumToSize(a.shape) : null,
      b: needs.b ? matmul(transpose(a, -1, -2), g).sumToSize(b.shape) : null,
    };
  },
});

function multiply(a: Tensor, b: Tensor, shape: readonly number[], batch: number): Tensor {
  const [M, N] = shape.slice(-2);
  const c = emptyTensor(a.device, shape, a.dtype);
  if (!c.numel) return c;
  gemm(a.device, {
    M,
    N,
    K: a.shape.at(-1)!,
    batch,
    a: operand(a),
    b: operand(b),
    c: { storage: c.storage, offset: 0, rowStride: N, batchStride: M * N, dtype: c.dtype as 'f32' },
  });
  return c;
}

/**
 * Matrix product of the last two dimensions, the others broadcast: (…, M, K) · (…, K, N) → (…, M, N). A vector on the
 * left is a row, on the right a column, and its dimension goes away, as in PyTorch. Accumulates in f32.
 *
 * @throws ShapeError when the inner sizes differ
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  checkOperands('matmul', [a, b], { numbers: false });
  if (a.ndim === 0 || b.ndim === 0)
    throw new ShapeError('matmul', 'A scalar has no rows or columns', { remedy: 'use mul()' });
  if (a.shape.at(-1) !== b.shape.at(b.ndim === 1 ? 0 : -2)) {
    throw new ShapeError('matmul', `a has shape ${show(a.shape)} and b ${show(b.shape)}`, {
      expected: `the last dimension of a to be the ${b.ndim === 1 ? 'only one' : 'one before last'} of b`,
      remedy: 'transpose one of them',
    });
  }
  if (a.dtype !== b.dtype || (a.dtype !== 'f32' && a.dtype !== 'f16'))
    throw new DTypeError('matmul', `Types ${a.dtype} and ${b.dtype}`, {
      expected: 'f32 or f16 for both',
      remedy: 'cast() them',
    });
  if (a.ndim === 1) return scope(() => without(matmul(reshape(a, [1, a.numel]), b), b.ndim === 1 ? -1 : -2));
  if (b.ndim === 1) return scope(() => without(matmul(a, reshape(b, [b.numel, 1])), -1));
  return matmulOp({ a, b });
}

function without(x: Tensor, axis: -1 | -2): Tensor {
  return reshape(
    x,
    x.shape.filter((_, i) => i !== x.ndim + axis),
  );
}

const linearOp = defineOp({
  name: 'linear',
  forward({ x, weight, bias }: { x: Tensor; weight: Tensor; bias: Tensor | null }) {
    const [N, K] = weight.shape;
    const y = emptyTensor(x.device, [...x.shape.slice(0, -1), N], x.dtype);
    const result = { out: y, saved: { x, weight } };
    if (!y.numel) return result;
    const dense = bias && contiguous(bias);
    gemm(x.device, {
      M: y.numel / N,
      N,
      K,
      a: operand(reshape(x, [-1, K])),
      b: operand(transpose(weight, 0, 1)),
      c: { storage: y.storage, offset: 0, rowStride: N, dtype: y.dtype as 'f32' },
      bias: dense && { storage: dense.storage, offset: dense.offset, dtype: dense.dtype as 'f32' },
    });
    return result;
  },
  backward(g, { x, weight }, needs) {
    const [N, K] = weight.shape;
    const M = numelOf(x.shape.slice(0, -1));
    const rows = reshape(g, [M, N]);
    return {
      x: needs.x ? reshape(matmul(rows, weight), x.shape) : null,
      // As the weight lies, so that whoever adds it up reads it in order.
      weight: needs.weight ? matmul(transpose(rows, 0, 1), reshape(x, [M, K])) : null,
      bias: needs.bias ? sum(rows, 0) : null,
    };
  },
});

/**
 * x·Wᵀ + b in one product: (…, in) with W (out, in) and b (out). Accumulates in f32; x and W are of one type, the
 * result's, b may be of another.
 *
 * @throws ShapeError, DTypeError
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  if (weight.ndim !== 2)
    throw new ShapeError('linear', `The weight has shape ${show(weight.shape)}`, { expected: '(out, in)' });
  if (x.ndim === 0 || x.shape.at(-1) !== weight.shape[1])
    throw new ShapeError('linear', `The input has shape ${show(x.shape)} and the weight ${show(weight.shape)}`, {
      expected: 'the same last dimension in both',
    });
  if (bias && !sameShape(bias.shape, [weight.shape[0]]))
    throw new ShapeError('linear', `The bias has shape ${show(bias.shape)}`, { expected: `(${weight.shape[0]},)` });
  if (x.dtype !== weight.dtype || !isFloat(x.dtype) || (bias && !isFloat(bias.dtype)))
    throw new DTypeError('linear', `Types ${x.dtype}, ${weight.dtype}${bias ? ` and ${bias.dtype}` : ''}`, {
      expected: 'f32 or f16, the same for input and weight',
      remedy: 'cast() them',
    });
  // A product without an inner size is the bias alone.
  if (weight.shape[1] === 0)
    return scope(() => full(x.device, [...x.shape.slice(0, -1), weight.shape[0]], 0, x.dtype).add(bias ?? 0));
  return linearOp({ x, weight, bias });
}
