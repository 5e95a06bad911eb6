// The second stage of the scan's sums, and the last states in their usual layout.

import type { FloatDType } from '../../core/index.ts';
import { defineKernel } from '../../core/kit.ts';
import type { Direction } from '../direction.ts';
import { partSums, type Sharing } from '../partSums.ts';

/**
 * Adds up dB and dC (batch, L, N) of each direction from partial sums (directions, batch, padded L in the scan's order,
 * blocks, quads, 8), block after block. dB and dC are rows anywhere in one buffer a direction. An invocation makes four
 * values; z is the direction. `start` counts vec4s.
 */
export const reduceTokensKernel = defineKernel<{ states: number; dtype: FloatDType; directions: readonly Direction[] }>(
  'selectiveScan.reduceTokens',
  ({ states, dtype, directions }) => {
    const vectors = 2 * Math.ceil(states / 4);
    const write = (m: number): string => `
    let to = p.row0 + ${directions[m] === 'reverse' ? 'b * p.L + p.L - 1u - i' : 'row'};
    let at = select(p.b${m} + to * p.bRow${m}, p.c${m} + to * p.cRow${m}, vector % 2u == 1u) + n;
    for (var e = 0u; e < min(4u, ${states}u - n); e++) { out${m}[at + e] = ${dtype}(total[e]); }`;
    return {
      enable: dtype === 'f16' ? ['f16'] : [],
      bindings: [
        { name: 'sums', type: 'array<vec4f>', access: 'read' },
        ...directions.map((_, m) => ({ name: `out${m}`, type: `array<${dtype}>`, access: 'write' }) as const),
      ],
      params: [
        'L',
        'padded',
        'rows',
        'blocks',
        'start',
        'row0',
        ...directions.flatMap((_, m) => [`b${m}`, `bRow${m}`, `c${m}`, `cRow${m}`]),
      ].map((name) => ({ name, type: 'u32' })),
      workgroupSize: [64],
      body: `
  let row = flat / ${vectors}u;
  let vector = flat % ${vectors}u;
  if (row >= p.rows) { return; }
  let b = row / p.L;
  let i = row % p.L;
  let first = p.start + ((wid.z * (p.rows / p.L) + b) * p.padded + i) * p.blocks * ${vectors}u + vector;
  var total = vec4f();
  for (var k = 0u; k < p.blocks; k++) { total += sums[first + k * ${vectors}u]; }
  let n = vector / 2u * 4u;
  ${directions.length === 1 ? write(0) : `if (wid.z == 0u) {${write(0)}\n  } else {${write(1)}\n  }`}`,
    };
  },
);

export interface ReduceChannelsVariant {
  readonly states: number;
  readonly logA: boolean;
  readonly sharing: Sharing;
  readonly directions: number;
}

/** Sums of a channel: dA, dD, dbias. */
export const channelSums = (states: number): number => 4 * Math.ceil(states / 4) + 2;

/**
 * Adds up dA (D, N), dD (D) and dbias (D), one behind the other in a buffer for each direction, from partial sums
 * (directions, parts, 4·quads + 2, D), part after part; z is the direction. With `logA` the kernel reads log(-A), and
 * dA is the gradient of that.
 */
export const reduceChannelsKernel = defineKernel<ReduceChannelsVariant>(
  'selectiveScan.reduceChannels',
  ({ states, logA, sharing, directions }) => {
    const rows = channelSums(states);
    const list = Array.from({ length: directions }, (_, m) => m);
    const write = (m: number): string => `
    if (n < ${states}u) { out${m}[d * ${states}u + n] = total${logA ? ` * -exp(logA${m}[d * ${states}u + n])` : ''}; }
    if (n >= ${rows - 2}u) { out${m}[(${states}u + n - ${rows - 2}u) * p.channels + d] = total; }`;
    return {
      bindings: [
        { name: 'sums', type: 'array<f32>', access: 'read' },
        ...list.map((m) => ({ name: `out${m}`, type: 'array<f32>', access: 'write' }) as const),
        ...(logA ? list.map((m) => ({ name: `logA${m}`, type: 'array<f32>', access: 'read' }) as const) : []),
      ],
      params: (['channels', 'parts'] as const).map((name) => ({ name, type: 'u32' })),
      ...partSums(
        sharing,
        'p.parts',
        `(${rows}u * p.channels)`,
        (part, column) => `sums[(wid.z * p.parts + ${part}) * ${rows}u * p.channels + ${column}]`,
        `
    let d = column % p.channels;
    let n = column / p.channels;
    ${directions === 1 ? write(0) : `if (wid.z == 0u) {${write(0)}\n    } else {${write(1)}\n    }`}`,
      ),
    };
  },
);

/**
 * The last states (B, D, N), from the last slot of saved states (B, slots, quads, columns) of vec4, where `split` lanes
 * shared channels.
 */
export const lastStateKernel = defineKernel<{ states: number; split: number }>(
  'selectiveScan.lastState',
  ({ states, split }) => {
    const quads = Math.ceil(states / 4),
      held = quads / split;
    return {
      bindings: [
        { name: 'saved', type: 'array<f32>', access: 'read' },
        { name: 'last', type: 'array<f32>', access: 'write' },
      ],
      params: (['channels', 'columns', 'slots', 'size'] as const).map((name) => ({ name, type: 'u32' })),
      workgroupSize: [64],
      body: `
  if (flat >= p.size) { return; }
  let n = flat % ${states}u;
  let d = flat / ${states}u % p.channels;
  let b = flat / (${states}u * p.channels);
  // The lane that had this part of the channel's states, and which of its channels this was.
  let owner = n / 4u / ${held}u;
  let row = ((d ^ owner) & ${split - 1}u) * ${held}u + n / 4u % ${held}u;
  let column = (d & ~${split - 1}u) | owner;
  last[flat] = saved[((((b + 1u) * p.slots - 1u) * ${quads}u + row) * p.columns + column) * 4u + n % 4u];`,
    };
  },
);
