// SGD and Adam in float64, as PyTorch documents them (torch.optim.SGD, Adam, AdamW).

/** One parameter with what an optimizer remembers of it. */
export interface Learned {
  readonly values: Float64Array;
  readonly slots: Record<string, Float64Array>;
  step: number;
}

export function learned(values: ArrayLike<number>, slots: readonly string[]): Learned {
  return {
    values: Float64Array.from(values),
    slots: Object.fromEntries(slots.map((name) => [name, new Float64Array(values.length)])),
    step: 0,
  };
}

export interface SgdReferenceOptions {
  readonly lr: number;
  readonly momentum?: number;
  readonly dampening?: number;
  readonly weightDecay?: number;
  readonly nesterov?: boolean;
}

export function sgdReference(
  p: Learned,
  gradient: ArrayLike<number>,
  { lr, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false }: SgdReferenceOptions,
): void {
  p.step++;
  p.values.forEach((value, i) => {
    let direction = gradient[i] + weightDecay * value;
    if (momentum !== 0) {
      const buffer = p.slots.momentum_buffer;
      buffer[i] = p.step === 1 ? direction : momentum * buffer[i] + (1 - dampening) * direction;
      direction = nesterov ? direction + momentum * buffer[i] : buffer[i];
    }
    p.values[i] = value - lr * direction;
  });
}

export interface AdamReferenceOptions {
  readonly lr: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weightDecay?: number;
  readonly amsgrad?: boolean;
  readonly decoupled?: boolean;
}

export function adamReference(p: Learned, gradient: ArrayLike<number>, options: AdamReferenceOptions): void {
  const {
    lr,
    betas: [beta1, beta2] = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 0,
    amsgrad = false,
    decoupled = false,
  } = options;
  const { exp_avg: m, exp_avg_sq: v, max_exp_avg_sq: most } = p.slots;
  p.step++;
  for (let i = 0; i < p.values.length; i++) {
    let g = gradient[i];
    if (decoupled) p.values[i] *= 1 - lr * weightDecay;
    else g += weightDecay * p.values[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    if (amsgrad) most[i] = Math.max(most[i], v[i]);
    const root = Math.sqrt((amsgrad ? most[i] : v[i]) / (1 - beta2 ** p.step));
    p.values[i] -= (lr * (m[i] / (1 - beta1 ** p.step))) / (root + eps);
  }
}
