// The backward scan. States are recomputed, a stretch at a time, from those saved every K tokens; never by inverting the
// recurrence, whose factors underflow. Sums over channels (dB, dC) and over the batch (dA, dD, dbias) are left as partial sums
// for reduce.ts, in a fixed order: WGSL has no f32 atomics, and the result shall not depend on scheduling.

import { defineKernel, type KernelBinding } from '../../core/kernel.ts';
import { setParams } from './forward.ts';
import { channelSetup, each, fetchBC, FUNCTIONS, savedIndex, scanPlan, type Direction, type ScanDType, type ScanPlan } from './wgsl.ts';

export interface BackwardVariant {
  readonly states: number;
  readonly dtype: ScanDType;
  readonly directions: readonly Direction[];
  readonly first: number;
  readonly gate: boolean;
  readonly softplus: boolean;
}

/**
 * Grid: (ceil(D / width), batches of this call, directions). Writes
 * `grads`: du, ddelta and, with a gate, dz of each direction, every one (B, L, D) and `region` elements apart;
 * `sums`: (directions, B, 4·quads + 2, D) of dA, dD, dbias, then from `tokenSums` on (directions, batches of this call, L,
 * blocks of channels, 8·quads) of dB and dC.
 */
export const backwardKernel = defineKernel<BackwardVariant>('selectiveScan.backward', (v, env) => {
  const plan = scanPlan(v.states, env);
  const read = (name: string): KernelBinding => ({ name, type: `array<${v.dtype}>`, access: 'read' });
  const bodies = v.directions.map((direction, set) => body(v, plan, direction, v.first + set));
  const shared = plan.width * 2 * plan.quads;
  return {
    enable: [...(v.dtype === 'f16' ? ['f16' as const] : []), ...(plan.subgroups ? ['subgroups' as const] : [])],
    bindings: [
      ...v.directions.flatMap((_, i) => [read(`u${v.first + i}In`), read(`delta${v.first + i}In`)]),
      ...(v.gate ? [read('z')] : []),
      { name: 'packed', type: 'array<vec4f>', access: 'read' },
      { name: 'saved', type: 'array<vec4f>', access: 'read' },
      read('dout'),
      { name: 'grads', type: `array<${v.dtype}>`, access: 'write' },
      { name: 'sums', type: 'array<f32>', access: 'write' },
    ],
    params: [
      ...['L', 'D', 'batches', 'batch0', 'slots', 'packedSet', 'z0', 'zRow'], ...setParams(v),
      'dout0', 'doutRow', 'region', 'tokenSums',
    ].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [plan.width],
    workgroupBytes: plan.subgroups ? 0 : shared * 16,
    declarations: `${FUNCTIONS}${plan.subgroups ? '' : `\nvar<workgroup> tile: array<vec4f, ${shared}>;`}`,
    body: `var history: array<vec4f, ${plan.every * plan.quads}>;
  ${bodies.length === 1 ? bodies[0] : `if (wid.z == 0u) {\n${bodies[0]}\n} else {\n${bodies[1]}\n}`}`,
  };
});

function body(v: BackwardVariant, plan: ScanPlan, direction: Direction, set: number): string {
  const { quads, every } = plan;
  const token = direction === 'reverse' ? 'L - 1u - (first + j)' : 'first + j';
  const step = `let x = f32(u${set}In[atU + t * p.uRow${set}]);
      let raw = f32(delta${set}In[atDelta + t * p.deltaRow${set}]) + skip.y;
      ${v.softplus ? 'let step = softplus(raw); let delta = step.value;' : 'let delta = raw;'}
      let dx = delta * x;`;
  const regions = v.gate ? 3 : 2;
  return `${channelSetup(plan, set)}
  ${each(quads, (q) => `var dh${q} = vec4f(); var dA${q} = vec4f();`)}
  var dSkip = 0.0;
  var dBias = 0.0;
  let chunks = (L + ${every - 1}u) / ${every}u;
  for (var c = chunks; c > 0u; c--) {
    let first = (c - 1u) * ${every}u;
    let count = min(${every}u, L - first);
    let s = ${savedIndex(plan, set, '(c - 1u)')};
    ${each(quads, (q) => `var h${q} = saved[s + ${q}u * p.D];`)}
    for (var j = 0u; j < count; j++) {
      let t = ${token};
      ${each(quads, (q) => `history[j * ${quads}u + ${q}u] = h${q};`)}
      ${fetchBC(plan, `rows + t * ${2 * quads}u`, 'B')}
      ${step}
      ${each(quads, (q) => `h${q} = exp2(delta * A${q}) * h${q} + dx * B${q};`)}
    }
    for (var k = 0u; k < count; k++) {
      let j = count - 1u - k;
      let t = ${token};
      ${fetchBC(plan, `rows + t * ${2 * quads}u`, 'BC')}
      ${step}
      let upstream = select(0.0, f32(dout[p.dout0 + (b * L + t) * p.doutRow + d]), inside);
      ${each(quads, (q) => `let before${q} = history[j * ${quads}u + ${q}u]; let a${q} = exp2(delta * A${q}); let now${q} = a${q} * before${q} + dx * B${q};`)}
      ${v.gate ? `let gate = f32(z[p.z0 + (b * L + t) * p.zRow + d]);
      let open = sigmoid(gate);
      let y = skip.x * x + ${each(quads, (q) => `dot(now${q}, C${q})`, ' + ')};
      let dz = upstream * y * open * (1.0 + gate * (1.0 - open));
      let dy = upstream * gate * open;` : 'let dy = upstream;'}
      dSkip += dy * x;
      var dExponent = 0.0;
      var dInput = 0.0;
      ${each(quads, (q) => `dh${q} += dy * C${q};
      let w${q} = dh${q} * before${q} * a${q};
      dA${q} += w${q} * delta;
      dExponent += dot(w${q}, A${q});
      dInput += dot(dh${q}, B${q});
      let gB${q} = dh${q} * dx;
      let gC${q} = dy * now${q};
      dh${q} *= a${q};`)}
      let dRaw = (dExponent * 0.6931471805599453 + dInput * x)${v.softplus ? ' * step.slope' : ''};
      dBias += dRaw;
      let block = p.tokenSums + (((${set}u * nwg.y + wid.y) * L + t) * nwg.x + wid.x) * ${8 * quads}u;
      ${sumOverChannels(plan)}
      if (inside) {
        let at = ${set * regions}u * p.region + (b * L + t) * p.D + d;
        grads[at] = ${v.dtype}(dInput * delta + dy * skip.x);
        grads[at + p.region] = ${v.dtype}(dRaw);
        ${v.gate ? `grads[at + 2u * p.region] = ${v.dtype}(dz);` : ''}
      }
    }
  }
  if (inside) {
    let at = (${set}u * p.batches + b) * ${4 * quads + 2}u * p.D + d;
    ${each(quads, (q) => each(4, (i) => `sums[at + ${4 * q + i}u * p.D] = dA${q}[${i}];`, ' '))}
    sums[at + ${4 * quads}u * p.D] = dSkip;
    sums[at + ${4 * quads + 1}u * p.D] = dBias;
  }`;
}

/** Sums gB0… and gC0… over the workgroup's channels and stores the 8·quads sums at `sums[block…]`. */
function sumOverChannels(plan: ScanPlan): string {
  const { quads, width, subgroups } = plan;
  const values = 8 * quads;
  const names = Array.from({ length: values }, (_, i) => `g${i < values / 2 ? 'B' : 'C'}${Math.floor((i % (values / 2)) / 4)}[${i % 4}]`);
  if (!subgroups) {
    // Reading from a rotated place keeps the lanes on different banks.
    return `${each(2 * quads, (i) => `tile[${i * width}u + li] = g${i < quads ? `B${i}` : `C${i - quads}`};`, ' ')}
      workgroupBarrier();
      for (var e = li; e < ${2 * quads}u; e += ${width}u) {
        var total = vec4f();
        for (var m = 0u; m < ${width}u; m++) { total += tile[e * ${width}u + ((m + li) & ${width - 1}u)]; }
        ${each(4, (i) => `sums[block + e * 4u + ${i}u] = total[${i}];`, ' ')}
      }
      workgroupBarrier();`;
  }
  // Reduce-scatter: at each exchange a lane keeps half of its values and gives the other half away, so that the whole sum
  // costs about one shuffle a value in place of log2(width).
  const lines: string[] = [];
  let held = names.concat(Array<string>(2 ** Math.ceil(Math.log2(values)) - values).fill('0.0'));
  const from: string[] = [];
  let copies = 0;
  for (let mask = width / 2; mask >= 1; mask /= 2) {
    const next: string[] = [];
    const high = `high${mask}`;
    if (held.length > 1) {
      const half = held.length / 2;
      lines.push(`let ${high} = (lane & ${mask}u) != 0u;`);
      for (let i = 0; i < half; i++) {
        const [low, up] = [held[i], held[i + half]];
        if (low === '0.0' && up === '0.0') { next.push('0.0'); continue; }
        lines.push(`let r${mask}x${i} = select(${low}, ${up}, ${high}) + subgroupShuffleXor(select(${up}, ${low}, ${high}), ${mask}u);`);
        next.push(`r${mask}x${i}`);
      }
      from.push(`select(0u, ${half}u, ${high})`);
    } else {
      lines.push(`let r${mask}x0 = ${held[0]} + subgroupShuffleXor(${held[0]}, ${mask}u);`);
      next.push(`r${mask}x0`);
      copies += mask;
    }
    held = next;
  }
  lines.push(`let place = ${from.join(' + ')};`);
  const stores = held.map((name, i) => (name === '0.0' ? '' : `if (place + ${i}u < ${values}u) { sums[block + place + ${i}u] = ${name}; }`)).join(' ');
  lines.push(copies > 0 ? `if ((lane & ${copies}u) == 0u) { ${stores} }` : stores);
  return lines.join('\n      ');
}
