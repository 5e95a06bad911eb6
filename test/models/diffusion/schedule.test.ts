import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  betaSchedule,
  NOISE_SCHEDULES,
  respaceBetas,
  scheduleTables,
  spaceTimesteps,
} from '../../../models/diffusion/schedule.ts';

const close = (actual: number, expected: number, limit = 1e-12): void =>
  assert.ok(Math.abs(actual - expected) <= limit * Math.max(1, Math.abs(expected)), `${actual}, expected ${expected}`);

test('every schedule gives betas in (0, 1] at any length', () => {
  for (const name of NOISE_SCHEDULES) {
    for (const steps of [50, 99, 1000]) {
      const betas = betaSchedule(name, steps);
      assert.is(betas.length, steps);
      assert.ok(
        betas.every((beta) => beta > 0 && beta <= 1),
        `${name} ${steps}`,
      );
    }
  }
});

test('each schedule has the shape its definition says', () => {
  const range = { betaStart: 0.01, betaEnd: 0.09 };
  const quad = betaSchedule('quad', 5, range);
  [0.1, 0.15, 0.2, 0.25, 0.3].forEach((root, t) => close(quad[t], root * root));
  assert.equal([...betaSchedule('const', 3, range)], [0.09, 0.09, 0.09]);
  betaSchedule('jsd', 4).forEach((beta, t) => close(beta, 1 / (4 - t)));
  const warm10 = betaSchedule('warmup10', 30, range);
  [0.01, 0.05, 0.09, 0.09].forEach((beta, t) => close(warm10[t], beta));
  const warm50 = betaSchedule('warmup50', 10, range);
  [0.01, 0.03, 0.05, 0.07, 0.09, 0.09].forEach((beta, t) => close(warm50[t], beta));
  const cosine = betaSchedule('squaredcos_cap_v2', 1000);
  const alphaBar = (s: number): number => Math.cos((((s + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  close(scheduleTables(cosine).alphasCumprod[499], alphaBar(0.5) / alphaBar(0));
  assert.is(cosine[999], 0.999);
});

test('a respaced process has the same cumulative products at the kept steps', () => {
  const betas = betaSchedule('linear', 1000);
  const kept = spaceTimesteps(1000, '7,3');
  const { betas: short, timestepMap } = respaceBetas(betas, kept);
  assert.equal([...timestepMap], kept);
  const [full, few] = [scheduleTables(betas), scheduleTables(short)];
  few.alphasCumprod.forEach((alpha, i) => close(alpha, full.alphasCumprod[kept[i]]));
});

test('the posterior mean coefficients invert the forward process where x_t has no noise', () => {
  const tables = scheduleTables(betaSchedule('linear', 100));
  for (let t = 0; t < 100; t++) {
    close(
      tables.posteriorMeanCoef1[t] + tables.posteriorMeanCoef2[t] * tables.sqrtAlphasCumprod[t],
      Math.sqrt(tables.alphasCumprodPrev[t]),
      1e-10,
    );
  }
});

test('a process of one step has finite logarithms', () => {
  const { betas } = respaceBetas(betaSchedule('linear', 1000), spaceTimesteps(1000, '1'));
  const tables = scheduleTables(betas);
  for (const name of ['posteriorLogVarianceClipped', 'fixedLargeLogVariance', 'logBetas'] as const)
    assert.ok(Number.isFinite(tables[name][0]), name);
});

test('refuses what makes no process', () => {
  assert.throws(() => betaSchedule('cosine' as never, 10), /unknown schedule cosine, expected one of linear/);
  assert.throws(() => betaSchedule('linear', 0), /steps is 0/);
  assert.throws(() => betaSchedule('linear', 10), /beta of step 5 is 1.1/);
  assert.throws(() => scheduleTables(new Float64Array(0)), /no betas/);
  assert.throws(() => spaceTimesteps(10, '11'), /section 0 has 10 of the 10 steps, cannot take 11/);
  assert.throws(() => spaceTimesteps(1000, 'ddim999'), /no integer stride over 1000 steps/);
  assert.throws(() => spaceTimesteps(1000, 'ddim'), /no integer stride/);
  for (const text of ['ten', '1.5', '-3', '10,', 'x10'])
    assert.throws(() => spaceTimesteps(1000, text), /expected a step count/);
  assert.throws(() => spaceTimesteps(10, [0]), /keeps no step/);
  assert.throws(() => respaceBetas(betaSchedule('linear', 100), [100]), /timestep 100 is outside/);
});

test.run();
