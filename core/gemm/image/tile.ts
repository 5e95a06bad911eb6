// How pixels come into the workgroup memory of the form `tile`, element by element: any stride, any edge.

import type { ProblemForm } from '../spec.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

interface Staged {
  readonly setup: string;
  readonly load: string;
  readonly masked: string;
  readonly store: string;
}

/**
 * b's columns are windows. An invocation keeps to one column, so that it finds its place once; neighbouring invocations
 * read neighbouring columns. Those that share a column take its steps of K in turn.
 */
export function stageWindows(columns: number, depth: number, invocations: number, { b }: ProblemForm): Staged {
  const sharing = invocations / columns;
  const steps = range(depth / sharing);
  const step = (r: number): string => `lineB + ${r * sharing}u`;
  const value = (r: number): string => `pixel(placeB, tapOf(k + ${step(r)}))`;
  return {
    setup: `  let columnB = li % ${columns}u; let lineB = ${sharing === 1 ? '0u' : `li / ${columns}u`};
  let placeB = placeOf(locate(min(col0 + columnB, p.N - 1u)), bBase);
  ${steps.map((r) => `var vB${r} = ${b.dtype}();`).join(' ')}`,
    load: steps.map((r) => `    vB${r} = ${value(r)};`).join('\n'),
    masked: steps.map((r) => `    vB${r} = select(${b.dtype}(), ${value(r)}, k + ${step(r)} < k1);`).join('\n'),
    store: steps
      .map((r) => {
        const at = sharing === 1 ? `[${r >> 2}][${r & 3}]` : `[(${step(r)}) / 4u][(${step(r)}) % 4u]`;
        return `    tileB${at}[columnB / 4u][columnB % 4u] = f32(vB${r});`;
      })
      .join('\n'),
  };
}

/**
 * K runs over pixels, and lines are channels: of the gradient (A) or of the image that a tap meets (B). An item is a
 * block of 4 lines and 4 steps, which is transposed on the way. An invocation has the same 4 steps in all of its blocks.
 */
export function stageLines(
  name: 'A' | 'B',
  groups: number,
  depth: number,
  invocations: number,
  { a, b, tail }: ProblemForm,
): Staged {
  const fours = depth / 4,
    rounds = range(Math.ceil((groups * fours) / invocations));
  const [x, bound, begin, type] = name === 'A' ? ['a', 'p.M', 'row0', a.dtype] : ['b', 'p.N', 'col0', b.dtype];
  const four = range(4);
  const when = (g: number, text: string): string =>
    (g + 1) * invocations > groups * fours ? `if (li < ${groups * fours - g * invocations}u) { ${text} }` : text;
  // The first pixel of four, then its neighbours.
  const places = four
    .map(
      (e) =>
        `    ${e ? `pixel${name}${e} = after(pixel${name}${e - 1});` : `pixel${name}0 = locate(q${name});`}
    ${
      name === 'A'
        ? `let at${name}${e} = aBase + pixel${name}${e}.x * p.aSample + pixel${name}${e}.y * p.gridWidth + pixel${name}${e}.z;`
        : `let place${name}${e} = placeOf(pixel${name}${e}, bBase); let at${name}${e} = u32(place${name}${e}.x + tap.x);`
    }
    let in${name}${e} = ${
      [...(tail ? [`q${name} + ${e}u < k1`] : []), ...(name === 'B' ? [`within(place${name}${e}, tap)`] : [])].join(
        ' && ',
      ) || 'true'
    };`,
    )
    .join('\n');
  const load = `    let q${name} = k + 4u * along${name};
    ${four.map((e) => `var pixel${name}${e}: vec3u;`).join(' ')}
${places}
${rounds
  .map((g) =>
    when(
      g,
      four
        .map(
          (r) =>
            `v${name}${g}_${r} = vec4f(${four
              .map((e) => `f32(select(${type}(), ${name}[line${name}${g}_${r} + at${name}${e}], in${name}${e}))`)
              .join(', ')});`,
        )
        .join(' '),
    ),
  )
  .join('\n')}`;
  return {
    setup: `  let along${name} = li % ${fours}u;
${rounds
  .map(
    (g) => `  let group${name}${g} = (li + ${g * invocations}u) / ${fours}u;
  ${four
    .map(
      (r) =>
        `let line${name}${g}_${r} = min(${begin} + 4u * group${name}${g} + ${r}u, ${bound} - 1u) * p.${x}Stride;
  var v${name}${g}_${r} = vec4f();`,
    )
    .join(' ')}`,
  )
  .join('\n')}`,
    load,
    masked: load,
    store: rounds
      .map((g) =>
        when(
          g,
          four
            .map(
              (q) =>
                `tile${name}[along${name}][${q}][group${name}${g}] = vec4f(${four
                  .map((r) => `v${name}${g}_${r}.${'xyzw'[q]}`)
                  .join(', ')});`,
            )
            .join(' '),
        ),
      )
      .join('\n'),
  };
}
