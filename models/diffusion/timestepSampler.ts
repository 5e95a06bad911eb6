// Which timesteps a training batch sees. Uniform is what DiS trains with; the loss-aware sampler draws noisy timesteps
// more often and weights their losses down by as much, so that the expected loss stays the same while its variance
// falls (Nichol & Dhariwal 2021, arXiv 2102.09672, §3.3).

import { ValueError } from '../../core/errors.ts';

/** The timesteps of a batch, and how much each counts. */
export interface SampledTimesteps {
  /** (batch) each in 0 … T-1. */
  readonly timesteps: Int32Array;
  /** (batch) importance weights 1 / (T p_t): multiply each sample's loss by its own before averaging. */
  readonly weights: Float32Array;
}

/** What a sampler needs to go on after a restart; plain JSON. */
export type TimestepSamplerState =
  | { readonly kind: 'uniform'; readonly numTimesteps: number }
  | {
      readonly kind: 'loss-second-moment';
      readonly numTimesteps: number;
      readonly historyPerTerm: number;
      readonly uniformProb: number;
      /** Losses seen per timestep, oldest first. */
      readonly history: readonly (readonly number[])[];
    };

/** Draws the timesteps of training batches. */
export interface TimestepSampler {
  /** Draws `batch` timesteps; `random` gives uniform numbers in [0, 1). */
  sample(batch: number, random: () => number): SampledTimesteps;
  /** Unnormalised probability of each timestep. */
  weights(): Float64Array;
  /** Tells the losses (before weighting) of timesteps that were trained on. */
  update(timesteps: ArrayLike<number>, losses: ArrayLike<number>): void;
  /** What it needs to go on after a restart. */
  state(): TimestepSamplerState;
}

/** Every timestep with the same probability; all weights are 1. */
export class UniformSampler implements TimestepSampler {
  /** T, steps of the process. */
  readonly numTimesteps: number;

  constructor(numTimesteps: number) {
    this.numTimesteps = checkCount('UniformSampler', 'numTimesteps', numTimesteps);
  }

  sample(batch: number, random: () => number): SampledTimesteps {
    return {
      timesteps: Int32Array.from({ length: batch }, () => Math.floor(random() * this.numTimesteps)),
      weights: new Float32Array(batch).fill(1),
    };
  }

  weights(): Float64Array {
    return new Float64Array(this.numTimesteps).fill(1);
  }

  update(): void {}

  /** What it needs to go on after a restart. */
  state(): TimestepSamplerState {
    return { kind: 'uniform', numTimesteps: this.numTimesteps };
  }
}

/** Options of `LossSecondMomentResampler`. */
export interface LossSecondMomentOptions {
  /** How many of its latest losses are kept per timestep; default 10. */
  readonly historyPerTerm?: number;
  /** Share of the probability that stays uniform, so that no timestep starves; default 0.001. */
  readonly uniformProb?: number;
}

/**
 * p_t ∝ √E[L_t²] over the last losses of each timestep, mixed with a little uniform. Uniform until every timestep has a
 * full history.
 */
export class LossSecondMomentResampler implements TimestepSampler {
  /** T, steps of the process. */
  readonly numTimesteps: number;
  /** Losses that are remembered of each timestep. */
  readonly historyPerTerm: number;
  /** Share of the probability that every timestep gets. */
  readonly uniformProb: number;
  private readonly history: number[][];

  /** @throws ValueError for counts below 1 or a probability outside [0, 1]. */
  constructor(numTimesteps: number, { historyPerTerm = 10, uniformProb = 0.001 }: LossSecondMomentOptions = {}) {
    this.numTimesteps = checkCount('LossSecondMomentResampler', 'numTimesteps', numTimesteps);
    this.historyPerTerm = checkCount('LossSecondMomentResampler', 'historyPerTerm', historyPerTerm);
    if (!(uniformProb >= 0 && uniformProb <= 1)) {
      throw new ValueError('LossSecondMomentResampler', `is ${uniformProb}`, {
        option: 'uniformProb',
        expected: 'a probability in [0, 1]',
      });
    }
    this.uniformProb = uniformProb;
    this.history = Array.from({ length: numTimesteps }, () => []);
  }

  weights(): Float64Array {
    if (!this.history.every((losses) => losses.length === this.historyPerTerm))
      return new Float64Array(this.numTimesteps).fill(1);
    const moments = Float64Array.from(this.history, (losses) =>
      Math.sqrt(losses.reduce((sum, loss) => sum + loss * loss, 0) / losses.length),
    );
    const total = moments.reduce((sum, moment) => sum + moment, 0);
    if (total === 0) return moments.fill(1);
    return moments.map((moment) => (moment / total) * (1 - this.uniformProb) + this.uniformProb / this.numTimesteps);
  }

  sample(batch: number, random: () => number): SampledTimesteps {
    const weights = this.weights();
    const cumulative = new Float64Array(weights.length);
    let total = 0;
    for (let t = 0; t < weights.length; t++) cumulative[t] = total += weights[t];
    const timesteps = Int32Array.from({ length: batch }, () => firstAbove(cumulative, random() * total));
    return { timesteps, weights: Float32Array.from(timesteps, (t) => total / (weights.length * weights[t])) };
  }

  /** @throws ValueError if the lengths differ, a timestep is outside the process, or a loss is not finite. */
  update(timesteps: ArrayLike<number>, losses: ArrayLike<number>): void {
    if (timesteps.length !== losses.length) {
      throw new ValueError(
        'LossSecondMomentResampler.update',
        `${timesteps.length} timesteps and ${losses.length} losses`,
        { expected: 'as many of one as of the other' },
      );
    }
    for (let i = 0; i < timesteps.length; i++) {
      const history = this.history[timesteps[i]];
      if (!history)
        throw new ValueError(
          'LossSecondMomentResampler.update',
          `timestep ${timesteps[i]} is outside 0 to ${this.numTimesteps - 1}`,
        );
      if (!Number.isFinite(losses[i]))
        throw new ValueError(
          'LossSecondMomentResampler.update',
          `the loss of timestep ${timesteps[i]} is ${losses[i]}`,
          { expected: 'a finite number', remedy: 'leave such steps out' },
        );
      history.push(losses[i]);
      if (history.length > this.historyPerTerm) history.shift();
    }
  }

  /** What it needs to go on after a restart. */
  state(): TimestepSamplerState {
    return {
      kind: 'loss-second-moment',
      numTimesteps: this.numTimesteps,
      historyPerTerm: this.historyPerTerm,
      uniformProb: this.uniformProb,
      history: this.history.map((losses) => [...losses]),
    };
  }
}

/** A sampler that goes on where `state()` was taken. */
export function timestepSamplerFromState(state: TimestepSamplerState): TimestepSampler {
  if (state.kind === 'uniform') return new UniformSampler(state.numTimesteps);
  const sampler = new LossSecondMomentResampler(state.numTimesteps, state);
  state.history.forEach((losses, t) => sampler.update(new Array<number>(losses.length).fill(t), losses));
  return sampler;
}

/** A sampler by its official name. */
export function createTimestepSampler(kind: TimestepSamplerState['kind'], numTimesteps: number): TimestepSampler {
  if (kind === 'uniform') return new UniformSampler(numTimesteps);
  if (kind === 'loss-second-moment') return new LossSecondMomentResampler(numTimesteps);
  throw new ValueError('createTimestepSampler', `unknown sampler ${String(kind)}`, {
    expected: 'uniform or loss-second-moment',
  });
}

/** Index of the first entry above `value` in an ascending array; the last index if there is none. */
function firstAbove(ascending: Float64Array, value: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

function checkCount(operation: string, name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1)
    throw new ValueError(operation, `is ${value}`, { option: name, expected: 'an integer of at least 1' });
  return value;
}
