// Attention in one dispatch a pass, with online softmax (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv
// 2205.14135): no matrix of scores is ever written.
//
// A workgroup owns 32 rows of one head and goes over the rows of the other side, 32 at a time. An invocation has 4 own
// rows and 2 others: it computes their scores, makes weights of them, and shares these through workgroup memory; then
// it adds the weighted rows of `added` to its part of the columns, in registers. The four passes differ in what is a
// row, what a weight, and what is added. Sums have a fixed order. docs/kernels/attention.md has the pictures.

import type { DType, FloatDType } from '../../core/index.ts';
import { defineKernel, type KernelBinding, type KernelSource } from '../../core/kit.ts';

/** What is computed: the result, or the gradient of one argument. */
export type Pass = 'forward' | 'query' | 'key' | 'value';

export interface AttentionVariant {
  readonly pass: Pass;
  readonly dtype: FloatDType;
  /** Type of the mask; `bool` forbids, the others are added to the scores. */
  readonly mask: DType | null;
  readonly causal: boolean;
  /** Columns that a workgroup adds up: 64, 128 or 256. */
  readonly columns: number;
  /** Elements read at once: 4 where both widths divide by it. */
  readonly vector: 1 | 4;
}

/** Rows that a workgroup owns, and rows of the other side that it handles at a time. */
export const ROWS = 32;
/** Invocations of a workgroup: 16 for columns, 8 for groups of 4 rows. */
const SIZE = 128;
/** Vectors that the scores are computed from at a time; rows are one apart more than there are, against bank conflicts. */
const DEPTH = 8,
  PITCH = ROWS + 1;
const STAGE = 2 * DEPTH * PITCH;
/** Less than any score. Infinity cannot be written in WGSL. */
const LOWEST = '-3.4028234e38f';

/** The matrices that a pass needs: of its own rows, of the other side's, for one product or two, and what is added. */
const SIDES: Readonly<Record<Pass, { own: string[]; other: string[]; added: string; rows: 'L' | 'S' }>> = {
  forward: { own: ['q'], other: ['k'], added: 'v', rows: 'L' },
  query: { own: ['q', 'dout'], other: ['k', 'v'], added: 'k', rows: 'L' },
  key: { own: ['k', 'v'], other: ['q', 'dout'], added: 'q', rows: 'S' },
  value: { own: ['k'], other: ['q'], added: 'dout', rows: 'S' },
};

const each = (count: number, text: (i: number) => string, separator = '\n'): string =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

/** A function that reads four elements of a matrix, as f32; 0 outside. q and k have width E, v and dout width V. */
function reader(name: string, vector: 1 | 4): string {
  const rows = name === 'q' || name === 'dout' ? 'p.L' : 'p.S';
  const width = name === 'q' || name === 'k' ? 'p.E' : 'p.V';
  const value = (i: number): string => `select(0.0, f32(${name}[min(at + ${i}u, last)]), column + ${i}u < ${width})`;
  return `fn read_${name}(batch: u32, row: u32, four: u32) -> vec4f {
  if (row >= ${rows} || four * 4u >= ${width}) { return vec4f(); }
  ${
    vector === 4
      ? `return vec4f(${name}[(batch * ${rows} + row) * (${width} / 4u) + four]);`
      : `let column = four * 4u;
  let at = (batch * ${rows} + row) * ${width} + column;
  let last = at + ${width} - column - 1u;
  return vec4f(${each(4, value, ',\n    ')});`
  }
}`;
}

/** `scores` = own · other, over the width of the matrices, for 4 own rows and 2 of the other side. */
function product(scores: string, own: string, other: string): string {
  const width = own === 'q' || own === 'k' ? 'p.E' : 'p.V';
  return `
    var ${scores}0 = vec4f(); var ${scores}1 = vec4f();
    for (var first = 0u; first * 4u < ${width}; first += ${DEPTH}u) {
      workgroupBarrier();
      for (var i = li; i < ${ROWS * DEPTH}u; i += ${SIZE}u) {
        let row = i / ${DEPTH}u;
        let four = i % ${DEPTH}u;
        stage[four * ${PITCH}u + row] = read_${own}(batch, begin + row, first + four);
        stage[${DEPTH * PITCH}u + four * ${PITCH}u + row] = read_${other}(batch, offset + row, first + four);
      }
      workgroupBarrier();
      let depth = min(${DEPTH}u, (${width} + 3u) / 4u - first);
      for (var four = 0u; four < depth; four++) {
        let at = four * ${PITCH}u;
        ${each(4, (r) => `let a${r} = stage[at + y * 4u + ${r}u];`, ' ')}
        ${each(2, (c) => `let b${c} = stage[${DEPTH * PITCH}u + at + x + ${16 * c}u];`, ' ')}
        ${each(2, (c) => `${scores}${c} += vec4f(${each(4, (r) => `dot(a${r}, b${c})`, ', ')});`, ' ')}
      }
    }`;
}

/** Scores become scaled, and `LOWEST` where a query may not see a key. */
function masked({ pass, mask, causal }: AttentionVariant): string {
  const byKey = SIDES[pass].rows === 'S';
  return each(2, (c) => {
    const row = (r: number): [string, string] => {
      const own = `(begin + y * 4u + ${r}u)`,
        other = `(offset + x + ${16 * c}u)`;
      return byKey ? [other, own] : [own, other];
    };
    const at = (r: number): string => {
      const [query, key] = row(r);
      return `maskAt + min(${query}, p.L - 1u) * p.maskRow + min(${key}, p.S - 1u) * p.maskColumn`;
    };
    const visible = (r: number): string => {
      const [query, key] = row(r);
      const parts = [`${query} < p.L`, `${key} < p.S`];
      if (causal) parts.push(`${key} <= ${query}`);
      if (mask === 'bool') parts.push(`mask[${at(r)}] != 0u`);
      return parts.join(' && ');
    };
    return `
    s${c} *= p.scale;
    ${mask && mask !== 'bool' ? `s${c} += vec4f(${each(4, (r) => `f32(mask[${at(r)}])`, ', ')});` : ''}
    s${c} = max(select(vec4f(${LOWEST}), s${c}, vec4<bool>(${each(4, visible, ', ')})), vec4f(${LOWEST}));`;
  });
}

/** Weights of a backward pass, from the scores s and, but for values, from t = dout · v. */
function gradientWeights(pass: Pass): string {
  const ofQuery = (name: string, c: number): string =>
    SIDES[pass].rows === 'L' ? `own_${name}` : `vec4f(${name}[batch * p.L + min(offset + x + ${16 * c}u, p.L - 1u)])`;
  return each(2, (c) => {
    const p = `select(exp(min(s${c} - ${ofQuery('lse', c)}, vec4f())), vec4f(), s${c} <= vec4f(${LOWEST}))`;
    return `let w${c} = ${p}${pass === 'value' ? '' : ` * (t${c} - ${ofQuery('delta', c)}) * p.scale`};`;
  });
}

/** Weights of the result: the maximum so far, m, and the sum, l, are kept for the own rows. */
const ONLINE = `
    highs[x * 8u + y] = max(s0, s1);
    workgroupBarrier();
    var high = m;
    for (var i = 0u; i < 16u; i++) { high = max(high, highs[i * 8u + y]); }
    let factor = exp(m - high);
    m = high;
    l *= factor;
    let w0 = select(exp(s0 - m), vec4f(), s0 <= vec4f(${LOWEST}));
    let w1 = select(exp(s1 - m), vec4f(), s1 <= vec4f(${LOWEST}));`;

/** Adds weights · added to the accumulators `acc<row>_<k>`, in parts that fit the stage. */
function accumulate(added: string, others: string, columns: number, forward: boolean): string {
  const fours = columns / 4;
  const rows = Math.min(ROWS, (SIZE * 4) / fours);
  const parts = fours / 16;
  return `
    for (var part = 0u; part < ${ROWS}u; part += ${rows}u) {
      workgroupBarrier();
      for (var i = li; i < ${rows * fours}u; i += ${SIZE}u) {
        stage[i] = read_${added}(batch, offset + part + i / ${fours}u, firstFour + i % ${fours}u);
      }
      workgroupBarrier();
      for (var j = 0u; j < min(${rows}u, ${others} - min(offset + part, ${others})); j++) {
        let w = weights[(part + j) * 8u + y];
        ${forward ? 'l += w;' : ''}
        ${each(
          parts,
          (k) => `let b${k} = stage[j * ${fours}u + x + ${16 * k}u];
        ${each(4, (r) => `acc${r}_${k} += w[${r}] * b${k};`, ' ')}`,
        )}
      }
    }`;
}

/**
 * Operands: q, k, v as far as the pass needs them (batch, rows, width), dout backward, the mask, lse (batch, L), delta
 * (batch, L) for the gradients of q and k, and the result. Grid: an index over (batch, chunks of columns, tiles).
 */
export const attentionKernel = defineKernel<AttentionVariant>('attention', (v): KernelSource => {
  const { pass, dtype, mask, causal, columns, vector } = v;
  const { own, other, added, rows } = SIDES[pass];
  const forward = pass === 'forward';
  const matrices = [...new Set([...own, ...other, added])];
  const read = (name: string, type: string): KernelBinding => ({ name, type, access: 'read' });
  const array = `array<${vector === 4 ? `vec4<${dtype}>` : dtype}>`;
  const stats = forward ? [] : pass === 'value' ? ['lse'] : ['lse', 'delta'];
  const width = pass === 'forward' || pass === 'value' ? 'p.V' : 'p.E';
  const others = rows === 'L' ? 'p.S' : 'p.L';
  const parts = columns / 64;
  const begin = causal && rows === 'S' ? `begin / ${ROWS}u * ${ROWS}u` : '0u';
  const end = causal && rows === 'L' ? `min(${others}, begin + ${ROWS}u)` : others;
  return {
    label: `attention.${pass}`,
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      ...['q', 'k', 'v', 'dout'].filter((name) => matrices.includes(name)).map((name) => read(name, array)),
      ...(mask ? [read('mask', `array<${mask === 'bool' ? 'u32' : mask}>`)] : []),
      ...stats.map((name) => read(name, 'array<f32>')),
      { name: 'out', type: `array<${dtype}>`, access: 'write' },
      ...(forward ? [{ name: 'lse', type: 'array<f32>', access: 'write' } as const] : []),
    ],
    params: [
      ...['batch', 'L', 'S', 'E', 'V', 'tiles', 'chunks'].map((name) => ({ name, type: 'u32' as const })),
      { name: 'scale', type: 'f32' },
      ...['heads', 'maskOuter', 'maskHead', 'maskRow', 'maskColumn'].map((name) => ({ name, type: 'u32' as const })),
    ],
    workgroupSize: [SIZE],
    workgroupBytes: (STAGE + ROWS * 8 + (forward ? SIZE : 0)) * 16,
    declarations: `
var<workgroup> stage: array<vec4f, ${STAGE}>;
var<workgroup> weights: array<vec4f, ${ROWS * 8}>;
${forward ? `var<workgroup> highs: array<vec4f, ${SIZE}>;` : ''}
${matrices.map((name) => reader(name, vector)).join('\n')}`,
    body: `
  let group = wid.y * nwg.x + wid.x;
  let tile = group % p.tiles;
  let chunk = group / p.tiles % p.chunks;
  let batch = group / (p.tiles * p.chunks);
  if (batch >= p.batch) { return; }
  let x = li % 16u;
  let y = li / 16u;
  let begin = tile * ${ROWS}u;
  let firstFour = chunk * ${columns / 4}u;
  ${mask ? 'let maskAt = batch / p.heads * p.maskOuter + batch % p.heads * p.maskHead;' : ''}
  ${each(4, (r) => each(parts, (k) => `var acc${r}_${k} = vec4f();`, ' '))}
  ${forward ? `var m = vec4f(${LOWEST}); var l = vec4f();` : ''}
  ${
    rows === 'L'
      ? stats
          .map(
            (name) =>
              `let own_${name} = vec4f(${each(
                4,
                (r) => `${name}[batch * p.L + min(begin + y * 4u + ${r}u, p.L - 1u)]`,
                ', ',
              )});`,
          )
          .join('\n')
      : ''
  }
  for (var offset = ${begin}; offset < ${end}; offset += ${ROWS}u) {
    ${product('s', own[0], other[0])}
    ${own.length > 1 ? product('t', own[1], other[1]) : ''}
    ${masked(v)}
    ${forward ? ONLINE : gradientWeights(pass)}
    weights[x * 8u + y] = w0;
    weights[(x + 16u) * 8u + y] = w1;
    ${forward ? each(4, (r) => each(parts, (k) => `acc${r}_${k} *= factor[${r}];`, ' ')) : ''}
    ${accumulate(added, others, columns, forward)}
  }
  ${each(
    4,
    (r) => `{
    let row = begin + y * 4u + ${r}u;
    if (row < p.${rows}) {
      ${
        forward
          ? `// Where no key may be seen, the result is 0.
      let share = select(1.0 / l[${r}], 0.0, l[${r}] == 0.0);
      if (chunk == 0u && x == 0u) { lse[batch * p.L + row] = select(m[${r}] + log(l[${r}]), 0.0, l[${r}] == 0.0); }`
          : 'let share = 1.0;'
      }
      let at = (batch * p.${rows} + row) * ${width};
      ${each(
        parts,
        (k) => `{ let column = (firstFour + x + ${16 * k}u) * 4u;
      let value = acc${r}_${k} * share;
      for (var i = 0u; i < 4u; i++) { if (column + i < ${width}) { out[at + column + i] = ${dtype}(value[i]); } } }`,
      )}
    }
  }`,
  )}`,
  };
});
