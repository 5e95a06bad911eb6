// Convolution in float64, from the definition: one loop for each index.

export interface Conv2dCase {
  /** N, C, H, W. */
  readonly x: readonly [number, number, number, number];
  /** O, C/groups, kH, kW. */
  readonly weight: readonly [number, number, number, number];
  readonly stride?: readonly [number, number];
  readonly padding?: readonly [number, number];
  readonly dilation?: readonly [number, number];
  readonly groups?: number;
}

/** y and its shape (N, O, H', W'). */
export function conv2dReference(
  c: Conv2dCase,
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number> | null,
): { y: Float64Array; shape: number[] } {
  const [N, C, H, W] = c.x;
  const [O, share, kH, kW] = c.weight;
  const { stride: [sy, sx] = [1, 1], padding: [py, px] = [0, 0], dilation: [dy, dx] = [1, 1], groups = 1 } = c;
  const outH = Math.floor((H + 2 * py - dy * (kH - 1) - 1) / sy) + 1;
  const outW = Math.floor((W + 2 * px - dx * (kW - 1) - 1) / sx) + 1;
  const y = new Float64Array(N * O * outH * outW);
  let at = 0;
  for (let n = 0; n < N; n++)
    for (let o = 0; o < O; o++)
      for (let i = 0; i < outH; i++)
        for (let j = 0; j < outW; j++) {
          let sum = bias ? bias[o] : 0;
          for (let k = 0; k < share; k++)
            for (let u = 0; u < kH; u++)
              for (let v = 0; v < kW; v++) {
                const row = i * sy + u * dy - py,
                  column = j * sx + v * dx - px;
                if (row < 0 || row >= H || column < 0 || column >= W) continue;
                const channel = Math.floor(o / (O / groups)) * share + k;
                sum += weight[((o * share + k) * kH + u) * kW + v] * x[((n * C + channel) * H + row) * W + column];
              }
          y[at++] = sum;
        }
  return { y, shape: [N, O, outH, outW] };
}
