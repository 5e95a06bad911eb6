// What a piece of work must at least do, counted from its shapes, and which of the adapter's ceilings that meets first.

import type { FloatDType } from '../core/index.ts';

/** Operations of one iteration. Bytes are those that have to move: every input read once, every output written once. */
export interface Work {
  readonly bytes: number;
  /** Floating-point operations, a multiply-add being two; elementary functions are counted apart. */
  readonly flops: number;
  /** Elementary functions (exp, log, …). */
  readonly exps: number;
  /** Type of the multiply-adds. */
  readonly type: FloatDType;
  /** Whether the multiply-adds could run on a matrix unit. */
  readonly matrix?: boolean;
  /** What it consists of, where that runs one after the other. */
  readonly parts?: readonly Work[];
}

/** The most that the adapter was seen to do. Rates are per second. */
export interface Ceilings {
  /** Bytes read and written by a copy, by the bytes that it touches, ascending: caches make small copies faster. */
  readonly copy: readonly { readonly footprint: number; readonly rate: number }[];
  readonly fma: { readonly f32: number; readonly f16: number | null };
  /** Multiply-adds of the matrix unit on f16 with sums in f32, or null where the adapter or the tier offers none. */
  readonly matrix: number | null;
  readonly exp: number;
  /** Seconds that a dispatch takes at least, one after the other. */
  readonly dispatch: number;
}

export type Bound = 'copy' | 'fma' | 'matrix' | 'exp' | 'dispatch';

export interface Limit {
  readonly bound: Bound;
  /** Seconds that this ceiling leaves as the least. */
  readonly seconds: number;
}

/** Bytes a second of a copy that touches this many bytes: a small one may stay in a cache, none is slower than the largest. */
export function copyRate(ceilings: Ceilings, footprint: number): number {
  const { copy } = ceilings;
  const largest = copy[copy.length - 1].rate;
  const fitting = copy.find((point) => point.footprint >= footprint);
  return Math.max(largest, fitting?.rate ?? largest);
}

/**
 * The ceiling that binds: that which alone would take longest. Work in parts, which run one after the other, takes the sum of what each
 * part takes at least, and is bound by what most of that is.
 */
export function limitOf(work: Work, dispatches: number, ceilings: Ceilings): Limit {
  const dispatching: Limit = { bound: 'dispatch', seconds: dispatches * ceilings.dispatch };
  const alone = work.parts ? sumOf(work.parts, ceilings) : partLimit(work, ceilings);
  return dispatching.seconds > alone.seconds ? dispatching : alone;
}

function partLimit(work: Work, ceilings: Ceilings): Limit {
  const half = work.type === 'f16';
  const onMatrix = half && work.matrix === true && ceilings.matrix !== null;
  // Without fast f16 arithmetic a kernel may well compute in f32.
  const scalar = half ? Math.max(ceilings.fma.f16 ?? 0, ceilings.fma.f32) : ceilings.fma.f32;
  const limits: Limit[] = [
    { bound: 'copy', seconds: work.bytes / copyRate(ceilings, work.bytes) },
    onMatrix
      ? { bound: 'matrix', seconds: work.flops / ceilings.matrix! }
      : { bound: 'fma', seconds: work.flops / scalar },
    { bound: 'exp', seconds: work.exps / ceilings.exp },
  ];
  return limits.reduce((most, limit) => (limit.seconds > most.seconds ? limit : most));
}

function sumOf(parts: readonly Work[], ceilings: Ceilings): Limit {
  const seconds = new Map<Bound, number>();
  for (const part of parts) {
    const limit = partLimit(part, ceilings);
    seconds.set(limit.bound, (seconds.get(limit.bound) ?? 0) + limit.seconds);
  }
  const [bound] = [...seconds].reduce((most, entry) => (entry[1] > most[1] ? entry : most));
  return { bound, seconds: [...seconds.values()].reduce((a, b) => a + b, 0) };
}

/** Pieces of work one after the other. */
export function inSequence(parts: readonly Work[]): Work {
  const sum = (key: 'bytes' | 'flops' | 'exps'): number => parts.reduce((total, part) => total + part[key], 0);
  return { bytes: sum('bytes'), flops: sum('flops'), exps: sum('exps'), type: 'f32', parts };
}
