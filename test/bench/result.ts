// Results made up for tests.

import type { BenchResult, BenchRow } from '../../bench/result.ts';
import { SCHEMA } from '../../bench/result.ts';
import type { Spread } from '../../bench/sample.ts';

export const spread = (median: number, half = 0.01): Spread => ({
  least: median * (1 - half),
  low: median * (1 - half),
  median,
  high: median * (1 + half),
  count: 9,
});

export function row(name: string, seconds: number, over: Partial<BenchRow> = {}): BenchRow {
  return {
    group: 'matmul',
    name,
    size: '8×8',
    work: { bytes: 1e6, flops: 4e6, exps: 0, type: 'f32' },
    wall: spread(seconds),
    gpu: null,
    dispatches: 1,
    repeats: 64,
    host: { replayed: 2e-6, eager: 3e-5 },
    bound: 'copy',
    share: 0.5,
    plan: null,
    pace: null,
    ...over,
  };
}

export function result(rows: readonly BenchRow[], over: Partial<BenchResult> = {}): BenchResult {
  return {
    schema: SCHEMA,
    date: '2030-01-02T03:04:05.000Z',
    commit: '0123456789abcdef',
    dirty: false,
    tier: 'stock',
    adapter: { vendor: 'acme', architecture: 'one', device: 'Acme <One> & "Two"', description: '', software: false },
    host: { platform: 'linux-x64', node: 'v20', cpu: 'a CPU', cores: 2 },
    ceilings: {
      copy: [
        { footprint: 1e6, rate: 2e11 },
        { footprint: 1e9, rate: 1e11 },
      ],
      fma: { f32: 1e12, f16: 2e12 },
      matrix: 8e12,
      exp: 1e11,
      dispatch: 1e-6,
    },
    drift: 1,
    rows,
    leftOut: [{ id: 'a 1', reason: 'about 3.1 s an iteration' }],
    failed: [],
    seconds: 1,
    ...over,
  };
}
