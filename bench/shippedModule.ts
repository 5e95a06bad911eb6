// The text of the modules in core/tuning/tuned: kernel configurations that were measured on one adapter and tier, and the list of all of them.

import type { TuningData } from '../core/index.ts';
import type { BenchResult } from './result.ts';

const NOTE = '// Written by `npm run bench:ship`.';

const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** The module of one adapter: a line for each configuration, with the keys that it won, and those where the rule of thumb did. */
export function tableModule(data: TuningData, { date, commit }: Pick<BenchResult, 'date' | 'commit'>): string {
  const keys = new Map<string, string[]>();
  for (const [key, config] of Object.entries(data.entries)) {
    const text = JSON.stringify(config);
    keys.set(text, [...(keys.get(text) ?? []), key]);
  }
  const lines = [...keys]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([config, list]) =>
        `  [${config}, [\n${list
          .sort()
          .map((key) => `    ${quoted(key)},`)
          .join('\n')}\n  ]],`,
    );
  return `${NOTE}\n// Measured on ${data.adapter}, ${date.slice(0, 10)}, commit ${commit.slice(0, 9)}.\n
import type { ShippedConfigs } from '../shippedTable.ts';\n
export const configs: ShippedConfigs = [\n${lines.join('\n')}\n];\n`;
}

/** One line of the list of tables. */
export function tableLine(
  { adapter: { vendor, architecture, device }, tier }: Pick<BenchResult, 'adapter' | 'tier'>,
  file: string,
): string {
  const fields = Object.entries({ vendor, architecture, device, tier })
    .map(([name, value]) => `${name}: ${quoted(value)}`)
    .join(', ');
  return `  { ${fields}, load: () => import('./${file}.ts') },`;
}

/** The list of all tables. */
export function tablesModule(lines: readonly string[]): string {
  return `${NOTE}\n
import type { ShippedTable } from '../shippedTable.ts';\n
export const TABLES: readonly ShippedTable[] = [\n${[...lines].sort().join('\n')}\n];\n`;
}
