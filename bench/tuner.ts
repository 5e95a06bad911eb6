// Tuning within a time that many cases share.

import { tuningOf } from '../core/index.ts';
import type { Device } from '../core/index.ts';

/** Part of what is left of the time that one case may take: those after it shall have some, too. */
const SHARE = 1 / 3;

/** One contest can't be interrupted and takes about so long, in seconds. */
const CONTEST = 1;

/** Tunes what came up whenever it is called, within so many seconds of all calls; tells whether it measured anything. */
export function tuner(seconds: number): (device: Device) => Promise<boolean> {
  let left = seconds;
  return async (device) => {
    if (left < CONTEST) return false;
    const begun = performance.now();
    const results = await tuningOf(device).tune({
      shipped: true,
      signal: AbortSignal.timeout(Math.ceil(1000 * SHARE * left)),
    });
    left -= (performance.now() - begun) / 1000;
    return results.length > 0;
  };
}
