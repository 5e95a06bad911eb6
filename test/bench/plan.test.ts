import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { idOf, type BenchCase } from '../../bench/case.ts';
import { allCases } from '../../bench/cases/index.ts';
import { planCases, type PlanLimits } from '../../bench/plan.ts';
import { inSequence, limitOf, type Work } from '../../bench/work.ts';
import { result } from './result.ts';

const { ceilings } = result([]);
const work = (over: Partial<Work> = {}): Work => ({ bytes: 1e6, flops: 0, exps: 0, type: 'f32', ...over });
const LIMITS: PlanLimits = {
  budget: 10,
  iteration: 1,
  step: 10,
  overhead: { kernel: 0.5, step: 1 },
  seconds: 0.1,
  binding: 2 ** 27,
  memory: 2 ** 30,
  priority: 1,
  has: () => false,
};

function sized(name: string, over: Partial<BenchCase> = {}): BenchCase {
  return {
    group: 'scan',
    name,
    size: '1',
    work: work(),
    priority: 0,
    largest: 1e6,
    live: 1e6,
    prepare: () => ({ step: () => {}, dispose: () => {} }),
    ...over,
  };
}

test('the ceiling that binds is the one that takes longest', () => {
  assert.equal(limitOf(work({ bytes: 1e9 }), 1, ceilings), { bound: 'copy', seconds: 0.01 });
  assert.equal(limitOf(work({ flops: 1e12 }), 1, ceilings), { bound: 'fma', seconds: 1 });
  assert.equal(limitOf(work({ flops: 1e12, type: 'f16' }), 1, ceilings), { bound: 'fma', seconds: 0.5 });
  assert.equal(limitOf(work({ flops: 1e12, type: 'f16', matrix: true }), 1, ceilings), {
    bound: 'matrix',
    seconds: 0.125,
  });
  assert.equal(limitOf(work({ exps: 1e11 }), 1, ceilings), { bound: 'exp', seconds: 1 });
  assert.is(limitOf(work(), 1e6, ceilings).bound, 'dispatch');
  // What fits into a cache is compared with a copy that does.
  assert.is(limitOf(work({ bytes: 1e6 }), 0, ceilings).seconds, 1e6 / 2e11);
});

test('parts take the sum of what each takes', () => {
  const both = inSequence([work({ bytes: 1e9 }), work({ flops: 1e12, bytes: 0 })]);
  assert.is(both.flops, 1e12);
  const { bound, seconds } = limitOf(both, 1, ceilings);
  assert.is(bound, 'fma');
  assert.ok(Math.abs(seconds - 1.01) < 1e-12);
});

test('what does not fit is left out with its reason', () => {
  const { chosen, leftOut } = planCases(
    [
      sized('fits'),
      sized('later', { priority: 2 }),
      sized('large', { largest: 2 ** 28 }),
      sized('much', { live: 2 ** 31 }),
      sized('slow', { work: work({ flops: 1e12 }) }),
      sized('step', { group: 'step', work: work({ flops: 1e11 }) }),
      sized('half', { needs: 'shader-f16' }),
    ],
    ceilings,
    LIMITS,
  );
  assert.equal(
    chosen.map((c) => c.name),
    ['fits', 'step'],
  );
  assert.equal(Object.fromEntries(leftOut.map(({ id, reason }) => [id, reason])), {
    'later 1': 'left to a longer run',
    'large 1': 'a tensor of 256 MiB, the adapter binds 128 MiB',
    'much 1': 'about 2048 MiB of memory',
    'slow 1': 'about 5.0 s an iteration',
    'half 1': 'needs shader-f16',
  });
});

test('where time is short the most telling cases stay', () => {
  const many = Array.from({ length: 40 }, (_, i) => sized(`${i}`, { priority: i % 2 }));
  const { chosen, leftOut, seconds } = planCases(many, ceilings, LIMITS);
  assert.ok(seconds <= LIMITS.budget);
  assert.is(chosen.length + leftOut.length, 40);
  assert.equal(
    chosen.map((c) => c.priority),
    chosen.map(() => 0),
  );
  assert.match(leftOut[0].reason, 'no time left');
});

test('what is wanted first comes first, whatever its priority', () => {
  const cases = [sized('a'), sized('b', { priority: 2 }), sized('c', { priority: 1 }), sized('d', { priority: 2 })];
  const { chosen, leftOut } = planCases(cases, ceilings, { ...LIMITS, first: [/^scan d/, /B 1$/i] });
  assert.equal(
    chosen.map((c) => c.name),
    ['d', 'b', 'a', 'c'],
  );
  assert.equal(leftOut, []);
});

test('the measurement of a GPU names cases that there are', () => {
  const script = readFileSync(new URL('../../bench/gpu.sh', import.meta.url), 'utf8');
  const patterns = [...script.matchAll(/^\w+='(\^.*)'$/gm)].map(([, pattern]) => new RegExp(pattern, 'i'));
  assert.ok(patterns.length >= 5);
  const names = allCases().map((c) => `${c.group} ${idOf(c)}`);
  const counts = patterns.map((pattern) => names.filter((name) => pattern.test(name)).length);
  // Training in f32 and f16 at three batches of two models, also in parts; scan and products in two types.
  assert.equal(counts.slice(0, 2), [7, 7]);
  assert.ok(
    counts.every((count) => count > 0),
    String(counts),
  );
});

test('every case has a name of its own, and counts its work', () => {
  const cases = allCases();
  assert.is(new Set(cases.map(idOf)).size, cases.length);
  for (const c of cases) {
    assert.ok(c.work.bytes > 0 && Number.isFinite(c.work.flops) && Number.isFinite(c.work.exps), idOf(c));
    assert.ok(c.largest > 0 && c.live >= c.largest / 2, idOf(c));
  }
});

test.run();
