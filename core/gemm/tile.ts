// Products through workgroup memory, for adapters with a cache of their own and many invocations.
//
// A workgroup owns rows·y × 4·quads·x elements of c. It walks over K in steps of `depth`: stages that much of a and b in
// workgroup memory, both with k as the slow dimension and in vec4 along the rows of a and the columns of b, and multiplies
// from there. What lies in storage along k is turned round in registers, in blocks of 4 × 4, on the way in.
//
// An invocation's rows and columns are groups of 4 that are y and x groups apart: neighbouring invocations then read neighbouring
// vec4 of workgroup memory, and write neighbouring vec4 of c.
//
// What each step gave, f32 4096³ on an NVIDIA H200 (62 TFLOP/s of multiply-adds in the same run). With fixed sizes, a · bᵀ:
//   8 × 8 elements an invocation, 128 × 128 a workgroup                              22.4 TFLOP/s
//   where a round of loads has room for both operands, half the invocations load each  32.9
//   the next step's loads are in flight while this one is multiplied                33.0, and 2048 × 1024 × 1024 from 25.8 to 30.3
// With any size, offset and stride, and checks at the edges:                   a · b   a · bᵀ   aᵀ · b
//   the same                                                                    25.9     27.5     34.3 TFLOP/s
//   addresses are found before the loop                                         25.9     29.0     38.7
//   rounds without room for both load one operand only                          30.6     29.0     38.7
//   16 × 8 elements an invocation, half as many invocations                     34.4     35.0     35.6
// What did not help: steps of 8 (22.2 for 30.5), neighbouring invocations loading neighbouring rows instead of neighbouring k (30.5 for
// 33.0), no branch around the last load of all (29.2 for 29.0, 33.3 for 38.7). Steps of 32 gave 5 % for a · b with 8 × 8 elements, and
// need twice the workgroup memory that WebGPU guarantees. Without Dawn's bounds checks the fixed-size form ran at 38.7 for 33.0.

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

/** WGSL for one item `i` of an operand. The registers are one invocation's, the same for all operands. */
interface Item {
  /** Before the loop: where it comes from, in `at0` and on and `ahead`, and goes, in `to`. */
  readonly setup: string;
  /** For the step at `k`, into `v0` and on. */
  readonly load: string;
  readonly store: string;
  readonly registers: number;
}

type Register = (name: 'at' | 'v' | 'ahead' | 'to', r?: number) => string;

/** `masked` where K may end within a step: addresses behind it are moved back to where something is, and the value is dropped. */
function item({ array, form, alongK, groups, bound, first }: Staging, depth: number, masked: boolean, reg: Register): Item {
  const name = array.toLowerCase();
  const element = (at: string, ok: string): string => (masked ? `select(0.0, ${name}1(${at}), ${ok})` : `${name}1(${at})`);
  const four = (at: string): string => (masked ? `select(vec4f(), ${name}4(${at}), kk < k1)` : `${name}4(${at})`);
  const least = (k: string, end: string): string => (masked ? `min(${k}, ${end})` : k);
  const kk = `let kk = k + ${reg('ahead')};`;
  if (alongK) {
    return {
      setup: `let g = ${first} + 4u * (i / ${depth / 4}u); ${reg('ahead')} = 4u * (i % ${depth / 4}u);
      ${reg('to')} = i % ${depth / 4}u * ${4 * groups}u + i / ${depth / 4}u;
      ${range(4).map((r) => `${reg('at', r)} = ${name}Base + min(g + ${r}u, ${bound} - 1u) * p.${name}Stride;`).join(' ')}`,
      load: `${kk} ${range(4).map((r) => `${reg('v', r)} = ${form.vec
        ? four(`${reg('at', r)} + ${least('kk', 'k1 - 4u')}`)
        : `vec4f(${range(4).map((q) => element(`${reg('at', r)} + ${least(`kk + ${q}u`, 'k1 - 1u')}`, `kk + ${q}u < k1`)).join(', ')})`};`).join('\n      ')}`,
      store: range(4).map((q) => `tile${array}[${reg('to')} + ${q * groups}u] = vec4f(${range(4).map((r) => `${reg('v', r)}.${component(q)}`).join(', ')});`).join('\n      '),
      registers: 4,
    };
  }
  const columns = form.vec ? 1 : 4;
  const along = `${least('kk', 'k1 - 1u')} * p.${name}Stride`;
  return {
    setup: `let g = ${first} + 4u * (i % ${groups}u); ${reg('ahead')} = i / ${groups}u; ${reg('to')} = i;
      ${range(columns).map((x) => `${reg('at', x)} = ${name}Base + min(g + ${x}u, ${bound} - ${form.vec ? 4 : 1}u);`).join(' ')}`,
    load: `${kk} let line = ${along};
      ${reg('v', 0)} = ${form.vec ? four(`${reg('at', 0)} + line`) : `vec4f(${range(4).map((x) => element(`${reg('at', x)} + line`, 'kk < k1')).join(', ')})`};`,
    store: `tile${array}[${reg('to')}] = ${reg('v', 0)};`,
    registers: columns,
  };
}

/** The items of both operands, shared out in rounds in which each invocation takes one. A round is shared if it has room for all of both. */
function staging(operands: readonly Staging[], depth: number, invocations: number, masked: boolean): { setup: string; load: string; store: string } {
  const variables: string[] = [], setup: string[] = [], load: string[] = [], store: string[] = [];
  const counts = operands.map(({ alongK, groups }) => (alongK ? groups * depth / 4 : groups * depth));
  const second = counts[0] + counts[1] <= invocations ? counts[0] : Math.ceil(counts[0] / invocations) * invocations;
  for (let begin = 0; begin < second + counts[1]; begin += invocations) {
    const reg: Register = (name, r) => `${name}${begin / invocations}${r === undefined ? '' : `_${r}`}`;
    let registers = 1;
    operands.forEach((operand, o) => {
      const from = o === 0 ? 0 : second;
      const first = Math.max(begin, from), last = Math.min(begin + invocations, from + counts[o]);
      if (first >= last) return;
      const one = item(operand, depth, masked, reg);
      registers = Math.max(registers, one.registers);
      const conditions = [...(first > begin ? [`li >= ${first - begin}u`] : []), ...(last < begin + invocations ? [`li < ${last - begin}u`] : [])];
      const when = (text: string): string => `    ${conditions.length ? `if (${conditions.join(' && ')}) ` : ''}{\n      ${text}\n    }`;
      setup.push(when(`let i = li${begin >= from ? ` + ${begin - from}u` : ` - ${from - begin}u`}; ${one.setup}`));
      load.push(when(one.load));
      store.push(when(one.store));
    });
    variables.push(`  var ${reg('ahead')} = 0u; var ${reg('to')} = 0u; ${range(registers).map((r) => `var ${reg('at', r)} = 0u; var ${reg('v', r)} = vec4f();`).join(' ')}`);
  }
  return { setup: [...variables, ...setup].join('\n'), load: load.join('\n'), store: store.join('\n') };
}

export const tileKernel = defineKernel<GemmVariant>('gemm.tile', ({ config, problem }) => {
  const { rows, quads, x, y, depth } = config;
  const fours = rows / 4;
  const rowGroups = fours * y, columnGroups = quads * x;
  const { setup, load, store } = staging([
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
${setup}
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
