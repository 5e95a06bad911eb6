// Add + norm, forward: one dispatch reads x and the residual once and writes their sum, the normalised rows and the
// statistics that the derivative needs.
//
//   h = factor x + residual  RMS:   y = h * rstd * weight + bias,           rstd = 1 / sqrt(mean(h^2) + eps)
//                            layer: y = (h - mean) * rstd * weight + bias,  rstd = 1 / sqrt(mean((h - mean)^2) + eps)
//
// The variance is taken in a second pass around the mean: E[h^2] - mean^2 loses all digits where the mean is large.
// That pass also sums the deviations, which takes out the rounding of the first mean (Chan, Golub and LeVeque, 1983,
// the corrected two-pass algorithm).

import type { FloatDType } from '../../core/index.ts';
import { defineKernel } from '../../core/kit.ts';
import { bindings, f16Of, rowCode, statsType } from './source.ts';
import { teamCode, type Team } from './team.ts';

export interface NormForwardVariant {
  readonly norm: 'rms' | 'layer';
  readonly width: number;
  readonly x: FloatDType;
  /** Whether x of each sample is multiplied by a factor. */
  readonly factors: boolean;
  readonly residual: FloatDType | null;
  readonly weight: FloatDType | null;
  readonly bias: FloatDType | null;
  readonly y: FloatDType;
  readonly residualOut: FloatDType | null;
  /**
   * Whether (mean, rstd) of each row are written for the derivative; with factors (mean, rstd, factor, 0), which saves
   * the derivative a binding.
   */
  readonly stats: boolean;
  readonly team: Team;
  readonly keep: boolean;
}

/**
 * Operands: x, factors?, residual?, weight?, bias?, y, residualOut?, stats?. Parameters: rows, eps, rows of a sample. A
 * team per row.
 */
export const normForwardKernel = defineKernel<NormForwardVariant>('addNorm', (v) => {
  const row = rowCode(v.width, v.team, v.keep);
  const team = teamCode(v.team);
  const list = bindings(row, [['x', v.x, 'read']]);
  if (v.factors) list.push({ name: 'factors', type: 'array<f32>', access: 'read' });
  list.push(
    ...bindings(row, [
      ['residual', v.residual, 'read'],
      ['weight', v.weight, 'read'],
      ['bias', v.bias, 'read'],
      ['y', v.y, 'write'],
      ['residualOut', v.residualOut, 'write'],
    ]),
  );
  if (v.stats) list.push({ name: 'stats', type: statsType(v.factors), access: 'write' });
  const layer = v.norm === 'layer';
  const sum = `${row.load('x[base + i]')}${v.factors ? ' * factor' : ''}${v.residual ? ` + ${row.load('residual[base + i]')}` : ''}`;
  // A kept row is read once, a streamed one in each pass.
  const value = (slot: string): string => (v.keep ? `h${slot}` : `(${sum})`);
  const keepOut = v.residualOut ? `if (live) { residualOut[base + i] = ${row.store(v.residualOut, 'h')}; }` : '';
  const normalised = (slot: string): string =>
    `(${value(slot)}${layer ? ' - mean' : ''}) * rstd` +
    `${v.weight ? ` * ${row.load('weight[i]')}` : ''}${v.bias ? ` + ${row.load('bias[i]')}` : ''}`;
  return {
    bindings: list,
    params: [
      { name: 'rows', type: 'u32' },
      { name: 'eps', type: 'f32' },
      { name: 'sampleRows', type: 'u32' },
    ],
    workgroupSize: team.workgroupSize,
    workgroupBytes: team.workgroupBytes,
    enable: [...team.enable, ...f16Of(list)],
    declarations: team.declarations,
    body: `
${team.prologue}
let live = team < p.rows;
let row = min(team, p.rows - 1u);
let base = row * ${row.count}u;
${v.factors ? 'let factor = factors[row / p.sampleRows];' : ''}
var sum = ${row.zero};
${row.declare('h')}
${row.each(
  (_, slot) => `let h = ${sum};
${v.keep ? `h${slot} = h;` : ''}
${keepOut}
sum += ${layer ? 'h' : 'h * h'};`,
)}
let first = teamSum(vec2f(${row.total('sum')}, 0), lane_).x / ${v.width}f;
${
  layer
    ? `var shift = ${row.zero};
var squares = ${row.zero};
${row.each((_, slot) => `let d = ${value(slot)} - first;\nshift += d;\nsquares += d * d;`)}
let moments = teamSum(vec2f(${row.total('shift')}, ${row.total('squares')}), lane_) / ${v.width}f;
let mean = first + moments.x;
let rstd = 1 / sqrt(max(moments.y - moments.x * moments.x, 0) + p.eps);`
    : `let mean = 0f;
let rstd = 1 / sqrt(first + p.eps);`
}
if (live) {
${row.each((_, slot) => `y[base + i] = ${row.store(v.y, normalised(slot))};`)}
${v.stats ? `if (lane_ == 0u) { stats[row] = ${v.factors ? 'vec4f(mean, rstd, factor, 0)' : 'vec2f(mean, rstd)'}; }` : ''}
}`,
  };
});
