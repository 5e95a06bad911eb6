// Operations that put tensors together: concat, stack, pad.

import { defineOp } from '../autograd/defineOp.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { copyInto } from '../expr/elementwise.ts';
import { checkOperands, inWords } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { scope } from '../tensor/scope.ts';
import { axisOf, sameShape, show } from '../tensor/shape.ts';
import { full } from './create.ts';
import { strided } from './strided.ts';

const concatOp = defineOp({
  name: 'concat',
  forward({ parts }: { parts: readonly Tensor[] }, { axis }: { axis: number }) {
    const [first] = parts;
    const sizes = parts.map((t) => t.shape[axis]);
    const total = sizes.reduce((s, v) => s + v, 0);
    const shape = first.shape.map((size, i) => (i === axis ? total : size));
    const out = emptyTensor(first.device, shape, first.dtype);
    let at = 0;
    for (const part of parts) {
      if (part.numel) copyInto(strided(out, part.shape, out.strides, at * out.strides[axis]), part);
      at += part.shape[axis];
    }
    return { out, saved: { axis, sizes } };
  },
  backward: (g, { axis, sizes }) => ({ parts: g.split(sizes, axis) }),
});
function checkParts(op: string, parts: readonly Tensor[]): void {
  if (!Array.isArray(parts))
    throw new ValueError(op, `The parts are ${inWords(parts)}`, { expected: 'an array of tensors' });
  if (!parts.length) throw new ValueError(op, 'No tensors given', { expected: 'at least one' });
  checkOperands(op, parts, { numbers: false });
}

/** Joins tensors along an axis that exists. */
export function concat(parts: readonly Tensor[], axis = 0): Tensor {
  checkParts('concat', parts);
  const [first] = parts;
  const a = axisOf('concat', axis, first.ndim);
  for (const part of parts) {
    if (part.ndim !== first.ndim || part.shape.some((size, i) => i !== a && size !== first.shape[i]))
      throw new ShapeError(
        'concat',
        `Shapes ${parts.map((t) => show(t.shape)).join(', ')} differ in more than axis ${a}`,
      );
    if (part.dtype !== first.dtype)
      throw new DTypeError('concat', `Types ${parts.map((t) => t.dtype).join(', ')} differ`, {
        remedy: 'cast() them first',
      });
  }
  return concatOp({ parts }, { axis: a });
}

/** Joins tensors of one shape along a new axis. */
export function stack(parts: readonly Tensor[], axis = 0): Tensor {
  checkParts('stack', parts);
  const [first] = parts;
  if (parts.some((t) => !sameShape(t.shape, first.shape)))
    throw new ShapeError('stack', `Shapes ${parts.map((t) => show(t.shape)).join(', ')} differ`, {
      remedy: 'expand() or pad() them to one shape',
    });
  const a = axisOf('stack', axis, first.ndim + 1);
  return scope(() =>
    concat(
      parts.map((t) => t.unsqueeze(a)),
      a,
    ),
  );
}

/** Elements before and after those of each dimension. */
type Widths = readonly (readonly [before: number, after: number])[];

const padOp = defineOp({
  name: 'pad',
  forward({ x }: { x: Tensor }, { widths, value }: { widths: Widths; value: number }) {
    const shape = x.shape.map((size, i) => size + widths[i][0] + widths[i][1]);
    const out = full(x.device, shape, value, x.dtype);
    const offset = widths.reduce((o, [before], i) => o + before * out.strides[i], 0);
    if (x.numel) copyInto(strided(out, x.shape, out.strides, offset), x);
    return { out, saved: { widths, shape: x.shape } };
  },
  backward: (g, { widths, shape }) => ({
    x: widths.reduce((t, [before], i) => t.slice(i, before, before + shape[i]), g),
  }),
});
/** Surrounds a tensor with a value: [before, after] for each dimension. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  if (widths.length !== x.ndim || widths.flat().some((w) => w < 0 || !Number.isInteger(w)))
    throw new ShapeError('pad', `Widths ${JSON.stringify(widths)} don't fit shape ${show(x.shape)}`, {
      expected: 'a pair of whole numbers from 0 on for each dimension',
    });
  return padOp({ x }, { widths, value });
}
