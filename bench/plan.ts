// Which cases fit into the time and the memory there are. A software adapter is a thousand times slower than a GPU; the same list
// serves both.

import { idOf, type BenchCase } from './case.ts';
import { SLOW } from './measure.ts';
import { limitOf, type Ceilings } from './work.ts';

export interface PlanLimits {
  /** Seconds for all cases together. */
  readonly budget: number;
  /** Seconds that one iteration of a kernel, and of a whole step, may be estimated at. */
  readonly iteration: number;
  readonly step: number;
  /** Seconds that a case takes beside its iterations: compiling, making its inputs. */
  readonly overhead: number;
  /** Seconds for which a case is sampled. */
  readonly seconds: number;
  /** Bytes of the largest binding, and of all memory that a case may take. */
  readonly binding: number;
  readonly memory: number;
  /** Cases of a higher priority number are left out. */
  readonly priority: number;
  readonly has: (feature: NonNullable<BenchCase['needs']>) => boolean;
}

export interface LeftOut {
  readonly id: string;
  readonly reason: string;
}

/** Share of a ceiling that an estimate assumes a kernel to reach. */
const ASSUMED = 0.2;

/** Seconds of one iteration, roughly. */
export function estimate(c: BenchCase, ceilings: Ceilings): number {
  const { seconds } = limitOf(c.work, c.dispatches ?? 1, ceilings);
  return seconds / ASSUMED;
}

/** Seconds of measuring a case, roughly: about a dozen iterations, fewer of slow ones. */
function cost(c: BenchCase, ceilings: Ceilings, limits: PlanLimits): number {
  const one = estimate(c, ceilings);
  return limits.overhead + Math.max(limits.seconds, (one > SLOW ? 6 : 12) * one);
}

/** Chooses cases, the most telling and then the cheapest first, and says why the others are left out. */
export function planCases(cases: readonly BenchCase[], ceilings: Ceilings, limits: PlanLimits): { chosen: BenchCase[]; leftOut: LeftOut[]; seconds: number } {
  const chosen: BenchCase[] = [];
  const leftOut: LeftOut[] = [];
  let total = 0;
  const order = cases.map((c, at) => ({ c, at, cost: cost(c, ceilings, limits) })).sort((a, b) => a.c.priority - b.c.priority || a.cost - b.cost || a.at - b.at);
  for (const { c, cost: seconds } of order) {
    const reason = refusal(c, ceilings, limits)
      ?? (total + seconds > limits.budget ? `no time left: about ${seconds.toFixed(1)} s` : null);
    if (reason !== null) {
      leftOut.push({ id: idOf(c), reason });
    } else {
      total += seconds;
      chosen.push(c);
    }
  }
  return { chosen, leftOut, seconds: total };
}

function refusal(c: BenchCase, ceilings: Ceilings, limits: PlanLimits): string | null {
  if (c.needs && !limits.has(c.needs)) return `needs ${c.needs}`;
  if (c.largest > limits.binding) return `a tensor of ${mebibytes(c.largest)}, the adapter binds ${mebibytes(limits.binding)}`;
  if (c.live > limits.memory) return `about ${mebibytes(c.live)} of memory`;
  if (c.priority > limits.priority) return 'left to a longer run';
  const one = estimate(c, ceilings);
  if (one > (c.group === 'step' ? limits.step : limits.iteration)) return `about ${one.toFixed(1)} s an iteration`;
  return null;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
