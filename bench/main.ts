// npm run bench: what the adapter can do at most, how near every kernel and step comes, as a table, JSON and a picture.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Tier } from '../core/index.ts';
import { allCases } from './cases/index.ts';
import { comparisonText } from './compare.ts';
import { commitOf } from './git.ts';
import { parseResult, resultJson, resultName } from './result.ts';
import { runBenchmark } from './run.ts';
import { ceilingsTable, resultTable } from './table.ts';
import { Terminal } from './terminal.ts';

interface Options {
  readonly filter?: string;
  readonly quick: boolean;
  readonly tier: Tier;
  readonly adapter?: string;
  readonly compare?: string;
  readonly json?: string;
  readonly out?: string;
  readonly budget?: number;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('Expected a number of seconds above 0.');
  return value;
}

function program(): Command {
  return new Command('npm run bench --')
    .description('Measures the ceilings of the adapter, every kernel at the shapes of DiS, and whole steps.')
    .option('--filter <text>', 'only cases whose name and size contain this')
    .option('--quick', 'the most telling cases only, about a minute', false)
    .addOption(new Option('--tier <tier>', 'stock: as browsers have it; fast: with f16 on NVIDIA and matrix units').choices(['stock', 'fast']).default('stock'))
    .option('--adapter <name>', 'part of the name of the adapter to take')
    .option('--budget <seconds>', 'time for all cases; the default is nine minutes', seconds)
    .option('--compare <file>', 'ratios to an earlier result')
    .option('--json <file>', 'write the result')
    .option('--out <folder>', 'write everything under the adapter\'s name: result, table, picture')
    .helpOption('-h, --help', 'show this');
}

async function main(): Promise<void> {
  const options = program().parse().opts<Options>();
  const before = options.compare === undefined ? null : parseResult(readFileSync(options.compare, 'utf8'), options.compare);
  const terminal = new Terminal();
  const result = await runBenchmark(allCases(), {
    device: { tier: options.tier, ...(options.adapter !== undefined && { adapter: options.adapter }) },
    quick: options.quick, commit: commitOf(), progress: (text) => terminal.progress(text), note: (text) => terminal.note(text),
    ...(options.filter !== undefined && { filter: options.filter }), ...(options.budget !== undefined && { budget: options.budget }),
  });
  terminal.done();
  console.log(`\n${resultTable(result)}`);
  if (before) console.log(`\n${comparisonText(before, result)}`);
  if (options.json !== undefined) writeFileSync(options.json, resultJson(result));
  if (options.out !== undefined) {
    mkdirSync(options.out, { recursive: true });
    const base = join(options.out, resultName(result));
    writeFileSync(`${base}.json`, resultJson(result));
    writeFileSync(`${base}.txt`, `${ceilingsTable(result.ceilings)}\n\n${resultTable(result)}\n`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
