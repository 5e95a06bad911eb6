// Statistics come from the `benchmark` package. What is timed is asynchronous, so it runs deferred; and it is a batch, many
// iterations between two waits, because a wait costs more than most kernels.

import Benchmark from 'benchmark';

export interface SampleOptions {
  /** Seconds to go on for, once there are enough samples. */
  readonly seconds: number;
  readonly samples?: number;
}

/**
 * Times an asynchronous function again and again; seconds a call.
 *
 * @throws whatever the function throws or rejects with
 */
export function sample(
  name: string,
  run: () => Promise<void>,
  { seconds, samples = 5 }: SampleOptions,
): Promise<number[]> {
  return new Promise((resolve, reject) => {
    let failure: { reason: unknown } | null = null;
    const benchmark = new Benchmark(name, {
      defer: true,
      async: true,
      initCount: 1,
      minSamples: samples,
      // A call is a batch, long enough to be timed alone.
      minTime: 1e-6,
      maxTime: seconds,
      fn(deferred: { resolve(): void }) {
        // A rejection would end the process, and an exception here would make benchmark call the function once more.
        void (async () => run())()
          .catch((reason: unknown) => {
            failure = { reason };
            benchmark.abort();
          })
          .then(() => deferred.resolve());
      },
      onAbort: () => settle(),
      onError: () => settle(),
      onComplete: () => settle(),
    });
    const settle = (): void => {
      if (failure) reject(failure.reason);
      else if (benchmark.error) reject(benchmark.error as unknown);
      else resolve(benchmark.stats.sample);
    };
    benchmark.run({ async: true });
  });
}

/** Least value, median and quartiles. */
export interface Spread {
  readonly least: number;
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): number => {
    const place = q * (sorted.length - 1);
    const below = Math.floor(place);
    return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
  };
  return { least: sorted[0], median: at(0.5), low: at(0.25), high: at(0.75), count: sorted.length };
}
