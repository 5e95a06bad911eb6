// npm run bench:ship: makes what `npm run bench -- --tune --out FOLDER` measured part of the engine. Each FOLDER/<adapter>-<tier>.json with a
// tuning beside it becomes a module of core/tuning/tuned, and core/tuning/tuned/tables.ts is written anew to list all there are.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import type { TuningData } from '../core/index.ts';
import { ROOT } from './git.ts';
import { parseResult, resultName } from './result.ts';
import { tableLine, tableModule, tablesModule } from './shippedModule.ts';

/** The tuning that lies beside a result. */
const besides = (file: string): string => file.replace(/\.json$/, '.tuning.json');

function main(): void {
  const command = new Command('npm run bench:ship --')
    .description('Makes tunings that the benchmark wrote the defaults on their adapters.')
    .argument('[results...]', 'results with a tuning beside them; default: all of bench/results')
    .helpOption('-h, --help', 'show this')
    .parse();
  const folder = join(ROOT, 'core', 'tuning', 'tuned'),
    results = join(ROOT, 'bench', 'results');
  const all = readdirSync(results)
    .filter((name) => name.endsWith('.json') && !name.endsWith('.tuning.json'))
    .map((name) => join(results, name));
  const files = (command.args.length > 0 ? command.args : all).filter(
    (file) => command.args.length > 0 || existsSync(besides(file)),
  );
  mkdirSync(folder, { recursive: true });
  // Tables of results that are not named stay listed.
  const listed = join(folder, 'tables.ts');
  const lines = new Map(
    (existsSync(listed) ? readFileSync(listed, 'utf8').split('\n') : []).flatMap((line) => {
      const module = /import\('\.\/(.*)\.ts'\)/.exec(line)?.[1];
      return module === undefined ? [] : [[module, line] as const];
    }),
  );
  for (const file of files) {
    const result = parseResult(readFileSync(file, 'utf8'), basename(file));
    const data = JSON.parse(readFileSync(besides(file), 'utf8')) as TuningData;
    if (data.format !== 'dis-tuning-1')
      throw new Error(`[bench] ${besides(file)} has format ${JSON.stringify(data.format)}, expected dis-tuning-1.`);
    const name = resultName(result);
    writeFileSync(join(folder, `${name}.ts`), tableModule(data, result));
    lines.set(name, tableLine(result, name));
    console.log(`core/tuning/tuned/${name}.ts: ${Object.keys(data.entries).length} kinds of calls of ${data.adapter}`);
  }
  writeFileSync(listed, tablesModule([...lines.values()]));
}

main();
