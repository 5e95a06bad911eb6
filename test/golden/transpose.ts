/** (batch, rows, L) values as (batch, L, rows), the layout of the kernels. */
export function transposed(
  values: ArrayLike<number>,
  shape: readonly number[],
): { data: Float32Array; shape: number[] } {
  const [batch, rows, length] = shape;
  const data = new Float32Array(values.length);
  for (let b = 0; b < batch; b++) {
    for (let r = 0; r < rows; r++) {
      for (let t = 0; t < length; t++) data[(b * length + t) * rows + r] = values[(b * rows + r) * length + t];
    }
  }
  return { data, shape: [batch, length, rows] };
}
