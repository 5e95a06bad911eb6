// Add + norm and its derivatives in float64, written from the definition: no shared code with the kernels.

export interface NormInput {
  readonly norm: 'rms' | 'layer';
  readonly rows: number;
  readonly width: number;
  readonly eps: number;
  readonly x: ArrayLike<number>;
  readonly residual?: ArrayLike<number> | null;
  readonly weight?: ArrayLike<number> | null;
  readonly bias?: ArrayLike<number> | null;
}

/** y, x + residual, and per row the mean (0 for RMS norm) and 1 / standard deviation. */
export function addNormReference({ norm, rows, width, eps, x, residual, weight, bias }: NormInput): {
  y: Float64Array;
  residualOut: Float64Array;
  mean: Float64Array;
  rstd: Float64Array;
} {
  const y = new Float64Array(rows * width);
  const residualOut = Float64Array.from({ length: rows * width }, (_, i) => x[i] + (residual ? residual[i] : 0));
  const mean = new Float64Array(rows);
  const rstd = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    const h = residualOut.subarray(r * width, (r + 1) * width);
    mean[r] = norm === 'layer' ? h.reduce((a, b) => a + b, 0) / width : 0;
    rstd[r] = 1 / Math.sqrt(h.reduce((a, b) => a + (b - mean[r]) ** 2, 0) / width + eps);
    for (let i = 0; i < width; i++)
      y[r * width + i] = (h[i] - mean[r]) * rstd[r] * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
  }
  return { y, residualOut, mean, rstd };
}

/** Gradients of `sum(y * dy) + sum(residualOut * dresidualOut)`; dx is dresidual too. */
export function addNormGradReference(
  input: NormInput,
  dy: ArrayLike<number>,
  dresidualOut?: ArrayLike<number> | null,
): {
  dx: Float64Array;
  dweight: Float64Array;
  dbias: Float64Array;
} {
  const { norm, rows, width, weight } = input;
  const { residualOut: h, mean, rstd } = addNormReference(input);
  const dx = new Float64Array(rows * width);
  const dweight = new Float64Array(width);
  const dbias = new Float64Array(width);
  for (let r = 0; r < rows; r++) {
    // d of the loss by rstd and by the mean first, then through both to h.
    let byRstd = 0;
    let byMean = 0;
    for (let i = 0; i < width; i++) {
      const k = r * width + i;
      const up = dy[k] * (weight ? weight[i] : 1);
      byRstd += up * (h[k] - mean[r]);
      byMean -= up * rstd[r];
      dweight[i] += dy[k] * (h[k] - mean[r]) * rstd[r];
      dbias[i] += dy[k];
    }
    for (let i = 0; i < width; i++) {
      const k = r * width + i;
      const up = dy[k] * (weight ? weight[i] : 1);
      dx[k] =
        up * rstd[r] -
        (byRstd * rstd[r] ** 3 * (h[k] - mean[r])) / width +
        (norm === 'layer' ? byMean / width : 0) +
        (dresidualOut ? dresidualOut[k] : 0);
    }
  }
  return { dx, dweight, dbias };
}
