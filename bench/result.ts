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
  /** Host time a dispatch. */
  readonly host: { readonly replayed: number; readonly eager: number };
  /** The ceiling that binds, and the share of it that was reached by the better of the two times. */
  readonly bound: Bound;
  readonly share: number;
  /** Memory of the captured step. */
  readonly plan: CapturePlan | null;
  readonly images?: number;
}

export interface BenchResult {
  readonly schema: typeof SCHEMA;
  readonly date: string;
  readonly commit: string;
  /** Whether files differed from the commit. */
  readonly dirty: boolean;
  readonly tier: 'stock' | 'fast';
  readonly adapter: { readonly vendor: string; readonly architecture: string; readonly device: string; readonly description: string; readonly software: boolean };
  readonly host: { readonly platform: string; readonly node: string; readonly cpu: string; readonly cores: number };
  readonly ceilings: Ceilings;
  readonly rows: readonly BenchRow[];
  readonly leftOut: readonly { readonly id: string; readonly reason: string }[];
  readonly failed: readonly { readonly id: string; readonly message: string }[];
  /** Seconds that it all took. */
  readonly seconds: number;
}

/** Seconds of a row: by timestamps or by the clock, whichever is less. A pass of its own costs a short dispatch some time, waiting for the host others. */
export function timeOf(row: Pick<BenchRow, 'wall' | 'gpu'>): number {
  return Math.min(row.wall.median, row.gpu?.median ?? Infinity);
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
  if (result.schema !== SCHEMA) return refuse(`has schema ${JSON.stringify(result.schema)} and this program reads ${SCHEMA}`);
  for (const key of ['rows', 'leftOut', 'failed'] as const) if (!Array.isArray(result[key])) refuse(`has no list of ${key}`);
  for (const key of ['adapter', 'ceilings'] as const) if (typeof result[key] !== 'object') refuse(`has no ${key}`);
  result.rows!.forEach((row, i) => {
    if (typeof row.name !== 'string' || typeof row.size !== 'string' || !(row.wall?.median > 0)) refuse(`has no name, size and time in row ${i}`);
  });
  return result as BenchResult;
}
