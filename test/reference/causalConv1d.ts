// The depthwise causal convolution and its derivative in float64, written from the definition.

export interface ConvArguments {
  batch: number;
  length: number;
  channels: number;
  width: number;
  /** (B, L, D) */
  x: ArrayLike<number>;
  /** (D, W) */
  weight: ArrayLike<number>;
  bias?: ArrayLike<number> | undefined;
  silu: boolean;
  reverse: boolean;
}

export interface ConvResult {
  out: Float64Array;
  gradients: { x: Float64Array; weight: Float64Array; bias: Float64Array };
}

/** The result, and the gradients of sum(out · dout). */
export function convReference(
  { batch, length, channels, width, x, weight, bias, silu, reverse }: ConvArguments,
  dout: ArrayLike<number>,
): ConvResult {
  const out = new Float64Array(batch * length * channels);
  const gradients = {
    x: new Float64Array(out.length),
    weight: new Float64Array(channels * width),
    bias: new Float64Array(channels),
  };
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let d = 0; d < channels; d++) {
        const at = (b * length + t) * channels + d;
        // Where tap w reads: undefined before the first token (behind the last one in reverse).
        const source = (w: number): number | undefined => {
          const s = reverse ? t + (width - 1 - w) : t - (width - 1 - w);
          return s >= 0 && s < length ? (b * length + s) * channels + d : undefined;
        };
        let y = bias?.[d] ?? 0;
        for (let w = 0; w < width; w++) {
          const s = source(w);
          if (s !== undefined) y += weight[d * width + w] * x[s];
        }
        const sigmoid = 1 / (1 + Math.exp(-y));
        out[at] = silu ? y * sigmoid : y;
        const g = dout[at] * (silu ? sigmoid * (1 + y * (1 - sigmoid)) : 1);
        gradients.bias[d] += g;
        for (let w = 0; w < width; w++) {
          const s = source(w);
          if (s === undefined) continue;
          gradients.x[s] += g * weight[d * width + w];
          gradients.weight[d * width + w] += g * x[s];
        }
      }
    }
  }
  return { out, gradients };
}
