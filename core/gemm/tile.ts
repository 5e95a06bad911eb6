// Products through workgroup memory, for adapters with a cache of their own and many invocations.
//
// A workgroup owns rows·y × 4·quads·x elements of c. It walks over K in steps of `depth`: stages that much of a and b in
// workgroup memory, both with k as the slow dimension and in vec4 along the rows of a and the columns of b, and multiplies
// from there. What lies in storage along k is turned round in registers, in blocks of 4 × 4, on the way in.
//
// An invocation's rows and columns are groups of 4 that are y and x groups apart: neighbouring invocations then read neighbouring
// vec4 of workgroup memory, and write neighbouring vec4 of c.
//
// What each step gave, f32 4096³ on an NVIDIA H200 (62 TFLOP/s of multiply-adds in the same run), x·Wᵀ:
//   8 × 8 elements an invocation, 128 × 128 a workgroup                       22.4 TFLOP/s
//   both operands' loads shared out evenly: half the invocations load a, half b   32.9
//   the next step's loads are in flight while this one is multiplied          33.0, and 2048 × 1024 × 1024 from 25.8 to 30.3
// The other layouts reach 34.0 (a · b) and 37.3 (aᵀ · b). What did not help: steps of 8 (22.2) or 32 (31.8), neighbouring invocations
// loading neighbouring rows instead of neighbouring k (30.5), 128 elements an invocation (33.8).

import { defineKernel } from '../kernel.ts';
import type { GemmConfig, GemmVariant, OperandForm } from './spec.ts';
import { bindings, component, declarations, extensions, PARAMS, prologue, range } from './wgsl.ts';

/** Bytes of workgroup memory that a configuration takes. */
export function tileBytes({ rows, quads, x, y, depth }: GemmConfig): number {
  return (rows * y + 4 * quads * x) * depth * 4;
}

/** How one operand comes into workgroup memory: in items of a block of 4 × 4 that is turned round, or of one vec4. */
interface Staging {
  /** `A` or `B`. */
  readonly array: string;
  readonly form: OperandForm;
  /** Whether it lies along k in storage. */
  readonly alongK: boolean;
  /** Groups of 4 rows of a or columns of b in the tile. */
  readonly groups: number;
  /** How many rows or columns there are: `p.M` or `p.N`. */
  readonly bound: string;
  readonly first: string;
}

/** WGSL that loads item `i` of an operand, for the step at `k`, into `v0` and on; `masked` where K may end within the step. */
function loadItem({ array, form, alongK, groups, bound, first }: Staging, depth: number, masked: boolean, v: (r: number) => string): string {
  const name = array.toLowerCase();
  const stride = `p.${name}Stride`;
  const base = `${name}Base`;
  const zero = (k: string, value: string): string => (masked ? `select(vec4f(), ${value}, ${k} < k1)` : value);
  if (!alongK) {
    const at = `${base} + ${masked ? 'min(kk, k1 - 1u)' : 'kk'} * ${stride}`;
    return `let kk = k + i / ${groups}u; let g = ${first} + 4u * (i % ${groups}u); let at = ${at};
      ${v(0)} = ${zero('kk', form.vec ? `${name}4(at + min(g, ${bound} - 4u))` : `vec4f(${range(4).map((x) => `${name}1(at + min(g + ${x}u, ${bound} - 1u))`).join(', ')})`)};`;
  }
  const lines = [`let kk = k + 4u * (i % ${depth / 4}u); let g = ${first} + 4u * (i / ${depth / 4}u);`];
  for (const r of range(4)) {
    lines.push(`let at${r} = ${base} + min(g + ${r}u, ${bound} - 1u) * ${stride};`);
    // One by one, addresses behind the end of K are moved back to where something is, then its value is dropped.
    lines.push(form.vec
      ? `${v(r)} = ${zero('kk', `${name}4(at${r} + ${masked ? 'min(kk, k1 - 4u)' : 'kk'})`)};`
      : `${v(r)} = vec4f(${range(4).map((q) => (masked ? `select(0.0, ${name}1(at${r} + min(kk + ${q}u, k1 - 1u)), kk + ${q}u < k1)` : `${name}1(at${r} + kk + ${q}u)`)).join(', ')});`);
  }
  return lines.join('\n      ');
}

/** WGSL that puts item `i` into workgroup memory. */
function storeItem({ array, alongK, groups }: Staging, depth: number, v: (r: number) => string): string {
  if (!alongK) return `tile${array}[i] = ${v(0)};`;
  return `let to = i % ${depth / 4}u * ${4 * groups}u + i / ${depth / 4}u;
      ${range(4).map((q) => `tile${array}[to + ${q * groups}u] = vec4f(${range(4).map((r) => `${v(r)}.${component(q)}`).join(', ')});`).join('\n      ')}`;
}

/** The items of both operands, shared out evenly: an invocation takes every `invocations`-th. */
function staging(operands: readonly Staging[], depth: number, invocations: number, masked: boolean): { variables: string; load: string; store: string } {
  const load: string[] = [], store: string[] = [], variables: string[] = [];
  const counts = operands.map(({ alongK, groups }) => (alongK ? groups * depth / 4 : groups * depth));
  const total = counts[0] + counts[1];
  for (let begin = 0; begin < total; begin += invocations) {
    const round = begin / invocations;
    const value = (r: number): string => `v${round}_${r}`;
    let most = 1;
    operands.forEach((operand, o) => {
      const from = o === 0 ? 0 : counts[0];
      const first = Math.max(begin, from), last = Math.min(begin + invocations, from + counts[o]);
      if (first >= last) return;
      if (operand.alongK) most = 4;
      const conditions = [...(first > begin ? [`li >= ${first - begin}u`] : []), ...(last < begin + invocations ? [`li < ${last - begin}u`] : [])];
      const open = `    ${conditions.length ? `if (${conditions.join(' && ')}) ` : ''}{
      let i = li${begin >= from ? ` + ${begin - from}u` : ` - ${from - begin}u`};`;
      load.push(`${open}\n      ${loadItem(operand, depth, masked, value)}\n    }`);
      store.push(`${open}\n      ${storeItem(operand, depth, value)}\n    }`);
    });
    variables.push(`  ${range(most).map((r) => `var ${value(r)} = vec4f();`).join(' ')}`);
  }
  return { variables: variables.join('\n'), load: load.join('\n'), store: store.join('\n') };
}

export const tileKernel = defineKernel<GemmVariant>('gemm.tile', ({ config, problem }) => {
  const { rows, quads, x, y, depth } = config;
  const fours = rows / 4;
  const rowGroups = fours * y, columnGroups = quads * x;
  const { variables, load, store } = staging([
    { array: 'A', form: problem.a, alongK: !problem.a.transposed, groups: rowGroups, bound: 'p.M', first: 'row0' },
    { array: 'B', form: problem.b, alongK: problem.b.transposed, groups: columnGroups, bound: 'p.N', first: 'col0' },
  ], depth, x * y, problem.tail);
  const row = (i: number): string => `row0 + ${(i >> 2) * 4 * y + (i & 3)}u + 4u * lid.y`;
  const col = (j: number): string => `col0 + ${j * 4 * x}u + 4u * lid.x`;
  // Four steps are written out; left to themselves, some compilers unroll all of them.
  const step = (u: number): string => `${range(fours).map((g) => `      let a${u}_${g} = tileA[(q + ${u}u) * ${rowGroups}u + ${g * y}u + lid.y];`).join('\n')}
${range(quads).map((j) => `      let b${u}_${j} = tileB[(q + ${u}u) * ${columnGroups}u + ${j * x}u + lid.x];`).join('\n')}
${range(rows).map((i) => `      ${range(quads).map((j) => `s${i}_${j} = fma(vec4f(a${u}_${i >> 2}.${component(i)}), b${u}_${j}, s${i}_${j});`).join(' ')}`).join('\n')}`;
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [x, y],
    workgroupBytes: tileBytes(config),
    enable: extensions(problem),
    declarations: `${declarations(problem)}
var<workgroup> tileA: array<vec4f, ${rowGroups * depth}>;
var<workgroup> tileB: array<vec4f, ${columnGroups * depth}>;`,
    body: `${prologue(problem)}
  let row0 = wid.y * ${4 * rowGroups}u;
  let col0 = wid.x * ${4 * columnGroups}u;
${range(rows).map((i) => `  ${range(quads).map((j) => `var s${i}_${j} = vec4f();`).join(' ')}`).join('\n')}
${variables}
  var k = k0;
  if (k < k1) {
${load}
  }
  while (k < k1) {
${store}
    workgroupBarrier();
    k += ${depth}u;
    if (k < k1) {
${load}
    }
    for (var q = 0u; q < ${depth}u; q += 4u) {
${range(4).map(step).join('\n')}
    }
    workgroupBarrier();
  }
${range(quads).map((j) => `  let bias${j} = bias4(${col(j)});
${range(rows).map((i) => `  store4(cBase, ${row(i)}, ${col(j)}, s${i}_${j} + bias${j});`).join('\n')}`).join('\n')}`,
  };
});
