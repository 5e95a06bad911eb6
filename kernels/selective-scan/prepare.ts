// Packs what the scan reads of its small arguments: A·log2(e), D and the bias per channel, B and C per token. A may come as the
// logarithm of -A, which models learn: that saves a dispatch each way.

import { defineKernel } from '../../core/kernel.ts';
import { each, type ScanDType } from './wgsl.ts';

export interface PrepareVariant {
  readonly states: number;
  readonly dtype: ScanDType;
  /** A holds log(-A). */
  readonly logA: boolean;
  /** What each direction has of what it may have. */
  readonly sets: readonly { readonly skip: boolean; readonly bias: boolean }[];
}

/** f32 values of one direction in the packed buffer, for `rows` = batch · length tokens. A whole number of vec4s. */
export function packedSize(quads: number, channels: number, rows: number): number {
  return 4 * ((quads + 1) * channels + 2 * quads * rows);
}

/**
 * Layout, in f32, one direction after the other: (quads, D, 4) of A·log2 e, then (D, 4) of [D, bias, 0, 0], then (B·L, 2, quads, 4) of B
 * and C; zeros fill up. One invocation a value, z the direction.
 */
export const prepareKernel = defineKernel<PrepareVariant>('selectiveScan.prepare', ({ states, dtype, logA, sets }) => {
  const quads = Math.ceil(states / 4);
  const value = ({ skip, bias }: PrepareVariant['sets'][number], m: number): string => `
  if (flat < heads) {
    let d = (flat / 4u) % p.channels;
    let n = flat / (4u * p.channels) * 4u + flat % 4u;
    if (n < ${states}u) { value = ${logA ? `-exp(A${m}[d * ` : `(A${m}[d * `}${states}u + n]) * 1.4426950408889634; }
  } else if (flat < tail) {
    let d = (flat - heads) / 4u;
    let which = flat % 4u;
    ${each(2, (i) => ((i === 0 ? skip : bias) ? `if (which == ${i}u) { value = ${i === 0 ? 'D' : 'bias'}${m}[d]; }` : ''))}
  } else {
    let row = (flat - tail) / ${8 * quads}u;
    let n = (flat - tail) % ${8 * quads}u;
    if (n < ${states}u) {
      value = f32(B${m}[p.b${m} + row * p.bRow${m} + n]);
    } else if (n >= ${4 * quads}u && n - ${4 * quads}u < ${states}u) {
      value = f32(C${m}[p.c${m} + row * p.cRow${m} + n - ${4 * quads}u]);
    }
  }`;
  return {
    enable: dtype === 'f16' ? ['f16'] : [],
    bindings: [
      ...sets.flatMap(({ skip, bias }, m) => [
        { name: `A${m}`, type: 'array<f32>', access: 'read' } as const,
        { name: `B${m}`, type: `array<${dtype}>`, access: 'read' } as const,
        { name: `C${m}`, type: `array<${dtype}>`, access: 'read' } as const,
        ...(skip ? [{ name: `D${m}`, type: 'array<f32>', access: 'read' } as const] : []),
        ...(bias ? [{ name: `bias${m}`, type: 'array<f32>', access: 'read' } as const] : []),
      ]),
      { name: 'packed', type: 'array<f32>', access: 'write' },
    ],
    params: ['size', 'channels', 'start', ...sets.flatMap((_, m) => [`b${m}`, `bRow${m}`, `c${m}`, `cRow${m}`])].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [256],
    light: true,
    body: `
  if (flat >= p.size) { return; }
  let heads = ${4 * quads}u * p.channels;
  let tail = heads + 4u * p.channels;
  var value = 0.0;
  ${sets.length === 1 ? value(sets[0], 0) : `if (wid.z == 0u) {${value(sets[0], 0)}\n} else {${value(sets[1], 1)}\n}`}
  packed[p.start + wid.z * p.size + flat] = value;`,
  };
});
