// Brings an adapter to its full speed before something is timed on it. A GPU lowers its clock while the host compiles
// or prepares (an H100 from 1,980 to 345 MHz), and takes some tenths of a second of work to raise it again. What is
// timed before that measures the clock. Nothing tells the clock, but arithmetic in registers runs at its rate: so
// arithmetic is repeated until it is as fast as it was before on this device, or no longer gets faster. CPUs don't need
// this.
//
// It imports only what core has had from the beginning: the benchmark gives this file to older builds that it times.

import type { Device } from '../gpu/device.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { Storage } from '../gpu/storage.ts';

/** A burst of work lasts at least so many seconds, so that the wait at its end counts little and no queue grows. */
const BURST = 0.008;

/**
 * Seconds of work after which an adapter may count as warm; seconds without a gain that show it; most seconds in all.
 */
const LEAST = 0.4,
  SETTLED = 0.15,
  MOST = 1.5;

/** A speed this near to the best counts as the best; a gain is more than `GAIN`. */
const NEAR = 0.95,
  GAIN = 1.02;

/** The speed of one adapter, compared with the best speed seen. */
export class Pace {
  private readonly burst: (rounds: number) => Promise<number>;
  private readonly now: () => number;
  private rounds = 16;
  /** Rounds a second. */
  private best = 0;

  /** `burst` does work in proportion to `rounds` and returns the seconds that it took; `now` is a clock in seconds. */
  constructor(burst: (rounds: number) => Promise<number>, now = (): number => performance.now() / 1000) {
    this.burst = burst;
    this.now = now;
  }

  /**
   * Works until the adapter is as fast as it was before, or has not become faster for a while, or 1.5 seconds are over.
   *
   * @returns the speed at the end, as a share of the best that was seen
   */
  async warmUp(): Promise<number> {
    const begun = this.now(),
      goal = this.best > 0 ? NEAR * this.best : Infinity;
    let gained = begun,
      most = 0,
      reached = 0;
    for (;;) {
      const rate = await this.rate();
      const at = this.now();
      if (rate > GAIN * most) gained = at;
      most = Math.max(most, rate);
      // Two in a row, as one may be chance.
      reached = rate >= goal ? reached + 1 : 0;
      if (reached === 2 || at - begun >= MOST || (at - begun >= LEAST && at - gained >= SETTLED))
        return rate / this.best;
    }
  }

  /** The present speed as a share of the best that was seen, by two bursts. */
  async look(): Promise<number> {
    const rates = [await this.rate(), await this.rate()];
    return Math.max(...rates) / this.best;
  }

  private async rate(): Promise<number> {
    let seconds = await this.burst(this.rounds);
    while (seconds < BURST && this.rounds < 2 ** 24) {
      this.rounds *= 2;
      seconds = await this.burst(this.rounds);
    }
    const rate = this.rounds / seconds;
    this.best = Math.max(this.best, rate);
    return rate;
  }
}

/** Four chains of multiply-adds. The result is never written, but no compiler can know that. */
export const spinKernel = defineKernel<object>('warmUp.spin', () => ({
  bindings: [{ name: 'out', type: 'array<f32>', access: 'write' }],
  params: [{ name: 'rounds', type: 'u32' }],
  workgroupSize: [64],
  body: `let x = vec4f(f32(flat & 1023u) * 1e-6);
var a = x; var b = x + 0.1; var c = x + 0.2; var d = x + 0.3;
for (var i = 0u; i < p.rounds; i++) {
  a = fma(a, vec4f(0.99), x); b = fma(b, vec4f(0.99), x); c = fma(c, vec4f(0.99), x); d = fma(d, vec4f(0.99), x);
}
if (a.x + b.y + c.z + d.w > 1e9) { out[0] = a.x; }`,
}));

/** Enough to fill the largest GPU. */
const INVOCATIONS = 2 ** 18;

const paces = new WeakMap<Device, Pace>();

/** The pace of a device. All callers share one, so that they share the best speed. */
export function paceOf(device: Device): Pace {
  let pace = paces.get(device);
  if (!pace) {
    pace = new Pace(async (rounds) => {
      const storage = new Storage(device, 4, 'a warm-up');
      const begun = performance.now();
      device.run(spinKernel, {}, [{ storage, byteOffset: 0 }], [rounds], grid1d(INVOCATIONS, 64));
      await device.synchronize();
      storage.release();
      return (performance.now() - begun) / 1000;
    });
    paces.set(device, pace);
  }
  return pace;
}

/**
 * Brings a GPU to its speed; does nothing on a CPU. Nothing may be captured meanwhile.
 *
 * @returns the speed as a share of the best that was seen on this device; null where nothing was done
 */
export async function warmUp(device: Device): Promise<number | null> {
  return device.adapter.software ? null : paceOf(device).warmUp();
}

/** The present speed of a GPU as a share of the best that was seen on this device; null on a CPU. */
export async function speedNow(device: Device): Promise<number | null> {
  return device.adapter.software ? null : paceOf(device).look();
}
