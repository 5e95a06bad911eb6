// Weights in the order in which a product of images reads them.

import { defineKernel } from '../../gpu/kernel.ts';
import type { FloatDType } from '../../tensor/dtype.ts';

/**
 * `to[g, m, c, u, v]`, or with taps outside `to[g, m, u, v, c]` for c below `padded`, 0 from `channels` on. Strides are
 * in elements and may be negative.
 */
export const weightsKernel = defineKernel<{ type: FloatDType; tapsOutside: boolean }>(
  'gemm.weights',
  ({ type, tapsOutside }) => ({
    bindings: [
      { name: 'weight', type: `array<${type}>`, access: 'read' },
      { name: 'to', type: `array<${type}>`, access: 'write' },
    ],
    params: [
      'count',
      'rows',
      'channels',
      'padded',
      'height',
      'width',
      'offset',
      'group',
      'row',
      'channel',
      'tapY',
      'tapX',
    ].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [64],
    coarsenable: true,
    enable: type === 'f16' ? ['f16'] : [],
    body: `  if (flat >= p.count) { return; }
  let taps = p.height * p.width;
  let inRow = flat % (taps * p.padded);
  let line = flat / (taps * p.padded);
  ${tapsOutside ? 'let c = inRow % p.padded; let t = inRow / p.padded;' : 'let c = inRow / taps; let t = inRow % taps;'}
  let at = p.offset + line / p.rows * p.group + line % p.rows * p.row + min(c, p.channels - 1u) * p.channel
    + t / p.width * p.tapY + t % p.width * p.tapX;
  to[flat] = select(${type}(), weight[at], c < p.channels);`,
  }),
);
