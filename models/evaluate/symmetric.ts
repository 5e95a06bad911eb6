// Symmetric matrices in float64 on the host: a pivoted Cholesky factor and eigenvalues. Written here because the
// library that was measured, ml-matrix, computes eigenvectors too: 78 s of CPU for one decomposition at 2048×2048.

import { breather } from './breather.ts';

/** A square matrix, row after row. */
export interface SquareMatrix {
  readonly size: number;
  readonly data: Float64Array;
}

/**
 * Rows u_0 … u_{r-1} (r × n, row-major) with `a = Σ_i u_i u_iᵀ` for a positive semi-definite `a`: the pivoted Cholesky
 * factor, transposed, with columns in `a`'s order. It ends where the rest of the trace is rounding error, so that
 * r is the rank as far as float64 can tell. Source: Higham, "Analysis of the Cholesky decomposition of a
 * semi-definite matrix", 1990.
 */
export async function pivotedCholesky(
  { size: n, data: a }: SquareMatrix,
  signal?: AbortSignal,
): Promise<{ rank: number; rows: Float64Array }> {
  const pause = breather(signal);
  const rest = Float64Array.from({ length: n }, (_, i) => a[i * n + i]);
  let largest = 0;
  for (const value of rest) largest = Math.max(largest, value);
  const limit = n * Number.EPSILON * largest;
  const rows = new Float64Array(n * n);
  // A pivot that was taken is left at zero.
  const open = new Uint8Array(n).fill(1);
  let rank = 0;
  for (; rank < n; rank++) {
    let pivot = -1;
    for (let i = 0; i < n; i++) if (open[i] && (pivot < 0 || rest[i] > rest[pivot])) pivot = i;
    if (!(rest[pivot] > limit)) break;
    const row = rows.subarray(rank * n, (rank + 1) * n);
    for (let j = 0; j < n; j++) row[j] = open[j] ? a[pivot * n + j] : 0;
    for (let k = 0; k < rank; k++) {
      const factor = rows[k * n + pivot];
      if (factor !== 0) for (let j = 0, p = k * n; j < n; j++, p++) row[j] -= factor * rows[p];
      const wait = pause();
      if (wait) await wait;
    }
    const root = Math.sqrt(rest[pivot]);
    for (let j = 0; j < n; j++) {
      // Those that were pivots before have nothing left.
      row[j] = open[j] ? row[j] / root : 0;
      rest[j] -= row[j] * row[j];
    }
    row[pivot] = root;
    open[pivot] = 0;
  }
  return { rank, rows: rows.subarray(0, rank * n) };
}

/** `u s uᵀ` for u (r × n) and a symmetric s (n × n): r × r. */
export async function congruence(
  u: Float64Array,
  rank: number,
  { size: n, data: s }: SquareMatrix,
  signal?: AbortSignal,
): Promise<SquareMatrix> {
  const pause = breather(signal);
  const result = new Float64Array(rank * rank);
  const product = new Float64Array(n);
  for (let i = 0; i < rank; i++) {
    const row = u.subarray(i * n, (i + 1) * n);
    product.fill(0);
    // Four rows at a time: a row of sums is read and written a quarter as often.
    let k = 0;
    for (; k + 4 <= n; k += 4) {
      const [a, b, c, d] = [row[k], row[k + 1], row[k + 2], row[k + 3]];
      if (a === 0 && b === 0 && c === 0 && d === 0) continue;
      for (let j = 0, p = k * n, q = p + n, v = q + n, w = v + n; j < n; j++, p++, q++, v++, w++)
        product[j] += a * s[p] + b * s[q] + c * s[v] + d * s[w];
    }
    for (; k < n; k++) for (let j = 0, p = k * n; j < n; j++, p++) product[j] += row[k] * s[p];
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let m = 0, p = j * n; m < n; m++, p++) sum += product[m] * u[p];
      result[i * rank + j] = result[j * rank + i] = sum;
    }
    const wait = pause();
    if (wait) await wait;
  }
  return { size: rank, data: result };
}

/**
 * Eigenvalues of a symmetric matrix, ascending, of which only the lower triangle is read: Householder's reduction to
 * a tridiagonal matrix, then QL steps with implicit shifts. Source: Golub and Van Loan, "Matrix Computations", §8.3.
 */
export async function symmetricEigenvalues(matrix: SquareMatrix, signal?: AbortSignal): Promise<Float64Array> {
  const { diagonal, beside } = await tridiagonal(matrix, signal);
  return tridiagonalEigenvalues(diagonal, beside).sort();
}

/** Diagonal (n) and what stands beside it (n, the first entry 0) of a tridiagonal matrix with the same eigenvalues. */
async function tridiagonal(
  { size: n, data }: SquareMatrix,
  signal?: AbortSignal,
): Promise<{ diagonal: Float64Array; beside: Float64Array }> {
  const pause = breather(signal);
  const a = data.slice();
  const diagonal = new Float64Array(n),
    beside = new Float64Array(n),
    p = new Float64Array(n);
  for (let k = n - 1; k > 0; k--) {
    // The reflection that leaves of row k's first k entries the last alone; u is kept in their place.
    const u = a.subarray(k * n, k * n + k);
    diagonal[k] = a[k * n + k];
    let scale = 0;
    for (let j = 0; j < k - 1; j++) scale = Math.max(scale, Math.abs(u[j]));
    if (scale === 0) {
      beside[k] = u[k - 1];
      continue;
    }
    scale = Math.max(scale, Math.abs(u[k - 1]));
    let norm = 0;
    for (let j = 0; j < k; j++) {
      u[j] /= scale;
      norm += u[j] * u[j];
    }
    const length = u[k - 1] > 0 ? -Math.sqrt(norm) : Math.sqrt(norm);
    beside[k] = scale * length;
    const h = norm - u[k - 1] * length;
    u[k - 1] -= length;
    // p = A u / h, from the lower triangle.
    for (let i = 0; i < k; i++) {
      const ui = u[i];
      let sum = 0;
      let at = i * n;
      for (let j = 0; j < i; j++, at++) {
        sum += a[at] * u[j];
        p[j] += a[at] * ui;
      }
      p[i] = sum + a[at] * ui;
    }
    let dot = 0;
    for (let i = 0; i < k; i++) {
      p[i] /= h;
      dot += p[i] * u[i];
    }
    const half = dot / (2 * h);
    for (let i = 0; i < k; i++) p[i] -= half * u[i];
    for (let i = 0; i < k; i++) {
      const ui = u[i],
        pi = p[i];
      for (let j = 0, at = i * n; j <= i; j++, at++) a[at] -= ui * p[j] + pi * u[j];
    }
    p.fill(0);
    const wait = pause();
    if (wait) await wait;
  }
  diagonal[0] = a[0];
  return { diagonal, beside };
}

/** Both arrays are overwritten; the eigenvalues are returned in the first, in no order. */
function tridiagonalEigenvalues(d: Float64Array, beside: Float64Array): Float64Array {
  const n = d.length;
  const e = new Float64Array(n);
  e.set(beside.subarray(1));
  for (let l = 0; l < n; l++) {
    for (;;) {
      let m = l;
      for (; m < n - 1; m++) {
        const size = Math.abs(d[m]) + Math.abs(d[m + 1]);
        if (Math.abs(e[m]) <= Number.EPSILON * size) break;
      }
      if (m === l) break;
      let g = (d[l + 1] - d[l]) / (2 * e[l]);
      let r = Math.hypot(g, 1);
      g = d[m] - d[l] + e[l] / (g + (g >= 0 ? r : -r));
      let s = 1,
        c = 1,
        shift = 0,
        i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i],
          b = c * e[i];
        r = Math.hypot(f, g);
        e[i + 1] = r;
        if (r === 0) {
          // It fell apart into two matrices.
          d[i + 1] -= shift;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - shift;
        r = (d[i] - g) * s + 2 * c * b;
        shift = s * r;
        d[i + 1] = g + shift;
        g = c * r - b;
      }
      if (r === 0 && i >= l) continue;
      d[l] -= shift;
      e[l] = g;
      e[m] = 0;
    }
  }
  return d;
}
