// The forward scan: h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t],  y[t] = <C[t], h[t]> + D u[t], gated by silu(z[t]).
//
// Ladder, both directions of B64 L258 D736 N16 on an H200, of the time of step 0 (0.37 ms):
// 0. a lane a channel, token after token, B and C fetched by lanes and broadcast;
// 1. 4 tokens loaded at a time, B and C read by every lane, 4 subgroups a workgroup, one code for both directions: 0.80.
// A code of its own for each direction gave 1.03, 8 tokens between 0.8 and 1.5, both directions in a workgroup that adds up its
// results behind one barrier 1.0 (adding them up in a dispatch of its own took 0.69 of its time by vec4s). Too few rows to fill a
// GPU, as in sampling at batch 1, wait for one token after another: a form in chunks of time would help there.

import { defineKernel } from '../../core/kernel.ts';
import { bodies, channelSetup, each, fetchQuad, fetchShared, FUNCTIONS, inputs, loadStretch, parameters, placeStretch, savedIndex, type ScanVariant } from './wgsl.ts';

export interface ForwardVariant extends ScanVariant {
  /** Save the states every `plan.every` tokens and after the last one. */
  readonly save: boolean;
}

/**
 * Grid: (ceil(D / (width · teams)), batch, directions). `out` has (directions, B, L, D); `saved` has (directions, B, slots, quads, D)
 * vec4s, slot c holding the states before token c·every of the scan's own order and the last slot those at the end.
 */
export const forwardKernel = defineKernel<ForwardVariant>('selectiveScan.forward', (v) => {
  const { plan, dtype } = v;
  const { quads, every, forward: layout } = plan;
  const { stretch } = layout;
  const save = (slot: string): string => `if (inside) { ${each(quads, (q) => `saved[${savedIndex(plan, slot, `${q}u`, 'd')}] = h${q};`, ' ')} }`;
  return {
    enable: [...(dtype === 'f16' ? ['f16' as const] : []), ...(layout.fetch === 'broadcast' ? ['subgroups' as const] : [])],
    bindings: [
      ...inputs(v),
      { name: 'out', type: `array<${dtype}>`, access: 'write' },
      ...(v.save ? [{ name: 'saved', type: 'array<vec4f>', access: 'write' } as const] : []),
    ],
    params: parameters(v).map((name) => ({ name, type: 'u32' })),
    workgroupSize: [layout.width * layout.teams],
    declarations: FUNCTIONS,
    body: bodies(v, layout, (sets) => `${channelSetup(v, layout, sets)}
  ${each(quads, (q) => `let A${q} = packed[base + ${q}u * D + d]; var h${q} = vec4f();`)}
  let outAt = way * p.batches * L * D + d;
  for (var first = 0u; first < L; first += ${stretch}u) {
    ${v.save ? (every === stretch ? save(`first / ${every}u`) : `if (first % ${every}u == 0u) { ${save(`first / ${every}u`)} }`) : ''}
    ${placeStretch(v, layout)}
    ${loadStretch(v, layout, sets)}
    ${v.gate ? each(stretch, (j) => `let gate${j} = f32(z[zAt + t${j} * zRow]);`) : ''}
    ${each(stretch, (j) => `let dx${j} = delta${j} * x${j}; var y${j} = skip.x * x${j};`)}
    ${fetchShared(v, layout, 'BC')}
    ${each(quads, (q) => `{
      ${fetchQuad(plan, layout, q, 'BC')}
      ${each(stretch, (j) => `h${q} = exp2(delta${j} * A${q}) * h${q} + dx${j} * B${q}x${j}; y${j} += dot(h${q}, C${q}x${j});`)}
    }`)}
    ${v.gate ? each(stretch, (j) => `y${j} *= gate${j} * sigmoid(gate${j});`) : ''}
    ${each(stretch, (j) => `if (inside && live${j}) { out[outAt + t${j} * D] = ${dtype}(y${j}); }`)}
  }
  ${v.save ? save('(p.slots - 1u)') : ''}`),
  };
});
