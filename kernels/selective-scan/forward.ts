// The forward scan: h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t],  y[t] = <C[t], h[t]> + D u[t], gated by silu(z[t]).

import { defineKernel, type KernelBinding } from '../../core/kernel.ts';
import { channelSetup, each, fetchBC, FUNCTIONS, savedIndex, scanPlan, type Direction, type ScanDType, type ScanPlan } from './wgsl.ts';

export interface ForwardVariant {
  readonly states: number;
  readonly dtype: ScanDType;
  readonly directions: readonly Direction[];
  /** Index of the first direction, where the directions of one scan are run one by one. */
  readonly first: number;
  readonly gate: boolean;
  readonly softplus: boolean;
  /** Save the states every `plan.every` tokens and after the last one. */
  readonly save: boolean;
}

/** Parameters of the scan kernels that depend on the number of directions: where u and delta begin and their row strides. */
export function setParams({ directions, first }: { directions: readonly Direction[]; first: number }): readonly string[] {
  return directions.flatMap((_, i) => [`u${first + i}`, `uRow${first + i}`, `delta${first + i}`, `deltaRow${first + i}`]);
}

/**
 * Grid: (ceil(D / width), batch, directions). `out` has (directions, B, L, D); `saved` has (directions, B, slots, quads, D) vec4s,
 * slot c holding the states before token c·every of the scan's own order and the last slot those at the end.
 */
export const forwardKernel = defineKernel<ForwardVariant>('selectiveScan.forward', (v, env) => {
  const plan = scanPlan(v.states, env);
  const read = (name: string): KernelBinding => ({ name, type: `array<${v.dtype}>`, access: 'read' });
  const bodies = v.directions.map((direction, set) => body(v, plan, direction, v.first + set));
  return {
    enable: [...(v.dtype === 'f16' ? ['f16' as const] : []), ...(plan.subgroups ? ['subgroups' as const] : [])],
    bindings: [
      ...v.directions.flatMap((_, i) => [read(`u${v.first + i}In`), read(`delta${v.first + i}In`)]),
      ...(v.gate ? [read('z')] : []),
      { name: 'packed', type: 'array<vec4f>', access: 'read' },
      { name: 'out', type: `array<${v.dtype}>`, access: 'write' },
      ...(v.save ? [{ name: 'saved', type: 'array<vec4f>', access: 'write' } as const] : []),
    ],
    params: [...['L', 'D', 'batches', 'batch0', 'slots', 'packedSet', 'z0', 'zRow'], ...setParams(v)]
      .map((name) => ({ name, type: 'u32' })),
    workgroupSize: [plan.width],
    declarations: FUNCTIONS,
    body: bodies.length === 1 ? bodies[0] : `if (wid.z == 0u) {\n${bodies[0]}\n} else {\n${bodies[1]}\n}`,
  };
});

function body(v: ForwardVariant, plan: ScanPlan, direction: Direction, set: number): string {
  const { quads, every } = plan;
  const save = (slot: string): string => `if (inside) { let s = ${savedIndex(plan, set, slot)}; ${each(quads, (q) => `saved[s + ${q}u * p.D] = h${q};`, ' ')} }`;
  return `${channelSetup(plan, set)}
  ${each(quads, (q) => `var h${q} = vec4f();`)}
  for (var i = 0u; i < L; i++) {
    let t = ${direction === 'reverse' ? 'L - 1u - i' : 'i'};
    ${v.save ? `if (i % ${every}u == 0u) { ${save(`i / ${every}u`)} }` : ''}
    let row = rows + t * ${2 * quads}u;
    ${fetchBC(plan, 'row', 'BC')}
    let x = f32(u${set}In[atU + t * p.uRow${set}]);
    let raw = f32(delta${set}In[atDelta + t * p.deltaRow${set}]) + skip.y;
    let delta = ${v.softplus ? 'softplus(raw).value' : 'raw'};
    let dx = delta * x;
    var y = skip.x * x;
    ${each(quads, (q) => `h${q} = exp2(delta * A${q}) * h${q} + dx * B${q}; y += dot(h${q}, C${q});`)}
    ${v.gate ? `let gate = f32(z[p.z0 + (b * L + t) * p.zRow + d]);
    y *= gate * sigmoid(gate);` : ''}
    if (inside) { out[((${set}u * p.batches + b) * L + t) * p.D + d] = ${v.dtype}(y); }
  }
  ${v.save ? save('p.slots - 1u') : ''}`;
}
