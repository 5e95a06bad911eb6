// Kernel Inception distance: the squared maximum mean discrepancy with a polynomial kernel, over random subsets.

import { ValueError } from '../../core/errors.ts';
import { keep, noGrad, scope, zeros, type Device, type Tensor } from '../../core/index.ts';
import { HashStream } from '../data/hash.ts';
import { breather } from './breather.ts';
import { checkSets, type FeatureSet } from './features.ts';

/** How many subsets are drawn, and how large they are. */
export interface KidOptions {
  /** Default 100. */
  readonly subsets?: number;
  /** Pictures of each set in a subset; see {@link kidSubsetSize} for the default. */
  readonly subsetSize?: number;
  /** Chooses the subsets. Default 0. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/** A kernel distance: mean and deviation over subsets. */
export interface KernelDistance {
  readonly mean: number;
  /** Standard deviation over the subsets. */
  readonly deviation: number;
  readonly subsets: number;
  readonly subsetSize: number;
}

/**
 * 1,000 where the smaller set has more pictures than that; else half of it, since subsets that are the whole set have
 * no deviation.
 */
export function kidSubsetSize(smaller: number): number {
  return smaller > 1000 ? 1000 : Math.max(2, Math.floor(smaller / 2));
}

/** Places of the pictures of subset `index`, drawn without replacement; `set` is 0 or 1. */
export function kidSubset(count: number, size: number, seed: number, index: number, set: 0 | 1): Uint32Array {
  const random = new HashStream(seed, index, set);
  const places = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = 0; i < size; i++) {
    const j = i + random.below(count - i);
    [places[i], places[j]] = [places[j], places[i]];
  }
  return places.subarray(0, size);
}

/**
 * KID: the unbiased estimate of `E k(x,x') + E k(y,y') - 2 E k(x,y)` with `k(x,y) = (x·y/D + 1)³`, mean and deviation
 * over subsets. Kernels are computed in f32 on the GPU, sums of rows are added in float64. It may be negative. Source:
 * Bińkowski et al. 2018 (arXiv 1801.01401), §3.
 *
 * @throws ShapeError, ValueError; what the signal was aborted with
 */
export async function kernelDistance(
  device: Device,
  a: FeatureSet,
  b: FeatureSet,
  options: KidOptions = {},
): Promise<KernelDistance> {
  checkSets('kernelDistance', a, b, 2);
  const smaller = Math.min(a.count, b.count);
  const { subsets = 100, subsetSize = kidSubsetSize(smaller), seed = 0, signal } = options;
  const refuse = (option: string, value: number, expected: string): never => {
    throw new ValueError('kernelDistance', `is ${value}`, { option, expected });
  };
  if (!(Number.isInteger(subsets) && subsets >= 1)) refuse('subsets', subsets, 'a whole number from 1 on');
  if (!(Number.isInteger(subsetSize) && subsetSize >= 2 && subsetSize <= smaller))
    refuse('subsetSize', subsetSize, `a whole number from 2 to ${smaller}, the pictures of the smaller set`);
  const pause = breather(signal);
  const { dim } = a;
  const shape = [subsetSize, dim];
  const x = keep(zeros(device, shape)),
    y = keep(zeros(device, shape));
  const found: number[] = [];
  try {
    for (let index = 0; index < subsets; index++) {
      x.write(pick(a, kidSubset(a.count, subsetSize, seed, index, 0)));
      y.write(pick(b, kidSubset(b.count, subsetSize, seed, index, 1)));
      const rows = noGrad(() => scope(() => kernelSums(x, y)));
      found.push(discrepancy((await rows.data()) as Float32Array, subsetSize));
      rows.dispose();
      const wait = pause();
      if (wait) await wait;
    }
  } finally {
    x.dispose();
    y.dispose();
  }
  const mean = found.reduce((sum, value) => sum + value, 0) / subsets;
  const deviation = Math.sqrt(found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / subsets);
  return { mean, deviation, subsets, subsetSize };
}

function pick({ data, dim }: FeatureSet, places: Uint32Array): Float32Array {
  const rows = new Float32Array(places.length * dim);
  places.forEach((place, i) => rows.set(data.subarray(place * dim, (place + 1) * dim), i * dim));
  return rows;
}

/** (m): for each row, its sum of `k(x,x) + k(y,y) - 2 k(x,y)`, the diagonals of the first two left out. */
function kernelSums(x: Tensor, y: Tensor): Tensor {
  const [m, dim] = x.shape;
  // k - 1: what all have in common would cost digits.
  const kernel = (u: Tensor, v: Tensor): Tensor => {
    const s = u.matmul(v.T).div(dim);
    return s.mul(s.mul(s.add(3)).add(3));
  };
  const own = (u: Tensor): Tensor => {
    const s = u.square().sum(1).div(dim);
    return kernel(u, u)
      .sum(1)
      .sub(s.mul(s.mul(s.add(3)).add(3)));
  };
  return own(x)
    .add(own(y))
    .div(m - 1)
    .sub(
      kernel(x, y)
        .sum(1)
        .mul(2 / m),
    );
}

/** The constant 1 of the kernels cancels. */
function discrepancy(rows: Float32Array, m: number): number {
  let sum = 0;
  for (const row of rows) sum += row;
  return sum / m;
}
