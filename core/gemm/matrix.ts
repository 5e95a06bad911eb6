// f16 products on the adapter's matrix unit (tensor cores), through subgroup matrices; sums are f32.
//
// A workgroup of x × y subgroups owns rows·y × 4·quads·x elements of c, each subgroup rows × 4·quads of them, in fragments of the
// unit's shape. It walks over K in steps of `depth` and stages that much of a and b in workgroup memory as they lie in storage:
// the unit loads row by row or column by column. Lines in workgroup memory are 16 bytes longer than needed, so that the unit's
// loads meet different banks. Sums leave through workgroup memory too, a fragment a subgroup at a time: that is where edges, bias,
// activation and conversion to f16 happen.

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

/** WGSL that stages one operand: `count` lines of `depth` or of the tile's extent, in vec4. */
function stage(name: 'A' | 'B', form: OperandForm, alongK: boolean, extent: number, depth: number, invocations: number, masked: boolean): string {
  const [array, bound, first] = name === 'A' ? ['a', 'p.M', 'row0'] : ['b', 'p.N', 'col0'];
  const { length, count } = lines(alongK, extent, depth);
  const perLine = (length - PAD) / 4;
  const items = count * perLine;
  const to = `tile${name}[i / ${perLine}u * ${length / 4}u + i % ${perLine}u]`;
  const one = (at: string, ok: string): string => (masked ? `select(0.0h, ${name}[${at}], ${ok})` : `${name}[${at}]`);
  let text: string;
  if (alongK) {
    text = `let kk = k + 4u * (i % ${perLine}u); let at = ${array}Base + min(${first} + i / ${perLine}u, ${bound} - 1u) * p.${array}Stride;
      ${to} = ${form.vec
        ? (masked ? `select(vec4<f16>(), ${name}[(at + min(kk, k1 - 4u)) >> 2u], kk < k1)` : `${name}[(at + kk) >> 2u]`)
        : `vec4<f16>(${range(4).map((q) => one(`at + ${masked ? `min(kk + ${q}u, k1 - 1u)` : `kk + ${q}u`}`, `kk + ${q}u < k1`)).join(', ')})`};`;
  } else {
    text = `let kk = k + i / ${perLine}u; let g = ${first} + 4u * (i % ${perLine}u); let at = ${array}Base + ${masked ? 'min(kk, k1 - 1u)' : 'kk'} * p.${array}Stride;
      ${to} = ${form.vec
        ? (masked ? `select(vec4<f16>(), ${name}[(at + min(g, ${bound} - 4u)) >> 2u], kk < k1)` : `${name}[(at + min(g, ${bound} - 4u)) >> 2u]`)
        : `vec4<f16>(${range(4).map((q) => one(`at + min(g + ${q}u, ${bound} - 1u)`, 'kk < k1')).join(', ')})`};`;
  }
  // Written out, so that all loads are in flight before the first is stored.
  return range(Math.ceil(items / invocations)).map((h) => {
    const whole = (h + 1) * invocations <= items;
    return `    ${whole ? '' : `if (li < ${items - h * invocations}u) `}{ let i = li + ${h * invocations}u;\n      ${text} }`;
  }).join('\n');
}

export const matrixKernel = defineKernel<GemmVariant>('gemm.matrix', ({ config, problem }, env: KernelEnv) => {
  const { rows, quads, x, y, depth, unit } = config;
  const [m, n, k] = unit!;
  const columns = 4 * quads;
  const size = env.subgroupMaxSize;
  const invocations = size * x * y;
  const aAlongK = !problem.a.transposed, bAlongK = problem.b.transposed;
  const a = lines(aAlongK, rows * y, depth), b = lines(bAlongK, columns * x, depth);
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
  for (var k = k0; k < k1; k += ${depth}u) {
${stage('A', problem.a, aAlongK, rows * y, depth, invocations, problem.tail)}
${stage('B', problem.b, bAlongK, columns * x, depth, invocations, problem.tail)}
    workgroupBarrier();
${range(depth / k).map(multiply).join('\n')}
    workgroupBarrier();
  }
${down.map((i) => across.map((j) => leave(i, j)).join('\n')).join('\n')}`,
  };
});
