// How an invocation of the form `register` reads pixels: its columns of b, and of weights also its rows of a.

import type { ProblemForm } from '../spec.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** As `Columns` of wgsl.ts. Quad j begins at the expression `column(j)`. */
export function pixelColumns(
  { image, b }: ProblemForm,
  quads: number,
  column: (j: number) => string,
): { setup: string; load(depth: number): string; value(q: number, j: number): string } {
  const weights = image!.gives === 'weights';
  const all = range(quads).flatMap((j) => range(4).map((x) => [j, x] as const));
  const four = (one: (x: number) => string): string => `vec4f(${range(4).map(one).join(', ')})`;
  return {
    setup: [
      ...range(quads).map((j) => `  let col${j} = ${column(j)};`),
      ...all.map(([j, x]) => {
        const within = `min(col${j} + ${x}u, p.N - 1u)`;
        if (weights) return `  let bc${j}${x} = ${within} * p.bStride;`;
        return b.vec
          ? x === 0
            ? `  let bc${j}0 = bBase + runAt(min(col${j}, p.N - 4u), p.sample);`
            : ''
          : `  let bc${j}${x} = placeOf(locate(${within}), bBase);`;
      }),
    ].join('\n'),
    load: (depth) =>
      range(depth)
        .flatMap((q) => [
          weights
            ? `    let place${q} = placeOf(pixel${q}, bBase); let from${q} = u32(place${q}.x + tap.x);`
            : `    let tap${q} = tapOf(k + ${q}u);`,
          ...range(quads).map((j) => {
            const value = weights
              ? `select(vec4f(), ${four((x) => `b1(from${q} + bc${j}${x})`)}, within(place${q}, tap))`
              : b.vec
                ? `b4(bc${j}0 + u32(tap${q}.x))`
                : four((x) => `f32(pixel(bc${j}${x}, tap${q}))`);
            return `    let b${q}_${j} = ${value};`;
          }),
        ])
        .join('\n'),
    value: (q, j) => `b${q}_${j}`,
  };
}

/** As the rows of register.ts; of gradients. It also finds the pixels that b's columns are read at, so it loads first. */
export function gradientRows(rows: readonly string[]): {
  setup: string;
  load(depth: number): string;
  single(q: number, i: number): string;
} {
  return {
    setup: rows.map((row, i) => `  let ra${i} = min(${row}, p.M - 1u) * p.aStride;`).join('\n'),
    load: (depth) =>
      range(depth)
        .flatMap((q) => [
          `    let pixel${q} = ${q ? `after(pixel${q - 1})` : 'locate(k)'};
    let at${q} = aBase + pixel${q}.x * p.aSample + pixel${q}.y * p.gridWidth + pixel${q}.z;`,
          ...rows.map((_, i) => `    let va${q}_${i} = a1(ra${i} + at${q});`),
        ])
        .join('\n'),
    single: (q, i) => `va${q}_${i}`,
  };
}
