// The derivative of the gate, in a dispatch ahead of the backward scan: both directions need the gradient before the
// gate. It needs the result before the gate, which the forward scan saves.

import type { FloatDType } from '../../core/index.ts';
import { defineKernel } from '../../core/kit.ts';
import { FUNCTIONS } from './wgsl.ts';

/** Invocations of a workgroup. */
export const GATE_WORKGROUP = 256;

/**
 * dz = dout · y · silu'(z) and dy = dout · silu(z), with y the result before the gate. dz, z and dout have rows of D
 * elements anywhere in memory. All parameters count vectors.
 */
export const gateBackwardKernel = defineKernel<{ dtype: FloatDType; vector: 1 | 4 }>(
  'selectiveScan.gateBackward',
  ({ dtype, vector }) => {
    const type = vector === 4 ? `vec4<${dtype}>` : dtype,
      wide = vector === 4 ? 'vec4f' : 'f32';
    const parts = (text: (part: string) => string): string =>
      vector === 4 ? ['x', 'y', 'z', 'w'].map((c) => text(`.${c}`)).join(', ') : text('');
    return {
      enable: dtype === 'f16' ? ['f16'] : [],
      bindings: [
        { name: 'dout', type: `array<${type}>`, access: 'read' },
        { name: 'z', type: `array<${type}>`, access: 'read' },
        { name: 'ungated', type: `array<${type}>`, access: 'read' },
        { name: 'dz', type: `array<${type}>`, access: 'write' },
        { name: 'dy', type: `array<${type}>`, access: 'write' },
      ],
      params: (['size', 'width', 'dout0', 'doutRow', 'z0', 'zRow', 'dz0', 'dzRow'] as const).map((name) => ({
        name,
        type: 'u32',
      })),
      workgroupSize: [GATE_WORKGROUP],
      coarsenable: true,
      declarations: FUNCTIONS,
      body: `
  if (flat >= p.size) { return; }
  let row = flat / p.width;
  let column = flat % p.width;
  let gate = ${wide}(z[p.z0 + row * p.zRow + column]);
  let open = ${wide}(${parts((part) => `mathQuickSigmoid(gate${part})`)});
  let up = ${wide}(dout[p.dout0 + row * p.doutRow + column]) * open;
  dy[flat] = ${type}(up * gate);
  dz[p.dz0 + row * p.dzRow + column] = ${type}(up * (1.0 + gate * (1.0 - open)) * ${wide}(ungated[flat]));`,
    };
  },
);
