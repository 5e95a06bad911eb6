// Pooling: the largest value or the mean of each window of each channel. Both backward passes are gathers in a fixed
// order, and linear: a mean's is the adjoint of the mean, a maximum's follows the places that the maxima came from. So
// derivatives of all orders exist.

import { defineOp } from '../autograd/defineOp.ts';
import { DTypeError, ShapeError } from '../errors.ts';
import { denseOperand } from '../expr/dense.ts';
import { wgslMath } from '../expr/wgslMath.ts';
import { grid1d } from '../gpu/grid.ts';
import { defineKernel, type KernelParam } from '../gpu/kernel.ts';
import { isFloat, type FloatDType } from '../tensor/dtype.ts';
import { emptyTensor } from '../tensor/make.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { pairOf, windows, type Pair, type WindowOptions, type Windows } from './unfold.ts';

/** How windows move over an image. */
export interface PoolOptions extends WindowOptions {
  /** Step between windows. Default the window's size: windows side by side. */
  readonly stride?: Pair;
}

/** How windows move over an image, and what their mean counts. */
export interface AvgPoolOptions extends PoolOptions {
  /** Whether zeros of the padding count in the mean. Default true, as in PyTorch. */
  readonly countIncludePad?: boolean;
}

/** What is fixed when a kernel is compiled: divisions by constants are cheap. */
interface Variant extends Pick<Windows, 'kernel' | 'stride' | 'dilation'> {
  readonly type: FloatDType;
  readonly countPad: boolean;
}

const variantOf = (x: Tensor, { kernel, stride, dilation }: Windows, countPad = true): Variant => ({
  type: x.dtype as FloatDType,
  kernel,
  stride,
  dilation,
  countPad,
});

const GROUP = 64;

const PARAMS: readonly KernelParam[] = ['count', 'H', 'W', 'OH', 'OW', 'padY', 'padX'].map((name) => ({
  name,
  type: 'i32',
}));

const numbers = (count: number, { input: [, , H, W], output, padding }: Windows): number[] => [
  count,
  H,
  W,
  ...output,
  ...padding,
];

/** Shared by the kernels: where windows lie, and how many of their elements count. */
const declarations = ({ kernel, stride, dilation, countPad }: Variant): string => `
const KERNEL = vec2i(${kernel[0]}, ${kernel[1]});
const STRIDE = vec2i(${stride[0]}, ${stride[1]});
const DILATION = vec2i(${dilation[0]}, ${dilation[1]});
// Elements of a window along one direction that lie in an image of the size.
fn within(begin: i32, kernel: i32, dilation: i32, size: i32) -> i32 {
  var n = 0;
  for (var t = 0; t < kernel; t++) { let at = begin + t * dilation; if (at >= 0 && at < size) { n++; } }
  return n;
}
fn share(o: vec2i, pad: vec2i, size: vec2i) -> f32 {
  ${
    countPad
      ? `return ${1 / (kernel[0] * kernel[1])};`
      : `let begin = o * STRIDE - pad;
  return 1.0 / f32(max(1, within(begin.x, KERNEL.x, DILATION.x, size.x) * within(begin.y, KERNEL.y, DILATION.y, size.y)));`
  }
}`;

/** The head of a kernel with an invocation for each place (plane, y, x) of a tensor of planes. */
const place = (height: string, width: string): string => `  let at = i32(flat);
  if (at >= p.count) { return; }
  let plane = at / (p.${height} * p.${width});
  let y = at / p.${width} % p.${height};
  let x = at % p.${width};`;

/** Goes through the elements of the window of result (y, x) that lie in the image. */
const overWindow = (text: string): string => `  for (var u = 0; u < KERNEL.x; u++) {
    let row = y * STRIDE.x + u * DILATION.x - p.padY;
    if (row < 0 || row >= p.H) { continue; }
    for (var v = 0; v < KERNEL.y; v++) {
      let column = x * STRIDE.y + v * DILATION.y - p.padX;
      if (column < 0 || column >= p.W) { continue; }
      ${text}
    }
  }`;

/** Goes through the windows, results (oy, ox), that hold pixel (y, x). */
const overHolders = (text: string): string => `  for (var u = 0; u < KERNEL.x; u++) {
    let down = y + p.padY - u * DILATION.x;
    if (down < 0 || down % STRIDE.x != 0 || down / STRIDE.x >= p.OH) { continue; }
    let oy = down / STRIDE.x;
    for (var v = 0; v < KERNEL.y; v++) {
      let right = x + p.padX - v * DILATION.y;
      if (right < 0 || right % STRIDE.y != 0 || right / STRIDE.y >= p.OW) { continue; }
      let ox = right / STRIDE.y;
      ${text}
    }
  }`;

const common = (variant: Variant) =>
  ({
    params: PARAMS,
    workgroupSize: [GROUP],
    enable: variant.type === 'f16' ? (['f16'] as const) : [],
  }) as const;

const maxKernel = defineKernel<Variant & { indexed: boolean }>('maxPool2d', (variant) => ({
  ...common(variant),
  bindings: [
    { name: 'image', type: `array<${variant.type}>`, access: 'read' },
    { name: 'result', type: `array<${variant.type}>`, access: 'write' },
    ...(variant.indexed ? [{ name: 'places', type: 'array<u32>', access: 'write' } as const] : []),
  ],
  declarations: `${wgslMath(['nan'])}${declarations(variant)}`,
  body: `${place('OH', 'OW')}
  var best = bitcast<f32>(0xff800000u | u32(p.count >> 31u)); // -∞, which is no constant
  var origin = -1;
${overWindow(`let value = f32(image[(plane * p.H + row) * p.W + column]);
      if (origin < 0 || value > best || (mathNan(value) && !mathNan(best))) { best = value; origin = row * p.W + column; }`)}
  result[at] = ${variant.type}(best);
  ${variant.indexed ? 'places[at] = u32(origin);' : ''}`,
}));

/** `spread`: image from results, each to the place that it came from. */
const spreadKernel = defineKernel<Variant>('maxPool2d.spread', (variant) => ({
  ...common(variant),
  bindings: [
    { name: 'result', type: `array<${variant.type}>`, access: 'read' },
    { name: 'places', type: 'array<u32>', access: 'read' },
    { name: 'image', type: `array<${variant.type}>`, access: 'write' },
  ],
  declarations: declarations(variant),
  body: `${place('H', 'W')}
  let own = u32(y * p.W + x);
  var sum = 0.0;
${overHolders(`let o = (plane * p.OH + oy) * p.OW + ox;
      if (places[o] == own) { sum += f32(result[o]); }`)}
  image[at] = ${variant.type}(sum);`,
}));

/** The adjoint of `spread`. */
const pickKernel = defineKernel<{ type: FloatDType }>('maxPool2d.pick', ({ type }) => ({
  bindings: [
    { name: 'image', type: `array<${type}>`, access: 'read' },
    { name: 'places', type: 'array<u32>', access: 'read' },
    { name: 'result', type: `array<${type}>`, access: 'write' },
  ],
  params: ['count', 'perPlane', 'pixels'].map((name) => ({ name, type: 'u32' })),
  workgroupSize: [GROUP],
  enable: type === 'f16' ? ['f16'] : [],
  body: `  if (flat >= p.count) { return; }
  let origin = places[flat];
  result[flat] = ${type}(0);
  if (origin < p.pixels) { result[flat] = image[flat / p.perPlane * p.pixels + origin]; }`,
}));

const meanKernel = defineKernel<Variant & { adjoint: boolean }>('avgPool2d', (variant) => ({
  ...common(variant),
  bindings: [
    { name: variant.adjoint ? 'result' : 'image', type: `array<${variant.type}>`, access: 'read' },
    { name: variant.adjoint ? 'image' : 'result', type: `array<${variant.type}>`, access: 'write' },
  ],
  declarations: declarations(variant),
  body: `${variant.adjoint ? place('H', 'W') : place('OH', 'OW')}
  let pad = vec2i(p.padY, p.padX);
  let size = vec2i(p.H, p.W);
  var sum = 0.0;
${
  variant.adjoint
    ? `${overHolders('sum += f32(result[(plane * p.OH + oy) * p.OW + ox]) * share(vec2i(oy, ox), pad, size);')}
  image[at] = ${variant.type}(sum);`
    : `${overWindow('sum += f32(image[(plane * p.H + row) * p.W + column]);')}
  result[at] = ${variant.type}(sum * share(vec2i(y, x), pad, size));`
}`,
}));

const outputShape = ({ input: [N, C], output }: Windows): number[] => [N, C, ...output];

const maxOp = defineOp({
  name: 'maxPool2d',
  forward({ x }: { x: Tensor }, w: Windows, needs) {
    const out = emptyTensor(x.device, outputShape(w), x.dtype);
    const places = needs.x ? emptyTensor(x.device, out.shape, 'u32') : null;
    if (out.numel)
      x.device.run(
        maxKernel,
        { ...variantOf(x, w), indexed: needs.x },
        [denseOperand(x), out, ...(places ? [places] : [])],
        numbers(out.numel, w),
        grid1d(out.numel, GROUP),
      );
    return { out, saved: { places, w } };
  },
  backward: (g, { places, w }) => ({ x: spreadOp({ g }, { places: places!, w }) }),
});

const spreadOp = defineOp({
  name: 'maxPool2d backward',
  forward({ g }: { g: Tensor }, { places, w }: { places: Tensor; w: Windows }) {
    const out = emptyTensor(g.device, w.input, g.dtype);
    if (out.numel)
      g.device.run(
        spreadKernel,
        variantOf(g, w),
        [denseOperand(g), places, out],
        numbers(out.numel, w),
        grid1d(out.numel, GROUP),
      );
    return { out, saved: { places, w } };
  },
  backward: (v, { places, w }): { g: Tensor } => ({ g: pickOp({ v }, { places, w }) }),
});

const pickOp = defineOp({
  name: 'maxPool2d second derivative',
  forward({ v }: { v: Tensor }, { places, w }: { places: Tensor; w: Windows }) {
    const out = emptyTensor(v.device, outputShape(w), v.dtype);
    if (out.numel)
      v.device.run(
        pickKernel,
        { type: v.dtype as FloatDType },
        [denseOperand(v), places, out],
        [out.numel, w.output[0] * w.output[1], w.input[2] * w.input[3]],
        grid1d(out.numel, GROUP),
      );
    return { out, saved: { places, w } };
  },
  backward: (g, { places, w }): { v: Tensor } => ({ v: spreadOp({ g }, { places, w }) }),
});

interface Mean {
  readonly w: Windows;
  readonly countPad: boolean;
  readonly adjoint: boolean;
}

const meanOp = defineOp({
  name: ({ adjoint }: Mean) => (adjoint ? 'avgPool2d backward' : 'avgPool2d'),
  forward({ x }: { x: Tensor }, mean: Mean) {
    const { w, countPad, adjoint } = mean;
    const out = emptyTensor(x.device, adjoint ? w.input : outputShape(w), x.dtype);
    if (out.numel)
      x.device.run(
        meanKernel,
        { ...variantOf(x, w, countPad), adjoint },
        [denseOperand(x), out],
        numbers(out.numel, w),
        grid1d(out.numel, GROUP),
      );
    return { out, saved: mean };
  },
  backward: (g, mean): { x: Tensor } => ({ x: meanOp({ x: g }, { ...mean, adjoint: !mean.adjoint }) }),
});

/** The windows of a pooling, checked. */
function pooled(op: string, x: Tensor, kernelSize: Pair, options: PoolOptions): Windows {
  if (!isFloat(x.dtype))
    throw new DTypeError(op, `The type is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
  const w = windows(op, x.shape, kernelSize, { ...options, stride: options.stride ?? kernelSize }, false);
  if (w.padding.some((pad, d) => 2 * pad > w.kernel[d]))
    throw new ShapeError(op, `padding is ${show(w.padding)}`, {
      expected: `at most half of the window ${show(pairOf(op, 'kernelSize', kernelSize, 1))}`,
    });
  return w;
}

/**
 * The largest value of each window: (N,C,H,W) → (N,C,H',W'), with H' as for `conv2d`. Padding counts as -∞, a NaN as the
 * largest value. The first of equal largest values gets the gradient (PyTorch's `F.max_pool2d`).
 *
 * @throws ShapeError when a window could lie in the padding alone, DTypeError, ValueError
 */
export function maxPool2d(x: Tensor, kernelSize: Pair, options: PoolOptions = {}): Tensor {
  return maxOp({ x }, pooled('maxPool2d', x, kernelSize, options));
}

/**
 * The mean of each window: (N,C,H,W) → (N,C,H',W'), with H' as for `conv2d`. Padding counts as zeros, or with
 * `countIncludePad: false` not at all (PyTorch's `F.avg_pool2d`).
 *
 * @throws ShapeError when a window could lie in the padding alone, DTypeError, ValueError
 */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: AvgPoolOptions = {}): Tensor {
  const { countIncludePad = true, ...rest } = options;
  return meanOp({ x }, { w: pooled('avgPool2d', x, kernelSize, rest), countPad: countIncludePad, adjoint: false });
}
