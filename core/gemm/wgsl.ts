// What the kernels of the family share: bindings, parameters, loads, the k-loop's blocks and the epilogue.

import { mathName, wgslMath } from '../expr/wgslMath.ts';
import type { KernelBinding, KernelExtension, KernelParam } from '../gpu/kernel.ts';
import { IMAGE_PARAMS, imageDeclarations, imageBases, storePixels } from './image/wgsl.ts';
import type { GemmActivation, OperandForm, ProblemForm } from './spec.ts';

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

const XYZW = 'xyzw';
export const component = (i: number): string => XYZW[i & 3];

/** In the order in which `gemm` gives them. 15 words: they fit into immediates. */
export const PARAMS: readonly KernelParam[] = [
  'M',
  'N',
  'K',
  'aOffset',
  'aStride',
  'aBatch',
  'bOffset',
  'bStride',
  'bBatch',
  'cOffset',
  'cStride',
  'cBatch',
  'biasOffset',
  'chunk',
  'splits',
].map((name) => ({ name, type: 'u32' }));

/** Of a product whose operands are images, also those that say where pixels lie; they take a uniform buffer. */
export const paramsOf = ({ image }: ProblemForm): readonly KernelParam[] =>
  image ? [...PARAMS, ...IMAGE_PARAMS] : PARAMS;

/** Whether c holds pixels: biases then belong to rows, and columns have addresses of their own. */
export const storesPixels = ({ image, split }: ProblemForm): boolean => image?.gives === 'pixels' && !split;

/** The base that stores take for four columns from `col` on. */
export const baseOf = (problem: ProblemForm, col: string): string =>
  storesPixels(problem) ? `columnsAt(cBase, ${col})` : 'cBase';

function arrayType(form: OperandForm): string {
  return form.wide ? 'array<vec4<u32>>' : `array<${form.vec ? `vec4<${form.dtype}>` : form.dtype}>`;
}

export function bindings(problem: ProblemForm): KernelBinding[] {
  const list: KernelBinding[] = [
    { name: 'A', type: arrayType(problem.a), access: 'read' },
    { name: 'B', type: arrayType(problem.b), access: 'read' },
    { name: 'C', type: arrayType(problem.c), access: 'write' },
  ];
  if (problem.bias) list.push({ name: 'bias', type: `array<${problem.bias}>`, access: 'read' });
  return list;
}

export function extensions(problem: ProblemForm): KernelExtension[] {
  const half = [problem.a.dtype, problem.b.dtype, problem.c.dtype, problem.bias].includes('f16');
  return half ? ['f16'] : [];
}

/** `a1(i)`: element i. `a4(i)`: elements i to i+3, which must all exist. */
function loader(name: string, form: OperandForm): string {
  const array = name.toUpperCase();
  if (form.vec) {
    return `fn ${name}1(i: u32) -> f32 { return f32(${array}[i >> 2u][i & 3u]); }
fn ${name}4(i: u32) -> vec4f { return vec4f(${array}[i >> 2u]); }`;
  }
  return `fn ${name}1(i: u32) -> f32 { return f32(${array}[i]); }
fn ${name}4(i: u32) -> vec4f { return vec4f(${name}1(i), ${name}1(i + 1u), ${name}1(i + 2u), ${name}1(i + 3u)); }`;
}

/**
 * SiLU x·σ(x), GELU x·Φ(x) or ReLU, as the operations on tensors compute them. Where `when` is false the function returns its
 * argument.
 */
export function activationFunction(activation: GemmActivation | null, when?: string): string {
  const unless = when ? `if (!${when}) { return v; } ` : '';
  if (activation === 'silu')
    return `${wgslMath([], ['sigmoid'])}
fn activate(v: vec4f) -> vec4f { ${unless}return v * mathSigmoid4(v); }`;
  if (activation === 'gelu') {
    return `${wgslMath([], ['erfc'])}
fn activate(v: vec4f) -> vec4f { ${unless}return 0.5 * v * mathErfc4(v * ${-Math.SQRT1_2}); }`;
  }
  // A NaN stays one.
  if (activation === 'relu')
    return `fn activate(v: vec4f) -> vec4f { ${unless}return select(v, vec4f(), v < vec4f()); }`;
  return 'fn activate(v: vec4f) -> vec4f { return v; }';
}

/** Loads, and what `storing` declares. `when`: a condition for the activation; default always. */
export function declarations(problem: ProblemForm, when?: string): string {
  return [
    loader('a', problem.a),
    loader('b', problem.b),
    activationFunction(problem.activation, when),
    problem.long ? wgslMath([], ['accumulate']) : '',
    storing(problem),
    imageDeclarations(problem),
  ].join('\n');
}

/**
 * Functions: `store1`, `store4` write elements of c unless they are outside; `bias1`, `bias4`; `old1`, `old4` read what
 * c holds, where that is to be added. They call `activate`. With a transposed c biases belong to rows.
 */
export function storing(problem: ProblemForm): string {
  const { c, bias, accumulate, image } = problem;
  const byRow = c.transposed || storesPixels(problem);
  const place = (row: string, col: string): string =>
    `base + ${c.transposed ? `${col} * p.cStride + ${row}` : `${row} * p.cStride + ${col}`}`;
  const four = (one: string): string =>
    `vec4f(${range(4)
      .map((i) => one.replace('col', i ? `col + ${i}u` : 'col'))
      .join(', ')})`;
  const last = (n: string, width: number): string => `p.${n} - ${width}u`;
  const list = bias
    ? [
        `fn bias1(col: u32) -> f32 { return f32(bias[${image ? 'biasBase' : 'p.biasOffset'} + min(col, ${last(byRow ? 'M' : 'N', 1)})]); }`,
        `fn bias4(col: u32) -> vec4f { return ${four('bias1(col)')}; }`,
      ]
    : ['fn bias1(col: u32) -> f32 { return 0.0; }', 'fn bias4(col: u32) -> vec4f { return vec4f(); }'];
  if (image) list.push('var<private> biasBase: u32;');
  if (image && storesPixels(problem)) return [...list, storePixels(problem, image)].join('\n');
  if (!accumulate)
    list.push(
      'fn old1(base: u32, row: u32, col: u32) -> f32 { return 0.0; }',
      'fn old4(base: u32, row: u32, col: u32) -> vec4f { return vec4f(); }',
    );
  if (c.vec) {
    if (accumulate)
      list.push(
        `fn old4(base: u32, row: u32, col: u32) -> vec4f {
          return vec4f(C[(${place(`min(row, ${last('M', 1)})`, `min(col, ${last('N', 4)})`)}) >> 2u]); }`,
      );
    return `${list.join('\n')}
fn store4(base: u32, row: u32, col: u32, v: vec4f) {
  if (row >= p.M || col >= p.N) { return; }
  C[(${place('row', 'col')}) >> 2u] = vec4<${c.dtype}>(activate(v));
}`;
  }
  if (accumulate) {
    list.push(
      `fn old1(base: u32, row: u32, col: u32) -> f32 {
        return f32(C[${place(`min(row, ${last('M', 1)})`, `min(col, ${last('N', 1)})`)}]); }`,
      `fn old4(base: u32, row: u32, col: u32) -> vec4f { return ${four('old1(base, row, col)')}; }`,
    );
  }
  return `${list.join('\n')}
fn store1(base: u32, row: u32, col: u32, v: f32) {
  if (row >= p.M || col >= p.N) { return; }
  C[${place('row', 'col')}] = ${c.dtype}(activate(vec4f(v)).x);
}
fn store4(base: u32, row: u32, col: u32, v: vec4f) {
  store1(base, row, col, v.x); store1(base, row, col + 1u, v.y); store1(base, row, col + 2u, v.z); store1(base, row, col + 3u, v.w);
}`;
}

/** A sum and where it goes, as expressions. `base` as of `baseOf`. */
export interface Stored {
  readonly row: string;
  readonly col: string;
  readonly value: string;
  readonly bias: string;
  readonly base?: string;
}

/**
 * Stores sums, with bias and, for `accumulate`, with what c holds. That is read for several sums at a time: a compiler
 * cannot move a read ahead of a write to the same buffer, so that single reads would wait for each other.
 */
export function storeAll(sums: readonly Stored[], { accumulate }: ProblemForm, at = 8): string {
  if (!accumulate)
    return sums
      .map(({ row, col, value, bias, base = 'cBase' }) => `  store4(${base}, ${row}, ${col}, ${value} + ${bias});`)
      .join('\n');
  const groups = range(Math.ceil(sums.length / at)).map((g) => sums.slice(g * at, (g + 1) * at));
  return groups
    .map(
      (group) => `  {
${group.map(({ row, col, base = 'cBase' }, i) => `    let was${i} = old4(${base}, ${row}, ${col});`).join('\n')}
${group
  .map(
    ({ row, col, value, bias, base = 'cBase' }, i) =>
      `    store4(${base}, ${row}, ${col}, ${value} + ${bias} + was${i});`,
  )
  .join('\n')}
  }`,
    )
    .join('\n');
}

/** Where the operands of this batch item begin, and which part of K this workgroup computes. */
export function prologue(problem: ProblemForm): string {
  if (problem.image)
    return `${imageBases(problem, problem.image)}
  let k0 = ${problem.split ? '(wid.z % p.splits) * p.chunk' : '0u'};
  let k1 = ${problem.split ? 'min(k0 + p.chunk, p.K)' : 'p.K'};`;
  return problem.split
    ? `  let item = wid.z / p.splits;
  let k0 = (wid.z % p.splits) * p.chunk;
  let k1 = min(k0 + p.chunk, p.K);
  let aBase = p.aOffset + item * p.aBatch;
  let bBase = p.bOffset + item * p.bBatch;
  let cBase = p.cOffset + wid.z * p.cBatch;`
    : `  let k0 = 0u;
  let k1 = p.K;
  let aBase = p.aOffset + wid.z * p.aBatch;
  let bBase = p.bOffset + wid.z * p.bBatch;
  let cBase = p.cOffset + wid.z * p.cBatch;`;
}

/**
 * The loop over k in blocks of 4 steps, and of 1 for the rest. `block(depth)` is the body for `depth` steps from `k`
 * on.
 */
export function kLoop(problem: ProblemForm, block: (depth: number) => string, sums: Sums): string {
  const rest = problem.tail ? `\n  for (; k < k1; k++) {\n${block(1)}\n  }` : '';
  if (!problem.long) return `  var k = k0;\n  for (; k + 4u <= k1; k += 4u) {\n${block(4)}\n  }${rest}`;
  const { setup, fold, end } = inBlocks(sums, 'vec4f');
  return `${setup}
  var k = k0;
  for (var part = k0; part + 4u <= k1; part += ${BLOCK}u) {
  let stop = min(part + ${BLOCK}u, k1);
  for (; k + 4u <= stop; k += 4u) {
${block(4)}
  }
${fold}
  }${rest}
${end}`;
}

/** Sums of a loop over k: names of variables, or an array. */
export type Sums = readonly string[] | { readonly array: string; readonly length: number };

/** Steps of k that are added to a sum before it goes to a total. */
const BLOCK = 128;

/** Adds sums to totals, which keep what rounding loses, after each block of a long loop. */
export function inBlocks(sums: Sums, type: 'f32' | 'vec4f'): { setup: string; fold: string; end: string } {
  const four = type === 'vec4f';
  const added = (total: string, sum: string): string =>
    `${total} = ${mathName('accumulate', four)}(${total}, ${sum}, p.K >> 31u); ${sum} = ${type}();`;
  const whole = (total: string): string => `${total}.value - ${total}.lost`;
  const Sum = four ? 'Sum4' : 'Sum';
  if ('array' in sums) {
    const { array, length } = sums;
    // Of a length not known when compiling, as the loop that stores them.
    const each = (text: string): string => `  for (var i = 0u; i < min(${length}u, p.K); i++) { ${text} }`;
    return {
      setup: `  var totals: array<${Sum}, ${length}>;`,
      fold: each(added('totals[i]', `${array}[i]`)),
      end: each(`${array}[i] += ${whole('totals[i]')};`),
    };
  }
  const lines = (text: (sum: string) => string): string => sums.map((sum) => `  ${text(sum)}`).join('\n');
  return {
    setup: lines((sum) => `var total_${sum}: ${Sum};`),
    fold: lines((sum) => added(`total_${sum}`, sum)),
    end: lines((sum) => `${sum} += ${whole(`total_${sum}`)};`),
  };
}

/** The columns of b that an invocation owns: 4 · quads of them. Quad j begins at the expression `column(j)`. */
export interface Columns {
  /** Addresses, which are in bounds for every k. Goes before the loop. */
  readonly setup: string;
  /** Loads for `depth` steps. */
  load(depth: number): string;
  /** `vec4f` of quad j at step q of the block. */
  value(q: number, j: number): string;
}

export function columns(form: OperandForm, quads: number, column: (j: number) => string): Columns {
  const setup: string[] = [];
  for (const j of range(quads)) {
    setup.push(`  let col${j} = ${column(j)};`);
    if (!form.transposed && form.vec) setup.push(`  let bc${j} = bBase + min(col${j}, p.N - 4u);`);
    else
      for (const x of range(4))
        setup.push(
          `  let bc${j}${x} = bBase + min(col${j} + ${x}u, p.N - 1u)${form.transposed ? ' * p.bStride' : ''};`,
        );
  }
  return {
    setup: setup.join('\n'),
    load(depth) {
      const lines: string[] = [];
      if (form.transposed) {
        for (const j of range(quads))
          for (const x of range(4))
            lines.push(`    let b${j}${x} = vec4f(${depth === 4 ? 'b4' : 'b1'}(bc${j}${x} + k));`);
        return lines.join('\n');
      }
      for (const q of range(depth)) {
        lines.push(`    let kb${q} = (k + ${q}u) * p.bStride;`);
        for (const j of range(quads)) {
          lines.push(
            form.vec
              ? `    let b${q}_${j} = b4(bc${j} + kb${q});`
              : `    let b${q}_${j} = vec4f(${range(4)
                  .map((x) => `b1(bc${j}${x} + kb${q})`)
                  .join(', ')});`,
          );
        }
      }
      return lines.join('\n');
    },
    value(q, j) {
      if (!form.transposed) return `b${q}_${j}`;
      return `vec4f(${range(4)
        .map((x) => `b${j}${x}.${XYZW[q]}`)
        .join(', ')})`;
    },
  };
}
