// Improved precision and recall: how many pictures of one set lie within the other set's neighbourhoods.

import { ValueError } from '../../core/errors.ts';
import { arange, concat, eye, keep, noGrad, scope, tensor, type Device, type Tensor } from '../../core/index.ts';
import { breather } from './breather.ts';
import { checkSets, rowsOf, type FeatureSet } from './features.ts';

/** How large the neighbourhoods are. */
export interface PrecisionRecallOptions {
  /** Which neighbour's distance is the radius. Default 3. */
  readonly neighbours?: number;
  readonly signal?: AbortSignal;
}

/** How far samples are like the data, and cover it; both from 0 to 1. */
export interface PrecisionRecall {
  /** Share of the samples that lie within the data: are they like it? */
  readonly precision: number;
  /** Share of the data that lies within the samples: do they cover it? */
  readonly recall: number;
}

/** Rows of a block: a block of distances is 16 MiB. */
const BLOCK = 2048;

/** More than any distance, and less than f32's largest number even when a distance is added. */
const FAR = 1e38;

/**
 * Precision and recall of `samples` against `data`. A picture lies within a set where its distance to one of the set's
 * pictures is at most that picture's distance to its k-th nearest neighbour in the set, itself not counted. Distances
 * are Euclidean, computed in f32. Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), §2.
 *
 * @throws ShapeError, ValueError; what the signal was aborted with
 */
export async function precisionRecall(
  device: Device,
  samples: FeatureSet,
  data: FeatureSet,
  { neighbours = 3, signal }: PrecisionRecallOptions = {},
): Promise<PrecisionRecall> {
  if (!(Number.isInteger(neighbours) && neighbours >= 1))
    throw new ValueError('precisionRecall', `is ${neighbours}`, {
      option: 'neighbours',
      expected: 'a whole number from 1 on',
    });
  checkSets('precisionRecall', samples, data, neighbours + 1);
  // Distances are the same from any origin; near the data they lose no digits.
  const origin = meanOf(data);
  using a = new Blocks(device, samples, origin);
  using b = new Blocks(device, data, origin);
  const precision = await within(a, await b.radii(neighbours, signal), b, signal);
  const recall = await within(b, await a.radii(neighbours, signal), a, signal);
  return { precision, recall };
}

function meanOf({ count, dim, data }: FeatureSet): Float64Array {
  const mean = new Float64Array(dim);
  for (let i = 0, at = 0; i < count; i++) for (let j = 0; j < dim; j++, at++) mean[j] += data[at] / count;
  return mean;
}

/** Features as tensors of at most so many rows each, with the squares of their lengths. */
class Blocks {
  readonly count: number;
  readonly rows: Tensor[] = [];
  private readonly device: Device;
  private readonly squares: Tensor[] = [];

  constructor(device: Device, set: FeatureSet, origin: Float64Array) {
    this.count = set.count;
    this.device = device;
    for (let begin = 0; begin < set.count; begin += BLOCK) {
      const end = Math.min(set.count, begin + BLOCK);
      const moved = Float32Array.from(rowsOf(set, begin, end), (value, i) => value - origin[i % set.dim]);
      const rows = keep(tensor(device, moved, { shape: [end - begin, set.dim] }));
      this.rows.push(rows);
      this.squares.push(keep(noGrad(() => scope(() => rows.square().sum(1)))));
    }
  }

  /** Squared distances of all pairs of two blocks: (rows of i, rows of `other`'s j). */
  distances(i: number, other: Blocks, j: number): Tensor {
    const products = this.rows[i].matmul(other.rows[j].T).mul(-2);
    return products.add(this.squares[i].unsqueeze(1)).add(other.squares[j]).clamp(0, FAR);
  }

  /** The squared distance of each picture to its k-th neighbour, a tensor for each block. */
  async radii(k: number, signal?: AbortSignal): Promise<Tensor[]> {
    const pause = breather(signal);
    const radii: Tensor[] = [];
    try {
      for (let i = 0; i < this.rows.length; i++) {
        const count = this.rows[i].shape[0];
        const nearest = new Float32Array(count * k).fill(Infinity);
        for (let j = 0; j < this.rows.length; j++) {
          const found = noGrad(() =>
            scope(() => {
              const distances = this.distances(i, this, j);
              return smallest(i === j ? distances.add(eye(this.device, count).mul(FAR)) : distances, k);
            }),
          );
          // (k or fewer, count)
          merge(nearest, (await found.data()) as Float32Array, count, k);
          found.dispose();
          const wait = pause();
          if (wait) await wait;
        }
        const last = Float32Array.from({ length: count }, (_, row) => nearest[row * k + k - 1]);
        radii.push(keep(tensor(this.device, last)));
      }
      return radii;
    } catch (error) {
      for (const each of radii) each.dispose();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const each of [...this.rows, ...this.squares]) each.dispose();
  }
}

/** (≤ k, rows): the smallest values of each row, ascending. */
function smallest(distances: Tensor, k: number): Tensor {
  const [rows, columns] = distances.shape;
  const places = arange(distances.device, 0, columns, 1, 'i32');
  const found: Tensor[] = [];
  let rest = distances;
  for (let n = 0; n < Math.min(k, columns); n++) {
    found.push(rest.min(1).reshape(1, rows));
    // The nearest is put out of reach.
    if (n < k - 1) rest = rest.add(places.eq(rest.argmin(1).unsqueeze(1)).cast('f32').mul(FAR)).clamp(0, FAR);
  }
  return found.length === 1 ? found[0] : concat(found, 0);
}

/** Merges ascending values, (n, rows), into each row's k smallest, (rows, k). */
function merge(nearest: Float32Array, found: Float32Array, rows: number, k: number): void {
  for (let row = 0; row < rows; row++)
    for (let at = row; at < found.length; at += rows) {
      let place = row * k + k - 1;
      if (found[at] >= nearest[place]) break;
      for (; place > row * k && nearest[place - 1] > found[at]; place--) nearest[place] = nearest[place - 1];
      nearest[place] = found[at];
    }
}

/** Share of `asked` that lies within the radii of `set`, which are disposed of. */
async function within(asked: Blocks, radii: Tensor[], set: Blocks, signal?: AbortSignal): Promise<number> {
  const pause = breather(signal);
  let inside = 0;
  try {
    for (let i = 0; i < asked.rows.length; i++) {
      const hits = noGrad(() =>
        scope(() =>
          radii
            .map((radius, j) => asked.distances(i, set, j).le(radius).cast('f32').max(1))
            .reduce((any, next) => any.maximum(next))
            .sum(),
        ),
      );
      inside += await hits.item();
      hits.dispose();
      const wait = pause();
      if (wait) await wait;
    }
  } finally {
    for (const each of radii) each.dispose();
  }
  return inside / asked.count;
}
