// Text for terminals: aligned tables and numbers with units.

import { GROUPS, type Group } from './case.ts';
import { countingTime, timeOf, type BenchResult, type BenchRow } from './result.ts';
import type { Bound, Ceilings } from './work.ts';

/** A number with three digits and a prefix: `12.3 G`. */
export function quantity(value: number, unit: string): string {
  const prefixes = [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
    [1, ''],
    [1e-3, 'm'],
    [1e-6, 'µ'],
    [1e-9, 'n'],
  ] as const;
  const [scale, prefix] = prefixes.find(([least]) => Math.abs(value) >= least * 0.9995) ?? [1, ''];
  return `${digits(value / scale)} ${prefix}${unit}`;
}

function digits(value: number): string {
  return value === 0 ? '0' : value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) * 1.0005))));
}

/** Columns to the width of their widest cell: the first two to the left, numbers to the right. */
export function align(rows: readonly (readonly string[])[], left = 2): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => [...(row[column] ?? '')].length)));
  const pad = (cell: string, column: number): string => {
    const space = ' '.repeat(widths[column] - [...cell].length);
    return column < left ? cell + space : space + cell;
  };
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

const BOUNDS: Readonly<Record<Bound, string>> = {
  copy: 'copy',
  fma: 'multiply-add',
  matrix: 'matrix unit',
  exp: 'exp',
  dispatch: 'dispatch',
};

export function ceilingsTable({ copy, fma, matrix, exp, dispatch }: Ceilings): string {
  const rate = (value: number | null, unit: string): string => (value === null ? 'not offered' : quantity(value, unit));
  return align([
    ...copy.map(({ footprint, rate: bytes }, i) => [
      i === 0 ? 'copy' : '',
      `of ${quantity(footprint / 2, 'B')}`,
      quantity(bytes, 'B/s'),
    ]),
    ['multiply-add', 'f32', rate(fma.f32, 'FLOP/s')],
    ['', 'f16', rate(fma.f16, 'FLOP/s')],
    ['', 'matrix unit, f16 to f32', rate(matrix, 'FLOP/s')],
    ['exp', 'f32', rate(exp, '/s')],
    ['dispatch', 'one after the other', quantity(dispatch, 's')],
  ]);
}

const HEADER = [
  '',
  'size',
  'time',
  '±',
  'clock',
  'moved',
  'B/s',
  'FLOP/s',
  'binds',
  'share',
  'dispatches',
  'host each',
  'eager',
];

/** Half the distance between the quartiles, as a share of the median. */
function spread(row: BenchRow): string {
  const { median, low, high } = countingTime(row);
  return `${((50 * (high - low)) / median).toFixed(0)} %`;
}

function cells(row: BenchRow): string[] {
  const time = timeOf(row);
  const { bytes, flops, exps } = row.work;
  const arithmetic = flops + exps;
  return [
    row.name,
    row.size,
    quantity(time, 's'),
    spread(row),
    quantity(row.wall.median, 's'),
    quantity(bytes, 'B'),
    quantity(bytes / time, 'B/s'),
    arithmetic ? quantity(arithmetic / time, '') : '',
    BOUNDS[row.bound],
    `${(100 * row.share).toFixed(0)} %`,
    String(Math.round(row.dispatches)),
    quantity(row.host.replayed, 's'),
    row.host.eager === null ? '' : quantity(row.host.eager, 's'),
  ];
}

/** One line of progress. */
export function progressLine(row: BenchRow): string {
  return `${row.name} ${row.size}: ${quantity(timeOf(row), 's')}, ${(100 * row.share).toFixed(0)} % of ${BOUNDS[row.bound]}`;
}

const inOrder = (rows: readonly BenchRow[], group: Group): BenchRow[] => rows.filter((row) => row.group === group);

/** All rows by group, with what was left out and why. */
export function resultTable({ rows, leftOut, failed }: Pick<BenchResult, 'rows' | 'leftOut' | 'failed'>): string {
  const parts: string[] = [];
  for (const group of GROUPS) {
    const mine = inOrder(rows, group);
    if (mine.length) parts.push(align([[group, ...HEADER.slice(1)], ...mine.map(cells)]));
  }
  const steps = rows.filter((row) => row.images);
  // Where the last column stays or falls, a step grows no faster than its batch and its tokens.
  if (steps.length) {
    parts.push(
      align([
        ['throughput', 'batch×tokens', 'images/s', 'time a token'],
        ...steps.map((row) => {
          const tokens = row.size.split('×').reduce((product, size) => product * Number(size), 1);
          return [row.name, row.size, digits(row.images! / timeOf(row)), quantity(timeOf(row) / tokens, 's')];
        }),
      ]),
    );
  }
  const hosted = hostTable(rows);
  if (hosted) parts.push(hosted);
  const planned = rows.filter((row) => row.plan && row.plan.naive > 0 && row.group === 'step');
  if (planned.length) {
    parts.push(
      align([
        ['memory of a captured step', '', 'planned', 'least possible', 'without sharing'],
        ...planned.map((row) => [
          row.name,
          row.size,
          quantity(row.plan!.planned, 'B'),
          quantity(row.plan!.lowerBound, 'B'),
          quantity(row.plan!.naive, 'B'),
        ]),
      ]),
    );
  }
  const pace = paceText(rows);
  if (pace) parts.push(pace);
  if (failed.length) parts.push(['failed', ...failed.map((f) => `${f.id}: ${f.message}`)].join('\n'));
  if (leftOut.length) parts.push(leftOutText(leftOut));
  return parts.join('\n\n');
}

/** Seconds of host time that a step takes, as it is measured: replayed, or operation by operation where it is not captured. */
const hostTime = (row: BenchRow): number => row.host.replayed * row.dispatches;

/** What a training step costs the host, and how much slower it is where it is not captured. */
function hostTable(rows: readonly BenchRow[]): string {
  const uncaptured = new Map(rows.map((row) => [`${row.name} ${row.size}`, row]));
  const training = rows.filter((row) => row.group === 'step' && / training( f16)?$/.test(row.name));
  if (training.length === 0) return '';
  return align([
    ['host of a captured step', '', 'dispatches', 'a dispatch', 'of the step', 'not captured'],
    ...training.map((row) => {
      const other = uncaptured.get(`${row.name}, not captured ${row.size}`);
      return [
        row.name,
        row.size,
        String(Math.round(row.dispatches)),
        quantity(row.host.replayed, 's'),
        `${((100 * hostTime(row)) / timeOf(row)).toFixed(1)} %`,
        other ? `${(timeOf(other) / timeOf(row)).toFixed(2)}× as long` : '',
      ];
    }),
  ]);
}

/** Speeds of a GPU below this share of its best leave times that say little. */
const STEADY = 0.95;

/** Whether the GPU's clock was steady: its speed at arithmetic before and after each case. */
function paceText(rows: readonly BenchRow[]): string {
  const paced = rows.filter((row) => row.pace);
  if (paced.length === 0) return '';
  const least = (row: BenchRow): number => Math.min(row.pace!.before, row.pace!.after);
  const slow = paced.filter((row) => least(row) < STEADY);
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  return [
    `clock: before and after the cases, arithmetic ran at ${percent(Math.min(...paced.map(least)))} or more of its best`,
    ...slow
      .slice(0, 8)
      .map(
        (row) => `  ${row.name} ${row.size}: ${percent(row.pace!.before)} before, ${percent(row.pace!.after)} after`,
      ),
    ...(slow.length > 8 ? [`  and ${slow.length - 8} more below ${percent(STEADY)} (all of them in the JSON)`] : []),
  ].join('\n');
}

/** Few are named one by one; many by their reason. */
function leftOutText(leftOut: BenchResult['leftOut']): string {
  const kinds = new Map<string, string[]>();
  for (const { id, reason } of leftOut) {
    const kind = reason.replace(/[\d.]+ (s|MiB)\b/, '… $1');
    kinds.set(kind, [...(kinds.get(kind) ?? []), `${id} (${reason})`]);
  }
  const lines = [...kinds].map(([kind, ids]) =>
    ids.length <= 4
      ? ids.map((id) => `  ${id}`).join('\n')
      : `  ${ids.length} of ${kind}: ${ids.slice(0, 3).join(', ')}, …`,
  );
  return [`left out: ${leftOut.length} (all of them in the JSON)`, ...lines].join('\n');
}
