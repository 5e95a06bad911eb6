// Pooling and resizing in float64, from the definitions.

export interface Planes {
  readonly planes: number;
  readonly height: number;
  readonly width: number;
}

export interface PoolCase {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding?: readonly [number, number];
  readonly dilation?: readonly [number, number];
}

/** Values of each window that lie in the image, for every result. */
export function windowsOf(
  x: ArrayLike<number>,
  { planes, height, width }: Planes,
  { kernel, stride, padding: [py, px] = [0, 0], dilation: [dy, dx] = [1, 1] }: PoolCase,
): { windows: number[][]; shape: [number, number] } {
  const outH = Math.floor((height + 2 * py - dy * (kernel[0] - 1) - 1) / stride[0]) + 1;
  const outW = Math.floor((width + 2 * px - dx * (kernel[1] - 1) - 1) / stride[1]) + 1;
  const windows: number[][] = [];
  for (let plane = 0; plane < planes; plane++)
    for (let i = 0; i < outH; i++)
      for (let j = 0; j < outW; j++) {
        const values: number[] = [];
        for (let u = 0; u < kernel[0]; u++)
          for (let v = 0; v < kernel[1]; v++) {
            const row = i * stride[0] + u * dy - py,
              column = j * stride[1] + v * dx - px;
            if (row >= 0 && row < height && column >= 0 && column < width)
              values.push(x[(plane * height + row) * width + column]);
          }
        windows.push(values);
      }
  return { windows, shape: [outH, outW] };
}

export type ResizeMode = 'nearest' | 'bilinear' | 'corners' | 'mean';

/** What each element of a row of `size` counts in element i of a row of `wanted`. */
function weights(mode: ResizeMode, i: number, size: number, wanted: number): number[] {
  const row = new Array<number>(size).fill(0);
  if (mode === 'nearest') row[Math.floor((i * size) / wanted)] = 1;
  else if (mode === 'mean') {
    const from = Math.floor((i * size) / wanted),
      to = Math.ceil(((i + 1) * size) / wanted);
    row.fill(1 / (to - from), from, to);
  } else {
    const at =
      mode === 'corners'
        ? wanted > 1
          ? (i * (size - 1)) / (wanted - 1)
          : 0
        : Math.max(0, ((i + 0.5) * size) / wanted - 0.5);
    const low = Math.min(Math.floor(at), size - 1);
    row[low] += 1 - (at - low);
    row[Math.min(low + 1, size - 1)] += at - low;
  }
  return row;
}

export function resizeReference(
  mode: ResizeMode,
  x: ArrayLike<number>,
  { planes, height, width }: Planes,
  [outH, outW]: readonly [number, number],
): Float64Array {
  const y = new Float64Array(planes * outH * outW);
  let at = 0;
  for (let plane = 0; plane < planes; plane++)
    for (let i = 0; i < outH; i++) {
      const down = weights(mode, i, height, outH);
      for (let j = 0; j < outW; j++) {
        const across = weights(mode, j, width, outW);
        let sum = 0;
        for (let u = 0; u < height; u++)
          for (let v = 0; v < width; v++) sum += down[u] * across[v] * x[(plane * height + u) * width + v];
        y[at++] = sum;
      }
    }
  return y;
}
