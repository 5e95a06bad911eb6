// Windows of an image as the columns of a matrix, and back. unfold and fold are each other's adjoint, so that each is
// the other's derivative and all orders exist.

import { defineOp } from '../autograd/defineOp.ts';
import { isFloat, type FloatDType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { sameShape, show, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { denseOperand } from '../expr/dense.ts';

/** One number for both directions, or (height, width). */
export type Pair = number | readonly [number, number];

/** How windows move over an image. */
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

/** What is fixed at compile time: divisions by constants are cheap, by parameters they would take most of the time. */
interface Variant {
  readonly type: FloatDType;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly dilation: readonly [number, number];
}

const variantOf = (x: Tensor, { kernel, stride, dilation }: Windows): Variant => ({
  type: x.dtype as 'f32',
  kernel,
  stride,
  dilation,
});

const constants = ({ kernel, stride, dilation }: Variant): string =>
  Object.entries({ KERNEL: kernel, STRIDE: stride, DILATION: dilation })
    .map(([name, [y, x]]) => `const ${name}_Y = ${y}; const ${name}_X = ${x};`)
    .join('\n');

const GROUP = 64;
/** Neighbours that an invocation works on, so that one division finds the place of all. */
const RUN = 4;

/** Workgroups for `columns` × `rows` elements; the kernels go on in steps of the grid where there are more. */
const grid = (columns: number, rows: number): [number, number] => [
  Math.min(65535, Math.ceil(columns / (GROUP * RUN))),
  Math.min(65535, rows),
];

/** The matrix, row by row: a row is one element of the window, its columns are the places of all samples. */
const unfoldKernel = defineKernel<Variant>('unfold', (v) => ({
  bindings: [
    { name: 'x', type: `array<${v.type}>`, access: 'read' },
    { name: 'cols', type: `array<${v.type}>`, access: 'write' },
  ],
  params: [
    'rows',
    'columns',
    'places',
    'OW',
    'H',
    'W',
    'padY',
    'padX',
    'rowStep',
    'sampleStep',
    'offset',
    'q0',
    'q1',
    'q2',
    'q3',
  ].map((name) => ({ name, type: 'i32' as const })),
  workgroupSize: [GROUP],
  enable: v.type === 'f16' ? ['f16'] : [],
  declarations: constants(v),
  body: `
for (var row = i32(wid.y); row < p.rows; row += i32(nwg.y)) {
  let c = row / (KERNEL_Y * KERNEL_X);
  let down = row / KERNEL_X % KERNEL_Y * DILATION_Y - p.padY;
  let right = row % KERNEL_X * DILATION_X - p.padX;
  for (var first = i32(wid.x * ${GROUP}u + li) * ${RUN}; first < p.columns; first += i32(nwg.x) * ${GROUP * RUN}) {
    var sample = first / p.places;
    var place = first - sample * p.places;
    var oy = place / p.OW;
    var ox = place - oy * p.OW;
    ${Array.from(
      { length: RUN },
      (_, k) => `if (first + ${k} < p.columns) {
      let y = oy * STRIDE_Y + down;
      let at = ox * STRIDE_X + right;
      var value = ${v.type}(0);
      if (y >= 0 && y < p.H && at >= 0 && at < p.W) { value = x[p.offset + sample * p.q0 + c * p.q1 + y * p.q2 + at * p.q3]; }
      cols[sample * p.sampleStep + row * p.rowStep + place] = value;
      place++;
      ox++;
      if (ox == p.OW) { ox = 0; oy++; }
      if (place == p.places) { place = 0; oy = 0; sample++; }
    }`,
    ).join('\n')}
  }
}`,
}));

/** The image, channel by channel. Each element gathers from the windows that hold it: no atomics, a fixed order. */
const foldKernel = defineKernel<Variant>('fold', (v) => ({
  bindings: [
    { name: 'cols', type: `array<${v.type}>`, access: 'read' },
    { name: 'x', type: `array<${v.type}>`, access: 'write' },
  ],
  params: ['channels', 'pixels', 'area', 'W', 'OH', 'OW', 'padY', 'padX', 'rowStep', 'sampleStep'].map((name) => ({
    name,
    type: 'i32' as const,
  })),
  workgroupSize: [GROUP],
  enable: v.type === 'f16' ? ['f16'] : [],
  declarations: constants(v),
  body: `
for (var c = i32(wid.y); c < p.channels; c += i32(nwg.y)) {
  for (var first = i32(wid.x * ${GROUP}u + li) * ${RUN}; first < p.pixels; first += i32(nwg.x) * ${GROUP * RUN}) {
    var sample = first / p.area;
    var place = first - sample * p.area;
    var y = place / p.W;
    var at = place - y * p.W;
    for (var k = 0; k < ${RUN} && first + k < p.pixels; k++) {
      let base = sample * p.sampleStep + c * (KERNEL_Y * KERNEL_X) * p.rowStep;
      var sum = 0f;
      for (var ky = 0; ky < KERNEL_Y; ky++) {
        let fromY = y + p.padY - ky * DILATION_Y;
        if (fromY < 0 || fromY % STRIDE_Y != 0 || fromY / STRIDE_Y >= p.OH) { continue; }
        for (var kx = 0; kx < KERNEL_X; kx++) {
          let fromX = at + p.padX - kx * DILATION_X;
          if (fromX < 0 || fromX % STRIDE_X != 0 || fromX / STRIDE_X >= p.OW) { continue; }
          sum += f32(cols[base + (ky * KERNEL_X + kx) * p.rowStep + fromY / STRIDE_Y * p.OW + fromX / STRIDE_X]);
        }
      }
      x[(sample * p.channels + c) * p.area + place] = ${v.type}(sum);
      place++;
      at++;
      if (at == p.W) { at = 0; y++; }
      if (place == p.area) { place = 0; y = 0; sample++; }
    }
  }
}`,
}));

/** Elements from one row of the matrix to the next, and from one sample to the next. */
function steps({ input: [N, C], kernel, output, joined }: Windows): [rowStep: number, sampleStep: number] {
  const places = output[0] * output[1];
  return joined ? [N * places, places] : [places, C * kernel[0] * kernel[1] * places];
}

/** @internal Shape of the unfolded windows. */
export function matrixShape({ input: [N, C], kernel, output, joined }: Windows): Shape {
  const rows = C * kernel[0] * kernel[1],
    places = output[0] * output[1];
  return joined ? [rows, N * places] : [N, rows, places];
}

/** @internal */
export const unfoldOp = defineOp({
  name: 'unfold',
  forward({ x }: { x: Tensor }, w: Windows) {
    const cols = emptyTensor(x.device, matrixShape(w), x.dtype);
    if (cols.numel) {
      const {
        input: [N, C, H, W],
        kernel,
        padding,
        output,
      } = w;
      const rows = C * kernel[0] * kernel[1],
        places = output[0] * output[1];
      x.device.run(
        unfoldKernel,
        variantOf(x, w),
        [{ storage: x.storage, byteOffset: 0 }, cols],
        [rows, N * places, places, output[1], H, W, ...padding, ...steps(w), x.offset, ...x.strides],
        grid(N * places, rows),
      );
    }
    return { out: cols, saved: { w } };
  },
  backward: (g, { w }) => ({ x: foldOp({ cols: g }, w) }),
});

/** @internal */
export const foldOp = defineOp({
  name: 'fold',
  forward({ cols }: { cols: Tensor }, w: Windows) {
    const x = emptyTensor(cols.device, w.input, cols.dtype);
    if (x.numel) {
      const {
        input: [N, C, H, W],
        padding,
        output,
      } = w;
      x.device.run(
        foldKernel,
        variantOf(x, w),
        [denseOperand(cols), x],
        [C, N * H * W, H * W, W, ...output, ...padding, ...steps(w)],
        grid(N * H * W, C),
      );
    }
    return { out: x, saved: { w } };
  },
  backward: (g, { w }): { cols: Tensor } => ({ cols: unfoldOp({ x: g }, w) }),
});

/** @internal A number for both directions, or one for each, checked. */
export function pairOf(op: string, name: string, value: Pair, least: number): readonly [number, number] {
  const [a, b] = typeof value === 'number' ? [value, value] : value;
  if (![a, b].every((v) => Number.isInteger(v) && v >= least))
    throw new ValueError(op, `is ${show([a, b])}`, { option: name, expected: `whole numbers from ${least} on` });
  return [a, b];
}

/** @internal Checks the numbers and counts the places of the window. */
export function windows(op: string, input: Shape, kernelSize: Pair, options: WindowOptions, joined: boolean): Windows {
  const kernel = pairOf(op, 'kernelSize', kernelSize, 1),
    stride = pairOf(op, 'stride', options.stride ?? 1, 1);
  const padding = pairOf(op, 'padding', options.padding ?? 0, 0),
    dilation = pairOf(op, 'dilation', options.dilation ?? 1, 1);
  if (input.length !== 4) throw new ShapeError(op, `The image has shape ${show(input)}`, { expected: '(N,C,H,W)' });
  const output = [0, 1].map(
    (d) => Math.floor((input[2 + d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d]) + 1,
  ) as [number, number];
  if (output.some((size) => size < 1))
    throw new ShapeError(
      op,
      `A window of ${show(kernel)} with dilation ${show(dilation)} doesn't fit an image of shape ${show(input)} ` +
        `with padding ${show(padding)}`,
    );
  return { input: [...input], kernel, stride, padding, dilation, output, joined };
}

/** @internal */
export function checkFloat(op: string, x: Tensor): void {
  if (!isFloat(x.dtype))
    throw new DTypeError(op, `The type is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
}

/**
 * Windows of an image as columns: (N,C,H,W) → (N, C·kH·kW, L), L = number of places of the window, in row-major order
 * (PyTorch's `F.unfold`). What a window reads outside of the image is 0.
 */
export function unfold(x: Tensor, kernelSize: Pair, options: WindowOptions = {}): Tensor {
  checkFloat('unfold', x);
  return unfoldOp({ x }, windows('unfold', x.shape, kernelSize, options, false));
}

/**
 * Adds columns up into an image of (H, W): the adjoint of `unfold`, (N, C·kH·kW, L) → (N,C,H,W) (PyTorch's `F.fold`).
 *
 * @throws ShapeError when L isn't the number of places of the window
 */
export function fold(cols: Tensor, outputSize: Pair, kernelSize: Pair, options: WindowOptions = {}): Tensor {
  checkFloat('fold', cols);
  const size = pairOf('fold', 'outputSize', outputSize, 1),
    kernel = pairOf('fold', 'kernelSize', kernelSize, 1);
  const channels = cols.shape[1] / (kernel[0] * kernel[1]);
  if (cols.ndim !== 3 || !Number.isInteger(channels))
    throw new ShapeError('fold', `The columns have shape ${show(cols.shape)}`, {
      expected: `(N, C·${kernel[0] * kernel[1]}, L)`,
    });
  const w = windows('fold', [cols.shape[0], channels, ...size], kernel, options, false);
  if (!sameShape(cols.shape, matrixShape(w)))
    throw new ShapeError('fold', `The columns have shape ${show(cols.shape)}`, {
      expected: `${show(matrixShape(w))} for an image of ${show(size)}`,
    });
  return foldOp({ cols }, w);
}
