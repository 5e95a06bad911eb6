// Packs what the scan reads of its small arguments: A·log2(e), D and the bias per channel, B and C per token. A may come as the
// logarithm of -A, which models learn: that saves a dispatch each way.

import { defineKernel } from '../../core/kernel.ts';
import { each, type ScanDType } from './wgsl.ts';

export interface PrepareVariant {
  readonly states: number;
  readonly dtype: ScanDType;
  readonly skip: boolean;
  readonly bias: boolean;
  /** A holds log(-A). */
  readonly logA: boolean;
}

/** f32 values of one direction in the packed buffer, for `rows` = batch · length tokens. A whole number of vec4s. */
export function packedSize(quads: number, channels: number, rows: number): number {
  return 4 * ((quads + 1) * channels + 2 * quads * rows);
}

/**
 * Layout, in f32: (quads, D, 4) of A·log2 e, then (D, 4) of [D, bias, 0, 0], then (B·L, 2, quads, 4) of B and C; zeros fill up.
 * One invocation a value.
 */
export const prepareKernel = defineKernel<PrepareVariant>('selectiveScan.prepare', ({ states, dtype, skip, bias, logA }) => {
  const quads = Math.ceil(states / 4);
  return {
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      { name: 'A', type: 'array<f32>', access: 'read' },
      { name: 'B', type: `array<${dtype}>`, access: 'read' },
      { name: 'C', type: `array<${dtype}>`, access: 'read' },
      ...(skip ? [{ name: 'D', type: 'array<f32>', access: 'read' } as const] : []),
      ...(bias ? [{ name: 'bias', type: 'array<f32>', access: 'read' } as const] : []),
      { name: 'packed', type: 'array<f32>', access: 'write' },
    ],
    params: (['size', 'channels', 'start', 'b0', 'bRow', 'c0', 'cRow'] as const).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [256],
    body: `
  if (flat >= p.size) { return; }
  let heads = ${4 * quads}u * p.channels;
  let tail = heads + 4u * p.channels;
  var value = 0.0;
  if (flat < heads) {
    let d = (flat / 4u) % p.channels;
    let n = flat / (4u * p.channels) * 4u + flat % 4u;
    if (n < ${states}u) { value = ${logA ? '-exp(A[d * ' : '(A[d * '}${states}u + n]) * 1.4426950408889634; }
  } else if (flat < tail) {
    let d = (flat - heads) / 4u;
    let which = flat % 4u;
    ${each(2, (i) => ((i === 0 ? skip : bias) ? `if (which == ${i}u) { value = ${i === 0 ? 'D' : 'bias'}[d]; }` : ''))}
  } else {
    let row = (flat - tail) / ${8 * quads}u;
    let n = (flat - tail) % ${8 * quads}u;
    if (n < ${states}u) {
      value = f32(B[p.b0 + row * p.bRow + n]);
    } else if (n >= ${4 * quads}u && n - ${4 * quads}u < ${states}u) {
      value = f32(C[p.c0 + row * p.cRow + n - ${4 * quads}u]);
    }
  }
  packed[p.start + flat] = value;`,
  };
});
