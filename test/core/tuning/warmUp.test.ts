// Warming up, with an adapter whose clock is made up: no real time decides.

import * as assert from 'uvu/assert';
import { paceOf, Pace, speedNow, warmUp } from '../../../core/tuning/warmUp.ts';
import { gpuSuite } from '../../support.ts';

const test = gpuSuite('warm-up');

/** A GPU that does `full` rounds a second at its best. Its clock starts at a fifth of that and comes up after 0.3 s of work. */
class MadeUp {
  full = 1e5;
  at = 0;
  work = 0;
  bursts = 0;
  readonly lengths: number[] = [];

  readonly pace = new Pace(
    async (rounds) => {
      const seconds = rounds / (this.full * (this.work < 0.3 ? 0.2 : 1));
      this.at += seconds;
      this.work += seconds;
      this.bursts++;
      this.lengths.push(seconds);
      return Promise.resolve(seconds);
    },
    () => this.at,
  );

  /** Seconds, and bursts, that a warm-up takes, and what it says of the speed. */
  async warm(): Promise<{ seconds: number; bursts: number; share: number }> {
    const { at, bursts } = this;
    const share = await this.pace.warmUp();
    return { seconds: this.at - at, bursts: this.bursts - bursts, share };
  }
}

test('an unknown adapter works until it no longer gets faster', async () => {
  const gpu = new MadeUp();
  const { seconds, share } = await gpu.warm();
  assert.is(share, 1);
  assert.ok(gpu.work > 0.3 && seconds >= 0.4 && seconds < 0.7, `${seconds} s`);
  // Long enough for the wait at its end to count little, also at the full clock.
  assert.ok(gpu.lengths.at(-1)! >= 0.008);
});

test('one that is warm costs two bursts, one that cooled down as long as it needs', async () => {
  const gpu = new MadeUp();
  await gpu.warm();
  assert.equal((await gpu.warm()).bursts, 2);
  gpu.work = 0;
  const { seconds, share } = await gpu.warm();
  assert.is(share, 1);
  assert.ok(seconds > 0.3 && seconds < 0.4, `${seconds} s`);
  assert.is(await gpu.pace.look(), 1);
});

test('one that stays slower is not waited for, and is told', async () => {
  const gpu = new MadeUp();
  await gpu.warm();
  gpu.full = 6e4;
  assert.ok(Math.abs((await gpu.pace.look()) - 0.6) < 1e-9);
  const { seconds, share } = await gpu.warm();
  assert.ok(Math.abs(share - 0.6) < 1e-9);
  assert.ok(seconds >= 0.4 && seconds < 0.5, `${seconds} s`);
});

test('one that never comes to an end is left after a while', async () => {
  let at = 0,
    speed = 1e4;
  const pace = new Pace(
    async (rounds) => {
      const seconds = rounds / speed;
      speed *= 1.03;
      at += seconds;
      return Promise.resolve(seconds);
    },
    () => at,
  );
  await pace.warmUp();
  assert.ok(at >= 1.5 && at < 1.6, `${at} s`);
});

test('the work runs on a device; what computes on the CPU is left alone', async ({ device }) => {
  const share = await paceOf(device).look();
  assert.ok(share > 0 && share <= 1);
  assert.is(paceOf(device), paceOf(device));
  if (!device.adapter.software) return;
  assert.is(await warmUp(device), null);
  assert.is(await speedNow(device), null);
});

test.run();
