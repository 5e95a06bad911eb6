// f16 products on the adapter's matrix unit (tensor cores), through subgroup matrices; sums are f32.
//
// A workgroup of x × y subgroups owns rows·y × 4·quads·x elements of c, each subgroup rows × 4·quads of them, in
// fragments of the unit's shape. It walks over K in steps of `depth` and stages that much of a and b in workgroup
// memory as they lie in storage: the unit loads row by row or column by column. Lines there are 16 bytes longer than
// needed, against bank conflicts. Workgroup memory is in slices, one for the rows of a that a line of subgroups shares,
// one for each such part of b: within a slice all offsets of the unit's loads are constants, and Dawn then leaves out
// its bounds check of each fragment. The same slices take the sums at the end, where edges, bias, activation and
// conversion to f16 happen. 292 TFLOP/s of 545 on an H100; docs/kernels/products.md has the steps.

import { defineKernel, type KernelEnv } from '../gpu/kernel.ts';
import { stageLinePairs, stageWindowPairs, type Slices } from './image/matrix.ts';
import { imageDeclarations } from './image/wgsl.ts';
import type { GemmConfig, GemmVariant, OperandForm } from './spec.ts';
import {
  activationFunction,
  baseOf,
  bindings,
  extensions,
  paramsOf,
  prologue,
  range,
  storesPixels,
  storing,
} from './wgsl.ts';

/** Elements of f16 in the 16 bytes that workgroup memory is counted in. */
const EIGHT = 8;

/** Length of the slices of workgroup memory, in units of 16 bytes, and their number. Enough for every layout. */
function slices({ rows, quads, x, y, depth, unit }: GemmConfig): { length: number; count: number } {
  const extent = Math.max(rows, 4 * quads);
  const staged = Math.max(extent * (depth + EIGHT), depth * (extent + EIGHT)) / EIGHT;
  return { length: Math.max(staged, unit![0] * sumsLine(quads)), count: Math.max(x + y, x * y) };
}

/** Length of a row of sums, in units of 16 bytes: two more than needed, against bank conflicts. */
function sumsLine(quads: number): number {
  return quads + 2;
}

/** Bytes of workgroup memory that a configuration takes. */
export function matrixBytes(config: GemmConfig): number {
  const { length, count } = slices(config);
  return length * count * 16;
}

/** One operand on its way into workgroup memory. */
interface Operand extends Slices {
  readonly name: 'A' | 'B';
  readonly form: OperandForm;
  /** Pixels that lie side by side within a sample, so that neighbours are read at once. */
  readonly runs: boolean;
}

/** WGSL that stages an operand. `masked` loads a step within which K ends. */
interface Staging {
  /** Before the loop: where an invocation's items come from and go. */
  readonly setup: string;
  readonly load: string;
  readonly masked: string;
  readonly store: string;
  readonly alongK: boolean;
  /** Length of a row in workgroup memory, in units of 16 bytes. */
  readonly line: number;
}

/**
 * An item is 8 neighbouring elements: one load where it is aligned to 16 bytes, two loads where to 8 bytes, else eight.
 * A load may read beyond the end of a row. Along K that part is set to 0; along M and N no result uses it.
 */
function staging(
  { name, form, extent, slices: count, first, alongK, runs }: Operand & { readonly alongK: boolean },
  depth: number,
  invocations: number,
): Staging {
  const x = name.toLowerCase(),
    [bound, begin] = name === 'A' ? ['p.M', 'row0'] : ['p.N', 'col0'];
  const width = form.wide ? 8 : form.vec ? 4 : 1;
  const zero = { 8: 'vec4<u32>()', 4: 'vec4<f16>()', 1: '0.0h' }[width];
  // Addresses count units of one load.
  const counted = (address: string): string => (width === 1 ? address : `(${address}) / ${width}u`);
  const perLine = (alongK ? depth : extent) / EIGHT,
    lines = alongK ? extent : depth;
  const perSlice = perLine * lines,
    items = perSlice * count;
  const lastItem = width === 8 ? `(${bound} - 1u) / 8u * 8u` : `${bound} - ${width}u`;
  // Of pixels, the base belongs to the number of a pixel, which is a column or a step of K.
  const base = runs && alongK ? '' : `${x}Base + `;
  const column = (q: string): string => (runs ? `runAt(${q}, p.${name === 'A' ? 'aSample' : 'sample'})` : q);
  const own = `8u * (li % ${perLine}u)`;
  const setup = [`  let ${x}First = ${counted(`${x}Base`)}; let ${x}PerLine = ${counted(`p.${x}Stride`)};`];
  const load = [
    `    let ${x}Step = ${
      alongK ? counted(runs ? `${x}Base + ${column(`k + ${own}`)} - ${own}` : 'k') : `k * ${x}PerLine`
    };`,
  ];
  const masked = [...load],
    store: string[] = [];
  for (let from = 0; from < items; from += invocations) {
    const id = `${name}${from / invocations}`;
    const when = (text: string): string =>
      `    ${from + invocations > items ? `if (li < ${items - from}u) ` : ''}{ ${text} }`;
    const one = Math.floor(from / perSlice) === Math.floor((Math.min(from + invocations, items) - 1) / perSlice);
    const slice = one ? `${Math.floor(from / perSlice)}u` : `i${id} / ${perSlice}u`;
    const parts = range(8 / width);
    setup.push(
      `  let i${id} = li + ${from}u; let line${id} = i${id} % ${perSlice}u / ${perLine}u; let at${id} = i${id} % ${perLine}u;
        var v${id} = vec4<u32>();`,
    );
    for (const part of alongK ? [0] : parts) {
      setup.push(
        `  let from${id}_${part} = ${
          alongK
            ? `${counted(`${base}min(${begin} + ${slice} * ${extent}u + line${id}, ${bound} - 1u) * p.${x}Stride`)}
              + ${8 / width}u * at${id}`
            : `${counted(`${base}${column(`min(${begin} + ${slice} * ${extent}u + 8u * at${id} + ${part * width}u, ${lastItem})`)}`)}
              + line${id} * ${x}PerLine`
        };`,
      );
    }
    const address = (part: number): string =>
      alongK ? `from${id}_0 + ${x}Step + ${part}u` : `from${id}_${part} + ${x}Step`;
    const inside = (part: number): string => `k + ${alongK ? `8u * at${id} + ${part * width}u` : `line${id}`} < k1`;
    load.push(when(`v${id} = ${joined(parts.map((part) => `${name}[${address(part)}]`))};`));
    // Items beyond K are not read: the very first element is read in their place, and counts as 0.
    const value = (part: number): string => `${name}[select(${x}First, ${address(part)}, ${inside(part)})]`;
    masked.push(
      when(
        `v${id} = ${
          width === 8 && alongK
            ? `cutOff(${value(0)}, k1 - min(k1, k + 8u * at${id}))`
            : joined(parts.map((part) => `select(${zero}, ${value(part)}, ${inside(part)})`))
        };`,
      ),
    );
    store.push(when(`memory[${slice} + ${first}u][line${id} * ${perLine + 1}u + at${id}] = v${id};`));
  }
  return {
    setup: setup.join('\n'),
    load: load.join('\n'),
    masked: masked.join('\n'),
    store: store.join('\n'),
    alongK,
    line: perLine + 1,
  };
}

/** Eight elements as 16 bytes, from one, two or eight loads. */
function joined(parts: readonly string[]): string {
  if (parts.length === 1) return parts[0];
  const four = (i: number): string =>
    `bitcast<vec2<u32>>(${parts.length === 2 ? parts[i] : `vec4<f16>(${parts.slice(4 * i, 4 * i + 4).join(', ')})`})`;
  return `vec4<u32>(${four(0)}, ${four(1)})`;
}

/** The first n of 8 elements; the others become 0. */
export const CUT_OFF = `fn cutOff(v: vec4<u32>, n: u32) -> vec4<u32> {
  let left = vec4<u32>(n) - min(vec4<u32>(n), vec4<u32>(0u, 2u, 4u, 6u));
  return v & select(select(vec4<u32>(), vec4<u32>(0xffffu), left == vec4<u32>(1u)), vec4<u32>(0xffffffffu), left >= vec4<u32>(2u));
}`;

export const matrixKernel = defineKernel<GemmVariant>('gemm.matrix', ({ config, problem }, env: KernelEnv) => {
  const { rows, quads, x, y, depth, unit } = config;
  const [m, n, k] = unit!;
  const columns = 4 * quads;
  const size = env.subgroupMaxSize;
  const invocations = size * x * y;
  const { length, count } = slices(config);
  const { image } = problem;
  const byRow = storesPixels(problem);
  const stage = (name: 'A' | 'B', form: OperandForm, alongK: boolean, part: Slices): Staging => {
    const pixels = image !== undefined && (name === 'B' || image.gives === 'weights');
    if (!pixels || form.wide) return staging({ name, form, alongK, runs: pixels, ...part }, depth, invocations);
    return alongK
      ? stageLinePairs(name, part, depth, invocations, problem)
      : stageWindowPairs(part, depth, invocations, problem);
  };
  const a = stage('A', problem.a, !problem.a.transposed, { extent: rows, slices: y, first: 0 });
  const b = stage('B', problem.b, problem.b.transposed, { extent: columns, slices: x, first: y });
  const load = problem.tail
    ? `    if (k + ${depth}u <= k1) {\n${a.load}\n${b.load}\n    } else {\n${a.masked}\n${b.masked}\n    }`
    : `${a.load}\n${b.load}`;
  const down = range(rows / m),
    across = range(columns / n);
  const offset = ({ alongK, line }: Staging, along: number, q: number): number =>
    alongK ? along * line + (q * k) / EIGHT : q * k * line + along / EIGHT;
  const left = (i: number, q: number): string =>
    `subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, ${a.alongK ? 'row' : 'col'}_major>(
      &memory[aSlice], ${offset(a, i * m, q)}u, ${a.line}u)`;
  const right = (j: number, q: number): string =>
    `subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, ${b.alongK ? 'col' : 'row'}_major>(
      &memory[bSlice], ${offset(b, j * n, q)}u, ${b.line}u)`;
  const multiply = (q: number): string => `    {
${down.map((i) => `      let a${i} = ${left(i, q)};`).join('\n')}
${across
  .map(
    (j) => `      let b${j} = ${right(j, q)};
      ${down.map((i) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, s${i}_${j});`).join(' ')}`,
  )
  .join('\n')}
    }`;
  // If the lanes are a multiple of a row, a lane has the same columns in all rows.
  const whole = size % quads === 0;
  const column = (e: string): string => `col0 + subCol * ${columns}u + 4u * (${e} % ${quads}u)`;
  const place = (i: number, h: number): string =>
    `row0 + subRow * ${rows}u + ${i * m}u + (lane + ${h * size}u) / ${quads}u`;
  const rounds = range(Math.ceil((m * quads) / size));
  const columnOf = (h: number): string => (whole ? 'col' : column(`(lane + ${h * size}u)`));
  const biasesOf = (row: string): string => (byRow ? `bias1(${row})` : 'biases');
  const columnSetup = byRow ? '' : ' let biases = bias4(col);';
  const laneColumns = whole
    ? `  let col = ${column('lane')};\n  let base = ${baseOf(problem, 'col')};${columnSetup}\n`
    : '';
  // c is read before the barrier, for a whole strip at once: a compiler cannot move a read ahead of a write to the same
  // buffer.
  const leave = (i: number): string => `${
    problem.accumulate
      ? rounds
          .map(
            (h) =>
              `  let was${i}_${h} = old4(${whole ? 'base' : baseOf(problem, columnOf(h))}, ${place(i, h)}, ${columnOf(h)});`,
          )
          .join('\n')
      : ''
  }
${across.map((j) => `  subgroupMatrixStore<row_major>(&memory[sgId], ${(j * n) / 4}u, s${i}_${j}, ${sumsLine(quads)}u);`).join('\n')}
  workgroupBarrier();
${rounds
  .map(
    (h) => `  ${(h + 1) * size > m * quads ? `if (lane < ${m * quads - h * size}u) ` : ''}{
    let e = lane + ${h * size}u;${whole ? '' : ` let col = ${columnOf(h)}; let base = ${baseOf(problem, 'col')};${columnSetup}`}
    let sum = bitcast<vec4f>(memory[sgId][e / ${quads}u * ${sumsLine(quads)}u + e % ${quads}u]);
    store4(base, ${place(i, h)}, col, sum + ${biasesOf(place(i, h))}${problem.accumulate ? ` + was${i}_${h}` : ''});
  }`,
  )
  .join('\n')}`;
  return {
    bindings: bindings(problem),
    params: paramsOf(problem),
    workgroupSize: [invocations],
    workgroupBytes: length * count * 16,
    enable: ['subgroups', 'chromium_experimental_subgroup_matrix', ...extensions(problem)],
    declarations: `${activationFunction(problem.activation)}
${problem.tail ? CUT_OFF : ''}
${storing(problem)}
${imageDeclarations(problem)}
var<workgroup> memory: array<array<vec4<u32>, ${length}>, ${count}>;`,
    body: `${prologue(problem)}
  let row0 = wid.y * ${rows * y}u;
  let col0 = wid.x * ${columns * x}u;
  let subRow = sgId / ${x}u;
  let subCol = sgId % ${x}u;
  let aSlice = subRow;
  let bSlice = ${y}u + subCol;
${down.map((i) => across.map((j) => `  var s${i}_${j} = subgroup_matrix_result<f32, ${n}, ${m}>();`).join('\n')).join('\n')}
${a.setup}
${b.setup}
  var k = k0;
  if (k < k1) {
${load}
  }
  while (k < k1) {
${a.store}
${b.store}
    workgroupBarrier();
    k += ${depth}u;
    if (k < k1) {
${load}
    }
${range(depth / k)
  .map(multiply)
  .join('\n')}
    workgroupBarrier();
  }
${laneColumns}${down.map(leave).join('\n  workgroupBarrier();\n')}`,
  };
});
