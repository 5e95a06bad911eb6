// AdamW, clipping and EMA in float64, as PyTorch documents them (torch.optim.AdamW, clip_grad_norm_).

export interface AdamWReferenceState {
  readonly params: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
  readonly ema: Float64Array;
  step: number;
}

export interface AdamWReferenceOptions {
  readonly lr: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
  readonly maxNorm: number;
  readonly emaDecay: number;
  /** Weight decay applies to elements before this one. */
  readonly decayed: number;
}

export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum);
}

/** One step in place. */
export function adamWReference(
  state: AdamWReferenceState,
  grads: ArrayLike<number>,
  options: AdamWReferenceOptions,
): void {
  const {
    lr,
    betas: [beta1, beta2],
    eps,
    weightDecay,
    maxNorm,
    emaDecay,
    decayed,
  } = options;
  const { params, m, v, ema } = state;
  const clip = maxNorm > 0 ? Math.min(1, maxNorm / (norm(grads) + 1e-6)) : 1;
  state.step++;
  for (let i = 0; i < params.length; i++) {
    const g = grads[i] * clip;
    if (i < decayed) params[i] *= 1 - lr * weightDecay;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    const mHat = m[i] / (1 - beta1 ** state.step);
    const vHat = v[i] / (1 - beta2 ** state.step);
    params[i] -= (lr * mHat) / (Math.sqrt(vHat) + eps);
    ema[i] = emaDecay * ema[i] + (1 - emaDecay) * params[i];
  }
}
