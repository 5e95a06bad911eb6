// f16 products on the adapter's matrix unit (tensor cores), through subgroup matrices; sums are f32.
//
// A workgroup of x × y subgroups owns rows·y × 4·quads·x elements of c, each subgroup rows × 4·quads of them, in fragments of the
// unit's shape. It walks over K in steps of `depth` and stages that much of a and b in workgroup memory as they lie in storage:
// the unit loads row by row or column by column. Lines in workgroup memory are 16 bytes longer than needed, so that the unit's
// loads meet different banks. Sums leave through workgroup memory too, a fragment a subgroup at a time: that is where edges, bias,
// activation and conversion to f16 happen.
//
// What each step gave, 4096³ on an NVIDIA H200:                                    a · b   a · bᵀ   aᵀ · b
//   128 × 128 elements a workgroup of four subgroups, steps of 32                   129      116      150 TFLOP/s
//   the next step's loads are in flight while this one is multiplied                163      155      193
// In the same run the f32 form (tile.ts) reached 34, 35 and 36. What did not help, on fixed sizes: loading fragments straight from storage
// (57 for 155, a · bᵀ), lines in workgroup memory without the extra 16 bytes (105), workgroup memory twice, for one barrier a step (41). Loads
// of 16 bytes instead of 8 gave 171 for 157, but need rows of a multiple of 8. Without Dawn's check of each fragment's bounds: 195.

import { defineKernel, type KernelEnv } from '../kernel.ts';
import type { GemmConfig, GemmVariant, OperandForm } from './spec.ts';
import { activationFunction, bindings, extensions, PARAMS, prologue, range, storing } from './wgsl.ts';

/** Elements that a line in workgroup memory is longer than the tile. */
const PAD = 8;

/** Elements in a line of workgroup memory, and how many lines there are. */
function lines(alongK: boolean, extent: number, depth: number): { length: number; count: number } {
  return alongK ? { length: depth + PAD, count: extent } : { length: extent + PAD, count: depth };
}

/** Bytes of workgroup memory that a configuration takes, whatever the layout. */
export function matrixBytes({ rows, quads, x, y, depth, unit }: GemmConfig): number {
  const tile = (extent: number): number => Math.max(extent * (depth + PAD), depth * (extent + PAD)) * 2;
  return tile(rows * y) + tile(4 * quads * x) + x * y * unit![0] * unit![1] * 4;
}

/**
 * WGSL that stages one operand, line by line in vec4: where an invocation's items come from and go, their loads for the step at `k`,
 * and their stores. `masked` where K may end within a step.
 */
function staging(name: 'A' | 'B', form: OperandForm, alongK: boolean, extent: number, depth: number, invocations: number, masked: boolean): { setup: string; load: string; store: string } {
  const [array, bound, first] = name === 'A' ? ['a', 'p.M', 'row0'] : ['b', 'p.N', 'col0'];
  const { length, count } = lines(alongK, extent, depth);
  const perLine = (length - PAD) / 4;
  const items = count * perLine;
  const setup: string[] = [], load: string[] = [], store: string[] = [];
  const least = (k: string, end: string): string => (masked ? `min(${k}, ${end})` : k);
  const four = (at: string): string => (masked ? `select(vec4<f16>(), ${name}[(${at}) >> 2u], kk < k1)` : `${name}[(${at}) >> 2u]`);
  const element = (at: string, ok: string): string => (masked ? `select(0.0h, ${name}[${at}], ${ok})` : `${name}[${at}]`);
  for (let begin = 0, h = 0; begin < items; begin += invocations, h++) {
    const when = (text: string): string => `    ${begin + invocations > items ? `if (li < ${items - begin}u) ` : ''}{ ${text} }`;
    const v = `v${name}${h}`, at = `at${name}${h}`, ahead = `ahead${name}${h}`;
    const at_ = (x: number): string => (form.vec || alongK ? at : `${at}_${x}`);
    setup.push(`  let i${name}${h} = li + ${begin}u; let line${name}${h} = i${name}${h} / ${perLine}u; let four${name}${h} = i${name}${h} % ${perLine}u;`);
    const line = `line${name}${h}`, g = `4u * four${name}${h}`;
    if (alongK) {
      setup.push(`  let ${ahead} = ${g}; let ${at} = ${array}Base + min(${first} + ${line}, ${bound} - 1u) * p.${array}Stride;`);
      load.push(when(`let kk = k + ${ahead}; ${v} = ${form.vec
        ? four(`${at} + ${least('kk', 'k1 - 4u')}`)
        : `vec4<f16>(${range(4).map((q) => element(`${at} + ${least(`kk + ${q}u`, 'k1 - 1u')}`, `kk + ${q}u < k1`)).join(', ')})`};`));
    } else {
      setup.push(`  let ${ahead} = ${line}; ${range(form.vec ? 1 : 4).map((x) => `let ${at_(x)} = ${array}Base + min(${first} + ${g} + ${x}u, ${bound} - ${form.vec ? 4 : 1}u);`).join(' ')}`);
      load.push(when(`let kk = k + ${ahead}; let line = ${least('kk', 'k1 - 1u')} * p.${array}Stride; ${v} = ${form.vec
        ? four(`${at} + line`)
        : `vec4<f16>(${range(4).map((x) => element(`${at_(x)} + line`, 'kk < k1')).join(', ')})`};`));
    }
    setup.push(`  let to${name}${h} = ${line} * ${length / 4}u + four${name}${h}; var ${v} = vec4<f16>();`);
    store.push(when(`tile${name}[to${name}${h}] = ${v};`));
  }
  return { setup: setup.join('\n'), load: load.join('\n'), store: store.join('\n') };
}

export const matrixKernel = defineKernel<GemmVariant>('gemm.matrix', ({ config, problem }, env: KernelEnv) => {
  const { rows, quads, x, y, depth, unit } = config;
  const [m, n, k] = unit!;
  const columns = 4 * quads;
  const size = env.subgroupMaxSize;
  const invocations = size * x * y;
  const aAlongK = !problem.a.transposed, bAlongK = problem.b.transposed;
  const a = lines(aAlongK, rows * y, depth), b = lines(bAlongK, columns * x, depth);
  const stageA = staging('A', problem.a, aAlongK, rows * y, depth, invocations, problem.tail);
  const stageB = staging('B', problem.b, bAlongK, columns * x, depth, invocations, problem.tail);
  const down = range(rows / m), across = range(columns / n);
  // Offsets into an array of vec4 are counted in vec4.
  const left = (i: number, q: number): string => {
    const at = aAlongK ? `(subRow + ${i * m}u) * ${a.length / 4}u + ${q * k / 4}u` : `${q * k * a.length / 4}u + (subRow + ${i * m}u) / 4u`;
    return `subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, ${aAlongK ? 'row' : 'col'}_major>(&tileA, ${at}, ${a.length / 4}u)`;
  };
  const right = (j: number, q: number): string => {
    const at = bAlongK ? `(subCol + ${j * n}u) * ${b.length / 4}u + ${q * k / 4}u` : `${q * k * b.length / 4}u + (subCol + ${j * n}u) / 4u`;
    return `subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, ${bAlongK ? 'col' : 'row'}_major>(&tileB, ${at}, ${b.length / 4}u)`;
  };
  const multiply = (q: number): string => `    {
${down.map((i) => `      let a${i} = ${left(i, q)};`).join('\n')}
${across.map((j) => `      let b${j} = ${right(j, q)};
      ${down.map((i) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, s${i}_${j});`).join(' ')}`).join('\n')}
    }`;
  const perLane = Math.ceil(m * n / 4 / size);
  const leave = (i: number, j: number): string => `  subgroupMatrixStore<row_major>(&sums, sgId * ${m * n / 4}u, s${i}_${j}, ${n / 4}u);
  workgroupBarrier();
${range(perLane).map((h) => `  ${(h + 1) * size > m * n / 4 ? `if (lane < ${m * n / 4 - h * size}u) ` : ''}{
    let e = lane + ${h * size}u; let col = col0 + subCol + ${j * n}u + 4u * (e % ${n / 4}u);
    store4(cBase, row0 + subRow + ${i * m}u + e / ${n / 4}u, col, sums[sgId * ${m * n / 4}u + e] + bias4(col));
  }`).join('\n')}
  workgroupBarrier();`;
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [invocations],
    workgroupBytes: (a.length * a.count + b.length * b.count) * 2 + x * y * m * n * 4,
    enable: ['subgroups', 'chromium_experimental_subgroup_matrix', ...extensions(problem)],
    declarations: `${activationFunction(problem.activation)}
${storing(problem)}
var<workgroup> tileA: array<vec4<f16>, ${a.length * a.count / 4}>;
var<workgroup> tileB: array<vec4<f16>, ${b.length * b.count / 4}>;
var<workgroup> sums: array<vec4f, ${x * y * m * n / 4}>;`,
    body: `${prologue(problem)}
  let row0 = wid.y * ${rows * y}u;
  let col0 = wid.x * ${columns * x}u;
  let subRow = sgId / ${x}u * ${rows}u;
  let subCol = sgId % ${x}u * ${columns}u;
${down.map((i) => across.map((j) => `  var s${i}_${j} = subgroup_matrix_result<f32, ${n}, ${m}>();`).join('\n')).join('\n')}
${stageA.setup}
${stageB.setup}
  var k = k0;
  if (k < k1) {
${stageA.load}
${stageB.load}
  }
  while (k < k1) {
${stageA.store}
${stageB.store}
    workgroupBarrier();
    k += ${depth}u;
    if (k < k1) {
${stageA.load}
${stageB.load}
    }
${range(depth / k).map(multiply).join('\n')}
    workgroupBarrier();
  }
${down.map((i) => across.map((j) => leave(i, j)).join('\n')).join('\n')}`,
  };
});
