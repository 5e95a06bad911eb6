// The numbers of a diffusion process: noise schedules, everything derived from them, and which of the steps to keep.
// All of it in float64 on the host; what a step needs goes to the GPU as a float32 table (coefficients.ts).
// Sources: Ho et al. 2020 (arXiv 2006.11239), Nichol & Dhariwal 2021 (arXiv 2102.09672), Song et al. 2020 (arXiv
// 2010.02502).

import { ValueError } from '../../core/errors.ts';

/** The noise schedules of the official code, under their official names. */
export type NoiseSchedule = 'linear' | 'squaredcos_cap_v2' | 'quad' | 'const' | 'jsd' | 'warmup10' | 'warmup50';

/** The names of all noise schedules. */
export const NOISE_SCHEDULES: readonly NoiseSchedule[] = [
  'linear',
  'squaredcos_cap_v2',
  'quad',
  'const',
  'jsd',
  'warmup10',
  'warmup50',
];

/** The ends of a schedule of variances. */
export interface BetaRange {
  /**
   * β of the first step; default 1e-4 scaled by 1000 / steps, so that shortened processes add the same noise in all.
   */
  readonly betaStart?: number;
  /** β of the last step; default 0.02, scaled likewise. */
  readonly betaEnd?: number;
}

/** Ten times what anybody trains with; a number of steps may come from a file of somebody else. */
export const MOST_STEPS = 10_000;

/**
 * β_t of a named schedule, t = 0 … steps-1.
 *
 * - `linear` β from betaStart to betaEnd (Ho et al., §4); `quad` linear in √β; `const` β = betaEnd; `warmup10`,
 *   `warmup50` linear over the first 10 % or 50 % of the steps, then betaEnd;
 * - `jsd` 1/T, 1/(T-1), …, 1;
 * - `squaredcos_cap_v2` β = min(1 - ᾱ((t+1)/T) / ᾱ(t/T), 0.999) with ᾱ(s) = cos²(π/2 · (s + 0.008)/1.008) (Nichol &
 *   Dhariwal, §3.2).
 *
 * @throws ValueError for an unknown name, fewer than one step, or a β outside (0, 1]
 */
export function betaSchedule(name: NoiseSchedule, steps: number, range: BetaRange = {}): Float64Array {
  if (!Number.isInteger(steps) || steps < 1 || steps > MOST_STEPS)
    throw new ValueError('betaSchedule', `is ${steps}`, {
      option: 'steps',
      expected: `an integer from 1 to ${MOST_STEPS}`,
    });
  const scale = 1000 / steps;
  const { betaStart = scale * 0.0001, betaEnd = scale * 0.02 } = range;
  const betas = namedBetas(name, steps, betaStart, betaEnd);
  checkBetas('betaSchedule', betas);
  return betas;
}

function namedBetas(name: NoiseSchedule, steps: number, start: number, end: number): Float64Array {
  switch (name) {
    case 'linear':
      return linspace(start, end, steps);
    case 'quad':
      return linspace(Math.sqrt(start), Math.sqrt(end), steps).map((root) => root * root);
    case 'const':
      return new Float64Array(steps).fill(end);
    case 'jsd':
      return linspace(steps, 1, steps).map((remaining) => 1 / remaining);
    case 'warmup10':
      return warmup(start, end, steps, 0.1);
    case 'warmup50':
      return warmup(start, end, steps, 0.5);
    case 'squaredcos_cap_v2':
      return betasForAlphaBar(steps, (s) => Math.cos((((s + 0.008) / 1.008) * Math.PI) / 2) ** 2);
    default:
      throw new ValueError('betaSchedule', `unknown schedule ${String(name)}`, {
        expected: `one of ${NOISE_SCHEDULES.join(', ')}`,
      });
  }
}

/**
 * β_t = min(1 - ᾱ((t+1)/T) / ᾱ(t/T), maxBeta) of a continuous ᾱ on [0, 1]; the cap keeps the last steps from being
 * singular.
 */
export function betasForAlphaBar(steps: number, alphaBar: (s: number) => number, maxBeta = 0.999): Float64Array {
  return Float64Array.from({ length: steps }, (_, t) =>
    Math.min(1 - alphaBar((t + 1) / steps) / alphaBar(t / steps), maxBeta),
  );
}

/** Everything that the process derives from β, each of length T. α_t = 1 - β_t and ᾱ_t = Π_{s≤t} α_s. */
export interface ScheduleTables {
  readonly betas: Float64Array;
  readonly logBetas: Float64Array;
  /** ᾱ_t */
  readonly alphasCumprod: Float64Array;
  /** ᾱ_{t-1}, 1 at t = 0 */
  readonly alphasCumprodPrev: Float64Array;
  /** ᾱ_{t+1}, 0 at t = T-1 */
  readonly alphasCumprodNext: Float64Array;
  readonly sqrtAlphasCumprod: Float64Array;
  readonly oneMinusAlphasCumprod: Float64Array;
  readonly sqrtOneMinusAlphasCumprod: Float64Array;
  readonly logOneMinusAlphasCumprod: Float64Array;
  /** √(1/ᾱ_t) */
  readonly sqrtRecipAlphasCumprod: Float64Array;
  /** √(1/ᾱ_t - 1) */
  readonly sqrtRecipm1AlphasCumprod: Float64Array;
  /** β̃_t = β_t (1-ᾱ_{t-1}) / (1-ᾱ_t), the variance of q(x_{t-1} | x_t, x_0) */
  readonly posteriorVariance: Float64Array;
  /** log β̃_t with the first, which is log 0, replaced by the second (by log β_0 in a process of one step) */
  readonly posteriorLogVarianceClipped: Float64Array;
  /** Factor of x_0 in the posterior mean: β_t √ᾱ_{t-1} / (1-ᾱ_t) */
  readonly posteriorMeanCoef1: Float64Array;
  /** Factor of x_t in the posterior mean: (1-ᾱ_{t-1}) √α_t / (1-ᾱ_t) */
  readonly posteriorMeanCoef2: Float64Array;
  /** β_t with the first replaced by β̃_1, which gives a better decoder likelihood */
  readonly fixedLargeVariance: Float64Array;
  readonly fixedLargeLogVariance: Float64Array;
}

/**
 * Derives all tables from β.
 *
 * @throws ValueError if `betas` is empty or has a value outside (0, 1]
 */
export function scheduleTables(betas: Float64Array): ScheduleTables {
  checkBetas('scheduleTables', betas);
  const steps = betas.length;
  const alphasCumprod = new Float64Array(steps);
  let product = 1;
  for (let t = 0; t < steps; t++) alphasCumprod[t] = product *= 1 - betas[t];
  const alphasCumprodPrev = alphasCumprod.map((_, t) => (t === 0 ? 1 : alphasCumprod[t - 1]));
  const alphasCumprodNext = alphasCumprod.map((_, t) => (t === steps - 1 ? 0 : alphasCumprod[t + 1]));

  const oneMinusAlphasCumprod = alphasCumprod.map((alpha) => 1 - alpha);
  const posteriorVariance = betas.map((beta, t) => (beta * (1 - alphasCumprodPrev[t])) / (1 - alphasCumprod[t]));
  const firstVariance = steps > 1 ? posteriorVariance[1] : betas[0];
  const fixedLargeVariance = betas.map((beta, t) => (t === 0 ? firstVariance : beta));

  return {
    betas,
    logBetas: betas.map(Math.log),
    alphasCumprod,
    alphasCumprodPrev,
    alphasCumprodNext,
    sqrtAlphasCumprod: alphasCumprod.map(Math.sqrt),
    oneMinusAlphasCumprod,
    sqrtOneMinusAlphasCumprod: oneMinusAlphasCumprod.map(Math.sqrt),
    logOneMinusAlphasCumprod: oneMinusAlphasCumprod.map(Math.log),
    sqrtRecipAlphasCumprod: alphasCumprod.map((alpha) => Math.sqrt(1 / alpha)),
    sqrtRecipm1AlphasCumprod: alphasCumprod.map((alpha) => Math.sqrt(1 / alpha - 1)),
    posteriorVariance,
    posteriorLogVarianceClipped: posteriorVariance.map((variance, t) => Math.log(t === 0 ? firstVariance : variance)),
    posteriorMeanCoef1: betas.map((beta, t) => (beta * Math.sqrt(alphasCumprodPrev[t])) / (1 - alphasCumprod[t])),
    posteriorMeanCoef2: betas.map(
      (beta, t) => ((1 - alphasCumprodPrev[t]) * Math.sqrt(1 - beta)) / (1 - alphasCumprod[t]),
    ),
    fixedLargeVariance,
    fixedLargeLogVariance: fixedLargeVariance.map(Math.log),
  };
}

/**
 * Which timesteps of a process of `steps` steps to keep, ascending.
 *
 * `'250'` or `[250]`: that many, evenly spread, first and last included. `'10,15,20'` or a list: the process is cut
 * into equal sections and so many are taken of each. `'ddim50'`: the fixed integer stride of the DDIM paper that gives
 * exactly 50. `''`: all. Fractional places round to nearest, ties to even, as the official code's do.
 *
 * @throws ValueError if a section has fewer steps than asked for, no stride gives the number, or the text is not of
 *   that form
 */
export function spaceTimesteps(steps: number, respacing: string | readonly number[]): number[] {
  if (respacing === '') return Array.from({ length: steps }, (_, t) => t);
  if (typeof respacing === 'string' && respacing.startsWith('ddim')) return ddimTimesteps(steps, respacing);
  const counts = typeof respacing === 'string' ? respacing.split(',').map(parseCount) : respacing;
  if (counts.length === 0 || !counts.every((count) => Number.isInteger(count) && count >= 0)) {
    throw new ValueError('spaceTimesteps', `is ${JSON.stringify(respacing)}`, {
      option: 'respacing',
      expected: 'a step count, counts per section such as "10,15,20", or "ddimN"',
    });
  }

  const kept = new Set<number>();
  let start = 0;
  counts.forEach((count, section) => {
    const size = Math.floor(steps / counts.length) + (section < steps % counts.length ? 1 : 0);
    if (size < count) {
      throw new ValueError(
        'spaceTimesteps',
        `section ${section} has ${size} of the ${steps} steps, cannot take ${count} of them`,
        { remedy: `ask for at most ${size}` },
      );
    }
    const stride = count <= 1 ? 1 : (size - 1) / (count - 1);
    let at = 0;
    for (let i = 0; i < count; i++, at += stride) kept.add(start + roundHalfToEven(at));
    start += size;
  });
  if (kept.size === 0)
    throw new ValueError('spaceTimesteps', `respacing ${JSON.stringify(respacing)} keeps no step`, {
      expected: 'at least one',
    });
  return [...kept].sort((a, b) => a - b);
}

/**
 * The β of a process that visits only the kept timesteps and has the same ᾱ there: β'_i = 1 - ᾱ_{τ_i} / ᾱ_{τ_{i-1}}.
 *
 * @returns the shortened β, and `timestepMap` τ: step of the short process → timestep that the model was trained with.
 * @throws ValueError for a kept timestep outside the process, or none
 */
export function respaceBetas(
  betas: Float64Array,
  kept: Iterable<number>,
): { betas: Float64Array; timestepMap: Int32Array } {
  const timestepMap = Int32Array.from(new Set(kept)).sort();
  for (const t of timestepMap) {
    if (t < 0 || t >= betas.length)
      throw new ValueError('respaceBetas', `timestep ${t} is outside the process of ${betas.length} steps`, {
        expected: `0 to ${betas.length - 1}`,
      });
  }
  const { alphasCumprod } = scheduleTables(betas);
  const short = Float64Array.from(
    timestepMap,
    (t, i) => 1 - alphasCumprod[t] / (i === 0 ? 1 : alphasCumprod[timestepMap[i - 1]]),
  );
  checkBetas('respaceBetas', short);
  return { betas: short, timestepMap };
}

function ddimTimesteps(steps: number, respacing: string): number[] {
  const count = parseCount(respacing.slice('ddim'.length));
  for (let stride = 1; stride < steps; stride++) {
    if (Math.ceil(steps / stride) === count) return Array.from({ length: count }, (_, i) => i * stride);
  }
  throw new ValueError(
    'spaceTimesteps',
    `no integer stride over ${steps} steps gives exactly the ${respacing.slice(4) || '?'} of "${respacing}"`,
    { remedy: `try a divisor of ${steps}, or "${respacing.slice(4)}" without ddim` },
  );
}

function parseCount(text: string): number {
  return /^\s*[0-9]+\s*$/.test(text) ? Number(text) : NaN;
}

function checkBetas(operation: string, betas: Float64Array): void {
  if (betas.length === 0) throw new ValueError(operation, 'there are no betas', { expected: 'at least one' });
  const at = betas.findIndex((beta) => !(beta > 0 && beta <= 1));
  if (at >= 0) throw new ValueError(operation, `beta of step ${at} is ${betas[at]}`, { expected: 'a value in (0, 1]' });
}

/** `count` values from start to end, both included, in NumPy's order of operations. */
function linspace(start: number, end: number, count: number): Float64Array {
  const step = (end - start) / (count - 1);
  return Float64Array.from({ length: count }, (_, i) =>
    i === count - 1 && count > 1 ? end : count > 1 ? i * step + start : start,
  );
}

function warmup(start: number, end: number, steps: number, fraction: number): Float64Array {
  const betas = new Float64Array(steps).fill(end);
  betas.set(linspace(start, end, Math.trunc(steps * fraction)));
  return betas;
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
