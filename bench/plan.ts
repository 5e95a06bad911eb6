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
  /** Seconds that a kernel, and a whole step, takes beside its iterations: compiling, making its inputs, warming the GPU up. */
  readonly overhead: { readonly kernel: number; readonly step: number };
  /** Seconds for which a case is sampled. */
  readonly seconds: number;
  /** Bytes of the largest binding, and of all memory that a case may take. */
  readonly binding: number;
  readonly memory: number;
  /** Cases of a higher priority number are left out. */
  readonly priority: number;
  readonly has: (feature: NonNullable<BenchCase['needs']>) => boolean;
  /** Cases that come before all others, in this order, whatever their priority. */
  readonly first?: readonly RegExp[];
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
export function costOf(c: BenchCase, ceilings: Ceilings, limits: Pick<PlanLimits, 'overhead' | 'seconds'>): number {
  const one = estimate(c, ceilings);
  return (
    limits.overhead[c.group === 'step' ? 'step' : 'kernel'] + Math.max(limits.seconds, (one > SLOW ? 5 : 12) * one)
  );
}

/** Place among the cases that are wanted first. */
function rankOf(c: BenchCase, first: readonly RegExp[]): number {
  const rank = first.findIndex((pattern) => pattern.test(`${c.group} ${idOf(c)}`));
  return rank < 0 ? first.length : rank;
}

/** Chooses cases, those that are wanted first, the most telling and then the cheapest first, and says why the others are left out. */
export function planCases(
  cases: readonly BenchCase[],
  ceilings: Ceilings,
  limits: PlanLimits,
): { chosen: BenchCase[]; leftOut: LeftOut[]; seconds: number } {
  const chosen: BenchCase[] = [];
  const leftOut: LeftOut[] = [];
  let total = 0;
  const order = cases
    .map((c, at) => ({ c, at, rank: rankOf(c, limits.first ?? []), cost: costOf(c, ceilings, limits) }))
    .sort((a, b) => a.rank - b.rank || a.c.priority - b.c.priority || a.cost - b.cost || a.at - b.at);
  for (const { c, rank, cost: seconds } of order) {
    const reason =
      refusal(c, ceilings, limits, rank < (limits.first?.length ?? 0)) ??
      (total + seconds > limits.budget ? `no time left: about ${seconds.toFixed(1)} s` : null);
    if (reason !== null) {
      leftOut.push({ id: idOf(c), reason });
    } else {
      total += seconds;
      chosen.push(c);
    }
  }
  return { chosen, leftOut, seconds: total };
}

function refusal(c: BenchCase, ceilings: Ceilings, limits: PlanLimits, wanted: boolean): string | null {
  if (c.needs && !limits.has(c.needs)) return `needs ${c.needs}`;
  if (c.largest > limits.binding)
    return `a tensor of ${mebibytes(c.largest)}, the adapter binds ${mebibytes(limits.binding)}`;
  if (c.live > limits.memory) return `about ${mebibytes(c.live)} of memory`;
  if (c.priority > limits.priority && !wanted) return 'left to a longer run';
  const one = estimate(c, ceilings);
  if (one > (c.group === 'step' ? limits.step : limits.iteration)) return `about ${one.toFixed(1)} s an iteration`;
  return null;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
