// Packs the small arguments of the scan into one buffer: A·log2(e), D and the bias of each channel, B and C of each
// token. A may be given as log(-A), which is what models learn: that saves a dispatch each way.

import type { FloatDType } from '../../core/index.ts';
import { defineKernel } from '../../core/kit.ts';
import { each } from './wgsl.ts';

export interface PrepareVariant {
  readonly states: number;
  readonly dtype: FloatDType;
  /** A holds log(-A). */
  readonly logA: boolean;
  /** Which optional arguments each direction has. */
  readonly sets: readonly { readonly skip: boolean; readonly bias: boolean }[];
}

/** vec4s of one direction in the packed buffer, for `rows` = batch · length tokens. */
export function packedSize(quads: number, channels: number, rows: number): number {
  return (quads + 1) * channels + 2 * quads * rows;
}

/**
 * Layout, in f32, one direction after the other: (quads, D, 4) of A·log2 e; (D, 4) of [D, bias, 0, 0]; (B·L, quads, 2,
 * 4) of B and C, side by side, as a lane reads both. Missing states are 0. One invocation writes a vec4; z is the
 * direction.
 */
export const prepareKernel = defineKernel<PrepareVariant>('selectiveScan.prepare', ({ states, dtype, logA, sets }) => {
  const quads = Math.ceil(states / 4);
  /** The states from 4·quad on, of those that are there. */
  const four = (at: (i: number) => string): string =>
    each(4, (i) =>
      states % 4 === 0 ? `value[${i}] = ${at(i)};` : `if (4u * quad + ${i}u < ${states}u) { value[${i}] = ${at(i)}; }`,
    );
  const value = ({ skip, bias }: PrepareVariant['sets'][number], m: number): string => `
  if (flat < heads) {
    let quad = flat / p.channels;
    let start = flat % p.channels * ${states}u + 4u * quad;
    ${four((i) => `${logA ? `-exp(A${m}[start + ${i}u])` : `A${m}[start + ${i}u]`} * 1.4426950408889634`)}
  } else if (flat < tail) {
    let d = flat - heads;
    value = vec4f(${skip ? `D${m}[d]` : '0.0'}, ${bias ? `bias${m}[d]` : '0.0'}, 0.0, 0.0);
  } else {
    let row = (flat - tail) / ${2 * quads}u;
    let vector = (flat - tail) % ${2 * quads}u;
    let quad = vector / 2u;
    if (vector % 2u == 0u) {
      let start = p.b${m} + row * p.bRow${m} + 4u * quad;
      ${four((i) => `f32(B${m}[start + ${i}u])`)}
    } else {
      let start = p.c${m} + row * p.cRow${m} + 4u * quad;
      ${four((i) => `f32(C${m}[start + ${i}u])`)}
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
      { name: 'packed', type: 'array<vec4f>', access: 'write' },
    ],
    params: ['size', 'channels', 'start', ...sets.flatMap((_, m) => [`b${m}`, `bRow${m}`, `c${m}`, `cRow${m}`])].map(
      (name) => ({ name, type: 'u32' }),
    ),
    workgroupSize: [256],
    coarsenable: true,
    body: `
  if (flat >= p.size) { return; }
  let heads = ${quads}u * p.channels;
  let tail = heads + p.channels;
  var value = vec4f();
  ${sets.length === 1 ? value(sets[0], 0) : `if (wid.z == 0u) {${value(sets[0], 0)}\n} else {${value(sets[1], 1)}\n}`}
  packed[p.start + wid.z * p.size + flat] = value;`,
  };
});
