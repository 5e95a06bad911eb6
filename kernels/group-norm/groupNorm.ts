// Group norm, with SiLU in the same pass where it is asked for.

import { isFloat, show, sameShape, numelOf, DTypeError, ShapeError, ValueError } from '../../core/index.ts';
import type { FloatDType, Tensor } from '../../core/index.ts';
import { defineOp, dense, emptyTensor, grid1d } from '../../core/kit.ts';
import { chunkOf, normalise, normaliseBackward, planeStatistics, planeSums, type GroupNormVariant } from './source.ts';

/** What `groupNorm` takes. */
export interface GroupNormArguments {
  /** (N, C, …), f32 or f16. */
  readonly x: Tensor;
  /** Groups of neighbouring channels; they divide C. */
  readonly groups: number;
  /** (C), with `bias` or neither. Default none. */
  readonly weight?: Tensor | null;
  /** (C). */
  readonly bias?: Tensor | null;
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Applied to the result in the same pass. Default none. */
  readonly activation?: 'silu' | null;
}

interface Settings {
  readonly groups: number;
  readonly eps: number;
  readonly silu: boolean;
}

/** Invocations of a workgroup that share a plane on a GPU. */
const TEAM = 256;

interface Plan {
  readonly variant: GroupNormVariant;
  readonly params: readonly number[];
  readonly planes: readonly [number, number, number];
  readonly chunks: readonly [number, number, number];
}

function planOf(x: Tensor, weight: Tensor | null, { groups, eps, silu }: Settings): Plan {
  const [N, C] = x.shape;
  const plane = numelOf(x.shape.slice(2)),
    planes = N * C;
  const team = x.device.adapter.software ? 1 : plane >= 4 * TEAM ? TEAM : 64;
  const chunks = Math.ceil(plane / chunkOf(team));
  const grid = (items: number): [number, number, number] => grid1d(items, team === 1 ? 64 : 1);
  return {
    variant: { type: x.dtype as FloatDType, affine: (weight?.dtype as FloatDType | undefined) ?? null, silu, team },
    params: [planes, plane, C / groups, C, chunks, eps],
    planes: grid(planes),
    chunks: grid(planes * chunks),
  };
}

const groupNormOp = defineOp({
  name: 'groupNorm',
  firstDerivativeOnly: true,
  forward({ x, weight, bias }: { x: Tensor; weight: Tensor | null; bias: Tensor | null }, settings: Settings) {
    const { device } = x;
    const [given, w, b] = [dense(x), weight && dense(weight), bias && dense(bias)];
    const affine = w && b ? [w, b] : [];
    const plan = planOf(given, w, settings);
    const statistics = emptyTensor(device, [x.shape[0], x.shape[1], 2], 'f32');
    const y = emptyTensor(device, x.shape, x.dtype);
    if (y.numel) {
      device.run(planeStatistics, plan.variant, [given, statistics], plan.params, plan.planes);
      device.run(normalise, plan.variant, [given, statistics, y, ...affine], plan.params, plan.chunks);
    }
    return { out: y, saved: { x, weight, bias, statistics, settings } };
  },
  backward(g, { x, weight, bias, statistics, settings }, needs) {
    const { device } = x;
    const [given, gradient, w, b] = [dense(x), dense(g), weight && dense(weight), bias && dense(bias)];
    const affine = w && b ? [w, b] : [];
    const { variant, params, planes, chunks } = planOf(given, w, settings);
    const sums = emptyTensor(device, [x.shape[0], x.shape[1], 2], 'f32');
    const dx = needs.x ? emptyTensor(device, x.shape, x.dtype) : null;
    if (x.numel) {
      device.run(planeSums, variant, [given, statistics, gradient, sums, ...affine], params, planes);
      if (dx)
        device.run(normaliseBackward, variant, [given, statistics, gradient, sums, dx, ...affine], params, chunks);
    }
    const overSamples = (k: number): Tensor => sums.sum(0).select(1, k);
    return {
      x: dx,
      weight: needs.weight ? overSamples(1).cast(weight!.dtype) : null,
      bias: needs.bias ? overSamples(0).cast(bias!.dtype) : null,
    };
  },
});

/**
 * `y = act((x - mean) / √(var + eps) · weight + bias)`, mean and biased variance over the channels of a group and all
 * positions, weight and bias per channel, act SiLU or nothing (Wu and He, arXiv 1803.08494). (N, C, …) → (N, C, …); sums
 * are f32, in a fixed order. There is no second derivative.
 *
 * @throws ShapeError, DTypeError, ValueError
 */
export function groupNorm({
  x,
  groups,
  weight = null,
  bias = null,
  eps = 1e-5,
  activation = null,
}: GroupNormArguments): Tensor {
  if (x.ndim < 2) throw new ShapeError('groupNorm', `x has shape ${show(x.shape)}`, { expected: '(N, C, …)' });
  if (!isFloat(x.dtype))
    throw new DTypeError('groupNorm', `x is ${x.dtype}`, { expected: 'f32 or f16', remedy: 'cast() it' });
  const C = x.shape[1];
  if (!Number.isInteger(groups) || groups < 1 || C % groups)
    throw new ValueError('groupNorm', `is ${groups}`, { option: 'groups', expected: `a divisor of the ${C} channels` });
  if ((weight === null) !== (bias === null))
    throw new ValueError('groupNorm', 'Only one of weight and bias is given', { expected: 'both or neither' });
  for (const [name, t] of [
    ['weight', weight],
    ['bias', bias],
  ] as const) {
    if (!t) continue;
    if (!sameShape(t.shape, [C]))
      throw new ShapeError('groupNorm', `${name} has shape ${show(t.shape)}`, { expected: `(${C},)` });
    if (!isFloat(t.dtype) || t.dtype !== weight!.dtype)
      throw new DTypeError('groupNorm', `${name} is ${t.dtype}`, { expected: 'f32 or f16, as the other' });
  }
  if (activation !== null && activation !== 'silu')
    throw new ValueError('groupNorm', `is ${String(activation)}`, { option: 'activation', expected: 'silu or null' });
  return groupNormOp({ x, weight, bias }, { groups, eps, silu: activation === 'silu' });
}
