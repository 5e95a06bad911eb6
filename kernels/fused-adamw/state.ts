// The optimizer's state that is not per parameter: one small f32 buffer. It holds what the host sets and what the GPU
// counts, so that a replayed step reads the learning rate and the step number from memory.

/** What the host sets of the optimizer. */
export interface AdamWSettings {
  /** Learning rate. */
  readonly lr: number;
  /** Decay rates of the first and second moment. Default (0.9, 0.999). */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment. Default 1e-8. */
  readonly eps?: number;
  /** Decoupled weight decay. Default 0. */
  readonly weightDecay?: number;
  /** Gradients are scaled down to this global norm; 0 (default) leaves them. */
  readonly maxNorm?: number;
  /** Decay of the averaged parameters. Default 0.9999. */
  readonly emaDecay?: number;
  /** Finite steps after which the loss scale doubles; 0 (default) keeps it. */
  readonly growthInterval?: number;
}

/** Words that the host sets, in this order. */
const SETTINGS = [
  'lr',
  'eps',
  'weightDecay',
  'maxNorm',
  'logBeta1',
  'logBeta2',
  'rate1',
  'rate2',
  'emaRate',
  'growthInterval',
  'spare0',
  'spare1',
] as const;
/**
 * Words that the GPU sets. `step` counts steps taken and `skipped` steps left out for gradients that are not finite
 * (exact to 2^24). `gradNorm` is the last norm before clipping, `gradScale` what gradients are multiplied with (1 /
 * loss scale and clipping), `stepSize` lr / (1 - beta1^step), `rootScale` 1 / sqrt(1 - beta2^step), `apply` 0 in a
 * skipped step.
 */
const COUNTERS = [
  'step',
  'lossScale',
  'growth',
  'skipped',
  'gradNorm',
  'gradScale',
  'stepSize',
  'rootScale',
  'apply',
  'spare2',
  'spare3',
  'spare4',
] as const;

/** f32 words of the state buffer, and of its first part, which the host sets. */
export const ADAMW_STATE_WORDS = SETTINGS.length + COUNTERS.length;
/** f32 words of the first part, which the host sets. */
export const ADAMW_SETTINGS_WORDS = SETTINGS.length;

/** What the GPU counts, by name. */
export type AdamWCounter = (typeof COUNTERS)[number];

/** Index of a counter in the state buffer. */
export function adamWWord(counter: AdamWCounter): number {
  return SETTINGS.length + COUNTERS.indexOf(counter);
}

/** WGSL of the state. */
export const ADAMW_STATE_WGSL = `struct AdamWState { ${[...SETTINGS, ...COUNTERS].map((name) => `${name}: f32`).join(', ')} }`;

/** The host's part of the state: write it to the first `ADAMW_SETTINGS_WORDS` words before a step. */
export function adamWSettings(settings: AdamWSettings): Float32Array {
  const {
    lr,
    betas = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 0,
    maxNorm = 0,
    emaDecay = 0.9999,
    growthInterval = 0,
  } = settings;
  // Differences from 1 and logarithms are taken in float64: 1 - 0.9999 in f32 has three digits.
  const words: Record<(typeof SETTINGS)[number], number> = {
    lr,
    eps,
    weightDecay,
    maxNorm,
    logBeta1: Math.log(betas[0]),
    logBeta2: Math.log(betas[1]),
    rate1: 1 - betas[0],
    rate2: 1 - betas[1],
    emaRate: 1 - emaDecay,
    growthInterval,
    spare0: 0,
    spare1: 0,
  };
  return Float32Array.from(SETTINGS, (name) => words[name]);
}

/** A whole state: settings, `step` steps taken, and the loss scale. */
export function adamWState(
  settings: AdamWSettings,
  { step = 0, lossScale = 1 }: { step?: number; lossScale?: number } = {},
): Float32Array {
  const state = new Float32Array(ADAMW_STATE_WORDS);
  state.set(adamWSettings(settings));
  state[adamWWord('step')] = step;
  state[adamWWord('lossScale')] = lossScale;
  return state;
}
