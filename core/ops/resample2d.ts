// Images in another size: nearest and bilinear interpolation, and means of windows that divide an image evenly. All are
// linear and separable: an element of the result is a sum over a few rows and columns of the image with weights from
// its position. The adjoint goes through the results that a pixel has a part in; so derivatives of all orders exist.

import { defineOp } from '../autograd/defineOp.ts';
import { ShapeError, ValueError } from '../errors.ts';
import { denseOperand } from '../expr/dense.ts';
import { grid1d } from '../gpu/grid.ts';
import { defineKernel } from '../gpu/kernel.ts';
import type { FloatDType } from '../tensor/dtype.ts';
import { emptyTensor } from '../tensor/make.ts';
import { show, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { checkFloat, pairOf, type Pair } from './unfold.ts';

type Mode = 'nearest' | 'bilinear' | 'corners' | 'mean';

/**
 * WGSL: `first(i)` and `last(i)`, the elements of the image that result i reads along a direction, `weight(i, u)`, what
 * element u counts there, and `least(u)` and `most(u)`, bounds of the results that read element u. `n` is the image's
 * size, `m` the result's.
 */
const RULES: Readonly<Record<Mode, string>> = {
  nearest: `
fn first(i: i32, n: i32, m: i32) -> i32 { return i * n / m; }
fn last(i: i32, n: i32, m: i32) -> i32 { return i * n / m; }
fn weight(i: i32, u: i32, n: i32, m: i32) -> f32 { return select(0.0, 1.0, i * n / m == u); }
fn least(u: i32, n: i32, m: i32) -> i32 { return (u * m + n - 1) / n; }
fn most(u: i32, n: i32, m: i32) -> i32 { return ((u + 1) * m + n - 1) / n - 1; }`,
  mean: `
fn first(i: i32, n: i32, m: i32) -> i32 { return i * n / m; }
fn last(i: i32, n: i32, m: i32) -> i32 { return ((i + 1) * n + m - 1) / m - 1; }
fn weight(i: i32, u: i32, n: i32, m: i32) -> f32 {
  let a = first(i, n, m);
  let b = last(i, n, m);
  return select(0.0, 1.0 / f32(b - a + 1), u >= a && u <= b);
}
fn least(u: i32, n: i32, m: i32) -> i32 { return u * m / n; }
fn most(u: i32, n: i32, m: i32) -> i32 { return ((u + 1) * m + n - 1) / n - 1; }`,
  bilinear: linear('max(0.0, (f32(i) + 0.5) * f32(n) / f32(m) - 0.5)'),
  corners: linear('f32(i) * f32(max(n - 1, 0)) / f32(max(m - 1, 1))'),
};

/** Linear interpolation at a position among the centres of the image's elements. */
function linear(position: string): string {
  return `
fn position(i: i32, n: i32, m: i32) -> f32 { return ${position}; }
fn first(i: i32, n: i32, m: i32) -> i32 { return min(i32(position(i, n, m)), n - 1); }
fn last(i: i32, n: i32, m: i32) -> i32 { return min(first(i, n, m) + 1, n - 1); }
fn weight(i: i32, u: i32, n: i32, m: i32) -> f32 {
  let a = first(i, n, m);
  if (a == n - 1) { return select(0.0, 1.0, u == a); }
  let beyond = position(i, n, m) - f32(a);
  return select(0.0, 1.0 - beyond, u == a) + select(0.0, beyond, u == a + 1);
}
// One more at both ends than needed: positions are rounded.
fn least(u: i32, n: i32, m: i32) -> i32 { return i32(floor((f32(u) - 1.0) * f32(m) / f32(n))) - 1; }
fn most(u: i32, n: i32, m: i32) -> i32 {
  return select(i32(ceil((f32(u) + 1.5) * f32(m) / f32(n))) + 1, m - 1, u == n - 1);
}`;
}

const GROUP = 64;

const resampleKernel = defineKernel<{ type: FloatDType; mode: Mode; adjoint: boolean }>(
  'resample2d',
  ({ type, mode, adjoint }) => {
    const [height, width] = adjoint ? ['H', 'W'] : ['OH', 'OW'];

    const bounds = (at: string, n: string, m: string): string =>
      adjoint
        ? `max(0, least(${at}, p.${n}, p.${m})), min(p.${m} - 1, most(${at}, p.${n}, p.${m}))`
        : `first(${at}, p.${n}, p.${m}), last(${at}, p.${n}, p.${m})`;
    const weight = (at: string, other: string, n: string, m: string): string =>
      `weight(${adjoint ? `${other}, ${at}` : `${at}, ${other}`}, p.${n}, p.${m})`;
    return {
      bindings: [
        { name: 'sourceValues', type: `array<${type}>`, access: 'read' },
        { name: 'targetValues', type: `array<${type}>`, access: 'write' },
      ],
      params: ['count', 'H', 'W', 'OH', 'OW'].map((name) => ({ name, type: 'i32' })),
      workgroupSize: [GROUP],
      enable: type === 'f16' ? ['f16'] : [],
      declarations: RULES[mode],
      body: `  let at = i32(flat);
  if (at >= p.count) { return; }
  let plane = at / (p.${height} * p.${width});
  let y = at / p.${width} % p.${height};
  let x = at % p.${width};
  let rows = vec2i(${bounds('y', 'H', 'OH')});
  let columns = vec2i(${bounds('x', 'W', 'OW')});
  var sum = 0.0;
  for (var row = rows.x; row <= rows.y; row++) {
    let down = ${weight('y', 'row', 'H', 'OH')};
    if (down == 0.0) { continue; }
    var line = 0.0;
    for (var column = columns.x; column <= columns.y; column++) {
      let across = ${weight('x', 'column', 'W', 'OW')};
      if (across != 0.0) {
        line += across * f32(sourceValues[(plane * ${adjoint ? 'p.OH' : 'p.H'} + row) * ${adjoint ? 'p.OW' : 'p.W'} + column]);
      }
    }
    sum += down * line;
  }
  targetValues[at] = ${type}(sum);`,
    };
  },
);

interface Resampling {
  readonly name: string;
  readonly mode: Mode;
  readonly input: Shape;
  readonly output: Shape;
  readonly adjoint: boolean;
}

const resampleOp = defineOp({
  name: ({ name, adjoint }: Resampling) => (adjoint ? `${name} backward` : name),
  forward({ x }: { x: Tensor }, resampling: Resampling) {
    const { mode, input, output, adjoint } = resampling;
    const out = emptyTensor(x.device, adjoint ? input : output, x.dtype);
    if (out.numel)
      x.device.run(
        resampleKernel,
        { type: x.dtype as FloatDType, mode, adjoint },
        [denseOperand(x), out],
        [out.numel, input[2], input[3], output[2], output[3]],
        grid1d(out.numel, GROUP),
      );
    return { out, saved: resampling };
  },
  backward: (g, resampling): { x: Tensor } => ({
    x: resampleOp({ x: g }, { ...resampling, adjoint: !resampling.adjoint }),
  }),
});

function resample(name: string, mode: Mode, x: Tensor, [height, width]: readonly [number, number]): Tensor {
  return resampleOp(
    { x },
    { name, mode, input: x.shape, output: [x.shape[0], x.shape[1], height, width], adjoint: false },
  );
}

function checkImage(op: string, x: Tensor): void {
  checkFloat(op, x);
  if (x.ndim !== 4 || x.shape[2] < 1 || x.shape[3] < 1)
    throw new ShapeError(op, `The image has shape ${show(x.shape)}`, { expected: '(N,C,H,W) with pixels' });
}

/** To which size an image is resampled, and how. */
export interface InterpolateOptions {
  /** Height and width of the result. Either this or `scaleFactor`. */
  readonly size?: Pair;
  /** The result's size is `⌊size · scaleFactor⌋`. One number, or one for each direction. */
  readonly scaleFactor?: Pair;
  /** Default `nearest`. */
  readonly mode?: 'nearest' | 'bilinear';
  /** Bilinear: whether the centres of the corner pixels, not the image's edges, meet those of the result. Default false. */
  readonly alignCorners?: boolean;
}

/**
 * Images in another size: (N,C,H,W) → (N,C,H',W') (PyTorch's `F.interpolate`, without antialiasing). Result i lies at
 * `(i + ½) H / H' - ½` of the image, at least 0, and is interpolated linearly (`bilinear`), or is pixel `⌊i H / H'⌋`
 * (`nearest`). With a scale factor, H / H' is taken from the sizes, as PyTorch does with `recompute_scale_factor`.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const { size, scaleFactor, mode = 'nearest', alignCorners = false } = options;
  checkImage('interpolate', x);
  if ((size === undefined) === (scaleFactor === undefined))
    throw new ValueError('interpolate', size === undefined ? 'No size is given' : 'size and scaleFactor are given', {
      expected: 'one of size and scaleFactor',
    });
  if (mode !== 'nearest' && mode !== 'bilinear')
    throw new ValueError('interpolate', `is ${String(mode)}`, { option: 'mode', expected: 'nearest or bilinear' });
  if (alignCorners && mode !== 'bilinear')
    throw new ValueError('interpolate', 'is true', { option: 'alignCorners', expected: 'the mode bilinear' });
  const factors = typeof scaleFactor === 'number' ? [scaleFactor, scaleFactor] : scaleFactor;
  if (factors && !factors.every((f) => Number.isFinite(f) && f > 0))
    throw new ValueError('interpolate', `is ${show(factors)}`, { option: 'scaleFactor', expected: 'numbers above 0' });
  const wanted = factors ? ([0, 1] as const).map((d) => Math.floor(x.shape[2 + d] * factors[d])) : size!;
  const output = pairOf('interpolate', 'size', wanted as Pair, 1);
  return resample('interpolate', alignCorners ? 'corners' : mode, x, output);
}

/**
 * Means of windows that cover the image evenly, whatever its size: (N,C,H,W) → (N,C,H',W'). Result i is the mean of rows
 * `⌊i H / H'⌋` to `⌈(i+1) H / H'⌉ - 1`, and so for columns (PyTorch's `F.adaptive_avg_pool2d`).
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: Pair): Tensor {
  checkImage('adaptiveAvgPool2d', x);
  return resample('adaptiveAvgPool2d', 'mean', x, pairOf('adaptiveAvgPool2d', 'outputSize', outputSize, 1));
}
