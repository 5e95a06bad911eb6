// Windows of an image as the columns of a matrix, and back. unfold and fold are each other's adjoint, so that each is the other's
// derivative and all orders exist.

import { defineOp } from '../autograd.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { defineKernel, grid1d } from '../kernel.ts';
import { sameShape, show, type Shape } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { lazyOp } from './lazyOp.ts';
import { denseOperand } from './reduce.ts';

/** One number for both directions, or (height, width). */
export type Pair = number | readonly [number, number];

export interface WindowOptions {
  /** Step between windows. Default 1. */
  readonly stride?: Pair;
  /** Zeros around the input. Default 0. */
  readonly padding?: Pair;
  /** Step between the elements of a window. Default 1. */
  readonly dilation?: Pair;
}

/** @internal Where windows lie in an image. */
export interface Windows {
  readonly input: Shape;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly output: readonly [number, number];
  /** The matrix's rows hold all of the batch, (C·K, N·L), in place of one matrix a sample, (N, C·K, L). */
  readonly joined: boolean;
}

const DIMS = ['C', 'H', 'W', 'OH', 'OW', 'KH', 'KW', 'SH', 'SW', 'PH', 'PW', 'DH', 'DW', 'sampleStep', 'rowStep'] as const;

/** Numbers that both kernels take, in the order of DIMS. */
function dims({ input: [N, C, H, W], kernel, stride, padding, dilation, output, joined }: Windows): number[] {
  const places = output[0] * output[1];
  const [sampleStep, rowStep] = joined ? [places, N * places] : [C * kernel[0] * kernel[1] * places, places];
  return [C, H, W, ...output, ...kernel, ...stride, ...padding, ...dilation, sampleStep, rowStep];
}

const dimParams = DIMS.map((name) => ({ name, type: 'i32' as const }));

interface Variant { readonly type: 'f32' | 'f16' }

/** An invocation per element of the matrix. */
const unfoldKernel = defineKernel<Variant>('unfold', ({ type }) => ({
  bindings: [{ name: 'x', type: `array<${type}>`, access: 'read' }, { name: 'cols', type: `array<${type}>`, access: 'write' }],
  params: [{ name: 'n', type: 'u32' }, ...dimParams, { name: 'offset', type: 'i32' }, ...[0, 1, 2, 3].map((d) => ({ name: `q${d}`, type: 'i32' as const }))],
  workgroupSize: [64],
  enable: type === 'f16' ? ['f16'] : [],
  body: `
if (flat >= p.n) { return; }
var rest = i32(flat);
let ox = rest % p.OW; rest /= p.OW;
let oy = rest % p.OH; rest /= p.OH;
let kx = rest % p.KW; rest /= p.KW;
let ky = rest % p.KH; rest /= p.KH;
let c = rest % p.C;
let sample = rest / p.C;
let y = oy * p.SH - p.PH + ky * p.DH;
let at = ox * p.SW - p.PW + kx * p.DW;
var v = ${type}(0);
if (y >= 0 && y < p.H && at >= 0 && at < p.W) { v = x[p.offset + sample * p.q0 + c * p.q1 + y * p.q2 + at * p.q3]; }
cols[sample * p.sampleStep + ((c * p.KH + ky) * p.KW + kx) * p.rowStep + oy * p.OW + ox] = v;`,
}));

/** An invocation per element of the image gathers from the windows that hold it: no atomics, a fixed order. */
const foldKernel = defineKernel<Variant>('fold', ({ type }) => ({
  bindings: [{ name: 'cols', type: `array<${type}>`, access: 'read' }, { name: 'x', type: `array<${type}>`, access: 'write' }],
  params: [{ name: 'n', type: 'u32' }, ...dimParams],
  workgroupSize: [64],
  enable: type === 'f16' ? ['f16'] : [],
  body: `
if (flat >= p.n) { return; }
var rest = i32(flat);
let at = rest % p.W + p.PW; rest /= p.W;
let y = rest % p.H + p.PH; rest /= p.H;
let c = rest % p.C;
let sample = rest / p.C;
var sum = 0f;
for (var ky = 0; ky < p.KH; ky++) {
  let fromY = y - ky * p.DH;
  if (fromY < 0 || fromY % p.SH != 0 || fromY / p.SH >= p.OH) { continue; }
  for (var kx = 0; kx < p.KW; kx++) {
    let fromX = at - kx * p.DW;
    if (fromX < 0 || fromX % p.SW != 0 || fromX / p.SW >= p.OW) { continue; }
    sum += f32(cols[sample * p.sampleStep + ((c * p.KH + ky) * p.KW + kx) * p.rowStep + fromY / p.SH * p.OW + fromX / p.SW]);
  }
}
x[flat] = ${type}(sum);`,
}));

/** @internal Shape of the unfolded windows. */
export function matrixShape({ input: [N, C], kernel, output, joined }: Windows): Shape {
  const rows = C * kernel[0] * kernel[1], places = output[0] * output[1];
  return joined ? [rows, N * places] : [N, rows, places];
}

/** @internal */
export const unfoldOp: (x: Tensor, w: Windows) => Tensor = lazyOp(() => defineOp<[Tensor, Windows], Tensor>({
  name: 'unfold',
  forward(ctx, x, w) {
    ctx.state.windows = w;
    const cols = Tensor.empty(x.device, matrixShape(w), x.dtype);
    if (cols.numel) {
      x.device.run(unfoldKernel, { type: x.dtype as 'f32' }, [{ storage: x.storage, byteOffset: 0 }, cols],
        [cols.numel, ...dims(w), x.offset, ...x.strides], grid1d(cols.numel, 64));
    }
    return cols;
  },
  backward: (ctx, d) => [foldOp(d!, ctx.state.windows as Windows), null],
}));

/** @internal */
export const foldOp: (cols: Tensor, w: Windows) => Tensor = lazyOp(() => defineOp<[Tensor, Windows], Tensor>({
  name: 'fold',
  forward(ctx, cols, w) {
    ctx.state.windows = w;
    const x = Tensor.empty(cols.device, w.input, cols.dtype);
    if (x.numel) x.device.run(foldKernel, { type: x.dtype as 'f32' }, [denseOperand(cols), x], [x.numel, ...dims(w)], grid1d(x.numel, 64));
    return x;
  },
  backward: (ctx, d) => [unfoldOp(d!, ctx.state.windows as Windows), null],
}));

/** @internal A number for both directions, or one for each, checked. */
export function pairOf(op: string, name: string, value: Pair, least: number): readonly [number, number] {
  const [a, b] = typeof value === 'number' ? [value, value] : value;
  if (![a, b].every((v) => Number.isInteger(v) && v >= least)) throw new ValueError(`[${op}] ${name} is ${show([a, b])}, expected whole numbers from ${least} on.`);
  return [a, b];
}

/** @internal Checks the numbers and counts the places of the window. */
export function windows(op: string, input: Shape, kernelSize: Pair, options: WindowOptions, joined: boolean): Windows {
  const kernel = pairOf(op, 'kernelSize', kernelSize, 1), stride = pairOf(op, 'stride', options.stride ?? 1, 1);
  const padding = pairOf(op, 'padding', options.padding ?? 0, 0), dilation = pairOf(op, 'dilation', options.dilation ?? 1, 1);
  if (input.length !== 4) throw new ShapeError(`[${op}] The image has shape ${show(input)}, expected (N,C,H,W).`);
  const output = [0, 1].map((d) => Math.floor((input[2 + d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d]) + 1) as [number, number];
  if (output.some((size) => size < 1)) throw new ShapeError(`[${op}] A window of ${show(kernel)} with dilation ${show(dilation)} doesn't fit an image of shape ${show(input)} with padding ${show(padding)}.`);
  return { input: [...input], kernel, stride, padding, dilation, output, joined };
}

/** @internal */
export function checkFloat(op: string, x: Tensor): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`[${op}] The type is ${x.dtype}, expected f32 or f16; cast() it.`);
}

/**
 * Windows of an image as columns: (N,C,H,W) → (N, C·kH·kW, L), L = number of places of the window, in row-major order
 * (PyTorch's `F.unfold`). What a window reads outside of the image is 0.
 */
export function unfold(x: Tensor, kernelSize: Pair, options: WindowOptions = {}): Tensor {
  checkFloat('unfold', x);
  return unfoldOp(x, windows('unfold', x.shape, kernelSize, options, false));
}

/**
 * Adds columns up into an image of (H, W): the adjoint of `unfold`, (N, C·kH·kW, L) → (N,C,H,W) (PyTorch's `F.fold`).
 *
 * @throws ShapeError when L isn't the number of places of the window
 */
export function fold(cols: Tensor, outputSize: Pair, kernelSize: Pair, options: WindowOptions = {}): Tensor {
  checkFloat('fold', cols);
  const size = pairOf('fold', 'outputSize', outputSize, 1), kernel = pairOf('fold', 'kernelSize', kernelSize, 1);
  const channels = cols.shape[1] / (kernel[0] * kernel[1]);
  if (cols.ndim !== 3 || !Number.isInteger(channels)) throw new ShapeError(`[fold] The columns have shape ${show(cols.shape)}, expected (N, C·${kernel[0] * kernel[1]}, L).`);
  const w = windows('fold', [cols.shape[0], channels, ...size], kernel, options, false);
  if (!sameShape(cols.shape, matrixShape(w))) throw new ShapeError(`[fold] The columns have shape ${show(cols.shape)}, expected ${show(matrixShape(w))} for an image of ${show(size)}.`);
  return foldOp(cols, w);
}
