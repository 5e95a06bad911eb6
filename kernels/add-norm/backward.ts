// Add + norm, backward. With n = (h - mean) * rstd and g = dy * weight,
//
//   dh = rstd * (g - mean(g) - n * mean(g * n)) + dresidualOut      (RMS norm: without mean(g))
//   dx = factor dh,   dresidual = dh,   dweight = sum over rows of dy * n,   dbias = sum over rows of dy
//
// h is read as residualOut where the forward wrote it, else as factor x + residual. A team walks a run of rows; each
// lane owns the same columns of all of them, so it sums dweight and dbias of its run in registers and writes them once,
// as partial sums that a second dispatch adds up in a fixed order: no atomics, the same bits every time. Where rows are
// too wide to hold (or an invocation has a row to itself) the partial sums have a dispatch of their own, an invocation
// per column.

import type { FloatDType } from '../../core/index.ts';
import { defineKernel } from '../../core/kit.ts';
import { bindings, f16Of, rowCode, statsType, type RowCode } from './source.ts';
import { teamCode, type Team } from './team.ts';

export interface NormBackwardVariant {
  readonly norm: 'rms' | 'layer';
  readonly width: number;
  /** Type of residualOut, or of x. */
  readonly h: FloatDType;
  /** Type of the residual that is still to be added to it. */
  readonly residual: FloatDType | null;
  /** Whether the statistics hold a factor of x. */
  readonly factors: boolean;
  /** Whether h is x, not yet multiplied by its factor. */
  readonly unscaled: boolean;
  readonly weight: FloatDType | null;
  readonly dy: FloatDType;
  readonly dresidualOut: FloatDType | null;
  readonly dx: FloatDType;
  /** Type of the residual's gradient, where it is not dx: the residual has another type than x, or x has factors. */
  readonly dresidual: FloatDType | null;
  /** Which partial sums are written. */
  readonly sums: { readonly weight: boolean; readonly bias: boolean };
  readonly team: Team;
  readonly keep: boolean;
}

const loadSum = (row: RowCode, unscaled: boolean, residual: FloatDType | null): string =>
  `${row.load('h[base + i]')}${unscaled ? ' * stat.z' : ''}${residual ? ` + ${row.load('residual[base + i]')}` : ''}`;

/**
 * Operands: h, residual?, weight?, dy, dresidualOut?, stats, dx, dresidual?, partial? (teams, [weight], [bias], width).
 * Parameters: rows, teams, rowsPerTeam. A team per `rowsPerTeam` rows.
 */
export const normBackwardKernel = defineKernel<NormBackwardVariant>('addNormBackward', (v) => {
  const row = rowCode(v.width, v.team, v.keep);
  const team = teamCode(v.team);
  const sums = Number(v.sums.weight) + Number(v.sums.bias);
  const list = bindings(row, [
    ['h', v.h, 'read'],
    ['residual', v.residual, 'read'],
    ['weight', v.weight, 'read'],
    ['dy', v.dy, 'read'],
    ['dresidualOut', v.dresidualOut, 'read'],
  ]);
  list.push({ name: 'stats', type: statsType(v.factors), access: 'read' });
  list.push(
    ...bindings(row, [
      ['dx', v.dx, 'write'],
      ['dresidual', v.dresidual, 'write'],
      ['partial', sums > 0 ? 'f32' : null, 'write'],
    ]),
  );
  const layer = v.norm === 'layer';
  const weighted = (slot: string): string => (v.weight ? ` * ${v.keep ? `w${slot}` : row.load('weight[i]')}` : '');
  const normalised = `(${loadSum(row, v.unscaled, v.residual)} - stat.x) * stat.y`;
  const gradient =
    `stat.y * (g${layer ? ' - means.x' : ''} - n * means.y)` +
    (v.dresidualOut ? ` + ${row.load('dresidualOut[base + i]')}` : '');
  return {
    bindings: list,
    params: [
      { name: 'rows', type: 'u32' },
      { name: 'teams', type: 'u32' },
      { name: 'rowsPerTeam', type: 'u32' },
    ],
    workgroupSize: team.workgroupSize,
    workgroupBytes: team.workgroupBytes,
    enable: [...team.enable, ...f16Of(list)],
    declarations: team.declarations,
    body: `
${team.prologue}
${v.keep && v.weight ? `${row.declare('w')}\n${row.each((_, slot) => `w${slot} = ${row.load('weight[i]')};`)}` : ''}
${v.sums.weight ? row.declare('dw') : ''}
${v.sums.bias ? row.declare('db') : ''}
for (var r = 0u; r < p.rowsPerTeam; r++) {
let index = team * p.rowsPerTeam + r;
let live = team < p.teams && index < p.rows;
let row = min(index, p.rows - 1u);
let base = row * ${row.count}u;
let stat = stats[row];
let counts = select(0f, 1f, live);
var sumG = ${row.zero};
var sumGN = ${row.zero};
${row.declare('n')}
${row.declare('g')}
${row.each(
  (_, slot) => `let up = ${row.load('dy[base + i]')};
let n = ${normalised};
let g = up${weighted(slot)};
${v.keep ? `n${slot} = n;\ng${slot} = g;` : ''}
${v.sums.weight ? `dw${slot} += counts * up * n;` : ''}
${v.sums.bias ? `db${slot} += counts * up;` : ''}
sumG += g;
sumGN += g * n;`,
)}
let means = teamSum(vec2f(${row.total('sumG')}, ${row.total('sumGN')}), lane_) / ${v.width}f;
if (live) {
${row.each(
  (_, slot) => `${
    v.keep
      ? `let n = n${slot};\nlet g = g${slot};`
      : `let n = ${normalised};\nlet g = ${row.load('dy[base + i]')}${weighted(slot)};`
  }
let d = ${gradient};
dx[base + i] = ${row.store(v.dx, v.factors ? '(d * stat.z)' : 'd')};
${v.dresidual ? `dresidual[base + i] = ${row.store(v.dresidual, 'd')};` : ''}`,
)}
}
}
${
  sums > 0
    ? `if (team < p.teams) {
${row.each((_, slot) =>
  [v.sums.weight ? `dw${slot}` : '', v.sums.bias ? `db${slot}` : '']
    .filter(Boolean)
    .map((name, k) => `partial[(team * ${sums}u + ${k}u) * ${row.count}u + i] = ${name};`)
    .join('\n'),
)}
}`
    : ''
}`,
  };
});

export interface NormColumnsVariant {
  readonly width: number;
  readonly h: FloatDType;
  readonly residual: FloatDType | null;
  readonly factors: boolean;
  readonly unscaled: boolean;
  readonly dy: FloatDType;
  readonly sums: { readonly weight: boolean; readonly bias: boolean };
}

/**
 * The partial sums alone: an invocation per column and run of rows. Operands: h, residual?, dy, stats, partial.
 * Parameters: rows, teams, rowsPerTeam.
 */
export const normColumnsKernel = defineKernel<NormColumnsVariant>('addNormColumns', (v) => {
  const row = rowCode(v.width, { kind: 'invocation', size: 1 }, false);
  const sums = Number(v.sums.weight) + Number(v.sums.bias);
  const list = bindings(row, [
    ['h', v.h, 'read'],
    ['residual', v.residual, 'read'],
    ['dy', v.dy, 'read'],
  ]);
  list.push(
    { name: 'stats', type: statsType(v.factors), access: 'read' },
    ...bindings(row, [['partial', 'f32', 'write']]),
  );
  return {
    bindings: list,
    params: [
      { name: 'rows', type: 'u32' },
      { name: 'teams', type: 'u32' },
      { name: 'rowsPerTeam', type: 'u32' },
    ],
    workgroupSize: [64],
    enable: f16Of(list),
    body: `
let team = flat / ${row.count}u;
let i = flat % ${row.count}u;
if (team >= p.teams) { return; }
var dw = ${row.zero};
var db = ${row.zero};
let end = min((team + 1u) * p.rowsPerTeam, p.rows);
for (var row = team * p.rowsPerTeam; row < end; row++) {
  let base = row * ${row.count}u;
  let stat = stats[row];
  let up = ${row.load('dy[base + i]')};
  db += up;
  ${v.sums.weight ? `dw += up * (${loadSum(row, v.unscaled, v.residual)} - stat.x) * stat.y;` : ''}
}
${[v.sums.weight ? 'dw' : '', v.sums.bias ? 'db' : '']
  .filter(Boolean)
  .map((name, k) => `partial[(team * ${sums}u + ${k}u) * ${row.count}u + i] = ${name};`)
  .join('\n')}`,
  };
});

export interface NormSumVariant {
  readonly width: number;
  /** Types of the sums, in the order in which the partial ones lie. */
  readonly outputs: readonly FloatDType[];
  /** Invocations that share a column; a power of two. */
  readonly slices: number;
}

const COLUMNS = 32;

/** Partial sums that an invocation loads at a time. */
const TOGETHER = 8;

/** Columns of partial sums that a workgroup of `normSumKernel` adds up. */
export function normSumColumns(v: NormSumVariant): number {
  return v.slices === 1 ? 64 : COLUMNS;
}

/**
 * Adds up partial sums. Operands: partial, one output per sum. Parameters: teams. A workgroup per `normSumColumns`
 * vectors.
 */
export const normSumKernel = defineKernel<NormSumVariant>('addNormSum', (v) => {
  const row = rowCode(v.width, { kind: 'invocation', size: 1 }, false);
  const total = row.count * v.outputs.length;
  const columns = normSumColumns(v);
  const list = bindings(row, [
    ['partial', 'f32', 'read'],
    ...v.outputs.map((type, k) => [`out${k}`, type, 'write'] as const),
  ]);
  const shared = v.slices > 1;
  const together = Array.from({ length: TOGETHER }, (_, i) => i);
  return {
    bindings: list,
    params: [{ name: 'teams', type: 'u32' }],
    workgroupSize: [columns, v.slices],
    workgroupBytes: shared ? columns * v.slices * row.vector * 4 : 0,
    enable: f16Of(list),
    declarations: shared ? `var<workgroup> scratch: array<${row.value}, ${columns * v.slices}>;` : '',
    body: `
let column = (wid.y * nwg.x + wid.x) * ${columns}u + lid.x;
let slice = lid.y;
var sum = ${row.zero};
if (column < ${total}u) {
  // Loads wait together, and are added in pairs.
  var team = slice;
  for (; team + ${(TOGETHER - 1) * v.slices}u < p.teams; team += ${TOGETHER * v.slices}u) {
    ${together.map((i) => `let v${i} = partial[(team + ${i * v.slices}u) * ${total}u + column];`).join(' ')}
    sum += ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
  }
  for (; team < p.teams; team += ${v.slices}u) { sum += partial[team * ${total}u + column]; }
}
${
  shared
    ? `scratch[slice * ${columns}u + lid.x] = sum;
for (var half = ${v.slices / 2}u; half > 0u; half >>= 1u) {
  workgroupBarrier();
  if (slice < half) { scratch[slice * ${columns}u + lid.x] += scratch[(slice + half) * ${columns}u + lid.x]; }
}
sum = scratch[lid.x];
if (slice > 0u) { return; }`
    : ''
}
${v.outputs
  .map(
    (type, k) => `if (column >= ${k * row.count}u && column < ${(k + 1) * row.count}u) {
  out${k}[column - ${k * row.count}u] = ${row.store(type, 'sum')}; }`,
  )
  .join('\n')}`,
  };
});
