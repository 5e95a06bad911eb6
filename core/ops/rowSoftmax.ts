// Softmax of contiguous rows in one dispatch. The general form (softmax.ts) goes over the numbers five times, reading and writing;
// this one reads them twice and writes them once: 6 times less traffic.
//
// A team of lanes shares a row. Each lane keeps the largest value that it met and the sum of exponentials relative to it, corrected
// whenever a larger one comes (Milakov and Gimelshein, arXiv 1805.02867); the team joins these, and goes over the row once more.

import type { FloatDType } from '../tensor/dtype.ts';
import type { Device } from '../gpu/device.ts';
import { mathName, wgslMath } from '../expr/wgslMath.ts';
import { defineKernel, type KernelSource } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { numelOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { denseOperand } from '../expr/dense.ts';

interface Variant {
  readonly dtype: FloatDType;
  readonly log: boolean;
  /** Values read at once. */
  readonly vector: 1 | 4;
  /** Lanes that share a row: one, a subgroup, or a workgroup. */
  readonly team: 'lane' | 'subgroup' | 'workgroup';
  readonly lanes: number;
}

/** Workgroup of lanes that have a row each. */
const ALONE = 64;
/** Rows so short that sharing them costs more than it saves. */
const SHORT = 32;

const JOIN: Readonly<Record<Variant['team'], (lanes: number) => string>> = {
  lane: () => '',
  subgroup: () => `let largest = subgroupMax(high);
total = subgroupAdd(total * exp(high - largest));
high = largest;`,
  workgroup: (lanes) => `highs[li] = high;
sums[li] = total;
for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
  workgroupBarrier();
  if (li < half) {
    let largest = max(highs[li], highs[li + half]);
    sums[li] = sums[li] * exp(highs[li] - largest) + sums[li + half] * exp(highs[li + half] - largest);
    highs[li] = largest;
  }
}
workgroupBarrier();
high = highs[0];
total = sums[0];`,
};

/** Operands: x, y. Parameters: rows, width (vectors). */
export const rowSoftmaxKernel = defineKernel<Variant>(
  'rowSoftmax',
  ({ dtype, log, vector, team, lanes }): KernelSource => {
    const array = `array<${vector === 4 ? `vec4<${dtype}>` : dtype}>`;
    const wide = vector === 4 ? 'vec4f' : 'f32';
    const stored = vector === 4 ? `vec4<${dtype}>` : dtype;
    return {
      bindings: [
        { name: 'x', type: array, access: 'read' },
        { name: 'y', type: array, access: 'write' },
      ],
      params: [
        { name: 'rows', type: 'u32' },
        { name: 'width', type: 'u32' },
      ],
      workgroupSize: [team === 'lane' ? ALONE : lanes],
      workgroupBytes: team === 'workgroup' ? lanes * 8 : 0,
      enable: [
        ...(dtype === 'f16' ? (['f16'] as const) : []),
        ...(team === 'subgroup' ? (['subgroups'] as const) : []),
      ],
      declarations: `${wgslMath(
        log ? ['accumulate', 'log'] : vector === 4 ? ['accumulate'] : ['accumulate', 'exp'],
        !log && vector === 4 ? ['exp'] : [],
      )}
${team === 'workgroup' ? `var<workgroup> highs: array<f32, ${lanes}>;\nvar<workgroup> sums: array<f32, ${lanes}>;` : ''}`,
      // The grid may have more teams than there are rows: they repeat the last one's arithmetic and write nothing. Infinity can't be
      // written in WGSL; less than any finite number does as well, for a row of -∞ still gives 0 / 0.
      body: `
let own = ${team === 'lane' ? 'flat' : 'wid.y * nwg.x + wid.x'};
let begin = min(own, p.rows - 1u) * p.width;
var high = -3.4028234e38f;
var sum = Sum(0, 0);
for (var i = ${team === 'lane' ? '0u' : 'li'}; i < p.width; i += ${lanes}u) {
  let v = ${wide}(x[begin + i]);
  let largest = max(high, ${vector === 4 ? 'max(max(v.x, v.y), max(v.z, v.w))' : 'v'});
  let e = exp(v - largest);
  let factor = exp(high - largest);
  sum = mathAccumulate(Sum(sum.value * factor, sum.lost * factor), ${vector === 4 ? '(e.x + e.y) + (e.z + e.w)' : 'e'}, p.width >> 31u);
  high = largest;
}
var total = sum.value - sum.lost;
${JOIN[team](lanes)}
if (own < p.rows) {
  // The maximum and the logarithm are subtracted one after the other: their sum may have no digits of the logarithm left.
  let ${log ? 'logarithm = mathLog(total)' : 'scale = 1 / total'};
  for (var i = ${team === 'lane' ? '0u' : 'li'}; i < p.width; i += ${lanes}u) {
    y[begin + i] = ${stored}(${
      log
        ? `(${wide}(x[begin + i]) - high) - logarithm`
        : `${mathName('exp', vector === 4)}(${wide}(x[begin + i]) - high) * scale`
    });
  }
}`,
    };
  },
);

/** The forms that compute rows of this width on a device; the first is the one to take. */
export function rowSoftmaxTeams(device: Device, width: number): Pick<Variant, 'team' | 'lanes'>[] {
  const size = device.subgroupMinSize;
  const subgroup = device.has('subgroups') && size === device.subgroupMaxSize && size >= 4 && size <= 64;
  const alone = { team: 'lane', lanes: 1 } as const,
    shared = { team: 'workgroup', lanes: 64 } as const;
  const teams = [...(subgroup ? [{ team: 'subgroup', lanes: size } as const] : []), shared, alone];
  // Workgroup memory with barriers is slow where it is computed on the CPU.
  return width <= SHORT || (!subgroup && device.adapter.software)
    ? [alone, ...teams.filter((t) => t !== alone)]
    : teams;
}

/** Softmax, or its logarithm, along the last axis of a tensor that has elements. */
export function rowSoftmax(
  given: Tensor,
  log: boolean,
  team = rowSoftmaxTeams(given.device, given.shape.at(-1)!)[0],
): Tensor {
  const x = denseOperand(given);
  const width = x.shape.at(-1)!;
  const rows = numelOf(x.shape) / width;
  const vector = width % 4 === 0 ? 4 : 1;
  const y = emptyTensor(x.device, x.shape, x.dtype);
  const grid = grid1d(rows, team.team === 'lane' ? ALONE : 1);
  x.device.run(
    rowSoftmaxKernel,
    { dtype: x.dtype as FloatDType, log, vector, ...team },
    [x, y],
    [rows, width / vector],
    grid,
  );
  return y;
}
