// What an evaluation says: a table for people, and a record for programs.

import { grouped } from '../format.ts';
import { printable } from '../printable.ts';
import type { BitsPerDimResult } from './bitsPerDim.ts';
import type { NetworkResult } from './evaluation.ts';
import { measureName, networkName, type Measures } from './measures.ts';

export interface EvalOutcome {
  /** What was evaluated, in words. */
  readonly title: string;
  /** What decides the numbers, for programs. */
  readonly about: Readonly<Record<string, unknown>>;
  readonly count: number;
  readonly results: readonly NetworkResult[];
  readonly bpd?: BitsPerDimResult & { readonly of: string };
}

const number = (value: number): string => (Math.abs(value) >= 0.1 ? value.toFixed(3) : value.toPrecision(3));
const withDeviation = (found: { mean: number; deviation: number }): string =>
  `${number(found.mean)} ± ${number(found.deviation)}`;

/** Name, value and floor of each measure. */
function rows({ network, measures, floor }: NetworkResult): string[][] {
  const beside = (of: (m: Measures) => string | undefined): string => (floor && of(floor.measures)) ?? '';
  const row = (name: Parameters<typeof measureName>[1], of: (m: Measures) => string | undefined): string[][] => {
    const value = of(measures);
    return value === undefined ? [] : [[measureName(network, name), value, beside(of)]];
  };
  return [
    ...row('FD', ({ fd }) => (fd === undefined ? undefined : number(fd))),
    ...row('KID', ({ kid }) => kid && withDeviation(kid)),
    ...row('precision', ({ pr }) => pr && number(pr.precision)),
    ...row('recall', ({ pr }) => pr && number(pr.recall)),
    ...row('IS', ({ is }) => is && withDeviation(is)),
  ];
}

/** The table, and what must be said with it. */
export function evalTable({ title, count, results, bpd }: EvalOutcome): string {
  const table = [['', 'value', 'floor'], ...results.flatMap(rows)];
  if (bpd) table.push(['bits/dim', `${bpd.mean.toFixed(3)} ± ${number(bpd.error)}`, '']);
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column].length)));
  const lines = table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
  const said = results.flatMap(({ network, reference, floor, notes }) => [
    `${networkName(network)}: ${grouped(count)} pictures against ${reference.count === undefined ? '' : `${grouped(reference.count)} of `}${reference.label}` +
      `${floor ? `; floor: ${floor.what} against the same` : ''}.`,
    ...notes,
  ]);
  if (bpd) said.push(`Bits per dimension: ${grouped(bpd.pictures)} pictures of ${bpd.of}, ± the standard error.`);
  return [printable(title), ...lines, ...new Set(said.map(printable))].join('\n');
}

/** The same for programs. */
export function evalRecord({ about, count, results, bpd }: EvalOutcome): object {
  return {
    ...about,
    count,
    results: results.map(({ network, measures, floor, reference, notes }) => ({
      name: network.distanceName,
      network: network.identity,
      features: network.features,
      ...measures,
      reference: { label: reference.label, count: reference.count ?? null },
      ...(floor && { floor: { what: floor.what, ...floor.measures } }),
      notes,
    })),
    ...(bpd && { bpd }),
  };
}
