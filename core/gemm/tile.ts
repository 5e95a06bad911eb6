// Products through workgroup memory, for GPUs: they have caches of their own and many invocations.
//
// A workgroup owns rows·y × 4·quads·x elements of c. It walks over K in steps of `depth`: it stages that much of a and
// b in workgroup memory, both with k as the slow dimension and in vec4 along the rows of a and the columns of b, and
// multiplies from there. What lies in storage along k is transposed in registers, in blocks of 4 × 4, on the way in. An
// invocation's rows and columns are groups of 4 that are y and x groups apart: neighbouring invocations then read
// neighbouring vec4 of workgroup memory, and write neighbouring vec4 of c.
//
// 45 of the 61 TFLOP/s that multiply-adds in registers reach on an H100; docs/kernels/products.md has the steps, and
// what did not help.

import { defineKernel } from '../gpu/kernel.ts';
import type { GemmConfig, GemmVariant, OperandForm } from './spec.ts';
import { stageLines, stageWindows } from './image/tile.ts';
import {
  baseOf,
  bindings,
  component,
  declarations,
  extensions,
  paramsOf,
  prologue,
  range,
  storeAll,
  storesPixels,
} from './wgsl.ts';

/** Bytes of workgroup memory that a configuration takes. */
export function tileBytes({ rows, quads, x, y, depth }: GemmConfig): number {
  return (rows * y + 4 * quads * x) * depth * 4;
}

/** How one operand comes into workgroup memory. */
interface Operand {
  readonly name: 'A' | 'B';
  readonly form: OperandForm;
  /** Whether it lies along k in storage. */
  readonly alongK: boolean;
  /** Groups of 4 rows of a or columns of b in the tile. */
  readonly groups: number;
  /** Pixels that lie side by side within a sample, so that neighbours are read at once. */
  readonly runs: boolean;
}

/** WGSL that stages an operand. `masked` loads the step in which K ends. */
interface Staging {
  /** Before the loop: where an invocation's items come from and go. */
  readonly setup: string;
  readonly load: string;
  readonly masked: string;
  readonly store: string;
}

/** An item is a block of 4 × 4, which is transposed, where the operand lies along k; otherwise one vec4. */
function staging({ name, form, alongK, groups, runs }: Operand, depth: number, invocations: number): Staging {
  const x = name.toLowerCase(),
    [bound, begin] = name === 'A' ? ['p.M', 'row0'] : ['p.N', 'col0'];
  const width = form.vec ? 4 : 1;
  const zero = form.vec ? `vec4<${form.dtype}>()` : `${form.dtype}()`;
  // Addresses count units of one load.
  const counted = (address: string): string => (width === 1 ? address : `(${address}) / 4u`);
  const items = alongK ? (groups * depth) / 4 : groups * depth;
  // Of pixels, the base belongs to the number of a pixel, which is a column or a step of K.
  const base = runs && alongK ? '' : `${x}Base + `;
  const column = (q: string): string => (runs ? `runAt(${q}, p.${name === 'A' ? 'aSample' : 'sample'})` : q);
  const setup = [`  let ${x}First = ${counted(`${x}Base`)}; let ${x}PerLine = ${counted(`p.${x}Stride`)};`];
  const load = [
    `    let ${x}Step = ${
      alongK
        ? counted(runs ? `${x}Base + ${column(`k + 4u * (li % ${depth / 4}u)`)} - 4u * (li % ${depth / 4}u)` : 'k')
        : `k * ${x}PerLine`
    };`,
  ];
  const masked = [...load],
    store: string[] = [];
  for (let from = 0; from < items; from += invocations) {
    const id = `${name}${from / invocations}`;
    const when = (text: string): string =>
      `    ${from + invocations > items ? `if (li < ${items - from}u) ` : ''}{ ${text} }`;
    const rows = range(alongK ? 4 : 1),
      parts = range(4 / width);
    const perGroup = alongK ? depth / 4 : groups;
    setup.push(
      `  let i${id} = li + ${from}u; let along${id} = i${id} ${alongK ? '%' : '/'} ${perGroup}u;
        let group${id} = i${id} ${alongK ? '/' : '%'} ${perGroup}u;`,
    );
    for (const r of rows) {
      setup.push(`  var v${id}_${r} = vec4f();`);
      for (const part of alongK ? [0] : parts) {
        setup.push(
          `  let from${id}_${r}${part} = ${
            alongK
              ? `${counted(`${base}min(${begin} + 4u * group${id} + ${r}u, ${bound} - 1u) * p.${x}Stride`)}
                + ${4 / width}u * along${id}`
              : `${counted(`${base}${column(`min(${begin} + 4u * group${id} + ${part}u, ${bound} - ${width}u)`)}`)}
                + along${id} * ${x}PerLine`
          };`,
        );
      }
    }
    const address = (r: number, part: number): string =>
      alongK ? `from${id}_${r}0 + ${x}Step + ${part}u` : `from${id}_${r}${part} + ${x}Step`;
    const inside = (part: number): string => `k + ${alongK ? `4u * along${id} + ${part}u` : `along${id}`} < k1`;
    const four = (r: number, value: (part: number) => string): string =>
      `v${id}_${r} = vec4f(${parts.map((part) => (width === 1 ? `f32(${value(part)})` : value(part))).join(', ')});`;
    load.push(when(rows.map((r) => four(r, (part) => `${name}[${address(r, part)}]`)).join(' ')));
    // Items beyond K are not read: the very first element is read in their place, and counts as 0.
    masked.push(
      when(
        rows
          .map((r) =>
            four(
              r,
              (part) =>
                `select(${zero}, ${name}[select(${x}First, ${address(r, part)}, ${inside(part)})], ${inside(part)})`,
            ),
          )
          .join(' '),
      ),
    );
    store.push(
      when(
        alongK
          ? range(4)
              .map(
                (q) =>
                  `tile${name}[along${id}][${q}][group${id}] = vec4f(${range(4)
                    .map((r) => `v${id}_${r}.${component(q)}`)
                    .join(', ')});`,
              )
              .join(' ')
          : `tile${name}[along${id} / 4u][along${id} % 4u][group${id}] = v${id}_0;`,
      ),
    );
  }
  return { setup: setup.join('\n'), load: load.join('\n'), masked: masked.join('\n'), store: store.join('\n') };
}

export const tileKernel = defineKernel<GemmVariant>('gemm.tile', ({ config, problem }) => {
  const { rows, quads, x, y, depth } = config;
  const fours = rows / 4;
  const rowGroups = fours * y,
    columnGroups = quads * x;
  const { image } = problem;
  const byRow = storesPixels(problem);
  const weights = image?.gives === 'weights';
  const invocations = x * y;
  const stage = (name: 'A' | 'B', form: OperandForm, alongK: boolean, groups: number): Staging => {
    const pixels = image !== undefined && (name === 'B' || weights);
    if (!pixels || form.vec) return staging({ name, form, alongK, groups, runs: pixels }, depth, invocations);
    return alongK
      ? stageLines(name, groups, depth, invocations, problem)
      : stageWindows(4 * groups, depth, invocations, problem);
  };
  const a = stage('A', problem.a, !problem.a.transposed, rowGroups);
  const b = stage('B', problem.b, problem.b.transposed, columnGroups);
  const load = problem.tail
    ? `    if (k + ${depth}u <= k1) {\n${a.load}\n${b.load}\n    } else {\n${a.masked}\n${b.masked}\n    }`
    : `${a.load}\n${b.load}`;
  const row = (i: number): string => `row0 + ${(i >> 2) * 4 * y + (i & 3)}u + 4u * lid.y`;
  const col = (j: number): string => `col0 + ${j * 4 * x}u + 4u * lid.x`;
  // Four steps are written out here. Without that, some compilers unroll all of them.
  const step = (u: number): string => `${range(fours)
    .map((g) => `      let a${u}_${g} = tileA[q][${u}][lid.y + ${g * y}u];`)
    .join('\n')}
${range(quads)
  .map((j) => `      let b${u}_${j} = tileB[q][${u}][lid.x + ${j * x}u];`)
  .join('\n')}
${range(rows)
  .map(
    (i) =>
      `      ${range(quads)
        .map((j) => `s${i}_${j} = fma(vec4f(a${u}_${i >> 2}.${component(i)}), b${u}_${j}, s${i}_${j});`)
        .join(' ')}`,
  )
  .join('\n')}`;
  return {
    bindings: bindings(problem),
    params: paramsOf(problem),
    workgroupSize: [x, y],
    workgroupBytes: tileBytes(config),
    enable: extensions(problem),
    declarations: `${declarations(problem)}
var<workgroup> tileA: array<array<array<vec4f, ${rowGroups}>, 4>, ${depth / 4}>;
var<workgroup> tileB: array<array<array<vec4f, ${columnGroups}>, 4>, ${depth / 4}>;`,
    body: `${prologue(problem)}
  let row0 = wid.y * ${4 * rowGroups}u;
  let col0 = wid.x * ${4 * columnGroups}u;
${range(rows)
  .map(
    (i) =>
      `  ${range(quads)
        .map((j) => `var s${i}_${j} = vec4f();`)
        .join(' ')}`,
  )
  .join('\n')}
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
    for (var q = 0u; q < ${depth / 4}u; q++) {
${range(4).map(step).join('\n')}
    }
    workgroupBarrier();
  }
${range(quads)
  .map((j) => `  let base${j} = ${baseOf(problem, col(j))};${byRow ? '' : ` let added${j} = bias4(${col(j)});`}`)
  .join('\n')}
${storeAll(
  range(quads).flatMap((j) =>
    range(rows).map((i) => ({
      row: row(i),
      col: col(j),
      value: `s${i}_${j}`,
      bias: byRow ? `bias1(${row(i)})` : `added${j}`,
      base: `base${j}`,
    })),
  ),
  problem,
)}`,
  };
});
