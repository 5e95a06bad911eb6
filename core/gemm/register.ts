// Products in registers. Each invocation owns `rows` × 4·`quads` elements of c and reads a and b from storage.
//
// 1. `register`: every invocation loads its rows of a itself. Needs nothing but WebGPU's defaults.
// 2. `subgroup`: the lanes of a subgroup own neighbouring columns of the same rows. Lane l loads row l of a and the others get
//    it by broadcast, so that a is loaded once a subgroup. On adapters that compute on the CPU a load costs as much as many
//    multiply-adds, and this is several times faster than any form with workgroup memory. It needs a subgroup size that is
//    fixed: the workgroup is one subgroup.
//
// What each step gave the subgroup form on Mesa's lavapipe, 2 cores, one run, GFLOP/s:  1024³ a·b   2064·1472·368 a·bᵀ   1472·368·2064 aᵀ·b
//   16 rows, all sums take one step after another                                      37         24                   34
//   each sum takes all 4 steps of a block at once, so that it is loaded and stored once  46         45                   41
//   24 rows share a load of b                                                          48         51                   50
// The register form reaches 14. What did not help: 32 rows (46, 52, 43), twice as many columns a lane (38, 40, 35). What holds it: a
// load from storage costs the driver 0.8 ns for each element of each lane, half of the time; in registers it multiplies at 180.

import { defineKernel } from '../kernel.ts';
import type { GemmVariant, OperandForm } from './spec.ts';
import { bindings, columns, component, declarations, extensions, kLoop, PARAMS, prologue, range } from './wgsl.ts';

/** Rows of a that an invocation loads for itself: row i is `row(i)`. */
function ownRows(form: OperandForm, rows: number, row: (i: number) => string): { setup: string; load(depth: number): string; value(q: number, i: number): string } {
  // Transposed and aligned, rows come in fours.
  const fours = form.transposed && form.vec;
  const setup = range(fours ? rows / 4 : rows).map((i) => (fours
    ? `  let ra${i} = aBase + min(${row(4 * i)}, p.M - 4u);`
    : `  let ra${i} = aBase + min(${row(i)}, p.M - 1u)${form.transposed ? '' : ' * p.aStride'};`));
  return {
    setup: setup.join('\n'),
    load(depth) {
      if (!form.transposed) return range(rows).map((i) => `    let va${i} = vec4f(${depth === 4 ? 'a4' : 'a1'}(ra${i} + k));`).join('\n');
      const lines: string[] = [];
      for (const q of range(depth)) {
        lines.push(`    let ka${q} = (k + ${q}u) * p.aStride;`);
        if (fours) for (const g of range(rows / 4)) lines.push(`    let va${q}_${g} = a4(ra${g} + ka${q});`);
      }
      if (!fours) {
        for (const i of range(rows)) lines.push(`    let va${i} = vec4f(${range(4).map((q) => (q < depth ? `a1(ra${i} + ka${q})` : '0.0')).join(', ')});`);
      }
      return lines.join('\n');
    },
    value: (q, i) => (fours ? `va${q}_${i >> 2}.${component(i)}` : `va${i}.${component(q)}`),
  };
}

export const registerKernel = defineKernel<GemmVariant>('gemm.register', ({ config, problem }) => {
  const { rows, quads, x, y } = config;
  const a = ownRows(problem.a, rows, (i) => `row0 + ${i}u`);
  const b = columns(problem.b, quads, (j) => `col + ${4 * j}u`);
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [x, y],
    enable: extensions(problem),
    declarations: declarations(problem),
    body: `${prologue(problem)}
  let row0 = gid.y * ${rows}u;
  let col = gid.x * ${4 * quads}u;
${a.setup}
${b.setup}
${sums(rows, quads)}
${kLoop(problem, (depth) => [a.load(depth), b.load(depth), multiply(rows, quads, depth, (q, i) => a.value(q, i), b.value)].join('\n'))}
${stores(rows, quads)}`,
  };
});

export const subgroupKernel = defineKernel<GemmVariant>('gemm.subgroup', ({ config, problem }) => {
  const { rows, quads, x: size } = config;
  const a = ownRows(problem.a, rows / size, (h) => `row0 + ${h * size}u + lane`);
  const b = columns(problem.b, quads, (j) => `col + ${4 * j}u`);
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [size],
    enable: ['subgroups', ...extensions(problem)],
    declarations: declarations(problem),
    body: `${prologue(problem)}
  let row0 = wid.y * ${rows}u;
  let col = (wid.x * ${size}u + lane) * ${4 * quads}u;
${a.setup}
${b.setup}
${sums(rows, quads)}
${kLoop(problem, (depth) => [
    a.load(depth), b.load(depth),
    multiply(rows, quads, depth, (q, i) => `subgroupBroadcast(${a.value(q, Math.floor(i / size))}, ${i % size}u)`, b.value),
  ].join('\n'))}
${stores(rows, quads)}`,
  };
});

function sums(rows: number, quads: number): string {
  return range(rows).map((i) => `  ${range(quads).map((j) => `var s${i}_${j} = vec4f();`).join(' ')}`).join('\n');
}

/** A sum takes all steps of the block one after another: between blocks it lies in memory where the CPU computes. */
function multiply(rows: number, quads: number, depth: number, a: (q: number, i: number) => string, b: (q: number, j: number) => string): string {
  const steps = range(depth);
  const lines = steps.flatMap((q) => range(quads).map((j) => `    let y${q}_${j} = ${b(q, j)};`));
  for (const i of range(rows)) {
    lines.push(`    ${steps.map((q) => `let x${q}_${i} = vec4f(${a(q, i)});`).join(' ')}`);
    for (const j of range(quads)) lines.push(`    s${i}_${j} = ${steps.reduce((sum, q) => `fma(x${q}_${i}, y${q}_${j}, ${sum})`, `s${i}_${j}`)};`);
  }
  return lines.join('\n');
}

function stores(rows: number, quads: number): string {
  return range(quads).map((j) => `  let bias${j} = bias4(col${j});
${range(rows).map((i) => `  store4(cBase, row0 + ${i}u, col${j}, s${i}_${j} + bias${j});`).join('\n')}`).join('\n');
}
