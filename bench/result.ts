// What a run of the benchmark leaves behind, as JSON: where it ran, what the adapter can do, and one row per case.

import type { CapturePlan } from '../core/index.ts';
import type { Group } from './case.ts';
import type { Spread } from './sample.ts';
import type { Bound, Ceilings, Work } from './work.ts';

/** Version of this format. */
export const SCHEMA = 1;

/** Times in seconds, rates per second. */
export interface BenchRow {
  readonly group: Group;
  readonly name: string;
  readonly size: string;
  readonly work: Work;
  /** By the clock, and by timestamps where the adapter has them. */
  readonly wall: Spread;
  readonly gpu: Spread | null;
  readonly dispatches: number;
  /** How often the replayed list does the work. */
  readonly repeats: number;
  /** Host time a dispatch. */
  readonly host: { readonly replayed: number; readonly eager: number | null };
  /** The ceiling that binds, and the share of it that was reached by the better of the two times. */
  readonly bound: Bound;
  readonly share: number;
  /** Memory of the captured step. */
  readonly plan: CapturePlan | null;
  readonly images?: number;
  /** The GPU's speed at arithmetic before and after, as a share of the best that was seen; null for what computes on the CPU. */
  readonly pace: { readonly before: number; readonly after: number } | null;
}

export interface BenchResult {
  readonly schema: typeof SCHEMA;
  readonly date: string;
  readonly commit: string;
  /** Whether files differed from the commit. */
  readonly dirty: boolean;
  readonly tier: 'stock' | 'fast';
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
    readonly software: boolean;
  };
  readonly host: { readonly platform: string; readonly node: string; readonly cpu: string; readonly cores: number };
  readonly ceilings: Ceilings;
  /** The rate of f32 multiply-adds at the end as a share of that at the beginning. */
  readonly drift: number;
  readonly rows: readonly BenchRow[];
  readonly leftOut: readonly { readonly id: string; readonly reason: string }[];
  readonly failed: readonly { readonly id: string; readonly message: string }[];
  /** Seconds that it all took. */
  readonly seconds: number;
}

/**
 * Seconds of a row. A kernel's are those by timestamps or by the clock, whichever is less: measured alone, a pass of its own costs a short
 * dispatch some time and waiting for the host others. A whole step's are by the clock.
 */
export function timeOf({ group, wall, gpu }: Pick<BenchRow, 'group' | 'wall' | 'gpu'>): number {
  return countingTime({ group, wall, gpu }).median;
}

/** The same with its spread. */
export function countingTime({ group, wall, gpu }: Pick<BenchRow, 'group' | 'wall' | 'gpu'>): Spread {
  return group !== 'step' && gpu && gpu.median < wall.median ? gpu : wall;
}

/**
 * Reads a result back.
 *
 * @throws Error where it is none, or of another version
 */
export function parseResult(text: string, name: string): BenchResult {
  const refuse = (what: string): never => {
    throw new Error(`[bench] ${name} ${what}, expected a JSON file that \`npm run bench -- --json FILE\` wrote.`);
  };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse('is not JSON');
  }
  if (typeof value !== 'object' || value === null) return refuse(`holds ${JSON.stringify(value)}`);
  const result = value as Partial<BenchResult>;
  if (result.schema !== SCHEMA)
    return refuse(`has schema ${JSON.stringify(result.schema)} and this program reads ${SCHEMA}`);
  for (const key of ['rows', 'leftOut', 'failed'] as const)
    if (!Array.isArray(result[key])) refuse(`has no list of ${key}`);
  for (const key of ['adapter', 'ceilings'] as const) if (typeof result[key] !== 'object') refuse(`has no ${key}`);
  result.rows!.forEach((row, i) => {
    if (typeof row.name !== 'string' || typeof row.size !== 'string' || !(row.wall?.median > 0))
      refuse(`has no name, size and time in row ${i}`);
  });
  // Results from before these were measured have none.
  return {
    ...result,
    rows: result.rows!.map((row) => ({ ...row, repeats: row.repeats ?? 1, pace: row.pace ?? null })),
  } as BenchResult;
}

/** The result as text: a row a line, so that two of them can be compared by eye and by git. */
export function resultJson(result: BenchResult): string {
  const lists = ['rows', 'leftOut', 'failed'] as const;
  const { rows: _rows, leftOut: _leftOut, failed: _failed, ...head } = result;
  const text = JSON.stringify(head, null, 1).replace(/\n}$/, '');
  const list = (key: (typeof lists)[number]): string =>
    ` ${JSON.stringify(key)}: [${result[key].map((item) => `\n  ${JSON.stringify(item, rounded)}`).join(',')}\n ]`;
  return `${text},\n${lists.map(list).join(',\n')}\n}\n`;
}

/** Six digits are more than a measurement has. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

/** Name of the file: adapter and tier. */
export function resultName({ adapter, tier }: Pick<BenchResult, 'adapter' | 'tier'>): string {
  const name =
    [adapter.device, adapter.description, adapter.architecture, adapter.vendor].find((part) => part !== '') ??
    'adapter';
  return `${name
    .toLowerCase()
    .replace(/\(.*?\)/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')}-${tier}`;
}
