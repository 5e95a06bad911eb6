// npm run bench: what the adapter can do at most, how near every kernel and step comes, as a table, JSON and a picture.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { Command, Option } from 'commander';
import type { Tier, TuningData } from '../core/index.ts';
import { againstTable, resolveCommit, runAgainst } from './against.ts';
import { interruption, patterns, positive, whole } from './arguments.ts';
import { allCases } from './cases/index.ts';
import { comparisonText } from './compare.ts';
import { benchExchange } from './exchange/main.ts';
import { commitOf } from './git.ts';
import { parseResult, resultJson, resultName, type BenchResult } from './result.ts';
import { rooflineSvg } from './roofline.ts';
import { matches, runBenchmark } from './run.ts';
import { ceilingsTable, resultTable } from './table.ts';
import { Terminal } from './terminal.ts';

interface Options {
  readonly filter?: string;
  readonly first?: readonly RegExp[];
  readonly quick: boolean;
  readonly tier: Tier;
  readonly adapter?: string;
  readonly compare?: string;
  readonly against?: string;
  readonly rounds: number;
  readonly json?: string;
  readonly svg?: string;
  readonly out?: string;
  readonly budget?: number;
  readonly memory?: number;
  readonly tune: boolean;
  readonly show?: string;
}

function program(): Command {
  return new Command('npm run bench --')
    .description('Measures the ceilings of the adapter, every kernel at the shapes of DiS, and whole steps.')
    .option(
      '--filter <text>',
      'only cases whose name and size contain this; exchange: what it costs that several GPUs train together (Open MPI)',
    )
    .option(
      '--first <pattern>',
      'cases whose group, name and size match this come first; may be given again for those that come next',
      patterns,
    )
    .option('--quick', 'the most telling cases only, about a minute', false)
    .addOption(
      new Option('--tier <tier>', 'stock: as browsers have it; fast: with f16 on NVIDIA and matrix units')
        .choices(['stock', 'fast'])
        .default('stock'),
    )
    .option('--adapter <name>', 'part of the name of the adapter to take')
    .option('--budget <seconds>', 'time for all cases; the default is nine minutes', positive)
    .option('--memory <GiB>', 'memory that a case may take; the default is 12, on software adapters 1', positive)
    .option('--tune', 'find the fastest configurations of kernels, in a part of the time', false)
    .option('--compare <file>', 'ratios to an earlier result')
    .option(
      '--against <commit>',
      'this tree and a commit in turn, case by case; prev is the last commit, or the one before where nothing differs from it',
    )
    .option('--rounds <count>', 'turns of --against', whole, 7)
    .option('--json <file>', 'write the result')
    .option('--svg <file>', 'draw the roofline, as SVG and as PNG beside it')
    .option('--out <folder>', "write everything under the adapter's name: result, table and tuning")
    .option('--show <file>', 'measure nothing: show a result that was written before')
    .helpOption('-h, --help', 'show this');
}

async function writeRoofline(result: BenchResult, file: string): Promise<void> {
  const svg = rooflineSvg(result);
  writeFileSync(file, svg);
  await sharp(Buffer.from(svg))
    .png({ palette: true })
    .toFile(`${file.replace(/\.svg$/i, '')}.png`);
}

async function run(options: Options): Promise<{ result: BenchResult; tuning?: TuningData }> {
  const terminal = new Terminal();
  const { tier, adapter, quick, tune, filter, first, budget, memory } = options;
  try {
    return await runBenchmark(allCases(), {
      device: { tier, ...(adapter !== undefined && { adapter }) },
      quick,
      tune,
      commit: commitOf(),
      signal: interruption((text) => terminal.note(text)),
      progress: (text) => terminal.progress(text),
      note: (text) => terminal.note(text),
      ...(filter !== undefined && { filter }),
      ...(first && { first }),
      ...(budget !== undefined && { budget }),
      ...(memory !== undefined && { memory: memory * 2 ** 30 }),
    });
  } finally {
    terminal.done();
  }
}

/** Cases that are cheap enough to be repeated: those of every run, or those that are named. */
async function compareBuilds(options: Options): Promise<void> {
  const { tier, adapter, filter, rounds } = options;
  const terminal = new Terminal();
  const cases = allCases().filter((c) =>
    filter === undefined ? c.priority === 0 && c.group !== 'step' : matches(c, filter),
  );
  const rows = await runAgainst(cases, {
    commit: options.against!,
    tier,
    rounds,
    signal: interruption((text) => terminal.note(text)),
    progress: (text) => terminal.progress(text),
    note: (text) => terminal.note(text),
    ...(adapter !== undefined && { adapter }),
  });
  terminal.done();
  console.log(`\n${againstTable(rows)}`);
  if (options.json !== undefined)
    writeFileSync(
      options.json,
      `${JSON.stringify({ against: resolveCommit(options.against!), commit: commitOf(), rounds, rows }, null, 1)}\n`,
    );
}

async function main(): Promise<void> {
  const options = program().parse().opts<Options>();
  // Several processes, each with a GPU of its own, where all else is one.
  if (options.filter === 'exchange') return benchExchange(options);
  if (options.against !== undefined) return compareBuilds(options);
  const before =
    options.compare === undefined ? null : parseResult(readFileSync(options.compare, 'utf8'), options.compare);
  const { result, tuning } =
    options.show === undefined
      ? await run(options)
      : { result: parseResult(readFileSync(options.show, 'utf8'), options.show) };
  console.log(`\n${resultTable(result)}`);
  if (before) console.log(`\n${comparisonText(before, result)}`);
  if (options.json !== undefined) writeFileSync(options.json, resultJson(result));
  if (options.svg !== undefined) await writeRoofline(result, options.svg);
  if (options.out !== undefined) {
    mkdirSync(options.out, { recursive: true });
    const base = join(options.out, resultName(result));
    writeFileSync(`${base}.json`, resultJson(result));
    if (tuning && options.tune) writeFileSync(`${base}.tuning.json`, `${JSON.stringify(tuning, null, 1)}\n`);
    writeFileSync(`${base}.txt`, `${ceilingsTable(result.ceilings)}\n\n${resultTable(result)}\n`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
