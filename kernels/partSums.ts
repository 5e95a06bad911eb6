// Adds up partial sums, many parts of few columns, in a fixed order. With one invocation a column, a GPU mostly waits
// for memory. So several invocations share a column, each with several loads in flight, and meet in workgroup memory.

/** Loads in flight in each invocation. */
const AHEAD = 4;
/** Additions in a chain. The sums of chains are added up apart: one long chain would lose a digit or two. */
const CHAIN = 32;

/** How many invocations share a column. */
export type Sharing = 1 | 4 | 16;

/**
 * More for more parts; 1 where the columns alone keep a GPU busy, and on a CPU, where a barrier costs more than sharing
 * gains.
 */
export function sharingOf(columns: number, parts: number, software: boolean): Sharing {
  if (software || columns >= 65536 || parts <= 2 * AHEAD) return 1;
  return parts <= 16 * AHEAD ? 4 : 16;
}

/** Columns that a workgroup adds up. The grid needs it. */
export function columnsPerGroup(sharing: Sharing): number {
  return sharing === 1 ? 64 : 16;
}

/**
 * The parts of a kernel. `load(part, column)` is an f32 expression; `store` is statements that use `column` and its
 * `total`.
 */
export function partSums(
  sharing: Sharing,
  parts: string,
  columns: string,
  load: (part: string, column: string) => string,
  store: string,
): {
  workgroupSize: [number];
  workgroupBytes: number;
  declarations: string;
  body: string;
} {
  const width = columnsPerGroup(sharing);
  const size = width * sharing;
  const each = (text: (i: number) => string, separator: string): string =>
    Array.from({ length: AHEAD }, (_, i) => text(i)).join(separator);
  return {
    workgroupSize: [size],
    workgroupBytes: sharing > 1 ? size * 4 : 0,
    declarations: sharing > 1 ? `var<workgroup> shares: array<f32, ${size}>;` : '',
    body: `
  let column = (wid.y * nwg.x + wid.x) * ${width}u + li % ${width}u;
  let inside = column < ${columns};
  let at = min(column, ${columns} - 1u);
  var part = li / ${width}u;
  var total = 0.0;
  while (part < ${parts}) {
    let end = min(${parts}, part + ${CHAIN * AHEAD * sharing}u);
    ${each((i) => `var sum${i} = 0.0;`, ' ')}
    for (; part + ${(AHEAD - 1) * sharing}u < end; part += ${AHEAD * sharing}u) {
      ${each((i) => `sum${i} += ${load(`(part + ${i * sharing}u)`, 'at')};`, '\n      ')}
    }
    for (; part < end; part += ${sharing}u) { sum0 += ${load('part', 'at')}; }
    total += ${each((i) => `sum${i}`, ' + ')};
  }
  ${
    sharing > 1
      ? `shares[li] = total;
  workgroupBarrier();
  if (li >= ${width}u) { return; }
  for (var k = 1u; k < ${sharing}u; k++) { total += shares[k * ${width}u + li]; }`
      : ''
  }
  if (inside) {
    ${store}
  }`,
  };
}
