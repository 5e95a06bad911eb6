// How pixels come into the private memory of the form `panel`, and a's gradients past it.

import type { ProblemForm } from '../spec.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Steps of k that an invocation takes at once. */
const BLOCK = 4;

/** A step of K, within bounds. */
const step = (q: number, tail: boolean): string => (tail ? `min(k + ${q}u, k1 - 1u)` : `(k + ${q}u)`);

const masked = (value: string, q: number, zero: string, tail: boolean): string =>
  tail ? `select(${zero}, ${value}, k + ${q}u < k1)` : value;

/** What a kernel of images finds once for its columns. Goes before the loops; `col${j}` is the first column of quad j. */
export function columnPlaces({ image, b }: ProblemForm, quads: number): string {
  return range(quads)
    .flatMap((j) =>
      range(4).map((x) => {
        if (image!.gives === 'weights') return `  let column${j}${x} = min(col${j} + ${x}u, p.N - 1u) * p.bStride;`;
        return b.vec
          ? x === 0
            ? `  let column${j}0 = bBase + runAt(min(col${j}, p.N - 4u), p.sample);`
            : ''
          : `  let column${j}${x} = placeOf(locate(min(col${j} + ${x}u, p.N - 1u)), bBase);`;
      }),
    )
    .join('\n');
}

/** Steps k to k + 3 of b for all columns: `value(q, j)` is a vec4f after `setup`. */
export function pixelBlock({ image, b, tail }: ProblemForm): { setup: string; value(q: number, j: number): string } {
  const four = (one: (x: number) => string): string => `vec4f(${range(4).map(one).join(', ')})`;
  if (image!.gives === 'weights') {
    return {
      // The first pixel of four, then its neighbours.
      setup: range(BLOCK)
        .map(
          (q) => `      ${q ? `let pixel${q} = after(pixel${q - 1});` : 'let pixel0 = locate(k);'}
      let place${q} = placeOf(pixel${q}, bBase);
      keptAt${q}[block] = aBase + pixel${q}.x * p.aSample + pixel${q}.y * p.gridWidth + pixel${q}.z;
      let in${q} = within(place${q}, tap)${tail ? ` && k + ${q}u < k1` : ''};
      let from${q} = u32(place${q}.x + tap.x);`,
        )
        .join('\n'),
      value: (q, j) => four((x) => `select(0.0, b1(from${q} + column${j}${x}), in${q})`),
    };
  }
  return {
    setup: range(BLOCK)
      .map((q) => `      let tap${q} = tapOf(${step(q, tail)});`)
      .join('\n'),
    value: (q, j) =>
      masked(
        b.vec ? `b4(column${j}0 + u32(tap${q}.x))` : four((x) => `f32(pixel(column${j}${x}, tap${q}))`),
        q,
        'vec4f()',
        tail,
      ),
  };
}

/** Private memory for the addresses of a's pixels. */
export const keptAddresses = (depth: number): string =>
  range(BLOCK)
    .map((q) => `var<private> keptAt${q}: array<u32, ${depth / BLOCK}>;`)
    .join('\n');

/** Steps k to k + 3 of a row of gradients that begins `row` elements after the sample's first. */
export function gradientBlock({ a, tail }: ProblemForm, row: string): string {
  if (a.vec && !tail) return `a4(${row} + keptAt0[block])`;
  return `vec4f(${range(BLOCK)
    .map((q) => masked(`a1(${row} + keptAt${q}[block])`, q, '0.0', tail))
    .join(', ')})`;
}
