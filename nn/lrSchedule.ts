// Learning rates as functions of progress. A schedule is a pure function, so a resumed run gets the same rate at step n
// as one that was not interrupted.

import { ValueError } from '../core/errors.ts';

/** Progress (fractional epochs or steps, from 0) → learning rate. */
export type LrSchedule = (progress: number) => number;

/** What `warmupCosine` goes through, in the unit of progress. */
export interface WarmupCosineOptions {
  /** Peak learning rate. */
  readonly lr: number;
  /** Learning rate at the end of the decay; default 0. */
  readonly minLr?: number;
  /** Length of the linear warm-up from 0, in the unit of progress; default 0. */
  readonly warmup?: number;
  /** Length of the whole schedule, warm-up included, in the unit of progress. */
  readonly total: number;
}

/**
 * Linear warm-up, then half a cosine: `lr · p / warmup` for p < warmup, else
 * `minLr + (lr - minLr) · ½ (1 + cos(π (p - warmup) / (total - warmup)))`. The unit of p is the caller's choice:
 * fractional epochs as in the official DiS and MAE code (`(step / stepsPerEpoch) + epoch`), or optimizer steps. After
 * `total` the rate stays at `minLr`; it doesn't rise with the next half of the cosine.
 *
 * @throws ValueError for a negative or non-finite rate, or a warm-up that does not end before the total
 */
export function warmupCosine({ lr, minLr = 0, warmup = 0, total }: WarmupCosineOptions): LrSchedule {
  checkRate('warmupCosine', 'lr', lr);
  checkRate('warmupCosine', 'minLr', minLr);
  if (minLr > lr)
    throw new ValueError('warmupCosine', `is ${minLr}`, { option: 'minLr', expected: `at most lr, which is ${lr}` });
  if (!(warmup >= 0)) throw new ValueError('warmupCosine', `is ${warmup}`, { option: 'warmup', expected: '0 or more' });
  if (!(total > warmup && Number.isFinite(total))) {
    throw new ValueError('warmupCosine', `is ${total}`, {
      option: 'total',
      expected: `more than the warm-up of ${warmup}`,
      remedy: 'train longer or warm up less',
    });
  }
  return (progress) => {
    if (progress < warmup) return (lr * progress) / warmup;
    const decayed = Math.min((progress - warmup) / (total - warmup), 1);
    return minLr + (lr - minLr) * 0.5 * (1 + Math.cos(Math.PI * decayed));
  };
}

/**
 * Always `lr`, after a linear warm-up from 0 if there is one.
 *
 * @throws ValueError for a negative or non-finite rate or warm-up
 */
export function constantLr(lr: number, warmup = 0): LrSchedule {
  checkRate('constantLr', 'lr', lr);
  checkRate('constantLr', 'warmup', warmup);
  return (progress) => (progress < warmup ? (lr * progress) / warmup : lr);
}

/** The same schedule by optimizer step: `perStep(schedule, stepsPerEpoch)(step) = schedule(step / stepsPerEpoch)`. */
export function perStep(schedule: LrSchedule, stepsPerEpoch: number): LrSchedule {
  if (!(stepsPerEpoch > 0 && Number.isFinite(stepsPerEpoch)))
    throw new ValueError('perStep', `is ${stepsPerEpoch}`, { option: 'stepsPerEpoch', expected: 'a positive number' });
  return (step) => schedule(step / stepsPerEpoch);
}

function checkRate(operation: string, name: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value)))
    throw new ValueError(operation, `is ${value}`, { option: name, expected: 'a finite number of 0 or more' });
}
