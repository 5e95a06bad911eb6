// Measures between sets of features in float64, as their papers write them: no blocks, nothing rearranged.

export interface Rows {
  readonly count: number;
  readonly dim: number;
  readonly data: ArrayLike<number>;
}

const row = ({ data, dim }: Rows, i: number): number[] => Array.from({ length: dim }, (_, j) => data[i * dim + j]);

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);

export function statistics(set: Rows): { mean: number[]; covariance: number[] } {
  const { count, dim } = set;
  const mean = Array.from({ length: dim }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += set.data[i * dim + j];
    return sum / count;
  });
  const covariance: number[] = [];
  for (let a = 0; a < dim; a++)
    for (let b = 0; b < dim; b++) {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += (set.data[i * dim + a] - mean[a]) * (set.data[i * dim + b] - mean[b]);
      covariance.push(sum / (count - 1));
    }
  return { mean, covariance };
}

/** The unbiased squared maximum mean discrepancy of the pictures at the given places. */
export function polynomialMmd(x: Rows, y: Rows, ofX: ArrayLike<number>, ofY: ArrayLike<number>): number {
  const kernel = (a: readonly number[], b: readonly number[]): number => (dot(a, b) / x.dim + 1) ** 3;
  const xs = Array.from(ofX, (i) => row(x, i)),
    ys = Array.from(ofY, (i) => row(y, i));
  const within = (rows: readonly number[][]): number => {
    let sum = 0;
    rows.forEach((a, i) => rows.forEach((b, j) => (sum += i === j ? 0 : kernel(a, b))));
    return sum / (rows.length * (rows.length - 1));
  };
  let between = 0;
  for (const a of xs) for (const b of ys) between += kernel(a, b);
  return within(xs) + within(ys) - (2 * between) / (xs.length * ys.length);
}

/** Share of `asked` within the k-nearest-neighbour balls of `set`. */
export function shareWithin(asked: Rows, set: Rows, k: number): number {
  const distance = (a: readonly number[], b: readonly number[]): number =>
    Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0));
  const rows = Array.from({ length: set.count }, (_, i) => row(set, i));
  const radii = rows.map(
    (a, i) =>
      rows
        .filter((_, j) => j !== i)
        .map((b) => distance(a, b))
        .sort((p, q) => p - q)[k - 1],
  );
  let inside = 0;
  for (let i = 0; i < asked.count; i++) {
    const a = row(asked, i);
    if (rows.some((b, j) => distance(a, b) <= radii[j])) inside++;
  }
  return inside / asked.count;
}

/** exp of the mean divergence of each row from the mean row. */
export function inceptionScoreOf(probabilities: readonly (readonly number[])[]): number {
  const marginal = probabilities[0].map(
    (_, c) => probabilities.reduce((sum, p) => sum + p[c], 0) / probabilities.length,
  );
  const divergences = probabilities.map((p) =>
    p.reduce((sum, value, c) => sum + (value > 0 ? value * (Math.log(value) - Math.log(marginal[c])) : 0), 0),
  );
  return Math.exp(divergences.reduce((sum, value) => sum + value, 0) / divergences.length);
}
