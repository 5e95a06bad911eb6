// Products through workgroup memory, for adapters with a cache of their own and many invocations.
//
// A workgroup owns rows·y × 4·quads·x elements of c. It walks over K in steps of `depth`: stages that much of a and b in
// workgroup memory, both with k as the slow dimension and in vec4 along the rows of a and the columns of b, and multiplies
// from there. What lies in storage along k is turned round in registers, in blocks of 4 × 4, on the way in.
//
// An invocation's rows and columns are groups of 4 that are y and x groups apart: neighbouring invocations then read neighbouring
// vec4 of workgroup memory, and write neighbouring vec4 of c.

import { defineKernel } from '../kernel.ts';
import type { GemmConfig, GemmVariant, OperandForm } from './spec.ts';
import { bindings, component, declarations, extensions, PARAMS, prologue, range } from './wgsl.ts';

/** Bytes of workgroup memory that a configuration takes. */
export function tileBytes({ rows, quads, x, y, depth }: GemmConfig): number {
  return (rows * y + 4 * quads * x) * depth * 4;
}

/** How one operand comes into workgroup memory. */
interface Staging {
  /** `A` or `B`. */
  readonly array: string;
  readonly form: OperandForm;
  /** Whether it lies along k in storage. */
  readonly alongK: boolean;
  /** Rows of a or columns of b in the tile. */
  readonly extent: number;
  /** How many of them there are: `p.M` or `p.N`. */
  readonly bound: string;
  readonly first: string;
}

function stage({ array, form, alongK, extent, bound, first }: Staging, depth: number, invocations: number, masked: boolean): string {
  const name = array.toLowerCase();
  const groups = extent / 4;
  const stride = `p.${name}Stride`;
  const base = `${name}Base`;
  const zero = (k: string, value: string): string => (masked ? `select(vec4f(), ${value}, ${k} < k1)` : value);
  const body: string[] = [];
  if (alongK) {
    body.push(`let kq = i % ${depth / 4}u; let g = i / ${depth / 4}u; let kk = k + 4u * kq;`);
    for (const r of range(4)) {
      body.push(`let at${r} = ${base} + min(${first} + 4u * g + ${r}u, ${bound} - 1u) * ${stride};`);
      // One by one, addresses behind the end of K are moved back to where something is, then its value is dropped.
      body.push(form.vec
        ? `let v${r} = ${zero('kk', `${name}4(at${r} + ${masked ? 'min(kk, k1 - 4u)' : 'kk'})`)};`
        : `let v${r} = vec4f(${range(4).map((q) => (masked
          ? `select(0.0, ${name}1(at${r} + min(kk + ${q}u, k1 - 1u)), kk + ${q}u < k1)`
          : `${name}1(at${r} + kk + ${q}u)`)).join(', ')});`);
    }
    for (const q of range(4)) body.push(`tile${array}[(4u * kq + ${q}u) * ${groups}u + g] = vec4f(${range(4).map((r) => `v${r}.${component(q)}`).join(', ')});`);
  } else {
    body.push(`let kk = k + i / ${groups}u; let g = ${first} + 4u * (i % ${groups}u);`);
    body.push(`let at = ${base} + ${masked ? 'min(kk, k1 - 1u)' : 'kk'} * ${stride};`);
    body.push(`tile${array}[i] = ${zero('kk', form.vec
      ? `${name}4(at + min(g, ${bound} - 4u))`
      : `vec4f(${range(4).map((x) => `${name}1(at + min(g + ${x}u, ${bound} - 1u))`).join(', ')})`)};`);
  }
  const items = alongK ? groups * depth / 4 : groups * depth;
  const text = body.map((line) => `      ${line}`).join('\n');
  if (items <= invocations) return `    ${items < invocations ? `if (li < ${items}u) ` : ''}{\n      let i = li;\n${text}\n    }`;
  return `    for (var i = li; i < ${items}u; i += ${invocations}u) {\n${text}\n    }`;
}

export const tileKernel = defineKernel<GemmVariant>('gemm.tile', ({ config, problem }) => {
  const { rows, quads, x, y, depth } = config;
  const invocations = x * y;
  const fours = rows / 4;
  const tileRows = rows * y;
  const tileColumns = 4 * quads * x;
  const a: Staging = { array: 'A', form: problem.a, alongK: !problem.a.transposed, extent: tileRows, bound: 'p.M', first: 'row0' };
  const b: Staging = { array: 'B', form: problem.b, alongK: problem.b.transposed, extent: tileColumns, bound: 'p.N', first: 'col0' };
  const row = (i: number): string => `row0 + ${(i >> 2) * 4 * y + (i & 3)}u + 4u * lid.y`;
  const col = (j: number): string => `col0 + ${j * 4 * x}u + 4u * lid.x`;
  const multiply = `    workgroupBarrier();
    for (var q = 0u; q < ${depth}u; q += 4u) {
${range(4).map((u) => `${range(fours).map((g) => `      let a${u}${g} = tileA[(q + ${u}u) * ${tileRows / 4}u + ${g * y}u + lid.y];`).join('\n')}
${range(quads).map((j) => `      let b${u}${j} = tileB[(q + ${u}u) * ${tileColumns / 4}u + ${j * x}u + lid.x];`).join('\n')}
${range(rows).map((i) => `      ${range(quads).map((j) => `s${i}_${j} = fma(vec4f(a${u}${i >> 2}.${component(i)}), b${u}${j}, s${i}_${j});`).join(' ')}`).join('\n')}`).join('\n')}
    }
    workgroupBarrier();`;
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [x, y],
    workgroupBytes: tileBytes(config),
    enable: extensions(problem),
    declarations: `${declarations(problem)}
var<workgroup> tileA: array<vec4f, ${tileRows / 4 * depth}>;
var<workgroup> tileB: array<vec4f, ${tileColumns / 4 * depth}>;`,
    body: `${prologue(problem)}
  let row0 = wid.y * ${tileRows}u;
  let col0 = wid.x * ${tileColumns}u;
${range(rows).map((i) => `  ${range(quads).map((j) => `var s${i}_${j} = vec4f();`).join(' ')}`).join('\n')}
  for (var k = k0; k < k1; k += ${depth}u) {
${stage(a, depth, invocations, problem.tail)}
${stage(b, depth, invocations, problem.tail)}
${multiply}
  }
${range(quads).map((j) => `  let bias${j} = bias4(${col(j)});
${range(rows).map((i) => `  store4(cBase, ${row(i)}, ${col(j)}, s${i}_${j} + bias${j});`).join('\n')}`).join('\n')}`,
  };
});
