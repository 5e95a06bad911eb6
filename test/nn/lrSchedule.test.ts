import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { constantLr, perStep, warmupCosine } from '../../nn/lrSchedule.ts';

test('warm-up begins at 0, peaks at lr, ends at minLr and stays there', () => {
  const schedule = warmupCosine({ lr: 2, minLr: 0.5, warmup: 10, total: 110 });
  assert.is(schedule(0), 0);
  assert.is(schedule(5), 1);
  assert.is(schedule(10), 2);
  assert.ok(Math.abs(schedule(60) - 1.25) < 1e-15);
  assert.is(schedule(110), 0.5);
  assert.is(schedule(1000), 0.5);
});

test('without a warm-up the first step has the full rate', () => {
  assert.is(warmupCosine({ lr: 1, total: 10 })(0), 1);
  assert.is(constantLr(0.1)(0), 0.1);
});

test('constant with warm-up', () => {
  const schedule = constantLr(4, 8);
  assert.equal([0, 2, 8, 1e6].map(schedule), [0, 1, 4, 4]);
});

test('per step and per fractional epoch are the same schedule', () => {
  const schedule = warmupCosine({ lr: 1e-4, minLr: 1e-6, warmup: 5, total: 1000 });
  assert.is(perStep(schedule, 400)(2200), schedule(5.5));
});

test('refuses what makes no schedule', () => {
  assert.throws(() => warmupCosine({ lr: -1, total: 1 }), /\[warmupCosine\] lr is -1, expected/);
  assert.throws(() => warmupCosine({ lr: 1, minLr: 2, total: 1 }), /minLr is 2, expected at most lr/);
  assert.throws(() => warmupCosine({ lr: 1, warmup: 5, total: 5 }), /total is 5, expected more than the warm-up of 5/);
  assert.throws(() => warmupCosine({ lr: 1, total: NaN }), /total is NaN/);
  assert.throws(() => constantLr(Infinity), /lr is Infinity/);
  assert.throws(() => perStep(constantLr(1), 0), /stepsPerEpoch is 0/);
});

test.run();
