// The backward scan. States are recomputed from the saved ones, a stretch of tokens at a time and there one vec4 of states after the
// other, so that all of it stays in registers; never by inverting the recurrence, whose factors underflow. Sums over channels (dB,
// dC) and over the batch (dA, dD, dbias) are left as partial sums for reduce.ts, in a fixed order: WGSL has no f32 atomics, and the
// result shall not depend on scheduling.
//
// Ladder, both directions of B64 L258 D736 N16 on an H200, of the time of step 0 (1.87 ms):
// 0. a lane a channel, the states of 32 tokens in private memory, a workgroup of one subgroup;
// 1. 8 tokens at a time in registers, sums of 8 subgroups joined in workgroup memory: 0.52;
// 2. 4 tokens; 4 lanes share 4 channels, so that sums over channels begin in registers: 0.45.
// Partial sums shrink with the teams: adding them up fell to 0.3. At step 1 the sums over channels were 0.43 of the time, all
// exponentials 0.04, softplus and sigmoid 0.09, stores 0.05: what holds the kernel is arithmetic and exchange, not memory, and it
// stays far under the copy rate. Tried: 2 tokens (between 0.9 and 1.2 of step 2, as registers decide how many workgroups fit), one
// code for both directions (the same within that), both directions in a workgroup that adds up dz behind one barrier (1.3 times).
// On a CPU's 8 lanes long programs lose: there it is step 0 with step sizes remembered and parameters read once, 0.93.

import { defineKernel } from '../../core/kernel.ts';
import { workgroupBytes, type ScanPlan } from './plan.ts';
import { teamSums } from './teamSums.ts';
import { bodies, channelSetup, each, fetchQuad, fetchShared, FUNCTIONS, inputs, loadStretch, parameters, placeStretch, savedIndex, type ScanVariant } from './wgsl.ts';

/** Tokens of the partial sums over channels: a whole number of stretches. */
export function paddedLength({ backward: { stretch } }: ScanPlan, length: number): number {
  return Math.ceil(length / stretch) * stretch;
}

/**
 * Grid: (ceil(D / (width · teams)), batches of this call, directions). Writes
 * `grads`: du, ddelta and, with a gate, dz of each direction, every one (B, L, D) and `region` elements apart;
 * `sums`: (directions, B, 4·quads + 2, D) of dA, dD, dbias, then from `tokenSums` on (directions, batches of this call, padded L in
 * the scan's own order, workgroups along D, quads, 8) of dB (4) and dC (4).
 */
export const backwardKernel = defineKernel<ScanVariant>('selectiveScan.backward', (v) => {
  const { plan, dtype } = v;
  const { quads, every, backward: layout } = plan;
  const { stretch, split, width, teams } = layout;
  /** vec4s that a lane has of a channel. */
  const held = quads / split;
  const last = stretch - 1;
  const regions = v.gate ? 3 : 2;
  const sums = teamSums(quads, layout, (token) => `(tokens + (first + ${token}) * tokenRow)`);
  const slots = (text: (k: number, r: number) => string, separator = '\n'): string => each(split, (k) => each(held, (r) => text(k, r), separator), separator);
  /** A value of the lane that owns the channel of slot k, or the other way round. */
  const across = (value: string, k: number): string => (k === 0 ? value : `subgroupShuffleXor(${value}, ${(k * width) / split}u)`);

  /** Recomputed states before each stretch between two saved ones. */
  const starts = every / stretch;
  /** Long histories lie in memory; the few numbers of a token may as well. */
  const remember = starts >= 8;
  const stored = (k: number, r: number): string => `saved[${savedIndex(plan, '(c - 1u)', `quad + ${r}u`, `d${k}`)}]`;
  const keep = (s: string): string => slots((k, r) => `starts[${s} * ${quads}u + ${k * held + r}u] = h${k}q${r};`, ' ');

  const advance = (sets: readonly number[]): string => `
      let first = begin + (s - 1u) * ${stretch}u;
      ${placeStretch(v, layout)}
      ${loadStretch(v, layout, sets, remember)}
      ${remember ? each(stretch, (j) => `steps[first - begin + ${j}u] = vec3f(x${j}, delta${j}, slope${j});`) : ''}
      ${each(stretch, (j) => `let dx${j} = delta${j} * x${j};`)}
      ${fetchShared(v, layout, 'B')}
      ${each(held, (r) => fetchQuad(plan, layout, r, 'B'))}
      ${each(split, (k) => `{
        ${each(stretch, (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotInput${j} = ${across(`dx${j}`, k)};`)}
        ${each(held, (r) => each(stretch, (j) => `h${k}q${r} = exp2(slotDelta${j} * A${k}q${r}) * h${k}q${r} + slotInput${j} * B${r}x${j};`))}
      }`)}`;

  const back = (sets: readonly number[]): string => `
    ${placeStretch(v, layout)}
    ${remember ? each(stretch, (j) => `let step${j} = steps[first - begin + ${j}u]; let x${j} = step${j}.x; let delta${j} = step${j}.y; let slope${j} = step${j}.z;`)
    : loadStretch(v, layout, sets, true)}
    ${each(stretch, (j) => `let up${j} = select(0.0, f32(dout[doutAt + t${j} * doutRow]), inside && live${j});
    ${v.gate ? `let gate${j} = f32(z[zAt + t${j} * zRow]);` : ''}`)}
    ${each(stretch, (j) => `${v.gate ? `let open${j} = sigmoid(gate${j});
    let dy${j} = up${j} * gate${j} * open${j};
    let toGate${j} = up${j} * open${j} * (1.0 + gate${j} * (1.0 - open${j}));
    var y${j} = skip.x * x${j};` : `let dy${j} = up${j};`}
    let dx${j} = delta${j} * x${j};
    dSkip += dy${j} * x${j};
    var dExponent${j} = 0.0;
    var dInput${j} = 0.0;`)}
    ${fetchShared(v, layout, 'BC')}
    ${each(held, (r) => `{
      ${fetchQuad(plan, layout, r, 'BC')}
      ${each(stretch, (j) => `var gB${j} = vec4f(); var gC${j} = vec4f();`)}
      ${each(split, (k) => `{
      ${each(stretch, (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotInput${j} = ${across(`dx${j}`, k)}; let slotUp${j} = ${across(`dy${j}`, k)};`)}
      let before0 = h${k}q${r};
      ${each(stretch, (j) => `let a${j} = exp2(slotDelta${j} * A${k}q${r}); let before${j + 1} = a${j} * before${j} + slotInput${j} * B${r}x${j};`)}
      ${each(stretch, (m) => {
        const j = last - m;
        return `${v.gate ? `y${j} += ${across(`dot(before${j + 1}, C${r}x${j})`, k)};` : ''}
      dh${k}q${r} += slotUp${j} * C${r}x${j};
      dInput${j} += ${across(`dot(dh${k}q${r}, B${r}x${j})`, k)};
      gB${j} += dh${k}q${r} * slotInput${j};
      gC${j} += slotUp${j} * before${j + 1};
      dh${k}q${r} *= a${j};
      let w${j} = dh${k}q${r} * before${j};
      dA${k}q${r} += w${j} * slotDelta${j};
      dExponent${j} += ${across(`dot(w${j}, A${k}q${r})`, k)};`;
      })}
      }`)}
      ${each(stretch, (m) => sums.token(r, last - m))}
      ${sums.quad(r)}
    }`)}
    ${sums.end}
    ${each(stretch, (j) => `let dRaw${j} = (dExponent${j} * 0.6931471805599453 + dInput${j} * x${j}) * slope${j};
    dBias += dRaw${j};
    if (inside && live${j}) {
      let at = gradsAt + t${j} * D;
      grads[at] = ${dtype}(dInput${j} * delta${j} + dy${j} * skip.x);
      grads[at + region] = ${dtype}(dRaw${j});
      ${v.gate ? `grads[at + 2u * region] = ${dtype}(toGate${j} * y${j});` : ''}
    }`)}`;

  return {
    enable: [...(dtype === 'f16' ? ['f16' as const] : []), ...(layout.subgroups ? ['subgroups' as const] : [])],
    bindings: [
      ...inputs(v),
      { name: 'saved', type: 'array<vec4f>', access: 'read' },
      { name: 'dout', type: `array<${dtype}>`, access: 'read' },
      { name: 'grads', type: `array<${dtype}>`, access: 'write' },
      { name: 'sums', type: 'array<f32>', access: 'write' },
    ],
    params: [...parameters(v), 'dout0', 'doutRow', 'region', 'tokenSums'].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [width * teams],
    workgroupBytes: workgroupBytes(quads, layout),
    declarations: `${FUNCTIONS}\n${sums.declarations}`,
    body: bodies(v, layout, (sets) => `${channelSetup(v, layout, sets)}
  ${sums.begin}
  ${split > 1 ? `let quad = (lane & ${width - 1}u) / ${width / split}u * ${held}u;` : 'const quad = 0u;'}
  ${each(split, (k) => `let channel${k} = wid.x * ${width * teams}u + (li ^ ${(k * width) / split}u); let d${k} = min(channel${k}, D - 1u);`)}
  ${slots((k, r) => `let A${k}q${r} = packed[base + (quad + ${r}u) * D + d${k}]; var dh${k}q${r} = vec4f(); var dA${k}q${r} = vec4f();`)}
  ${starts > 1 ? `var starts: array<vec4f, ${(starts + (remember ? 1 : 0)) * quads}>;` : ''} ${remember ? `var steps: array<vec3f, ${every}>;` : ''}
  let doutAt = p.dout0 + d; let doutRow = p.doutRow; let region = p.region; let gradsAt = way * ${regions}u * region + d; let tokenRow = nwg.x * ${8 * quads}u;
  var dSkip = 0.0;
  var dBias = 0.0;
  let tokens = p.tokenSums + ((way * nwg.y + wid.y) * ((L + ${last}u) / ${stretch}u * ${stretch}u) * nwg.x + wid.x) * ${8 * quads}u;
  for (var c = (L + ${every - 1}u) / ${every}u; c > 0u; c--) {
    let begin = (c - 1u) * ${every}u;
    ${starts === 1 ? `let first = begin;
    ${slots((k, r) => `let h${k}q${r} = ${stored(k, r)};`)}
    ${back(sets)}` : `let stretches = (min(${every}u, L - begin) + ${last}u) / ${stretch}u;
    {
      ${slots((k, r) => `var h${k}q${r} = ${stored(k, r)};`)}
      ${keep('0u')}
      for (var s = 1u; s < stretches${remember ? ' + 1u' : ''}; s++) {${advance(sets)}
        ${keep('s')}
      }
    }
    for (var s = stretches; s > 0u; s--) {
      let first = begin + (s - 1u) * ${stretch}u;
      ${slots((k, r) => `let h${k}q${r} = starts[(s - 1u) * ${quads}u + ${k * held + r}u];`)}
      ${back(sets)}
    }`}
  }
  let row = (way * p.batches + b) * ${4 * quads + 2}u;
  ${slots((k, r) => `if (channel${k} < D) { ${each(4, (i) => `sums[(row + 4u * (quad + ${r}u) + ${i}u) * D + d${k}] = dA${k}q${r}[${i}];`, ' ')} }`)}
  if (inside) {
    sums[(row + ${4 * quads}u) * D + d] = dSkip;
    sums[(row + ${4 * quads + 1}u) * D + d] = dBias;
  }`),
  };
});
