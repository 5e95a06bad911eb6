// Sorting along an axis by Batcher's bitonic network, whose steps are known in advance: indices are exchanged by a kernel for each step,
// and values are then gathered, which is what has the derivative. Equal values keep their order, and NaN counts as the largest.

import { DTypeError, ValueError } from '../errors.ts';
import { denseOperand } from '../expr/dense.ts';
import { wgslMath } from '../expr/wgslMath.ts';
import { grid1d } from '../gpu/grid.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { noGrad } from '../autograd/gradMode.ts';
import { storageType } from '../tensor/dtype.ts';
import { emptyTensor } from '../tensor/make.ts';
import { scope } from '../tensor/scope.ts';
import { axisOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { gather } from './indexing.ts';
import { transpose } from './movement.ts';

interface SortVariant {
  readonly type: 'f32' | 'f16' | 'i32' | 'u32';
  readonly descending: boolean;
}

/** A step of the network on rows: `order` holds indices of a row's keys, `size` of them, a power of two; those from n on come last. */
export const sortKernel = defineKernel<SortVariant>('sort', ({ type, descending }) => {
  const float = type === 'f32' || type === 'f16';
  const t = float ? 'f32' : type;
  const less = (a: string, b: string): string =>
    float ? `(${a} < ${b} || (!mathNan(${a}) && mathNan(${b})))` : `(${a} < ${b})`;
  return {
    label: 'sort',
    bindings: [
      { name: 'keys', type: `array<${type}>`, access: 'read' },
      { name: 'order', type: 'array<i32>', access: 'write' },
    ],
    params: ['n', 'size', 'pairs', 'block', 'step'].map((name) => ({ name, type: 'u32' as const })),
    workgroupSize: [64],
    enable: type === 'f16' ? ['f16' as const] : [],
    declarations: `${float ? wgslMath(['nan']) : ''}
fn before(row: u32, a: u32, b: u32) -> bool {
  if (a >= p.n || b >= p.n) { return a < b; }
  let x = ${t}(keys[row * p.n + a]); let y = ${t}(keys[row * p.n + b]);
  if (${descending ? less('y', 'x') : less('x', 'y')}) { return true; }
  return a < b && !${descending ? less('x', 'y') : less('y', 'x')};
}`,
    body: `  if (flat >= p.pairs) { return; }
  let half = p.size / 2u;
  let row = flat / half; let pair = flat % half;
  // The bit of the step is put between the others.
  let i = pair / p.step * p.step * 2u + pair % p.step;
  let at = row * p.size + i; let other = at + p.step;
  let a = order[at]; let b = order[other];
  if (before(row, u32(b), u32(a)) == ((i & p.block) == 0u)) { order[at] = b; order[other] = a; }`,
  };
});

/** The numbers 0 … size − 1 in each row. */
export const rowIndexKernel = defineKernel<object>('sort.begin', () => ({
  bindings: [{ name: 'order', type: 'array<i32>', access: 'write' }],
  params: [
    { name: 'n', type: 'u32' },
    { name: 'size', type: 'u32' },
  ],
  workgroupSize: [64],
  body: '  if (flat >= p.n) { return; }\n  order[flat] = i32(flat % p.size);',
}));

/** The first `count` indices (i32) of each row in order. */
function orderOf(rows: Tensor, count: number, descending: boolean): Tensor {
  const n = rows.shape.at(-1)!;
  const outer = n === 0 ? 0 : rows.numel / n;
  const size = 2 ** Math.ceil(Math.log2(Math.max(2, n)));
  const order = emptyTensor(rows.device, [...rows.shape.slice(0, -1), size], 'i32');
  if (outer > 0) {
    const { device } = rows;
    device.run(rowIndexKernel, {}, [order], [outer * size, size], grid1d(outer * size, 64));
    const pairs = (outer * size) / 2;
    const variant: SortVariant = { type: storageType(rows.dtype) as SortVariant['type'], descending };
    const keys = denseOperand(rows);
    for (let block = 2; block <= size; block *= 2) {
      for (let step = block / 2; step >= 1; step /= 2)
        device.run(sortKernel, variant, [keys, order], [n, size, pairs, block, step], grid1d(pairs, 64));
    }
  }
  return order.slice(-1, 0, count).clone();
}

function sorted(op: string, x: Tensor, axis: number, count: number, descending: boolean): SortedValues {
  const a = axisOf(op, axis, x.ndim);
  if (x.dtype === 'bool')
    throw new DTypeError(op, 'The type is bool', { expected: 'numbers', remedy: 'cast() it to i32' });
  return scope(() => {
    const indices = noGrad(() =>
      scope(() => {
        const rows = transpose(x.detach(), a, -1).contiguous();
        return transpose(orderOf(rows, count, descending), a, -1).contiguous();
      }),
    );
    return { values: gather(x, a, indices), indices };
  });
}

/** Values in order, and where along the axis each was (i32). */
export interface SortedValues {
  readonly values: Tensor;
  readonly indices: Tensor;
}

/**
 * The values along an axis in ascending or descending order. Equal ones keep their order, NaN counts as the largest, as in PyTorch. The
 * gradient goes to where a value was.
 *
 * @throws DTypeError for booleans
 */
export function sort(x: Tensor, axis = -1, { descending = false }: { descending?: boolean } = {}): SortedValues {
  return sorted('sort', x, axis, x.shape[axisOf('sort', axis, x.ndim)], descending);
}

/**
 * The k largest values along an axis, or with `largest: false` the smallest, in order, and where they were. Equal ones come in the order
 * in which they stand.
 *
 * @throws ValueError where the axis has no k elements; DTypeError for booleans
 */
export function topk(x: Tensor, k: number, axis = -1, { largest = true }: { largest?: boolean } = {}): SortedValues {
  const size = x.shape[axisOf('topk', axis, x.ndim)];
  if (!Number.isInteger(k) || k < 0 || k > size)
    throw new ValueError('topk', `k is ${k} for an axis of ${size} elements`, {
      expected: `a whole number from 0 to ${size}`,
    });
  return sorted('topk', x, axis, k, largest);
}
