// Products with few results, such as matrix times vector. `x` lanes share the K of a block of `rows` × 4·quads results:
// each lane takes every x-th group of 4 steps, and the lanes' sums meet in workgroup memory, in a fixed order. A
// workgroup has `y` such blocks. Best where a and b lie along k: neighbouring lanes then read neighbouring vec4.

import { defineKernel } from '../gpu/kernel.ts';
import type { GemmConfig, GemmVariant } from './spec.ts';
import { wgslMath } from '../expr/wgslMath.ts';
import { bindings, declarations, extensions, inBlocks, PARAMS, prologue, range } from './wgsl.ts';

/** Columns of c in a block. `quads` is ¼ for one. */
export function vectorColumns(config: GemmConfig): number {
  return 4 * config.quads;
}

/** Bytes of workgroup memory that a configuration takes. */
export function vectorBytes(config: GemmConfig): number {
  return config.x * config.y * config.rows * vectorColumns(config) * 4;
}

/**
 * Rows of a or columns of b: where they begin, and their elements at 4 steps of k, or 1, from the expression `k` on.
 */
function lines(
  name: string,
  alongK: boolean,
  count: number,
  first: string,
  bound: string,
): { setup: string; load(depth: number): string } {
  const stride = `p.${name}Stride`;
  return {
    setup: range(count)
      .map(
        (i) =>
          `  let r${name}${i} = ${name}Base + min(${first} + ${i}u, ${bound} - 1u)${alongK ? ` * ${stride}` : ''};`,
      )
      .join('\n'),
    load: (depth) =>
      range(count)
        .map((i) => {
          const at = `r${name}${i}`;
          if (depth === 1) return `    let v${name}${i} = ${name}1(${at} + k${alongK ? '' : ` * ${stride}`});`;
          if (alongK) return `    let v${name}${i} = ${name}4(${at} + k);`;
          return `    let v${name}${i} = vec4f(${range(4)
            .map((q) => `${name}1(${at} + (k + ${q}u) * ${stride})`)
            .join(', ')});`;
        })
        .join('\n'),
  };
}

export const vectorKernel = defineKernel<GemmVariant>('gemm.vector', ({ config, problem }) => {
  const { rows, x, y } = config;
  const cols = vectorColumns(config);
  const results = rows * cols;
  const a = lines('a', !problem.a.transposed, rows, 'row0', 'p.M');
  const b = lines('b', problem.b.transposed, cols, 'col0', 'p.N');
  const each = (text: (i: number, j: number) => string): string =>
    range(rows)
      .map(
        (i) =>
          `    ${range(cols)
            .map((j) => text(i, j))
            .join(' ')}`,
      )
      .join('\n');
  const { long } = problem;
  const blocks = inBlocks(
    range(rows).flatMap((i) => range(cols).map((j) => `s${i}_${j}`)),
    'f32',
  );
  const tail = problem.tail
    ? `  k = k0 + (k1 - k0) / 4u * 4u + lid.x;
  if (k < k1) {
${a.load(1)}
${b.load(1)}
${each((i, j) => `s${i}_${j} += va${i} * vb${j};`)}
  }
`
    : '';
  return {
    bindings: bindings(problem),
    params: PARAMS,
    workgroupSize: [x, y],
    workgroupBytes: vectorBytes(config),
    enable: extensions(problem),
    declarations: `${declarations(problem)}\n${long ? wgslMath(['accumulate']) : ''}\nvar<workgroup> sums: array<f32, ${x * y * results}>;`,
    body: `${prologue(problem)}
  let blocks = (p.N + ${cols - 1}u) / ${cols}u;
  let block0 = (wid.y * nwg.x + wid.x) * ${y}u;
  let block = block0 + lid.y;
  let row0 = block / blocks * ${rows}u;
  let col0 = block % blocks * ${cols}u;
${a.setup}
${b.setup}
${each((i, j) => `var s${i}_${j} = 0.0;`)}
  var k = k0 + 4u * lid.x;
${
  long
    ? `${blocks.setup}\n  for (var part = k0; part + 4u <= k1; part += ${128 * x}u) {
  let stop = min(part + ${128 * x}u, k1);`
    : '  let stop = k1;'
}
  for (; k + 4u <= stop; k += ${4 * x}u) {
${a.load(4)}
${b.load(4)}
${each((i, j) => `s${i}_${j} += dot(va${i}, vb${j});`)}
  }
${long ? `${blocks.fold}\n  }` : ''}
${tail}${long ? `${blocks.end}\n` : ''}${each((i, j) => `sums[(lid.y * ${results}u + ${i * cols + j}u) * ${x}u + lid.x] = s${i}_${j};`)}
  workgroupBarrier();
  for (var i = li; i < ${y * results}u; i += ${x * y}u) {
    // In pairs: a chain of additions loses digits.
    for (var half = ${x / 2}u; half > 0u; half /= 2u) {
      for (var l = 0u; l < half; l++) { sums[i * ${x}u + l] += sums[i * ${x}u + l + half]; }
    }
    let sum = sums[i * ${x}u];
    let owner = block0 + i / ${results}u;
    let row = owner / blocks * ${rows}u + i % ${results}u / ${cols}u;
    let col = owner % blocks * ${cols}u + i % ${cols}u;
    store1(cBase, row, col, sum + bias1(col) + old1(cBase, row, col));
  }`,
  };
});
