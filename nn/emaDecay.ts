// How a moving average of weights forgets the weights it began with.

import { ValueError } from '../core/errors.ts';

/** Steps taken before this one → decay of the moving average in this step. */
export type EmaDecaySchedule = (step: number) => number;

/**
 * `min(decay, (1 + t) / (10 + t))` after t steps: an average over about the last ninth of a run until `decay` is reached, after 90,000
 * steps for 0.9999. With a constant decay the average of a young run is mostly the noise that its weights began with: 90 % after 1,000
 * steps. The formula is that of TensorFlow's `tf.train.ExponentialMovingAverage(decay, num_updates)`, which latent diffusion
 * (arXiv 2112.10752, `LitEma`) took over. The official DiS code keeps the decay constant.
 *
 * @throws ValueError
 */
export function warmupEmaDecay(decay = 0.9999): EmaDecaySchedule {
  if (!(decay >= 0 && decay <= 1))
    throw new ValueError('warmupEmaDecay', `is ${decay}`, { option: 'emaDecay', expected: '0 to 1' });
  return (step) => Math.min(decay, (1 + step) / (10 + step));
}

/** The weight that the parameters of the beginning still have in the average after `steps` steps: the product of the decays. */
export function emaInitialShare(schedule: EmaDecaySchedule, steps: number): number {
  const counted = Math.min(steps, 100_000);
  let share = 1;
  for (let step = 0; step < counted && share > 1e-12; step++) share *= schedule(step);
  // By then a schedule has reached the decay that it keeps.
  return share * schedule(counted) ** (steps - counted);
}
