// The exchange benchmark's results as text.

import type { ExchangeResult, TrainingResult } from './results.ts';

const fixed = (value: number, digits = 1): string => value.toFixed(digits);

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  return [head, ...rows].map(line).join('\n');
}

/** Images a second of `ranks` GPUs over those of as many that need not wait for each other. */
export function efficiency(result: TrainingResult, all: readonly TrainingResult[]): { each?: number; whole?: number } {
  const alone = (batch: number): number | undefined =>
    all.find(
      (one) =>
        one.ranks === 1 &&
        one.batch === batch &&
        one.model === result.model &&
        one.precision === result.precision &&
        one.imgSize === result.imgSize,
    )?.imagesPerSecond;
  const share = (one: number | undefined): number | undefined =>
    one === undefined ? undefined : result.imagesPerSecond / one / result.ranks;
  return { each: share(alone(result.batch / result.ranks)), whole: share(alone(result.batch)) };
}

export function exchangeTable({ machine, commit, date, buckets, training }: ExchangeResult): string {
  const percent = (share: number | undefined): string => (share === undefined ? '' : `${fixed(100 * share)} %`);
  const rate = (megabytes: number, ms: number): string => `${fixed(ms, 2)} (${fixed(megabytes / ms)})`;
  return [
    `${machine}; ${commit.slice(0, 12)}, ${date.slice(0, 10)}`,
    '',
    'A bucket: milliseconds (GB/s)',
    table(
      ['MB', 'ranks', 'GPU to host', 'between ranks', 'host to GPU', 'MPI_Allreduce', 'in 8 pieces'],
      buckets.map(({ megabytes, ranks, copyDown, gather, copyUp, allReduce, allReducePieces }) => [
        String(megabytes),
        String(ranks),
        ...[copyDown, gather, copyUp, allReduce, allReducePieces].map((ms) => rate(megabytes, ms)),
      ]),
    ),
    '',
    'Training: the exchange takes from the first bucket to the last sum; exposed is what the step waits for after backward',
    table(
      [
        'model',
        'type',
        'GPUs',
        'batch',
        'images/s',
        'step ms',
        'against one, same batch a GPU',
        'same batch in all',
        'exchange ms',
        'exposed',
        'hidden',
        'host ms',
      ],
      training.map((one) => {
        const { each, whole } = one.ranks > 1 ? efficiency(one, training) : {};
        const { exchange } = one;
        return [
          `${one.model} ${one.imgSize}²`,
          `${one.precision} ${one.tier}`,
          String(one.ranks),
          String(one.batch),
          fixed(one.imagesPerSecond, 0),
          fixed(one.step),
          percent(each),
          percent(whole),
          exchange ? fixed(exchange.span) : '',
          exchange ? fixed(exchange.exposed) : '',
          exchange ? percent(1 - exchange.exposed / exchange.span) : '',
          exchange ? fixed(exchange.encoding) : '',
        ];
      }),
    ),
  ].join('\n');
}
