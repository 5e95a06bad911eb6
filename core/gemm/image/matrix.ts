// How pixels come into the workgroup memory of the form `matrix`, in pairs of f16: any stride, any edge. Neighbouring
// invocations read neighbouring pixels, and a pair is one word of workgroup memory.

import type { ProblemForm } from '../spec.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Elements of f16 in the 16 bytes that workgroup memory is counted in, and in a word. */
const EIGHT = 8,
  TWO = 2;

/** An operand's part of workgroup memory: `slices` of it from `first` on, of `extent` columns or lines each. */
export interface Slices {
  readonly extent: number;
  readonly slices: number;
  readonly first: number;
}

interface Staged {
  readonly setup: string;
  readonly load: string;
  readonly masked: string;
  readonly store: string;
  readonly alongK: boolean;
  readonly line: number;
}

const ends = range(TWO);

/** b's columns are windows: a pair of columns at a step of K. An invocation keeps to its columns. */
export function stageWindowPairs(
  { extent, slices, first }: Slices,
  depth: number,
  invocations: number,
  { image }: ProblemForm,
): Staged {
  const { tapsOutside, channelTail } = image!;
  const pairs = (extent * slices) / TWO;
  // Pairs that an invocation has, and steps of K that it takes of each.
  const own = range(Math.max(1, pairs / invocations));
  const sharing = Math.max(1, invocations / pairs);
  const steps = range(depth / sharing);
  const step = (r: number): string => (sharing === 1 ? `${r}u` : `(li / ${pairs}u + ${r * sharing}u)`);
  const name = (g: number, r: number, e: number): string => `vB${g}_${r}_${e}`;
  const pair = (g: number): string => (sharing === 1 ? `(li + ${g * invocations}u)` : `(li % ${pairs}u)`);
  const each = (text: (g: number, r: number, e: number) => string): string =>
    own.flatMap((g) => steps.flatMap((r) => ends.map((e) => `    ${text(g, r, e)}`))).join('\n');
  // Within a tap, a step of K is the next channel: one check of the edges serves all steps.
  const outside = `    let tapB = tapOf(k);${channelTail ? ' let leftB = p.inputs - min(p.inputs, k % p.channels);' : ''}
${own
  .flatMap((g) =>
    ends.map((e) => {
      const place = `placeB${g}_${e}`;
      const read = (r: number): string => `B[u32(${place}.x + tapB.x) + ${step(r)} * p.bStride]`;
      return `    if (within(${place}, tapB)) {
${steps
  .map((r) => {
    const value = channelTail ? `select(0.0h, ${read(r)}, ${step(r)} < leftB)` : read(r);
    return `      ${name(g, r, e)} = ${value};`;
  })
  .join('\n')}
    } else { ${steps.map((r) => `${name(g, r, e)} = 0.0h;`).join(' ')} }`;
    }),
  )
  .join('\n')}`;
  const tap = (r: number): string => `tapB${r}`;
  const taps = steps.map((r) => `    let ${tap(r)} = tapOf(k + ${step(r)});`).join('\n');
  const inside = (g: number, r: number, e: number): string => `pixel(placeB${g}_${e}, ${tap(r)})`;
  return {
    setup: `${own
      .flatMap((g) =>
        ends.map(
          (e) => `  let placeB${g}_${e} = placeOf(locate(min(col0 + 2u * ${pair(g)} + ${e}u, p.N - 1u)), bBase);`,
        ),
      )
      .join('\n')}
${each((g, r, e) => `var ${name(g, r, e)} = 0.0h;`)}`,
    load: tapsOutside ? outside : `${taps}\n${each((g, r, e) => `${name(g, r, e)} = ${inside(g, r, e)};`)}`,
    masked: tapsOutside
      ? outside
      : `${taps}\n${each((g, r, e) => `${name(g, r, e)} = select(0.0h, ${inside(g, r, e)}, k + ${step(r)} < k1);`)}`,
    store: own
      .flatMap((g) =>
        steps.map((r) => {
          const at = `${pair(g)} % ${extent / TWO}u`;
          return `    memory[${pair(g)} / ${extent / TWO}u + ${first}u][${step(r)} * ${extent / EIGHT + 1}u + ${at} / 4u][${at} % 4u] =
      bitcast<u32>(vec2<f16>(${name(g, r, 0)}, ${name(g, r, 1)}));`;
        }),
      )
      .join('\n'),
    alongK: false,
    line: extent / EIGHT + 1,
  };
}

/**
 * K runs over pixels, and lines are channels, of the gradient (A) or of the image that a tap meets (B): a pair of pixels
 * of a line. An invocation keeps to its pair of pixels.
 */
export function stageLinePairs(
  name: 'A' | 'B',
  { extent, slices, first }: Slices,
  depth: number,
  invocations: number,
  { tail }: ProblemForm,
): Staged {
  const pairs = depth / TWO,
    sharing = invocations / pairs;
  const rounds = range((extent * slices) / sharing);
  const [x, bound, begin] = name === 'A' ? ['a', 'p.M', 'row0'] : ['b', 'p.N', 'col0'];
  const line = (r: number): string => `(li / ${pairs}u + ${r * sharing}u)`;
  const load = `    let q${name} = k + 2u * (li % ${pairs}u);
    let pixel${name}0 = locate(q${name}); let pixel${name}1 = after(pixel${name}0);
${ends
  .map((e) => {
    const pixel = `pixel${name}${e}`;
    const checks = [
      ...(tail ? [`q${name} + ${e}u < k1`] : []),
      ...(name === 'B' ? [`within(place${name}${e}, tap)`] : []),
    ];
    return `    ${
      name === 'A'
        ? `let at${name}${e} = aBase + ${pixel}.x * p.aSample + ${pixel}.y * p.gridWidth + ${pixel}.z;`
        : `let place${name}${e} = placeOf(${pixel}, bBase); let at${name}${e} = u32(place${name}${e}.x + tap.x);`
    }
    if (${checks.join(' && ') || 'true'}) {
${rounds
  .map(
    (r) =>
      `      v${name}${r}_${e} = ${name}[at${name}${e} + min(${begin} + ${line(r)}, ${bound} - 1u) * p.${x}Stride];`,
  )
  .join('\n')}
    } else { ${rounds.map((r) => `v${name}${r}_${e} = 0.0h;`).join(' ')} }`;
  })
  .join('\n')}`;
  return {
    setup: rounds.map((r) => `  ${ends.map((e) => `var v${name}${r}_${e} = 0.0h;`).join(' ')}`).join('\n'),
    load,
    masked: load,
    store: rounds
      .map(
        (r) => `    memory[${line(r)} / ${extent}u + ${first}u][${line(r)} % ${extent}u * ${depth / EIGHT + 1}u
      + li % ${pairs}u / 4u][li % ${pairs}u % 4u] = bitcast<u32>(vec2<f16>(v${name}${r}_0, v${name}${r}_1));`,
      )
      .join('\n'),
    alongK: true,
    line: depth / EIGHT + 1,
  };
}
