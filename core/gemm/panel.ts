// Products on a CPU, with a panel of b in private memory. A workgroup is one subgroup, whose lanes own 4 · `quads`
// neighbouring columns each. It keeps `depth` rows of b for its columns in private arrays, and takes rows of a past it,
// `rows` at a time: the lanes load a block of 4 steps between them and shuffle.
//
// Mesa's lavapipe takes nine instructions to load an element of a storage buffer, most of them a bounds check. Here b
// pays that once for all rows that a workgroup takes, not once a tile, so that a tile may be small enough for the
// instruction cache.
//
// What holds it: 0.7 of the time is products and sums, at the speed of the core's vector units.
// docs/kernels/products.md has the steps.

import { defineKernel, type KernelParam } from '../gpu/kernel.ts';
import type { GemmConfig, GemmProblem, GemmVariant, OperandForm, ProblemForm } from './spec.ts';
import { columnPlaces, gradientBlock, keptAddresses, pixelBlock } from './image/panel.ts';
import { imageBases } from './image/wgsl.ts';
import { baseOf, bindings, component, declarations, extensions, paramsOf, range, storesPixels } from './wgsl.ts';

/** Steps of k that an invocation takes at once. */
const BLOCK = 4;

/**
 * `chunk`: steps of k whose rows of b are kept at a time, at most the configuration's depth. `span`: rows of c that a
 * workgroup computes.
 */
const panelParams = (problem: ProblemForm): KernelParam[] =>
  paramsOf(problem).map((q) => (q.name === 'splits' ? { ...q, name: 'span' } : q));

/**
 * Enough workgroups for a CPU's cores, if each takes so many rows that loading b counts little; and the fewest, with
 * the fewest rows.
 */
const ENOUGH = 16,
  LONG = 256,
  FEWEST = 2,
  SHORT = 48;

/** Rows of c that a workgroup computes with its panel. */
export function panelSpan(
  { M, N, batch = 1 }: Pick<GemmProblem, 'M' | 'N' | 'batch'>,
  { rows, quads, x }: GemmConfig,
): number {
  const panels = Math.ceil(N / (4 * quads * x)) * batch;
  const cut = (groups: number, span: number): number => Math.min(Math.ceil(groups / panels), Math.floor(M / span));
  return Math.ceil(M / Math.max(1, cut(ENOUGH, LONG), cut(FEWEST, SHORT)) / rows) * rows;
}

/** Steps of k whose rows of b are kept at a time: K cut into parts of about the same length. */
export function panelChunk(K: number, { depth }: GemmConfig): number {
  return Math.max(BLOCK, BLOCK * Math.ceil(K / Math.ceil(K / depth) / BLOCK));
}

/** The loads of a block of a by the lanes, and how to get an element of it. */
function blockOfA(
  problem: ProblemForm,
  rows: number,
  size: number,
): { setup: string; load: string; element(q: number, i: number): string } {
  const { a, tail, image } = problem;
  const loads = range(Math.ceil(rows / size));
  const gradients = image?.gives === 'weights';
  // Where neighbours are rows, a lane loads four rows at one step of k; the fours are dealt out to the lanes step by
  // step.
  if (a.transposed && a.vec) {
    const fours = rows / 4;
    return {
      setup: loads
        .map(
          (
            g,
          ) => `    let four${g} = min(${g * size}u + lane, ${fours * BLOCK - 1}u); let step${g} = four${g} / ${fours}u;
    let ra${g} = aBase + min(row0 + 4u * (four${g} % ${fours}u), p.M - 4u);`,
        )
        .join('\n'),
      load: loads
        .map((g) =>
          tail
            ? `      let va${g} = select(vec4f(), a4(ra${g} + min(k + step${g}, k1 - 1u) * p.aStride), k + step${g} < k1);`
            : `      let va${g} = a4(ra${g} + (k + step${g}) * p.aStride);`,
        )
        .join('\n'),
      element(q, i) {
        const four = q * fours + Math.floor(i / 4);
        return `subgroupShuffle(va${Math.floor(four / size)}.${component(i)}, ${four % size}u)`;
      },
    };
  }
  const block = (g: number): string =>
    gradients
      ? gradientBlock(problem, `ra${g}`)
      : along(a, 'a', (k) => (a.transposed ? `ra${g} + (${k}) * p.aStride` : `ra${g} + ${k}`), tail);
  return {
    setup: loads
      .map(
        (g) =>
          `    let ra${g} = ${gradients ? '' : 'aBase + '}min(row0 + ${g * size}u + lane, p.M - 1u)${a.transposed ? '' : ' * p.aStride'};`,
      )
      .join('\n'),
    load: loads.map((g) => `      let va${g} = ${block(g)};`).join('\n'),
    element: (q, i) => `subgroupShuffle(va${Math.floor(i / size)}.${component(q)}, ${i % size}u)`,
  };
}

/** Elements of an operand at steps k to k + 3; 0 from k1 on. */
function along(form: OperandForm, name: string, at: (k: string) => string, tail: boolean): string {
  if (form.vec && !tail) return `${name}4(${at('k')})`;
  return `vec4f(${range(BLOCK)
    .map((q) =>
      tail ? `select(0.0, ${name}1(${at(`min(k + ${q}u, k1 - 1u)`)}), k + ${q}u < k1)` : `${name}1(${at(`k + ${q}u`)})`,
    )
    .join(', ')})`;
}

const ofSum = (j: number, x: number): string => `s${j}_${x}`;
const kept = (q: number, j: number, x: number): string => `kept${q}_${j}_${x}`;

/** Keeps a block of b: steps k to k + 3 of quad j, whose first column is `col`. */
function keep(problem: ProblemForm, j: number): string {
  const { b, tail } = problem;
  if (problem.image) {
    const { value } = pixelBlock(problem);
    return range(BLOCK)
      .map(
        (q) => `      let b${j}${q} = ${value(q, j)};
      ${range(4)
        .map((x) => `${kept(q, j, x)}[block] = b${j}${q}.${component(x)};`)
        .join(' ')}`,
      )
      .join('\n');
  }
  const column = (x: number): string => `min(col${j} + ${x}u, p.N - 1u)`;
  const lines: string[] = [];
  if (b.transposed) {
    for (const x of range(4)) {
      lines.push(
        `      let b${j}${x} = ${along(b, 'b', (k) => `bBase + ${column(x)} * p.bStride + ${k}`, tail)};`,
        `      ${range(BLOCK)
          .map((q) => `${kept(q, j, x)}[block] = b${j}${x}.${component(q)};`)
          .join(' ')}`,
      );
    }
    return lines.join('\n');
  }
  for (const q of range(BLOCK)) {
    const k = tail ? `min(k + ${q}u, k1 - 1u)` : `(k + ${q}u)`;
    const four = b.vec
      ? `b4(bBase + ${k} * p.bStride + min(col${j}, p.N - 4u))`
      : `vec4f(${range(4)
          .map((x) => `b1(bBase + ${k} * p.bStride + ${column(x)})`)
          .join(', ')})`;
    lines.push(
      `      let b${j}${q} = ${tail ? `select(vec4f(), ${four}, k + ${q}u < k1)` : four};`,
      `      ${range(4)
        .map((x) => `${kept(q, j, x)}[block] = b${j}${q}.${component(x)};`)
        .join(' ')}`,
    );
  }
  return lines.join('\n');
}

/**
 * Stores the sums of a tile. The length of the loop is not known when compiling: unrolled, it would be most of the
 * program.
 */
function store(problem: ProblemForm, rows: number, quads: number): string {
  const { c, accumulate } = problem;
  const byRow = c.transposed || storesPixels(problem);
  return `    let end = min(row0 + ${rows}u, rowEnd);
${range(quads)
  .map(
    (j) => `    for (var row = row0; row < end; row++) {
      let at = row - row0;
      var sum = vec4f(${range(4)
        .map((x) => `${ofSum(j, x)}[at]`)
        .join(', ')});
      if (k0 > 0u) { sum += old4(base${j}, row, col${j}); }
      else { sum += ${byRow ? 'bias1(row)' : `added${j}`}${accumulate ? ` + old4(base${j}, row, col${j})` : ''}; }
      store4(base${j}, row, col${j}, sum);
    }`,
  )
  .join('\n')}`;
}

export const panelKernel = defineKernel<GemmVariant>('gemm.panel', ({ config, problem }) => {
  const { rows, quads, x: size, depth } = config;
  const { image } = problem;
  const a = blockOfA(problem, rows, size);
  const columns = range(BLOCK).flatMap((q) => range(quads).map((j) => [q, j] as const));
  const sums = range(quads).flatMap((j) => range(4).map((x) => ofSum(j, x)));
  return {
    bindings: bindings(problem),
    params: panelParams(problem),
    workgroupSize: [size],
    enable: ['subgroups', ...extensions(problem)],
    // Later parts of K add to what earlier ones stored; only after the last one is the sum whole.
    declarations: `${columns
      .flatMap(([q, j]) => range(4).map((x) => `var<private> ${kept(q, j, x)}: array<f32, ${depth / BLOCK}>;`))
      .join('\n')}
${image?.gives === 'weights' ? keptAddresses(depth) : ''}
var<private> whole: bool;
${declarations({ ...problem, accumulate: true }, 'whole')}`,
    body: `${
      image
        ? imageBases(problem, image)
        : `  let aBase = p.aOffset + wid.z * p.aBatch;
  let bBase = p.bOffset + wid.z * p.bBatch;
  let cBase = p.cOffset + wid.z * p.cBatch;`
    }
${range(quads)
  .map(
    (j) => `  let col${j} = (wid.x * ${size}u + lane) * ${4 * quads}u + ${4 * j}u;
  let added${j} = bias4(col${j});
  let base${j} = ${baseOf(problem, `col${j}`)};`,
  )
  .join('\n')}
${image ? columnPlaces(problem, quads) : ''}
  let rowEnd = min((wid.y + 1u) * p.span, p.M);
  var k0 = 0u;
  loop {
    let k1 = min(k0 + p.chunk, p.K);
    whole = k1 == p.K;
    for (var k = k0; k < k1; k += ${BLOCK}u) {
      let block = (k - k0) / ${BLOCK}u;
${image ? pixelBlock(problem).setup : ''}
${range(quads)
  .map((j) => keep(problem, j))
  .join('\n')}
    }
    for (var row0 = wid.y * p.span; row0 < rowEnd; row0 += ${rows}u) {
${a.setup}
${sums.map((name) => `      var ${name}: array<f32, ${rows}>;`).join('\n')}
${range(rows)
  .map((i) => `      ${sums.map((name) => `${name}[${i}] = 0.0;`).join(' ')}`)
  .join('\n')}
      for (var k = k0; k < k1; k += ${BLOCK}u) {
        let block = (k - k0) / ${BLOCK}u;
${a.load}
${columns
  .map(
    ([q, j]) =>
      `        ${range(4)
        .map((x) => `let y${q}_${j}_${x} = ${kept(q, j, x)}[block];`)
        .join(' ')}`,
  )
  .join('\n')}
${range(rows)
  .map(
    (i) => `        ${range(BLOCK)
      .map((q) => `let x${q}_${i} = ${a.element(q, i)};`)
      .join(' ')}
${range(quads)
  .map(
    (j) =>
      `        ${range(4)
        .map((x) => {
          const sum = `${ofSum(j, x)}[${i}]`;
          return `${sum} = ${range(BLOCK).reduce((before, q) => `fma(x${q}_${i}, y${q}_${j}_${x}, ${before})`, sum)};`;
        })
        .join(' ')}`,
  )
  .join('\n')}`,
  )
  .join('\n')}
      }
${store(problem, rows, quads)}
    }
    k0 = k1;
    if (k0 >= p.K) { break; }
  }`,
  };
});
