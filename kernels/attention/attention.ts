// Scaled dot-product attention as a differentiable operation: its arguments, and what each pass of the kernel gets.

import {
  DTypeError,
  empty,
  isFloat,
  numelOf,
  sameShape,
  scope,
  ShapeError,
  show,
  ValueError,
  zeros,
  type FloatDType,
  type Shape,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, grid1d, type Operand } from '../../core/kit.ts';
import { composedAttention } from './composed.ts';
import { attentionKernel, ROWS, type AttentionVariant, type Pass } from './kernel.ts';

/** Options of {@link scaledDotProductAttention}. */
export interface AttentionOptions {
  /**
   * Broadcasts to (…, L, S). bool: true where a query may see a key. f32 or f16: is added to the scores. It gets no
   * gradient.
   */
  readonly attnMask?: Tensor | null;
  /** Query i sees keys 0 … i. Not together with a mask. Default false. */
  readonly isCausal?: boolean;
  /** Factor of the scores. Default 1/√E. */
  readonly scale?: number;
}

const NAME = 'scaledDotProductAttention';

/**
 * Bytes of f32 scores up to which products and a softmax compute attention, which is faster than the fused kernel
 * (docs/kernels/attention.md has by how much); beyond, they would take too much memory.
 */
const MOST_SCORES = 2 ** 28;

/**
 * `softmax(q kᵀ · scale + mask) v`, PyTorch's `scaled_dot_product_attention`.
 *
 * Shapes: q (…, L, E), k (…, S, E), v (…, S, Ev), result (…, L, Ev), with the same leading axes, of which the last is
 * the heads. One type, f32 or f16; sums are f32. A query that may see no key gets 0. Views that are not row-major are
 * copied. Up to 256 MiB of scores it is composed of products and a softmax; beyond, the scores are never stored and memory
 * is linear in L and S (Dao et al., arXiv 2205.14135), but for software adapters. The gradient is deterministic; the fused
 * form has no second derivative.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const scores = 4 * (q.numel / Math.max(1, q.shape.at(-1) ?? 1)) * (k.shape.at(-2) ?? 1);
  return attention(q, k, v, options, q.device.adapter.software || scores <= MOST_SCORES ? 'composed' : 'fused');
}

/** @internal The same in a form of the caller's choice. */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
  form: 'fused' | 'composed',
): Tensor {
  const { attnMask = null, isCausal = false, scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1) } = options;
  check(q, k, v, attnMask, isCausal, scale);
  const [queries, keys, width] = [q.shape.at(-2)!, k.shape.at(-2)!, v.shape.at(-1)!];
  const lead = q.shape.slice(0, -2);
  const sizes = { batch: numelOf(lead), queries, keys, inner: q.shape.at(-1)!, width };
  const shape = [...lead, queries, width];
  if (numelOf(shape) === 0 || keys === 0) return zeros(q.device, shape, q.dtype);
  if (form === 'composed') return scope(() => composedAttention(q, k, v, { mask: attnMask, causal: isCausal, scale }));
  return scope(() => {
    const mask = attnMask && maskOf(attnMask, [...lead, queries, keys]);
    return attentionOp({ q, k, v }, { sizes, shape, scale, causal: isCausal, mask });
  });
}

interface Sizes {
  /** All leading axes together. */
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  /** Of q and k. */
  readonly inner: number;
  /** Of v. */
  readonly width: number;
}

/** A mask in memory, and how far apart its elements are along outer axes, heads, queries and keys. */
interface Mask {
  readonly values: Tensor;
  readonly heads: number;
  readonly strides: readonly [outer: number, head: number, row: number, column: number];
}

interface Settings {
  readonly sizes: Sizes;
  readonly shape: Shape;
  readonly scale: number;
  readonly causal: boolean;
  readonly mask: Mask | null;
}

interface Tensors {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
}

function check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | null, causal: boolean, scale: number): void {
  const shapes = `q, k and v have shapes ${[q, k, v].map((t) => show(t.shape)).join(', ')}`;
  const lead = q.shape.slice(0, -2);
  const fits =
    [q, k, v].every((t) => t.ndim >= 2 && sameShape(t.shape.slice(0, -2), lead)) &&
    q.shape.at(-1) === k.shape.at(-1) &&
    k.shape.at(-2) === v.shape.at(-2) &&
    q.shape.at(-1) !== 0;
  if (!fits)
    throw new ShapeError(NAME, shapes, {
      expected: '(…, L, E), (…, S, E) and (…, S, Ev) with the same leading axes',
      remedy: 'expand() what is to be shared',
    });
  if (!isFloat(q.dtype) || k.dtype !== q.dtype || v.dtype !== q.dtype)
    throw new DTypeError(NAME, `q, k and v are ${[q, k, v].map((t) => t.dtype).join(', ')}`, {
      expected: 'one type, f32 or f16',
      remedy: 'cast() them',
    });
  if (!Number.isFinite(scale)) throw new ValueError(NAME, `scale is ${scale}`, { expected: 'a finite number' });
  if (!mask) return;
  if (causal)
    throw new ValueError(NAME, 'There are both a mask and isCausal', { remedy: 'write the causal part into the mask' });
  if (mask.dtype !== 'bool' && !isFloat(mask.dtype))
    throw new DTypeError(NAME, `The mask is ${mask.dtype}`, { expected: 'bool, f32 or f16' });
  if (mask.requiresGrad)
    throw new ValueError(NAME, 'The mask asks for a gradient, which this kernel does not compute', {
      remedy: 'detach() it, or write the attention with matmul and softmax',
    });
  const wanted = [...lead, q.shape.at(-2)!, k.shape.at(-2)!];
  const padded = [...wanted.map(() => 1).slice(mask.ndim), ...mask.shape];
  if (padded.length !== wanted.length || padded.some((size, i) => size !== 1 && size !== wanted[i]))
    throw new ShapeError(NAME, `The mask has shape ${show(mask.shape)}`, {
      expected: `one that broadcasts to ${show(wanted)}`,
    });
}

/** A mask is stored as it comes, but for outer axes of which only some are shared: these are written out. */
function maskOf(mask: Tensor, full: Shape): Mask {
  const padded = [...full.map(() => 1).slice(mask.ndim), ...mask.shape];
  const outer = full.slice(0, -3);
  const given = padded.slice(0, -3);
  const shared = numelOf(given) === 1;
  const whole = shared || sameShape(given, outer) ? padded : [...outer, ...padded.slice(-3)];
  const values = dense(mask.reshape(...padded).expand(...whole));
  const [head, rows, columns] = [1, 1, 1, ...whole].slice(-3);
  const step = (size: number, stride: number): number => (size === 1 ? 0 : stride);
  return {
    values,
    heads: full.at(-3) ?? 1,
    strides: [shared ? 0 : head * rows * columns, step(head, rows * columns), step(rows, columns), step(columns, 1)],
  };
}

/** Runs one pass. `operands` are q, k, v, dout as far as the pass takes them, then the mask, statistics and results. */
function run(
  pass: Pass,
  { sizes, scale, causal, mask }: Settings,
  like: Tensor,
  before: Operand[],
  after: Operand[],
): void {
  const { batch, queries, keys, inner, width } = sizes;
  const added = pass === 'forward' || pass === 'value' ? width : inner;
  const columns = added <= 64 ? 64 : added <= 128 ? 128 : 256;
  const tiles = Math.ceil((pass === 'forward' || pass === 'query' ? queries : keys) / ROWS);
  const chunks = Math.ceil(added / columns);
  const variant: AttentionVariant = {
    pass,
    dtype: like.dtype as FloatDType,
    mask: mask && mask.values.dtype,
    causal,
    columns,
    vector: inner % 4 === 0 && width % 4 === 0 ? 4 : 1,
  };
  like.device.run(
    attentionKernel,
    variant,
    [...before, ...(mask ? [mask.values] : []), ...after],
    [batch, queries, keys, inner, width, tiles, chunks, scale, mask?.heads ?? 1, ...(mask?.strides ?? [0, 0, 0, 0])],
    grid1d(tiles * chunks * batch, 1),
  );
}

const attentionOp = defineOp({
  name: NAME,
  firstDerivativeOnly: true,
  forward(tensors: Tensors, settings: Settings) {
    const [q, k, v] = [tensors.q, tensors.k, tensors.v].map(dense);
    const { sizes, shape } = settings;
    const out = empty(q.device, shape, q.dtype);
    const lse = empty(q.device, [sizes.batch, sizes.queries]);
    run('forward', settings, q, [q, k, v], [out, lse]);
    return { out, saved: { q, k, v, out, lse, settings } };
  },
  backward(given, { q, k, v, out, lse, settings }, needs) {
    const dout = dense(given.cast(q.dtype));
    // Σ_j P_ij (dout_i · v_j) = dout_i · out_i
    const delta = needs.q || needs.k ? dout.cast('f32').mul(out.cast('f32')).sum(-1) : null;
    const made = (like: Tensor): Tensor => empty(q.device, like.shape, q.dtype);
    const [dq, dk, dv] = [needs.q ? made(q) : null, needs.k ? made(k) : null, needs.v ? made(v) : null];
    if (dq) run('query', settings, q, [q, k, v, dout], [lse, delta!, dq]);
    if (dk) run('key', settings, q, [q, k, v, dout], [lse, delta!, dk]);
    if (dv) run('value', settings, q, [q, k, dout], [lse, dv]);
    return { q: dq, k: dk, v: dv };
  },
});
