// The selective scan and its derivative in float64, written from the recurrence, one loop per index.

export interface ScanArguments {
  batch: number;
  length: number;
  channels: number;
  states: number;
  /** (B, L, D) */
  u: ArrayLike<number>;
  delta: ArrayLike<number>;
  z?: ArrayLike<number> | undefined;
  /** (D, N) */
  A: ArrayLike<number>;
  /** (B, L, N) */
  B: ArrayLike<number>;
  C: ArrayLike<number>;
  /** (D) */
  D?: ArrayLike<number> | undefined;
  deltaBias?: ArrayLike<number> | undefined;
  deltaSoftplus: boolean;
  reverse: boolean;
}

export interface ScanResult {
  out: Float64Array;
  /** (B, D, N) */
  lastState: Float64Array;
}

export type ScanDerivatives = Record<'u' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias', Float64Array>;

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The result, and the gradients of sum(out · dout) where `dout` (B, L, D) is given. */
export function scanReference(args: ScanArguments): ScanResult;
export function scanReference(
  args: ScanArguments,
  dout: ArrayLike<number>,
): ScanResult & { gradients: ScanDerivatives };
export function scanReference(
  args: ScanArguments,
  dout?: ArrayLike<number>,
): ScanResult & { gradients?: ScanDerivatives } {
  const { batch, length: L, channels, states: N, u, delta, z, A, B, C } = args;
  const out = new Float64Array(batch * L * channels);
  const lastState = new Float64Array(batch * channels * N);
  const g: ScanDerivatives = {
    u: new Float64Array(out.length),
    delta: new Float64Array(out.length),
    z: new Float64Array(out.length),
    A: new Float64Array(channels * N),
    B: new Float64Array(batch * L * N),
    C: new Float64Array(batch * L * N),
    D: new Float64Array(channels),
    deltaBias: new Float64Array(channels),
  };
  for (let b = 0; b < batch; b++) {
    for (let d = 0; d < channels; d++) {
      const skip = args.D?.[d] ?? 0;
      const at = (i: number): number => b * L + (args.reverse ? L - 1 - i : i);
      // states[i] are those after i tokens.
      const h = Array.from({ length: L + 1 }, () => new Float64Array(N));
      const raw = new Float64Array(L);
      const step = new Float64Array(L);
      const y = new Float64Array(L);
      for (let i = 0; i < L; i++) {
        const row = at(i);
        const x = u[row * channels + d];
        raw[i] = delta[row * channels + d] + (args.deltaBias?.[d] ?? 0);
        step[i] = args.deltaSoftplus && raw[i] <= 20 ? Math.log1p(Math.exp(raw[i])) : raw[i];
        y[i] = skip * x;
        for (let n = 0; n < N; n++) {
          h[i + 1][n] = Math.exp(step[i] * A[d * N + n]) * h[i][n] + step[i] * B[row * N + n] * x;
          y[i] += C[row * N + n] * h[i + 1][n];
        }
        const gate = z?.[row * channels + d];
        out[row * channels + d] = gate === undefined ? y[i] : y[i] * gate * sigmoid(gate);
      }
      lastState.set(h[L], (b * channels + d) * N);
      if (!dout) continue;
      const dh = new Float64Array(N);
      for (let i = L - 1; i >= 0; i--) {
        const row = at(i);
        const e = row * channels + d;
        let dy = dout[e];
        const gate = z?.[e];
        if (gate !== undefined) {
          const s = sigmoid(gate);
          g.z[e] = dy * y[i] * s * (1 + gate * (1 - s));
          dy *= gate * s;
        }
        g.D[d] += dy * u[e];
        g.u[e] = dy * skip;
        let dStep = 0;
        for (let n = 0; n < N; n++) {
          const decay = Math.exp(step[i] * A[d * N + n]);
          dh[n] += dy * C[row * N + n];
          g.C[row * N + n] += dy * h[i + 1][n];
          g.B[row * N + n] += dh[n] * step[i] * u[e];
          g.u[e] += dh[n] * step[i] * B[row * N + n];
          g.A[d * N + n] += dh[n] * h[i][n] * decay * step[i];
          dStep += dh[n] * (h[i][n] * decay * A[d * N + n] + B[row * N + n] * u[e]);
          dh[n] *= decay;
        }
        g.delta[e] = args.deltaSoftplus && raw[i] <= 20 ? dStep * sigmoid(raw[i]) : dStep;
        g.deltaBias[d] += g.delta[e];
      }
    }
  }
  return dout ? { out, lastState, gradients: g } : { out, lastState };
}
