// Convolution as a matrix product over unfolded windows. It saves its input alone and unfolds again in the backward
// pass. Where the unfolded windows of a large image would not fit, it works through samples, then through bands of
// rows.

import { defineOp } from '../autograd/defineOp.ts';
import { sizeOf } from '../tensor/dtype.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import { numelOf, sameShape, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { matmul } from './matmul.ts';
import { concat, pad } from './join.ts';
import { permute, reshape, slice, transpose } from './movement.ts';
import { checkFloat, foldOp, matrixShape, unfoldOp, windows, type Windows, type WindowOptions } from './unfold.ts';

/** (O, C/groups, kH, kW) as a matrix for each group. */
function filters(weight: Tensor, groups: number): Tensor {
  const [outputs, ...window] = weight.shape;
  return reshape(weight, [groups, outputs / groups, numelOf(window)]);
}

/** The unfolded windows as a matrix for each group: windows of the whole batch side by side. */
function grouped(x: Tensor, w: Windows, groups: number): Tensor {
  const [rows, columns] = matrixShape(w);
  return reshape(unfoldOp({ x }, w), [groups, rows / groups, columns]);
}

const conv2dOp = defineOp({
  name: 'conv2d',
  forward({ x, weight }: { x: Tensor; weight: Tensor }, { w, groups }: { w: Windows; groups: number }) {
    const y = matmul(filters(weight, groups), grouped(x, w, groups));
    const out = permute(reshape(y, [weight.shape[0], x.shape[0], ...w.output]), [1, 0, 2, 3]);
    return { out, saved: { x, weight, w, groups } };
  },
  backward(g, { x, weight, w, groups }, needs) {
    const [rows, columns] = matrixShape(w);
    const dy = reshape(permute(g, [1, 0, 2, 3]), [groups, weight.shape[0] / groups, columns]);
    const dcols = (): Tensor => reshape(matmul(transpose(filters(weight, groups), 1, 2), dy), [rows, columns]);
    const dfilters = (): Tensor => matmul(dy, transpose(grouped(x, w, groups), 1, 2));
    return {
      x: needs.x ? foldOp({ cols: dcols() }, w) : null,
      weight: needs.weight ? reshape(dfilters(), weight.shape) : null,
    };
  },
});

/** Bytes of unfolded windows above which a convolution is done in parts. */
const UNFOLDED_BYTES = 128 * 2 ** 20;

/** @internal The convolution with at most so many bytes of windows unfolded at a time, as far as rows allow. */
export function conv2dInParts(x: Tensor, weight: Tensor, w: Windows, groups: number, limit: number): Tensor {
  const [samples, ...image] = w.input;
  const [rows, columns] = w.output;
  const bytes = numelOf(matrixShape(w)) * sizeOf(x.dtype);
  if (bytes <= limit || (samples === 1 && rows === 1)) return conv2dOp({ x, weight }, { w, groups });
  if (samples > 1) {
    const each = Math.max(1, Math.floor((samples * limit) / bytes));
    const parts: Tensor[] = [];
    for (let begin = 0; begin < samples; begin += each) {
      const part = slice(x, 0, begin, Math.min(samples, begin + each));
      parts.push(conv2dInParts(part, weight, { ...w, input: [part.shape[0], ...image] }, groups, limit));
    }
    return concat(parts, 0);
  }
  const [padY, padX] = w.padding;
  const padded =
    padY || padX
      ? pad(x, [
          [0, 0],
          [0, 0],
          [padY, padY],
          [padX, padX],
        ])
      : x;
  const each = Math.max(1, Math.floor((rows * limit) / bytes));
  const bands: Tensor[] = [];
  for (let begin = 0; begin < rows; begin += each) {
    const end = Math.min(rows, begin + each);
    const band = slice(padded, 2, begin * w.stride[0], (end - 1) * w.stride[0] + w.dilation[0] * (w.kernel[0] - 1) + 1);
    bands.push(
      conv2dOp(
        { x: band, weight },
        { w: { ...w, input: band.shape, padding: [0, 0], output: [end - begin, columns] }, groups },
      ),
    );
  }
  return concat(bands, 2);
}

/** How windows move over an image, and which channels they see. */
export interface Conv2dOptions extends WindowOptions {
  /** Groups of channels that don't see each other; C for a depthwise convolution. Default 1. */
  readonly groups?: number;
}

/**
 * The cross-correlation that deep learning calls convolution (PyTorch's `F.conv2d`):
 *
 *     y[n,o,i,j] = bias[o] + Σ_{c,u,v} weight[o,c,u,v] x[n, c, i·stride + u·dilation - padding, j·stride + v·dilation - padding]
 *
 * where x is 0 outside of the image and c runs over the channels of o's group. Shapes: x (N,C,H,W), weight (O,
 * C/groups, kH, kW), bias (O), y (N,O,H',W') with `H' = ⌊(H + 2·padding - dilation·(kH - 1) - 1) / stride⌋ + 1`. Sums
 * are taken in f32. Derivatives of all orders exist.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function conv2d(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const { groups = 1 } = options;
  checkFloat('conv2d', x);
  if (weight.dtype !== x.dtype)
    throw new DTypeError('conv2d', `The weight is ${weight.dtype}`, {
      expected: `the input's ${x.dtype}`,
      remedy: 'cast() one of them',
    });
  if (weight.ndim !== 4)
    throw new ShapeError('conv2d', `The weight has shape ${show(weight.shape)}`, { expected: '(O, C/groups, kH, kW)' });
  if (!Number.isInteger(groups) || groups < 1)
    throw new ValueError('conv2d', `is ${groups}`, { option: 'groups', expected: 'a whole number from 1 on' });
  const [outputs, channels, ...kernel] = weight.shape;
  const w = windows('conv2d', x.shape, kernel as [number, number], options, true);
  if (outputs % groups)
    throw new ShapeError('conv2d', `The weight has shape ${show(weight.shape)}`, {
      expected: `outputs that ${groups} groups divide`,
    });
  if (x.shape[1] !== channels * groups) {
    throw new ShapeError('conv2d', `The image has shape ${show(x.shape)}`, {
      expected: `${channels * groups} channels for a weight of shape ${show(weight.shape)} and ${groups} groups`,
    });
  }
  if (bias && !sameShape(bias.shape, [outputs]))
    throw new ShapeError('conv2d', `The bias has shape ${show(bias.shape)}`, { expected: `(${outputs},)` });
  return scope(() => {
    const y = conv2dInParts(x, weight, w, groups, UNFOLDED_BYTES);
    return bias ? y.add(reshape(bias, [1, outputs, 1, 1])) : y;
  });
}

/** How a window moves over a sequence, and which channels it sees. */
export interface Conv1dOptions {
  /** Step between windows. Default 1. */
  readonly stride?: number;
  /** Zeros at both ends. Default 0. */
  readonly padding?: number;
  /** Step between the elements of a window. Default 1. */
  readonly dilation?: number;
  /** Groups of channels that don't see each other. Default 1. */
  readonly groups?: number;
}

/**
 * `conv2d` in one dimension: x (N,C,L), weight (O, C/groups, k), bias (O) → (N,O,L').
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function conv1d(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv1dOptions = {}): Tensor {
  if (x.ndim !== 3 || weight.ndim !== 3)
    throw new ShapeError('conv1d', `The input has shape ${show(x.shape)} and the weight ${show(weight.shape)}`, {
      expected: '(N,C,L) and (O, C/groups, k)',
    });
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const row = (t: Tensor): Tensor => reshape(t, [t.shape[0], t.shape[1], 1, t.shape[2]]);
  return scope(() => {
    const y = conv2d(row(x), row(weight), bias, {
      stride: [1, stride],
      padding: [0, padding],
      dilation: [1, dilation],
      groups,
    });
    return reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);
  });
}
