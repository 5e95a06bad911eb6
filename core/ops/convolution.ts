// A convolution and its adjoints as products of images: the convolution itself, its transpose (the gradient of the
// image) and the gradient of the weight. Each is linear in both of its tensors, and the derivatives of each are the
// other two, so that derivatives of all orders exist.
//
// No window is copied: the product reads pixels where they lie (core/gemm/image). Where groups have few channels,
// windows are unfolded instead, for a batch of small products.

import { defineOp } from '../autograd/defineOp.ts';
import { copyInto } from '../expr/elementwise.ts';
import { imageProduct, type GemmActivation, type WindowGrid } from '../gemm/index.ts';
import type { FloatDType } from '../tensor/dtype.ts';
import { emptyTensor } from '../tensor/make.ts';
import { numelOf, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { full } from './create.ts';
import { matmul } from './matmul.ts';
import { permute, reshape, transpose } from './movement.ts';
import { sum } from './reduce.ts';
import { foldOp, matrixShape, unfoldOp, type Windows } from './unfold.ts';

/** Where windows lie, and how channels are grouped. */
export interface Convolution {
  readonly w: Windows;
  readonly groups: number;
  /** (O, C/groups, kH, kW). */
  readonly weight: Shape;
}

/** Channels of a group, below which a product of images would be mostly edges. */
const FEW = 8;

/** Items of a batch of products that one dispatch takes, with K in parts. */
const MOST_ITEMS = 1000;

/** Whether windows are unfolded. */
function unfolds({ groups, weight, w }: Convolution): boolean {
  return (groups > 1 && (weight[0] / groups < FEW || weight[1] < FEW)) || groups * numelOf(w.kernel) > MOST_ITEMS;
}

const outputShape = ({ w, weight }: Convolution): number[] => [w.input[0], weight[0], ...w.output];

/** The windows of a convolution. */
function windowsOf({ w }: Convolution): WindowGrid {
  return {
    kernel: w.kernel,
    stride: w.stride,
    origin: [-w.padding[0], -w.padding[1]],
    step: w.dilation,
    grid: w.output,
  };
}

/** An image as a product takes it: row-major. */
function imageOf(x: Tensor): {
  storage: Tensor['storage'];
  offset: number;
  dtype: FloatDType;
  height: number;
  width: number;
} {
  const { storage, offset, dtype } = x;
  return { storage, offset, dtype: dtype as FloatDType, height: x.shape[2], width: x.shape[3] };
}

/** `weight` (O, C/groups, kH, kW) as a matrix for each group, with the result's channels or the image's as rows. */
function weightOf(weight: Tensor, { groups, weight: [O, C, height, width] }: Convolution, rows: 'outputs' | 'inputs') {
  const taps = height * width;
  const { storage, offset, dtype } = weight;
  const [row, channel] = rows === 'outputs' ? [C * taps, taps] : [taps, C * taps];
  return {
    storage,
    offset,
    dtype: dtype as FloatDType,
    group: (O / groups) * C * taps,
    row,
    channel,
    tap: [width, 1] as [number, number],
  };
}

interface Epilogue {
  readonly bias: Tensor | null;
  readonly activation: GemmActivation | null;
}

function biasOf(bias: Tensor | null): { storage: Tensor['storage']; offset: number; dtype: FloatDType } | null {
  if (!bias) return null;
  const { storage, offset, dtype } = bias.contiguous();
  return { storage, offset, dtype: dtype as FloatDType };
}

/** A vector of channels beside images. */
export const perChannel = (v: Tensor): Tensor => reshape(v, [1, v.shape[0], 1, 1]);

/** The convolution, with bias and activation in the same dispatch. */
function convolve(x: Tensor, weight: Tensor, c: Convolution, { bias, activation }: Epilogue): Tensor {
  const shape = outputShape(c);
  const y = emptyTensor(x.device, shape, x.dtype);
  const pixels = c.w.output[0] * c.w.output[1];
  imageProduct(x.device, {
    gives: 'pixels',
    batch: shape[0],
    groups: c.groups,
    rows: shape[1] / c.groups,
    channels: c.weight[1],
    windows: windowsOf(c),
    weight: weightOf(weight.contiguous(), c, 'outputs'),
    image: imageOf(x.contiguous()),
    result: {
      storage: y.storage,
      offset: 0,
      dtype: y.dtype as FloatDType,
      sample: shape[1] * pixels,
      channel: pixels,
      row: c.w.output[1],
      column: 1,
    },
    bias: biasOf(bias),
    activation,
  });
  return y;
}

/** Taps that reach a pixel of a class, from the last to the first, and where they find the result. */
interface Taps {
  readonly first: number;
  readonly by: number;
  readonly count: number;
  /** Row of the result that the first tap of the class' first pixel met, and what the next tap adds. */
  readonly origin: number;
  readonly step: number;
}

/**
 * Along a direction, pixel `stride · i + phase` of the image was met by tap u from result `(stride · i + phase + padding -
 * u · dilation) / stride`, where that is whole: for every `by`th tap.
 */
function tapsOf(phase: number, kernel: number, stride: number, padding: number, dilation: number): Taps {
  const meets = (u: number): boolean => (phase + padding - u * dilation) % stride === 0;
  const taps = Array.from({ length: kernel }, (_, u) => u).filter(meets);
  const [first = 0, second = first + 1] = taps;
  const by = second - first;
  return {
    first,
    by,
    count: taps.length,
    origin: (phase + padding - first * dilation) / stride,
    step: (-by * dilation) / stride,
  };
}

/**
 * The transpose: pixels of an image from the gradient of the result. A stride above 1 makes classes of pixels, each with
 * taps of its own: a product for each class, so that no product multiplies by zeros.
 */
function convolveTransposed(g: Tensor, weight: Tensor, c: Convolution, bias: Tensor | null): Tensor {
  const { input, kernel, stride, padding, dilation } = c.w;
  const [N, C, H, W] = input;
  const classes = [0, 1].map((d) =>
    Array.from({ length: Math.min(stride[d], input[2 + d]) }, (_, phase) => ({
      phase,
      ...tapsOf(phase, kernel[d], stride[d], padding[d], dilation[d]),
    })),
  );
  const empty = classes.flat().some(({ count }) => count === 0);
  // What no tap meets is the bias alone.
  const x = emptyTensor(g.device, input, g.dtype);
  if (empty) copyInto(x, bias ? perChannel(bias) : full(g.device, [1], 0, g.dtype));
  const image = imageOf(g.contiguous());
  const matrix = weightOf(weight.contiguous(), c, 'inputs');
  for (const y of classes[0])
    for (const across of classes[1]) {
      if (y.count === 0 || across.count === 0) continue;
      const grid = [Math.ceil((H - y.phase) / stride[0]), Math.ceil((W - across.phase) / stride[1])] as const;
      imageProduct(g.device, {
        gives: 'pixels',
        batch: N,
        groups: c.groups,
        rows: C / c.groups,
        channels: c.weight[0] / c.groups,
        windows: {
          kernel: [y.count, across.count],
          stride: [1, 1],
          origin: [y.origin, across.origin],
          step: [y.step, across.step],
          grid,
        },
        weight: {
          ...matrix,
          offset: matrix.offset + y.first * matrix.tap[0] + across.first,
          tap: [y.by * matrix.tap[0], across.by],
        },
        image,
        result: {
          storage: x.storage,
          offset: y.phase * W + across.phase,
          dtype: x.dtype as FloatDType,
          sample: C * H * W,
          channel: H * W,
          row: stride[0] * W,
          column: stride[1],
        },
        bias: biasOf(bias),
      });
    }
  return x;
}

/** The gradient of the weight, from the image and the gradient of the result. */
function correlate(x: Tensor, g: Tensor, c: Convolution): Tensor {
  const [O, C, ...kernel] = c.weight;
  const { groups } = c;
  const byTap = emptyTensor(x.device, [groups, ...kernel, O / groups, C], 'f32');
  imageProduct(x.device, {
    gives: 'weights',
    batch: x.shape[0],
    groups,
    rows: O / groups,
    channels: C,
    windows: windowsOf(c),
    gradient: imageOf(g.contiguous()),
    image: imageOf(x.contiguous()),
    result: { storage: byTap.storage },
  });
  return reshape(permute(byTap, [0, 3, 4, 1, 2]), c.weight).cast(x.dtype);
}

/** The same three by unfolded windows. */
const unfolded = {
  filters: (weight: Tensor, { groups }: Convolution): Tensor =>
    reshape(weight, [groups, weight.shape[0] / groups, numelOf(weight.shape.slice(1))]),
  columns(x: Tensor, { w, groups }: Convolution): Tensor {
    const [rows, columns] = matrixShape(w);
    return reshape(unfoldOp({ x }, w), [groups, rows / groups, columns]);
  },
  results: (g: Tensor, c: Convolution): Tensor =>
    reshape(permute(g, [1, 0, 2, 3]), [c.groups, c.weight[0] / c.groups, matrixShape(c.w)[1]]),
  convolve(x: Tensor, weight: Tensor, c: Convolution): Tensor {
    const y = matmul(this.filters(weight, c), this.columns(x, c));
    return permute(reshape(y, [c.weight[0], x.shape[0], ...c.w.output]), [1, 0, 2, 3]);
  },
  convolveTransposed(g: Tensor, weight: Tensor, c: Convolution): Tensor {
    const cols = matmul(transpose(this.filters(weight, c), 1, 2), this.results(g, c));
    return foldOp({ cols: reshape(cols, matrixShape(c.w)) }, c.w);
  },
  correlate(x: Tensor, g: Tensor, c: Convolution): Tensor {
    return reshape(matmul(this.results(g, c), transpose(this.columns(x, c), 1, 2)), c.weight);
  },
};

type Gradients<Name extends string> = Record<Name, Tensor | null>;

/** The convolution: x (N,C,H,W) and weight (O, C/groups, kH, kW) → (N,O,H',W'). */
export const convolutionOp = defineOp({
  name: 'conv2d',
  forward(
    { x, weight, bias }: { x: Tensor; weight: Tensor; bias: Tensor | null },
    { c, activation }: { c: Convolution; activation: GemmActivation | null },
  ) {
    const saved = { x, weight, c, biasType: bias?.dtype };
    if (!numelOf(outputShape(c))) return { out: emptyTensor(x.device, outputShape(c), x.dtype), saved };
    if (!unfolds(c) && weight.numel) return { out: convolve(x, weight, c, { bias, activation }), saved };
    const y = unfolded.convolve(x, weight, c);
    const out = bias ? y.add(perChannel(bias)).cast(x.dtype) : y;
    return { out: activation ? out[activation]() : out, saved };
  },
  backward: (g, { x, weight, c, biasType }, needs): Gradients<'x' | 'weight' | 'bias'> => ({
    x: needs.x ? transposedOp({ g, weight, bias: null }, c) : null,
    weight: needs.weight ? weightOp({ x, g }, c) : null,
    bias: needs.bias ? sum(g, [0, 2, 3]).cast(biasType!) : null,
  }),
});

/** The transpose: g (N,O,H',W') and the weight → (N,C,H,W). */
export const transposedOp = defineOp({
  name: 'convTranspose2d',
  forward({ g, weight, bias }: { g: Tensor; weight: Tensor; bias: Tensor | null }, c: Convolution) {
    const saved = { g, weight, c, biasType: bias?.dtype };
    if (!numelOf(c.w.input)) return { out: emptyTensor(g.device, c.w.input, g.dtype), saved };
    if (!unfolds(c) && g.numel && weight.numel) return { out: convolveTransposed(g, weight, c, bias), saved };
    const x = unfolded.convolveTransposed(g, weight, c);
    return { out: bias ? x.add(perChannel(bias)).cast(g.dtype) : x, saved };
  },
  backward: (dx, { g, weight, c, biasType }, needs): Gradients<'g' | 'weight' | 'bias'> => ({
    g: needs.g ? convolutionOp({ x: dx, weight, bias: null }, { c, activation: null }) : null,
    weight: needs.weight ? weightOp({ x: dx, g }, c) : null,
    bias: needs.bias ? sum(dx, [0, 2, 3]).cast(biasType!) : null,
  }),
});

/** The gradient of the weight: x (N,C,H,W) and g (N,O,H',W') → (O, C/groups, kH, kW). */
const weightOp = defineOp({
  name: 'conv2d gradient of the weight',
  forward({ x, g }: { x: Tensor; g: Tensor }, c: Convolution) {
    const saved = { x, g, c };
    if (!numelOf(c.weight) || !x.numel || !g.numel) return { out: full(x.device, c.weight, 0, x.dtype), saved };
    return { out: unfolds(c) ? unfolded.correlate(x, g, c) : correlate(x, g, c), saved };
  },
  backward: (dw, { x, g, c }, needs): Gradients<'x' | 'g'> => ({
    x: needs.x ? transposedOp({ g, weight: dw, bias: null }, c) : null,
    g: needs.g ? convolutionOp({ x, weight: dw, bias: null }, { c, activation: null }) : null,
  }),
});
