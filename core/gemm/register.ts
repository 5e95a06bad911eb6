// Products in registers. Each invocation owns `rows` × 4·`quads` elements of c and reads a and b from storage.
//
// `register`: every invocation loads its rows of a itself. It needs nothing but WebGPU's defaults. `subgroup`: the
// lanes of a subgroup own neighbouring columns of the same rows. Lane l loads row l of a, the others get it by a
// shuffle, so that a is loaded once a subgroup. On a CPU a load costs as much as many multiply-adds, and workgroup
// memory is slow: there this is several times faster than `tile`. It needs a fixed subgroup size, as the workgroup is
// one subgroup. panel.ts is faster for many rows.
//
// What holds it on a CPU: half of the time is arithmetic at full speed, the other half loads and their bounds checks;
// larger tiles leave the instruction cache. docs/kernels/products.md has the steps, and what did not help.

import { defineKernel } from '../gpu/kernel.ts';
import { gradientRows, pixelColumns } from './image/register.ts';
import { CPU_SUBGROUP, type GemmVariant, type OperandForm, type ProblemForm } from './spec.ts';
import {
  baseOf,
  bindings,
  columns,
  component,
  declarations,
  extensions,
  kLoop,
  PARAMS,
  paramsOf,
  prologue,
  range,
  storeAll,
  storesPixels,
} from './wgsl.ts';

/** Whether rows of a are read four at a time: those whose neighbours in memory are rows. */
const inFours = (form: OperandForm): boolean => form.transposed && form.vec;

/** How an invocation loads its rows of a. */
interface OwnRows {
  readonly setup: string;
  load(depth: number): string;
  /** Element of step q in row e of run g. */
  four(q: number, g: number, e: number): string;
  single(q: number, i: number): string;
}

/** `fours`: first rows of groups of four neighbours; `singles`: other rows. */
function ownRows({ transposed }: OperandForm, fours: readonly string[], singles: readonly string[]): OwnRows {
  const steps = (depth: number): string[] =>
    range(depth).flatMap((q) => [
      `    let ka${q} = (k + ${q}u) * p.aStride;`,
      ...fours.map((_, g) => `    let vf${q}_${g} = a4(rf${g} + ka${q});`),
    ]);
  return {
    setup: [
      ...fours.map((row, g) => `  let rf${g} = aBase + min(${row}, p.M - 4u);`),
      ...singles.map((row, i) => `  let ra${i} = aBase + min(${row}, p.M - 1u)${transposed ? '' : ' * p.aStride'};`),
    ].join('\n'),
    load: (depth) =>
      (transposed
        ? [
            ...steps(depth),
            ...singles.map(
              (_, i) =>
                `    let va${i} = vec4f(${range(4)
                  .map((q) => (q < depth ? `a1(ra${i} + ka${q})` : '0.0'))
                  .join(', ')});`,
            ),
          ]
        : singles.map((_, i) => `    let va${i} = vec4f(${depth === 4 ? 'a4' : 'a1'}(ra${i} + k));`)
      ).join('\n'),
    four: (q, g, e) => `vf${q}_${g}.${component(e)}`,
    single: (q, i) => `va${i}.${component(q)}`,
  };
}

const none = (): string => '';

export const registerKernel = defineKernel<GemmVariant>('gemm.register', ({ config, problem }) => {
  const { rows, quads, x, y } = config;
  const { image } = problem;
  const gradients = image?.gives === 'weights';
  const fours = inFours(problem.a);
  const list = (count: number, step: number): string[] => range(count).map((i) => `row0 + ${i * step}u`);
  const a = gradients
    ? { four: none, ...gradientRows(list(rows, 1)) }
    : ownRows(problem.a, list(fours ? rows / 4 : 0, 4), list(fours ? 0 : rows, 1));
  const column = (j: number): string => `col + ${4 * j}u`;
  const b = image ? pixelColumns(problem, quads, column) : columns(problem.b, quads, column);
  return {
    bindings: bindings(problem),
    params: paramsOf(problem),
    workgroupSize: [x, y],
    enable: extensions(problem),
    declarations: declarations(problem),
    body: `${prologue(problem)}
  let row0 = gid.y * ${rows}u;
  let col = gid.x * ${4 * quads}u;
${a.setup}
${b.setup}
${sums(rows, quads)}
${kLoop(
  problem,
  (depth) =>
    [
      a.load(depth),
      b.load(depth),
      multiply(rows, quads, depth, (q, i) => (fours ? a.four(q, i >> 2, i & 3) : a.single(q, i)), b.value),
    ].join('\n'),
  sumNames(rows, quads),
)}
${stores(problem, rows, quads)}`,
  };
});

export const subgroupKernel = defineKernel<GemmVariant>('gemm.subgroup', ({ config, problem }) => {
  const { rows, quads, x: size } = config;
  // Lanes own groups of four rows, as many as make whole rounds, and single rows for the rest.
  const round = 4 * size;
  const fours = inFours(problem.a) ? Math.max(1, Math.floor(rows / round)) : 0,
    inRuns = Math.min(rows, fours * round);
  const a = ownRows(
    problem.a,
    range(fours).map((g) => `row0 + ${g * round}u + 4u * lane`),
    range(Math.ceil((rows - inRuns) / size)).map((h) => `row0 + ${inRuns + h * size}u + lane`),
  );
  const fromLane = (q: number, i: number): string => {
    const [own, owner] =
      i < inRuns
        ? [a.four(q, Math.floor(i / round), i % 4), Math.floor((i % round) / 4)]
        : [a.single(q, Math.floor((i - inRuns) / size)), (i - inRuns) % size];
    return `subgroupShuffle(${own}, ${owner}u)`;
  };
  const b = columns(problem.b, quads, (j) => `col + ${4 * j}u`);
  // On a CPU sums lie in memory anyway; an array tells the compiler so, and it keeps the registers for loads. On a GPU,
  // indexing an array would be slow.
  const inMemory = size <= CPU_SUBGROUP && problem.b.vec && (problem.c.vec || problem.c.transposed);
  const name = inMemory ? (i: number, j: number): string => `s[${i * quads + j}]` : inVariable;
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [size],
    enable: ['subgroups', ...extensions(problem)],
    declarations: declarations(problem),
    body: `${prologue(problem)}
${
  inMemory
    ? `  // The rows of a pass by one panel of b, which stays in the cache.
  let id = wid.y * nwg.x + wid.x;
  let block = vec2u(id / nwg.y, id % nwg.y);`
    : '  let block = wid.xy;'
}
  let row0 = block.y * ${rows}u;
  let col = (block.x * ${size}u + lane) * ${4 * quads}u;
${a.setup}
${b.setup}
${inMemory ? `  var s: array<vec4f, ${rows * quads}>;` : sums(rows, quads)}
${kLoop(
  problem,
  (depth) => [a.load(depth), b.load(depth), multiply(rows, quads, depth, fromLane, b.value, name)].join('\n'),
  inMemory ? { array: 's', length: rows * quads } : sumNames(rows, quads),
)}
${inMemory ? storeLoop(problem, rows, quads) : stores(problem, rows, quads)}`,
  };
});

const inVariable = (i: number, j: number): string => `s${i}_${j}`;

const sumNames = (rows: number, quads: number): string[] =>
  range(rows).flatMap((i) => range(quads).map((j) => inVariable(i, j)));

function sums(rows: number, quads: number): string {
  return range(rows)
    .map(
      (i) =>
        `  ${range(quads)
          .map((j) => `var s${i}_${j} = vec4f();`)
          .join(' ')}`,
    )
    .join('\n');
}

/** A sum takes all steps of a block at once: between blocks it lies in memory on a CPU. */
function multiply(
  rows: number,
  quads: number,
  depth: number,
  a: (q: number, i: number) => string,
  b: (q: number, j: number) => string,
  sum = inVariable,
): string {
  const steps = range(depth);
  const lines = steps.flatMap((q) => range(quads).map((j) => `    let y${q}_${j} = ${b(q, j)};`));
  for (const i of range(rows)) {
    lines.push(`    ${steps.map((q) => `let x${q}_${i} = vec4f(${a(q, i)});`).join(' ')}`);
    for (const j of range(quads))
      lines.push(
        `    ${sum(i, j)} = ${steps.reduce((before, q) => `fma(x${q}_${i}, y${q}_${j}, ${before})`, sum(i, j))};`,
      );
  }
  return lines.join('\n');
}

function stores(problem: ProblemForm, rows: number, quads: number): string {
  const byRow = problem.c.transposed || storesPixels(problem);
  return `${range(quads)
    .map((j) => `  let base${j} = ${baseOf(problem, `col${j}`)};${byRow ? '' : ` let added${j} = bias4(col${j});`}`)
    .join('\n')}
${storeAll(
  range(quads).flatMap((j) =>
    range(rows).map((i) => ({
      row: `row0 + ${i}u`,
      col: `col${j}`,
      value: `s${i}_${j}`,
      bias: byRow ? `bias1(row0 + ${i}u)` : `added${j}`,
      base: `base${j}`,
    })),
  ),
  problem,
)}`;
}

/**
 * The same with the sums in an array. The length of the loop is not known when compiling: unrolled, it would be most of
 * the program.
 */
function storeLoop({ c }: ProblemForm, rows: number, quads: number): string {
  return `  let end = min(row0 + ${rows}u, p.M);
${range(quads)
  .map(
    (j) => `  let added${j} = bias4(col${j});
  for (var row = row0; row < end; row++) {
    let added = s[(row - row0) * ${quads}u + ${j}u] + ${c.transposed ? 'bias1(row)' : `added${j}`};
    store4(cBase, row, col${j}, added + old4(cBase, row, col${j}));
  }`,
  )
  .join('\n')}`;
}
