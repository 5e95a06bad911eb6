// Second stage of the scan's sums, and the layout of its last states.

import { defineKernel } from '../../core/kernel.ts';
import { partSums, type Sharing } from '../partSums.ts';
import type { Direction, ScanDType } from './wgsl.ts';

/**
 * dB, dC (batch, L, N) from partial sums (batch, padded L in the scan's own order, blocks, quads, 8), both as rows anywhere in one
 * buffer. One invocation four values, blocks in order. `start` counts vec4s.
 */
export const reduceTokensKernel = defineKernel<{ states: number; dtype: ScanDType; direction: Direction }>('selectiveScan.reduceTokens', ({ states, dtype, direction }) => {
  const vectors = 2 * Math.ceil(states / 4);
  return {
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      { name: 'sums', type: 'array<vec4f>', access: 'read' },
      { name: 'out', type: `array<${dtype}>`, access: 'write' },
    ],
    params: (['L', 'padded', 'rows', 'blocks', 'start', 'row0', 'b0', 'bRow', 'c0', 'cRow'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [64],
    body: `
  let row = flat / ${vectors}u;
  let vector = flat % ${vectors}u;
  if (row >= p.rows) { return; }
  let b = row / p.L;
  let i = row % p.L;
  let first = p.start + (b * p.padded + i) * p.blocks * ${vectors}u + vector;
  var total = vec4f();
  for (var k = 0u; k < p.blocks; k++) { total += sums[first + k * ${vectors}u]; }
  let n = vector / 2u * 4u;
  let to = p.row0 + ${direction === 'reverse' ? 'b * p.L + p.L - 1u - i' : 'row'};
  let at = select(p.b0 + to * p.bRow, p.c0 + to * p.cRow, vector % 2u == 1u) + n;
  for (var e = 0u; e < min(4u, ${states}u - n); e++) { out[at + e] = ${dtype}(total[e]); }`,
  };
});

export interface ReduceChannelsVariant {
  readonly states: number;
  readonly logA: boolean;
  readonly sharing: Sharing;
}

/** Sums of a channel: dA, dD, dbias. */
export const channelSums = (states: number): number => 4 * Math.ceil(states / 4) + 2;

/**
 * dA (D, N), dD (D), dbias (D) from partial sums (batches, 4·quads + 2, D), batches in a fixed order. With `logA` dA is the gradient
 * of log(-A), which the kernel then reads.
 */
export const reduceChannelsKernel = defineKernel<ReduceChannelsVariant>('selectiveScan.reduceChannels', ({ states, logA, sharing }) => {
  const rows = channelSums(states);
  return {
    bindings: [
      { name: 'sums', type: 'array<f32>', access: 'read' },
      { name: 'dA', type: 'array<f32>', access: 'write' },
      { name: 'dD', type: 'array<f32>', access: 'write' },
      { name: 'dBias', type: 'array<f32>', access: 'write' },
      ...(logA ? [{ name: 'logA', type: 'array<f32>', access: 'read' } as const] : []),
    ],
    params: (['channels', 'batches', 'start'] as const).map((name) => ({ name, type: 'u32' })),
    ...partSums(sharing, 'p.batches', `(${rows}u * p.channels)`, (part, column) => `sums[p.start + ${part} * ${rows}u * p.channels + ${column}]`, `
    let d = column % p.channels;
    let n = column / p.channels;
    if (n < ${states}u) { dA[d * ${states}u + n] = total${logA ? ` * -exp(logA[d * ${states}u + n])` : ''}; }
    if (n == ${rows - 2}u) { dD[d] = total; }
    if (n == ${rows - 1}u) { dBias[d] = total; }`),
  };
});

/** Last states (B, D, N) from the last slot of the saved ones (B, slots, quads, D) vec4s. */
export const lastStateKernel = defineKernel<{ states: number }>('selectiveScan.lastState', ({ states }) => {
  const quads = Math.ceil(states / 4);
  return {
    bindings: [
      { name: 'saved', type: 'array<f32>', access: 'read' },
      { name: 'last', type: 'array<f32>', access: 'write' },
    ],
    params: (['channels', 'slots', 'size'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [64],
    body: `
  if (flat >= p.size) { return; }
  let n = flat % ${states}u;
  let d = flat / ${states}u % p.channels;
  let b = flat / (${states}u * p.channels);
  last[flat] = saved[((((b + 1u) * p.slots - 1u) * ${quads}u + n / 4u) * p.channels + d) * 4u + n % 4u];`,
  };
});

/**
 * out = first + second, two runs of one buffer (the directions of a bidirectional scan); out's rows of `width` may lie apart. All
 * parameters count vectors.
 */
export const sumHalvesKernel = defineKernel<{ dtype: ScanDType; vector: 1 | 4 }>('selectiveScan.sumHalves', ({ dtype, vector }) => {
  const type = vector === 4 ? `vec4<${dtype}>` : dtype;
  return {
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      { name: 'halves', type: `array<${type}>`, access: 'read' },
      { name: 'out', type: `array<${type}>`, access: 'write' },
    ],
    params: (['size', 'first', 'second', 'width', 'out0', 'outRow'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [256],
    body: 'if (flat < p.size) { out[p.out0 + flat / p.width * p.outRow + flat % p.width] = halves[p.first + flat] + halves[p.second + flat]; }',
  };
});
