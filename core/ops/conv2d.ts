// Convolutions over images and sequences, and their transposes: what users call. convolution.ts computes them.

import { isGradEnabled } from '../autograd/gradMode.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { isFloat } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { sameShape, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { convolutionOp, transposedOp } from './convolution.ts';
import { reshape } from './movement.ts';
import { checkFloat, pairOf, windows, type Pair, type WindowOptions } from './unfold.ts';

/** How windows move over an image, and which channels they see. */
export interface Conv2dOptions extends WindowOptions {
  /** Groups of channels that don't see each other; C for a depthwise convolution. Default 1. */
  readonly groups?: number;
  /** Applied to the result, where no gradient is needed in the same dispatch. Default none. */
  readonly activation?: 'relu' | 'silu' | 'gelu' | null;
}

/**
 * The cross-correlation that deep learning calls convolution (PyTorch's `F.conv2d`):
 *
 *     y[n,o,i,j] = bias[o] + Σ_{c,u,v} weight[o,c,u,v] x[n, c, i·stride + u·dilation - padding, j·stride + v·dilation - padding]
 *
 * where x is 0 outside of the image and c runs over the channels of o's group. Shapes: x (N,C,H,W), weight (O,
 * C/groups, kH, kW), bias (O), y (N,O,H',W') with `H' = ⌊(H + 2·padding - dilation·(kH - 1) - 1) / stride⌋ + 1`. Sums
 * are taken in f32; no window is copied. Derivatives of all orders exist.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function conv2d(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const { groups = 1, activation = null } = options;
  checkOperands('conv2d', x, weight, bias, groups, '(O, C/groups, kH, kW)');
  if (activation !== null && !['relu', 'silu', 'gelu'].includes(activation))
    throw new ValueError('conv2d', `is ${String(activation)}`, {
      option: 'activation',
      expected: 'relu, silu or gelu',
    });
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
  const c = { w, groups, weight: weight.shape };
  // An activation's derivative needs its argument.
  const recorded = isGradEnabled() && [x, weight, bias].some((t) => t?.requiresGrad);
  if (!activation || !recorded) return convolutionOp({ x, weight, bias }, { c, activation });
  return scope(() => convolutionOp({ x, weight, bias }, { c, activation: null })[activation]());
}

function checkOperands(
  op: string,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  groups: number,
  expected: string,
): void {
  checkFloat(op, x);
  if (weight.dtype !== x.dtype)
    throw new DTypeError(op, `The weight is ${weight.dtype}`, {
      expected: `the input's ${x.dtype}`,
      remedy: 'cast() one of them',
    });
  if (bias && !isFloat(bias.dtype))
    throw new DTypeError(op, `The bias is ${bias.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
  if (weight.ndim !== 4) throw new ShapeError(op, `The weight has shape ${show(weight.shape)}`, { expected });
  if (!Number.isInteger(groups) || groups < 1)
    throw new ValueError(op, `is ${groups}`, { option: 'groups', expected: 'a whole number from 1 on' });
}

/** Options of `convTranspose2d`. */
export interface ConvTranspose2dOptions extends WindowOptions {
  /** Groups of channels that don't see each other. Default 1. */
  readonly groups?: number;
  /** Rows and columns added at the lower and right end: which of the sizes that a stride makes equal. Default 0. */
  readonly outputPadding?: Pair;
}

/**
 * The transpose of `conv2d`, also called deconvolution (PyTorch's `F.conv_transpose2d`): each pixel of x adds its window,
 * scaled, to the result.
 *
 *     y[n, o, i·stride + u·dilation - padding, j·stride + v·dilation - padding] += weight[c,o,u,v] x[n,c,i,j]
 *
 * Shapes: x (N,C,H,W), weight (C, O/groups, kH, kW), bias (O), y (N,O,H',W') with `H' = (H - 1)·stride - 2·padding +
 * dilation·(kH - 1) + outputPadding + 1`. Sums are taken in f32. Derivatives of all orders exist.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvTranspose2dOptions = {},
): Tensor {
  const op = 'convTranspose2d';
  const { groups = 1 } = options;
  checkOperands(op, x, weight, bias, groups, '(C, O/groups, kH, kW)');
  const stride = pairOf(op, 'stride', options.stride ?? 1, 1),
    padding = pairOf(op, 'padding', options.padding ?? 0, 0),
    dilation = pairOf(op, 'dilation', options.dilation ?? 1, 1),
    extra = pairOf(op, 'outputPadding', options.outputPadding ?? 0, 0);
  if (x.ndim !== 4 || x.shape[1] !== weight.shape[0])
    throw new ShapeError(op, `The image has shape ${show(x.shape)}`, {
      expected: `(N, ${weight.shape[0]}, H, W) for a weight of shape ${show(weight.shape)}`,
    });
  if (weight.shape[0] % groups)
    throw new ShapeError(op, `The weight has shape ${show(weight.shape)}`, {
      expected: `channels that ${groups} groups divide`,
    });
  if (extra.some((n, d) => n >= Math.max(stride[d], dilation[d])))
    throw new ValueError(op, `is ${show(extra)}`, {
      option: 'outputPadding',
      expected: 'less than stride or dilation',
    });
  const outputs = weight.shape[1] * groups;
  if (bias && !sameShape(bias.shape, [outputs]))
    throw new ShapeError(op, `The bias has shape ${show(bias.shape)}`, { expected: `(${outputs},)` });
  const [height, width] = [0, 1].map(
    (d) => (x.shape[2 + d] - 1) * stride[d] - 2 * padding[d] + dilation[d] * (weight.shape[2 + d] - 1) + extra[d] + 1,
  );
  if (height < 1 || width < 1)
    throw new ShapeError(op, `The image has shape ${show(x.shape)}`, {
      expected: 'a result with pixels',
      remedy: 'use less padding',
    });
  const kernel = [weight.shape[2], weight.shape[3]] as const;
  const output = [x.shape[2], x.shape[3]] as const;
  const input = [x.shape[0], outputs, height, width];
  return transposedOp(
    { g: x, weight, bias },
    { w: { input, kernel, stride, padding, dilation, output, joined: true }, groups, weight: weight.shape },
  );
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
  /** As of `conv2d`. */
  readonly activation?: 'relu' | 'silu' | 'gelu' | null;
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
  const { stride = 1, padding = 0, dilation = 1, groups = 1, activation = null } = options;
  const row = (t: Tensor): Tensor => reshape(t, [t.shape[0], t.shape[1], 1, t.shape[2]]);
  return scope(() => {
    const y = conv2d(row(x), row(weight), bias, {
      stride: [1, stride],
      padding: [0, padding],
      dilation: [1, dilation],
      groups,
      activation,
    });
    return reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);
  });
}
