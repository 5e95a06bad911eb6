// Scaled dot-product attention and its gradients in float64, written from the definition.

export interface AttentionArguments {
  /** Heads of all batch items. */
  batch: number;
  queries: number;
  keys: number;
  inner: number;
  width: number;
  q: ArrayLike<number>;
  k: ArrayLike<number>;
  v: ArrayLike<number>;
  scale: number;
  /** What is added to a score; -Infinity where the query may not see the key. */
  added(batch: number, query: number, key: number): number;
}

export interface AttentionResult {
  out: Float64Array;
  gradients: { q: Float64Array; k: Float64Array; v: Float64Array };
}

/** The result, and the gradients of sum(out · dout). A query that may see no key gives 0. */
export function attentionReference(
  { batch, queries, keys, inner, width, q, k, v, scale, added }: AttentionArguments,
  dout: ArrayLike<number>,
): AttentionResult {
  const out = new Float64Array(batch * queries * width);
  const gradients = {
    q: new Float64Array(batch * queries * inner),
    k: new Float64Array(batch * keys * inner),
    v: new Float64Array(batch * keys * width),
  };
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < queries; i++) {
      const row = b * queries + i;
      const scores = Array.from({ length: keys }, (_, j) => {
        let sum = 0;
        for (let e = 0; e < inner; e++) sum += q[row * inner + e] * k[(b * keys + j) * inner + e];
        return sum * scale + added(b, i, j);
      });
      const high = Math.max(...scores);
      if (high === -Infinity) continue;
      const total = scores.reduce((sum, s) => sum + Math.exp(s - high), 0);
      const p = scores.map((s) => Math.exp(s - high) / total);
      const dp = p.map((_, j) => {
        let sum = 0;
        for (let c = 0; c < width; c++) {
          const at = (b * keys + j) * width + c;
          out[row * width + c] += p[j] * v[at];
          gradients.v[at] += p[j] * dout[row * width + c];
          sum += dout[row * width + c] * v[at];
        }
        return sum;
      });
      const mean = p.reduce((sum, value, j) => sum + value * dp[j], 0);
      for (let j = 0; j < keys; j++) {
        const ds = p[j] * (dp[j] - mean) * scale;
        for (let e = 0; e < inner; e++) {
          gradients.q[row * inner + e] += ds * k[(b * keys + j) * inner + e];
          gradients.k[(b * keys + j) * inner + e] += ds * q[row * inner + e];
        }
      }
    }
  return { out, gradients };
}
