// Add + norm as differentiable operations: the addition to the residual stream and the norm after it, in one pass
// forward and one backward.

import {
  DTypeError,
  isFloat,
  numelOf,
  sameShape,
  ShapeError,
  show,
  zeros,
  type DType,
  type Shape,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, emptyTensor } from '../../core/kit.ts';
import { normConfig, type NormConfig } from './config.ts';
import { normBackward, normForward, normPartials } from './launch.ts';

/** Arguments of `addRmsNorm` and `addLayerNorm`. */
export interface AddNormArgs {
  /** (..., width), f32 or f16. */
  readonly x: Tensor;
  /** (x.shape[0]) f32: each sample of x is first multiplied by its factor, as in stochastic depth. Gets no gradient. */
  readonly factors?: Tensor | null;
  /** Of x's shape. Is added to x before the norm. */
  readonly residual?: Tensor | null;
  /** (width). */
  readonly weight?: Tensor | null;
  /** (width). */
  readonly bias?: Tensor | null;
  /** Default 1e-5. */
  readonly eps?: number;
  /** Return x + residual, too. */
  readonly prenorm?: boolean;
  /** Store x + residual in f32 even where x and residual are f16. */
  readonly residualInF32?: boolean;
  /** How teams of invocations share the rows; the default suits the adapter. */
  readonly config?: NormConfig;
}

/** Result with `prenorm`: the normalised rows, and x + residual for the next block. */
export interface PrenormResult {
  readonly y: Tensor;
  readonly residualOut: Tensor;
}

/**
 * `y = h / sqrt(mean(h^2) + eps) * weight + bias` over the last axis, with `h = factors x + residual` (Zhang and
 * Sennrich, arXiv 1910.07467, after the addition of a pre-norm block). Sums are taken in f32; y has x's type.
 *
 * @returns y, of x's shape; with `prenorm` { y, residualOut: h }
 * @throws ShapeError, DTypeError
 */
export function addRmsNorm(args: AddNormArgs & { readonly prenorm: true }): PrenormResult;
export function addRmsNorm(args: AddNormArgs & { readonly prenorm?: false }): Tensor;
export function addRmsNorm(args: AddNormArgs): Tensor | PrenormResult {
  return addNorm('addRmsNorm', 'rms', args);
}

/**
 * `y = (h - mean(h)) / sqrt(var(h) + eps) * weight + bias` over the last axis, with `h = factors x + residual` and the
 * biased variance (Ba, Kiros and Hinton, arXiv 1607.06450). Sums are taken in f32; y has x's type.
 *
 * @returns y, of x's shape; with `prenorm` { y, residualOut: h }
 * @throws ShapeError, DTypeError
 */
export function addLayerNorm(args: AddNormArgs & { readonly prenorm: true }): PrenormResult;
export function addLayerNorm(args: AddNormArgs & { readonly prenorm?: false }): Tensor;
export function addLayerNorm(args: AddNormArgs): Tensor | PrenormResult {
  return addNorm('addLayerNorm', 'layer', args);
}

function addNorm(op: string, norm: 'rms' | 'layer', args: AddNormArgs): Tensor | PrenormResult {
  const {
    x,
    factors = null,
    residual = null,
    weight = null,
    bias = null,
    eps = 1e-5,
    prenorm = false,
    residualInF32 = false,
  } = args;
  check(op, args);
  const width = x.shape[x.ndim - 1];
  const residualType: DType = residualInF32 || x.dtype === 'f32' || residual?.dtype === 'f32' ? 'f32' : 'f16';
  const settings = {
    op,
    norm,
    rows: numelOf(x.shape.slice(0, -1)),
    width,
    eps,
    prenorm,
    residualType,
    config: args.config ?? normConfig(x.device, width),
  };
  const { y, residualOut } = normOp({ x, residual, weight, bias }, { ...settings, factors });
  return prenorm ? { y, residualOut: residualOut! } : y;
}

function check(op: string, { x, factors, residual, weight, bias }: AddNormArgs): void {
  if (x.ndim === 0 || x.shape[x.ndim - 1] === 0)
    throw new ShapeError(op, `x has shape ${show(x.shape)}`, { expected: '(..., width) with at least one column' });
  if (residual && !sameShape(residual.shape, x.shape))
    throw new ShapeError(op, `residual has shape ${show(residual.shape)}`, {
      expected: `the shape of x ${show(x.shape)}`,
    });
  if (factors && !(sameShape(factors.shape, x.shape.slice(0, 1)) && factors.dtype === 'f32'))
    throw new ShapeError(op, `factors are ${factors.dtype} of shape ${show(factors.shape)}`, {
      expected: `f32 of shape ${show(x.shape.slice(0, 1))}, one for each sample of x ${show(x.shape)}`,
    });
  const columns: Shape = [x.shape[x.ndim - 1]];
  for (const [name, t] of Object.entries({ weight, bias })) {
    if (t && !sameShape(t.shape, columns))
      throw new ShapeError(op, `${name} has shape ${show(t.shape)}`, {
        expected: `${show(columns)}, the last axis of x ${show(x.shape)}`,
      });
  }
  for (const [name, t] of Object.entries({ x, residual, weight, bias })) {
    if (t && !isFloat(t.dtype))
      throw new DTypeError(op, `${name} has dtype ${t.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it first' });
  }
}

interface Settings {
  readonly op: string;
  readonly norm: 'rms' | 'layer';
  readonly rows: number;
  readonly width: number;
  readonly eps: number;
  readonly prenorm: boolean;
  readonly residualType: DType;
  readonly factors: Tensor | null;
  readonly config: NormConfig;
}

interface NormTensors {
  readonly x: Tensor;
  readonly residual: Tensor | null;
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
}

const normOp = defineOp({
  name: ({ op }: Settings) => op,
  firstDerivativeOnly: true,
  forward(given: NormTensors, settings: Settings, needs) {
    const { norm, rows, width, eps, prenorm, residualType, factors, config } = settings;
    const x = dense(given.x);
    const [residual, weight, bias] = [given.residual, given.weight, given.bias].map((t) => t && dense(t));
    const { device, shape } = x;
    const y = emptyTensor(device, shape, x.dtype);
    // Without anything to add, multiply or convert, h is x.
    const converted = residual || factors || x.dtype !== residualType;
    const written = prenorm && converted ? emptyTensor(device, shape, residualType) : null;
    const training = Object.values(needs).some(Boolean);
    const stats = training ? emptyTensor(device, [rows, factors ? 4 : 2], 'f32') : null;
    normForward(
      device,
      {
        norm,
        rows,
        width,
        eps,
        x,
        factors: factors && dense(factors),
        samples: factors?.numel,
        residual,
        weight,
        bias,
        y,
        residualOut: written,
        stats,
      },
      config,
    );
    const types = [given.x, given.residual, given.weight, given.bias].map((t) => t?.dtype ?? 'f32');
    const order = factors && (written ? ('after' as const) : ('before' as const));
    return {
      out: { y, residualOut: prenorm ? (written ?? x.detach()) : null },
      // What was added is part of what was written.
      saved: { h: written ?? x, stats, residual: written ? null : residual, weight, settings, order, types },
    };
  },
  backward({ y: dy, residualOut: dresidual }, { h, stats, residual, weight, settings, order, types }, needs) {
    if (!dy && !order) return { x: dresidual, residual: dresidual };
    const { norm, rows, width, config } = settings;
    const { device, shape } = h;
    const dx = emptyTensor(device, shape, types[0]);
    const apart = needs.residual && (order || types[1] !== types[0]) ? emptyTensor(device, shape, types[1]) : null;
    const dweight = needs.weight ? emptyTensor(device, [width], types[2]) : null;
    const dbias = needs.bias ? emptyTensor(device, [width], types[3]) : null;
    const dims = { norm, rows, width };
    const sums = Number(dweight !== null) + Number(dbias !== null);
    const partial = sums > 0 ? emptyTensor(device, [Math.max(1, normPartials(config, dims, sums))], 'f32') : null;
    normBackward(
      device,
      {
        ...dims,
        h,
        residual,
        factors: order,
        weight,
        stats: stats!,
        dy: dense(dy ?? zeros(device, shape, types[0])),
        dresidualOut: dresidual && dense(dresidual),
        dx,
        dresidual: apart,
        partial,
        dweight,
        dbias,
      },
      config,
    );
    return { x: dx, residual: needs.residual ? (apart ?? dx) : null, weight: dweight, bias: dbias };
  },
});
