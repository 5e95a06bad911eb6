// The public causal convolution and its place on the autograd tape.

import {
  DTypeError,
  empty,
  sameShape,
  ShapeError,
  show,
  ValueError,
  type FloatDType,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, type Operand } from '../../core/kit.ts';
import type { Direction } from '../direction.ts';
import { bindRows as bound, partOf, rowsOf } from '../rows.ts';
import { CHANNELS, convBackwardKernel, convForwardKernel, stretchOf, type ConvVariant, type Pass } from './kernels.ts';
import { convReduce } from './reduce.ts';

/** Arguments of `causalConv1d`. */
export interface CausalConv1dOptions {
  /** (B, L, D) f32 or f16. May be columns of a wider array. */
  readonly x: Tensor;
  /** (D, W), W from 2 to 4; the last tap is for the token itself. */
  readonly weight: Tensor;
  /** (D) */
  readonly bias?: Tensor | null;
  /** Default none. */
  readonly activation?: 'silu' | null;
  /** `reverse` uses later tokens, not earlier ones. */
  readonly direction?: Direction;
}

interface Config {
  readonly silu: boolean;
  readonly direction: Direction;
}

/**
 * Depthwise causal convolution over time, with zeros before the first token:
 *
 *     out[b,t,d] = act(bias[d] + Σ_w weight[d,w] x[b, t - (W-1-w), d])
 *
 * Shapes: x, out (B, L, D); weight (D, W); bias (D). `direction: 'reverse'` has x[b, t + (W-1-w), d] there: the same as
 * flipping time before and after. Sums are f32. The gradient is deterministic; there is no second derivative. Source:
 * causal-conv1d of Mamba (arXiv 2312.00752).
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function causalConv1d({
  x,
  weight,
  bias = null,
  activation = null,
  direction = 'forward',
}: CausalConv1dOptions): Tensor {
  if (x.ndim !== 3 || x.numel === 0)
    throw new ShapeError('causalConv1d', `x has shape ${show(x.shape)}`, {
      expected: '(batch, length, channels), none of them 0',
    });
  if (x.dtype !== 'f32' && x.dtype !== 'f16')
    throw new DTypeError('causalConv1d', `x is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast it' });
  const channels = x.shape[2];
  const width = weight.shape[1];
  if (weight.ndim !== 2 || weight.shape[0] !== channels)
    throw new ShapeError('causalConv1d', `weight has shape ${show(weight.shape)}`, {
      expected: `(${channels}, width), the first the channels of x`,
    });
  if (width < 2 || width > 4)
    throw new ValueError('causalConv1d', `weight has width ${width}`, {
      expected: '2, 3 or 4',
      remedy: 'use conv1d for others',
    });
  if (bias && !sameShape(bias.shape, [channels]))
    throw new ShapeError('causalConv1d', `bias has shape ${show(bias.shape)}`, {
      expected: `(${channels},), the channels of x`,
    });
  return convOp({ x, weight, bias }, { silu: activation === 'silu', direction });
}

interface ConvTensors {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor | null;
}

const convOp = defineOp({
  name: 'causalConv1d',
  firstDerivativeOnly: true,
  forward(tensors: ConvTensors, config: Config) {
    const { x } = tensors;
    const { variant, inputs, params, groups } = launch('forward', config, tensors);
    const out = empty(x.device, x.shape, x.dtype);
    x.device.run(convForwardKernel, variant, [...inputs, out], params, groups);
    return { out, saved: { tensors, config } };
  },
  backward(dout, { tensors, config }) {
    const { x, bias } = tensors;
    const { device } = x;
    const { variant, inputs, params, groups } = launch('backward', config, tensors);
    const [batch, , channels] = x.shape;
    const parts = batch * groups[1];
    const { width } = variant;
    const dx = empty(device, x.shape, x.dtype);
    const sums = empty(device, [parts, width + 1, channels]);
    const upstream = rowsOf(dout.cast(x.dtype));
    device.run(
      convBackwardKernel,
      variant,
      [...inputs, bound(upstream), dx, sums],
      [...params, upstream.offset, upstream.row],
      groups,
    );
    const out = empty(device, [(width + 1) * channels]);
    convReduce(device, sums, out, { parts, sets: 1, width, channels });
    return {
      x: dx,
      weight: partOf(out, [channels, width], 0),
      bias: bias && partOf(out, [channels], width * channels),
    };
  },
});

function launch(
  pass: Pass,
  { silu, direction }: Config,
  { x, weight, bias }: ConvTensors,
): { variant: ConvVariant; inputs: Operand[]; params: number[]; groups: [number, number, number] } {
  const [batch, length, channels] = x.shape;
  const rows = rowsOf(x);
  const stretch = stretchOf(x.device, pass, { batch, length, channels });
  const stretches = Math.ceil(length / stretch);
  return {
    variant: { width: weight.shape[1], dtype: x.dtype as FloatDType, direction, stretch, bias: bias !== null, silu },
    inputs: [bound(rows), dense(weight.cast('f32')), ...(bias ? [dense(bias.cast('f32'))] : [])],
    params: [length, channels, rows.offset, rows.row, stretches],
    groups: [Math.ceil(channels / CHANNELS), stretches, batch],
  };
}
