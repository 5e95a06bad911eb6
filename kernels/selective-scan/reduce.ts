// Second stage of the scan's sums, and the layout of its last states.

import { defineKernel } from '../../core/kernel.ts';
import type { ScanDType } from './wgsl.ts';

/**
 * dB, dC (rows, N) from partial sums (rows, blocks, 8·quads), both as rows anywhere in one buffer. One invocation a value, blocks
 * in order.
 */
export const reduceTokensKernel = defineKernel<{ states: number; dtype: ScanDType }>('selectiveScan.reduceTokens', ({ states, dtype }) => {
  const quads = Math.ceil(states / 4);
  return {
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      { name: 'sums', type: 'array<f32>', access: 'read' },
      { name: 'out', type: `array<${dtype}>`, access: 'write' },
    ],
    params: (['rows', 'blocks', 'start', 'row0', 'b0', 'bRow', 'c0', 'cRow'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [64],
    body: `
  let row = flat / ${8 * quads}u;
  let n = flat % ${8 * quads}u;
  if (row >= p.rows) { return; }
  var total = 0.0;
  for (var k = 0u; k < p.blocks; k++) { total += sums[p.start + (row * p.blocks + k) * ${8 * quads}u + n]; }
  let to = p.row0 + row;
  if (n < ${states}u) { out[p.b0 + to * p.bRow + n] = ${dtype}(total); }
  if (n >= ${4 * quads}u && n - ${4 * quads}u < ${states}u) { out[p.c0 + to * p.cRow + n - ${4 * quads}u] = ${dtype}(total); }`,
  };
});

/**
 * dA (D, N), dD (D), dbias (D) from partial sums (batches, 4·quads + 2, D). One invocation a value, batches in order. With `logA`
 * dA is the gradient of log(-A), which the kernel then reads.
 */
export const reduceChannelsKernel = defineKernel<{ states: number; logA: boolean }>('selectiveScan.reduceChannels', ({ states, logA }) => {
  const rows = 4 * Math.ceil(states / 4) + 2;
  return {
    bindings: [
      { name: 'sums', type: 'array<f32>', access: 'read' },
      { name: 'dA', type: 'array<f32>', access: 'write' },
      { name: 'dD', type: 'array<f32>', access: 'write' },
      { name: 'dBias', type: 'array<f32>', access: 'write' },
      ...(logA ? [{ name: 'logA', type: 'array<f32>', access: 'read' } as const] : []),
    ],
    params: (['channels', 'batches', 'start'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [64],
    body: `
  let d = flat % p.channels;
  let n = flat / p.channels;
  if (n >= ${rows}u) { return; }
  var total = 0.0;
  for (var b = 0u; b < p.batches; b++) { total += sums[p.start + (b * ${rows}u + n) * p.channels + d]; }
  if (n < ${states}u) { dA[d * ${states}u + n] = total${logA ? ` * -exp(logA[d * ${states}u + n])` : ''}; }
  if (n == ${rows - 2}u) { dD[d] = total; }
  if (n == ${rows - 1}u) { dBias[d] = total; }`,
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

/** out = first + second, two regions of one buffer (the directions of a bidirectional scan); out's rows of `width` may lie apart. */
export const sumHalvesKernel = defineKernel<{ dtype: ScanDType }>('selectiveScan.sumHalves', ({ dtype }) => ({
  enable: dtype === 'f16' ? ['f16'] : [],
  bindings: [
    { name: 'halves', type: `array<${dtype}>`, access: 'read' },
    { name: 'out', type: `array<${dtype}>`, access: 'write' },
  ],
  params: (['size', 'first', 'second', 'width', 'out0', 'outRow'] as const).map((name) => ({ name, type: 'u32' })),
  workgroupSize: [256],
  body: 'if (flat < p.size) { out[p.out0 + flat / p.width * p.outRow + flat % p.width] = halves[p.first + flat] + halves[p.second + flat]; }',
}));
