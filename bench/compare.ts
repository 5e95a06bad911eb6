// Two results side by side: what became faster or slower, beyond what the measurements scatter.

import { idOf } from './case.ts';
import { countingTime, timeOf, type BenchResult, type BenchRow } from './result.ts';
import { align, quantity } from './table.ts';

export interface Comparison {
  readonly id: string;
  readonly before: number;
  readonly after: number;
  /** before / after: above 1 is faster now. */
  readonly ratio: number;
  readonly verdict: 'faster' | 'slower' | 'same';
}

/** Smaller differences are never called one: two runs at different times differ by more than their own spread. */
const FLOOR = 0.05;

/** Half the distance between the quartiles of the time that counts, as a share of it. */
function scatter(row: BenchRow): number {
  const { median, low, high } = countingTime(row);
  return (high - low) / 2 / median;
}

/** Compares the cases that both results have. */
export function compareResults(before: BenchResult, after: BenchResult): Comparison[] {
  const old = new Map(before.rows.map((row) => [idOf(row), row]));
  return after.rows.flatMap((row) => {
    const was = old.get(idOf(row));
    if (!was) return [];
    const [a, b] = [timeOf(was), timeOf(row)];
    const noise = Math.max(FLOOR, 2 * Math.hypot(scatter(was), scatter(row)));
    const ratio = a / b;
    const verdict = ratio > 1 + noise ? 'faster' : ratio < 1 / (1 + noise) ? 'slower' : 'same';
    return [{ id: idOf(row), before: a, after: b, ratio, verdict }];
  });
}

/** A table of ratios, the slowest first, and a warning where the two runs can hardly be compared. */
export function comparisonText(before: BenchResult, after: BenchResult): string {
  const list = compareResults(before, after);
  if (list.length === 0) return 'The two results have no case in common.';
  const warnings: string[] = [];
  if (before.adapter.device !== after.adapter.device || before.tier !== after.tier) {
    warnings.push(
      `The adapters differ: ${before.adapter.device} (${before.tier}) before, ${after.adapter.device} (${after.tier}) now.`,
    );
  }
  const scale =
    after.ceilings.copy[after.ceilings.copy.length - 1].rate /
    before.ceilings.copy[before.ceilings.copy.length - 1].rate;
  if (Math.abs(Math.log(scale)) > Math.log(1.2)) {
    warnings.push(
      `A copy runs at ${scale.toFixed(2)}× the speed that it had before: the machine is busier or has changed. Use --against for a fair comparison.`,
    );
  }
  const table = align(
    [
      ['case', 'before', 'now', 'ratio', ''],
      ...[...list]
        .sort((a, b) => a.ratio - b.ratio)
        .map((c) => [
          c.id,
          quantity(c.before, 's'),
          quantity(c.after, 's'),
          `${c.ratio.toFixed(2)}×`,
          c.verdict === 'same' ? '' : c.verdict,
        ]),
    ],
    1,
  );
  const count = (verdict: Comparison['verdict']): number => list.filter((c) => c.verdict === verdict).length;
  return [
    ...warnings,
    table,
    `${count('faster')} faster, ${count('slower')} slower, ${count('same')} within the spread.`,
  ].join('\n');
}
