// What a piece of work must at least do, counted from its shapes, and which of the adapter's ceilings that meets first.

/** Operations of one iteration. Bytes are those that have to move: every input read once, every output written once. */
export interface Work {
  readonly bytes: number;
  /** Floating-point operations, a multiply-add being two; elementary functions are counted apart. */
  readonly flops: number;
  /** Elementary functions (exp, log, …). */
  readonly exps: number;
  /** Type of the multiply-adds. */
  readonly type: 'f32' | 'f16';
  /** Whether the multiply-adds could run on a matrix unit. */
  readonly matrix?: boolean;
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

/** The ceiling that binds: that which alone would take longest. */
export function limitOf(work: Work, dispatches: number, ceilings: Ceilings): Limit {
  const half = work.type === 'f16';
  const onMatrix = half && work.matrix === true && ceilings.matrix !== null;
  // Without fast f16 arithmetic a kernel may well compute in f32.
  const scalar = half ? Math.max(ceilings.fma.f16 ?? 0, ceilings.fma.f32) : ceilings.fma.f32;
  const limits: Limit[] = [
    { bound: 'copy', seconds: work.bytes / copyRate(ceilings, work.bytes) },
    onMatrix ? { bound: 'matrix', seconds: work.flops / ceilings.matrix! } : { bound: 'fma', seconds: work.flops / scalar },
    { bound: 'exp', seconds: work.exps / ceilings.exp },
    { bound: 'dispatch', seconds: dispatches * ceilings.dispatch },
  ];
  return limits.reduce((most, limit) => (limit.seconds > most.seconds ? limit : most));
}

/** The sum of several pieces of work, of the type of the first. */
export function addWork(...parts: readonly Work[]): Work {
  const sum = (key: 'bytes' | 'flops' | 'exps'): number => parts.reduce((total, part) => total + part[key], 0);
  return { bytes: sum('bytes'), flops: sum('flops'), exps: sum('exps'), type: parts[0].type, ...(parts.every((p) => p.matrix) && { matrix: true }) };
}
