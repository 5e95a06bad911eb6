// The backward scan. States are recomputed from the saved ones, a stretch of tokens at a time and there one vec4 of states after the
// other, so that all of it stays in registers; never by inverting the recurrence, whose factors underflow. Sums over channels (dB,
// dC) and over the batch (dA, dD, dbias) are left as partial sums for reduce.ts, in a fixed order: WGSL has no f32 atomics, and the
// result shall not depend on scheduling.
//
// Ladder, both directions of B64 L258 D736 N16 on an H200, of the time of step 0 (1.87 ms):
// 0. a lane a channel, the states of 32 tokens in private memory, a workgroup of one subgroup;
// 1. 8 tokens at a time in registers, sums of 8 subgroups joined in workgroup memory: 0.52;
// 2. 4 tokens; 4 lanes share 4 channels, so that sums over channels begin in registers: 0.45.
// Partial sums shrink with the teams: adding them up fell to 0.3. From here on an H100, µs, the kernel and what belongs to it; step 2 is
// from a profile of a training step (963 and 117), the rest from runs of their own on the same kind of GPU:
// 3. the gate's derivative in a dispatch ahead (gate.ts), from the result before the gate that the forward scan saves, in place of finding
//    that again; no halves to add up; both directions' sums in one dispatch; loads between saved states wait together: 813 and 125;
// 4. states saved every 8 tokens, 2 tokens at a time (which the tuner tries; twice the states to keep): 755 and 125;
// 5. subgroups of a workgroup meet once for all tokens between saved states: 736, and 766 without in that run;
// 6. what the compiled code showed (an H100's shader cache holds what nvdisasm reads): lanes that share channels lie in a quad, and sums go by
//    shuffles with an index that stays, since Dawn follows every subgroupShuffleXor with a select, 28 a token: 704 for 728;
// 7. loads that were meant to wait together were waited for one token after the other. Now u, delta and dy between two saved states are
//    loaded at the end of those before them, B and C by the workgroup into its memory, with a softplus without a division: 637, and 770
//    with the loads of step 6; 4 tokens at a time: 613. One direction 329 for 381 of step 5. In f16 604 for 733.
// 8. where it waited, which a profiler told of this WGSL as CUDA: for each dy where it is loaded, by its select, and for saved states at the
//    start of a run of tokens; now selects are where values are used, saved states are loaded with the next tokens, and what belongs to a
//    stretch has one index that Tint clamps. In alternation, µs: both directions 616 to 549, one direction 335 to 296, in f16 606 to 533.
// In parts for few rows, B8, one run, the kernel alone: 231 for 318, with step 8 204 for 212. Tried at step 3, in its run: loads of the next
// tokens ahead (1.04), one code for both directions (1.0 with those), 2 lanes for 4 (1.17), 8 subgroups (1.0). In other runs: the history in
// registers by code for each stretch (773 at 8 tokens, 1,430 at 16), 1 token at a time (1,194). Taken out one by one at step 4, exponentials save
// 0.02 of the time, exchange between lanes 0.1, sums over channels 0.11, u and delta 0.09, gradients' stores 0.08; all of these and B, C and
// softplus 0.28 (0.44 with 4 tokens). What holds it: registers (168 with 2 tokens at a time, 255 with 4) let three subgroups a scheduler be, or
// two, which issue in 0.53 of all clocks; and 390 instructions a token and subgroup (a state takes 11 to 14 of arithmetic and 1.5 exponentials,
// all of it 220 and 26 of the special unit at 8 clocks each), which at one a clock are 0.28 ms, beside 0.13 of gate and
// sums: 60 % of a copy's bandwidth, 0.31 ms for all, is out of reach of this formula in f32. Of the samples of a profile 0.27 issue, 0.24 wait for memory, 0.16 for arithmetic, 0.1
// are not chosen, 0.07 wait for the dispatch, 0.06 for shuffles and the special unit, 0.04 each for barriers and for instructions: an H100
// fetches those of a loop at full speed up to 2,048, 32 KiB, and at 0.35 to 0.75 of it beyond; this one has 1,980. Its compiler moves loads ahead to the
// end of the loop whose turn they span, behind the stretches. Tried at step 8 against that: loads in the turn of a stretch, kept in private memory
// (1.22, 1.7 with 2 tokens), behind a branch in the first or last stretch (1.15), lines touched there (1.15 to 1.25, maybe since private memory
// falls out of the cache), B and C staged before the first stretch (1.02). The gate's derivative in here, without gate.ts: 0.96 of both kernels in f32, 1.03 in f16
// and in one direction. Slots in a loop, with dh, dA and A in private memory: a third of the program, 1.34 to 1.5.
// Tried at step 7: B and C read anew for each channel (1.05; 241
// registers), two stretches a turn of the loop (1.03), 2 or 8 subgroups (1.02, 1.15), states saved every 16 tokens (1.12). Tried at step 5:
// states from the saved ones in place of a history (1.03 to 1.13); gradients, A or both in workgroup memory (0.9 to 1.1 of that: as many registers are taken); the
// next tokens' lines touched ahead, which one workgroup alone gains from (0.9) and registers lose again (1.15); 8, 12 or 16 subgroups (1.0 to
// 1.2, 1.0, 1.5); states saved every 4 tokens, 4 at a time, with lines touched ahead (0.87, but the forward scan takes 1.27 for it).
// Without the driver's checks of bounds 0.94.
// On a CPU's 8 lanes it is step 0 with step sizes remembered and parameters read once, 0.93, and step 3's gate, 0.93. Then states and step
// sizes in workgroup memory, 2 tokens at a time and shuffles for broadcasts, B8, in alternation: 0.82 of one direction, 0.75 of both.
// A private array that is indexed had been 0.4 of the time. What holds it: the program is longer than the 32 KiB that a core keeps of one,
// so that 4 tokens at a time, with fewer instructions in all, are slower (1.1).

import { defineKernel } from '../../core/gpu/kernel.ts';
import { backwardBytes, type BackwardLayout } from './plan.ts';
import { teamSums } from './teamSums.ts';
import {
  across,
  advanceStates,
  directionSetup,
  each,
  fetchShared,
  FUNCTIONS,
  inputs,
  laneSetup,
  loadsOf,
  parameters,
  placeStretch,
  savedIndex,
  seams,
  setsOf,
  slotsOf,
  stageOf,
  stepSizes,
  type ScanVariant,
  type Wanted,
} from './wgsl.ts';

export interface BackwardVariant extends ScanVariant {
  readonly layout: BackwardLayout;
}

/**
 * Grid: (ceil(D / (width · teams)), batches of this call, directions). `dy` (B, L, D) is the gradient of the result before the gate.
 * Writes `grads`: du and ddelta of each direction, every one (B, L, D) and `region` elements apart;
 * `sums`: (directions, B, chunks, 4·quads + 2, D) of dA, dD, dbias, then from `tokenSums` on (directions, batches of this call, padded L
 * in the scan's own order, workgroups along D, quads, 8) of dB (4) and dC (4).
 */
export const backwardKernel = defineKernel<BackwardVariant>('selectiveScan.backward', (v) => {
  const { layout, dtype, quads, saveInterval } = v;
  const { stretch, split, width, teams, chunks, merged } = layout;
  const { held, slots } = slotsOf(quads, layout);
  const last = stretch - 1;
  const sums = teamSums(quads, { saveInterval, layout }, (token) => `(tokens + (begin + ${token}) * tokenRow)`);
  const seam = chunks > 1 ? seams(quads, layout, 'down') : null;

  /** Stretches between two saved states. */
  const stretches = saveInterval / stretch;
  /** Whether the tokens between two saved states are few, and advanced in one go. */
  const together = saveInterval <= 16 && split > 1;
  /** Of the history, vec4 `i` of the states before stretch s, and x, delta, its slope and the gradient of token j of stretch s. */
  const inWorkgroup = layout.history === 'workgroup';
  const ofLane = (array: string, at: string): string => `${array}[${inWorkgroup ? `(${at}) * ${width}u + li` : at}]`;
  const start = (s: string, i: number): string =>
    together ? `past[${s}].states[${i}]` : ofLane('starts', `${s} * ${quads}u + ${i}u`);
  const step = (s: string, j: number): string =>
    together ? `past[${s}].steps[${j}]` : ofLane('steps', `${s} * ${stretch}u + ${j}u`);
  const [space, lanes] = inWorkgroup ? ['var<workgroup>', width] : ['var', 1];
  const history = together
    ? `var past: array<Stretch, ${stretches}>;`
    : `${space} starts: array<vec4f, ${(stretches + 1) * quads * lanes}>; ${space} steps: array<vec4f, ${saveInterval * lanes}>;`;
  const stored = (k: number, r: number): string =>
    `saved[${savedIndex(v, layout, seam ? 'min(c - 1u, slots - 1u)' : '(c - 1u)', k, r)}]`;
  const gradient = { name: 'dy', from: (j: number) => `f32(dy[dyAt + t${j} * D])` };
  /** Of tokens whose gradients were loaded, those that count. Not where they are loaded, which would wait for them there. */
  const upstream = (tokens: number): string =>
    each(tokens, (j) => `let up${j} = select(0.0, dy${j}, inside && live${j});`);

  /** States before every stretch and the numbers of every token, into the history. */
  const advance = (sets: readonly number[]): string => {
    const loads = loadsOf(v, layout, sets, { steps: 'u and delta', B: true, others: [gradient] });
    return `for (var s = 1u; s < stretches + 1u; s++) {
        let first = begin + (s - 1u) * ${stretch}u;
        ${placeStretch(v, layout)}
        ${loads.declare()}
        ${loads.load()}
        ${stepSizes(v, stretch, true)}
        ${upstream(stretch)}
        ${each(stretch, (j) => `${step('(s - 1u)', j)} = vec4f(x${j}, delta${j}, slope${j}, up${j}); let dx${j} = delta${j} * x${j};`)}
        ${fetchShared(v, layout, 'B')}
        ${advanceStates(v, layout, stretch)}
        ${slots((k, r) => `${start('s', k * held + r)} = h${k}q${r};`, ' ')}
      }`;
  };

  const stage = layout.fetch === 'staged' ? stageOf(v, layout, saveInterval) : null;
  /** What of these tokens is loaded together; with a stage into variables `next…`, a turn of the loop ahead. */
  const ahead: Wanted = { steps: 'u and delta', tokens: saveInterval, others: [gradient] };
  const loadAhead = (sets: readonly number[]): string => `${placeStretch(v, { ...layout, stretch: saveInterval })}
        ${loadsOf(v, layout, sets, ahead).load('next')}
        ${stage!.load}`;
  /** `advance` for these tokens. */
  const advanceTogether = (sets: readonly number[]): string => {
    const tokens = saveInterval - stretch;
    const loads = loadsOf(v, layout, sets, {
      ...(stage ? {} : ahead),
      B: true,
      tokens: saveInterval,
      tokensOfB: tokens,
    });
    return `let first = begin;
      ${placeStretch(v, { ...layout, stretch: saveInterval })}
      ${loads.declare()}
      ${stage ? `${loadsOf(v, layout, sets, ahead).take('next')} let stageAt = ${stage.place('0u')};` : ''}
      ${loads.load()}
      ${
        stage
          ? `{
        let first = (max(c, 2u) - 2u) * ${saveInterval}u;
        ${loadAhead(sets)}
      }`
          : ''
      }
      ${stepSizes(v, saveInterval, true)}
      ${upstream(saveInterval)}
      ${each(saveInterval, (j) => `${step(`${Math.floor(j / stretch)}`, j % stretch)} = vec4f(x${j}, delta${j}, slope${j}, up${j}); let dx${j} = delta${j} * x${j};`)}
      ${advanceStates(v, layout, tokens, (k, r, j) => ((j + 1) % stretch === 0 ? ` ${start(`${(j + 1) / stretch}`, k * held + r)} = h${k}q${r};` : ''))}`;
  };

  /** The stretch from `first` on backwards, from the states before it. */
  const back = (sets: readonly number[]): string => {
    const loads = loadsOf(v, layout, sets, { B: true, C: true });
    return `
    ${placeStretch(v, layout)}
    ${loads.declare()}
    ${stage ? `let stageAt = ${stage.place('first - begin')};` : ''}
    ${loads.load()}
    ${each(stretch, (j) => `let step${j} = ${step('s', j)}; let x${j} = step${j}.x; let delta${j} = step${j}.y; let slope${j} = step${j}.z; let up${j} = step${j}.w;`)}
    ${each(
      stretch,
      (j) => `let dx${j} = delta${j} * x${j};
    dSkip += up${j} * x${j};
    var dExponent${j} = 0.0;
    var dInput${j} = 0.0;`,
    )}
    ${fetchShared(v, layout, 'BC')}
    ${each(
      held,
      (r) => `{
      ${each(stretch, (j) => `var gB${j} = vec4f(); var gC${j} = vec4f();`)}
      ${each(
        split,
        (k) => `{
      ${each(stretch, (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotInput${j} = ${across(`dx${j}`, k)}; let slotUp${j} = ${across(`up${j}`, k)};`)}
      let before0 = ${start('s', k * held + r)};
      ${each(stretch, (j) => `let a${j} = exp2(slotDelta${j} * A${k}q${r}); let before${j + 1} = a${j} * before${j} + slotInput${j} * B${r}x${j};`)}
      ${each(stretch, (m) => {
        const j = last - m;
        return `dh${k}q${r} += slotUp${j} * C${r}x${j};
      dInput${j} += ${across(`dot(dh${k}q${r}, B${r}x${j})`, k)};
      gB${j} += dh${k}q${r} * slotInput${j};
      gC${j} += slotUp${j} * before${j + 1};
      dh${k}q${r} *= a${j};
      let w${j} = dh${k}q${r} * before${j};
      dA${k}q${r} += w${j} * slotDelta${j};
      dExponent${j} += ${across(`dot(w${j}, A${k}q${r})`, k)};`;
      })}
      }`,
      )}
      ${each(stretch, (m) => sums.token(r, last - m))}
      ${sums.quad(r)}
    }`,
    )}
    ${each(
      stretch,
      (j) => `let dRaw${j} = (dExponent${j} * 0.6931471805599453 + dInput${j} * x${j}) * slope${j};
    dBias += dRaw${j};
    if (inside && live${j}) {
      let at = gradsAt + t${j} * D;
      grads[at] = ${dtype}(dInput${j} * delta${j} + up${j} * skip.x);
      grads[at + region] = ${dtype}(dRaw${j});
    }`,
    )}`;
  };

  /** A first pass over a part of the sequence, for the derivatives of the states that it passes on to the part before. */
  const adjoint = (sets: readonly number[]): string => {
    const loads = loadsOf(v, layout, sets, { steps: 'delta', C: true, others: [gradient] });
    return `var span = 0.0;
  for (var i = p.chunk; i > 0u; i -= ${stretch}u) {
    let first = part * p.chunk + i - ${stretch}u;
    ${placeStretch(v, layout)}
    ${loads.declare()}
    ${loads.load()}
    ${stepSizes(v, stretch)}
    ${upstream(stretch)}
    ${each(stretch, (j) => `span += delta${j};`)}
    ${fetchShared(v, layout, 'C')}
    ${each(
      split,
      (k) => `{
      ${each(stretch, (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotUp${j} = ${across(`up${j}`, k)};`)}
      ${each(held, (r) => each(stretch, (m) => `dh${k}q${r} = exp2(slotDelta${last - m} * A${k}q${r}) * (dh${k}q${r} + slotUp${last - m} * C${r}x${last - m});`))}
    }`,
    )}
  }`;
  };

  /** What lies between two saved states. */
  const between = (
    sets: readonly number[],
  ): string => `let stretches = ${seam ? `${stretches}u` : `(min(${saveInterval}u, L - begin) + ${last}u) / ${stretch}u`};
    {
      ${slots((k, r) => `var h${k}q${r} = ${stage ? `ahead${k}q${r}` : stored(k, r)}; ${start('0', k * held + r)} = h${k}q${r};`)}
      ${together ? advanceTogether(sets) : advance(sets)}
    }
    for (var left = stretches; left > 0u; left--) {
      let s = left - 1u;
      let first = begin + s * ${stretch}u;
      ${back(sets)}
    }
    ${
      stage
        ? `${stage.put}
    ${slots((k, r) => `ahead${k}q${r} = saved[${savedIndex(v, layout, '(max(c, 2u) - 2u)', k, r)}];`)}`
        : ''
    }
    ${sums.end('stretches')}
    ${stage ? `${teams > 1 ? '' : 'workgroupBarrier();'} ${stage.turn}` : ''}`;

  const body = (
    sets: readonly number[],
  ): string => `${sets.length === 1 ? `const way = ${sets[0]}u;` : 'let way = wid.z;'}
  ${directionSetup(v, slots, sets)}
  ${sums.begin}
  ${slots((k, r) => `var dh${k}q${r} = vec4f(); var dA${k}q${r} = vec4f();`)}
  let dyAt = p.dy0 + d; let region = p.region; let gradsAt = way * 2u * region + d; let tokenRow = nwg.x * ${8 * quads}u;
  var dSkip = 0.0;
  var dBias = 0.0;
  let padded = ${chunks > 1 ? `${chunks}u * p.chunk` : `(L + ${last}u) / ${stretch}u * ${stretch}u`};
  let tokens = p.tokenSums + ((way * nwg.y + wid.y) * padded * nwg.x + wid.x) * ${8 * quads}u;
  ${
    seam
      ? `${adjoint(sets)}
  ${seam.leave('dh', 'span')}
  ${seam.enter('dh')}
  let most = p.chunk / ${saveInterval}u;
  for (var n = most; n > 0u; n--) {
    let c = part * most + n;`
      : `${
          stage
            ? `${loadsOf(v, layout, sets, ahead).declare('next')}
  ${stage.begin}
  ${slots((k, r) => `var ahead${k}q${r} = saved[${savedIndex(v, layout, `((L - 1u) / ${saveInterval}u)`, k, r)}];`)}
  {
    let first = (L - 1u) / ${saveInterval}u * ${saveInterval}u;
    ${loadAhead(sets)}
    ${stage.put}
    ${stage.turn}
    workgroupBarrier();
  }`
            : ''
        }
  for (var c = (L + ${saveInterval - 1}u) / ${saveInterval}u; c > 0u; c--) {`
  }
    let begin = (c - 1u) * ${saveInterval}u;
    ${between(sets)}
  }
  let row = ((way * p.batches + b) * ${chunks}u + part) * ${4 * quads + 2}u;
  ${slots((k, r) => `if (channel${k} < D) { ${each(4, (i) => `sums[(row + 4u * (quad + ${r}u) + ${i}u) * D + d${k}] = dA${k}q${r}[${i}];`, ' ')} }`)}
  if (inside) {
    sums[(row + ${4 * quads}u) * D + d] = dSkip;
    sums[(row + ${4 * quads + 1}u) * D + d] = dBias;
  }`;

  const sets = setsOf(v);
  return {
    enable: [...(dtype === 'f16' ? ['f16' as const] : []), ...(layout.subgroups ? ['subgroups' as const] : [])],
    bindings: [
      ...inputs(v),
      { name: 'saved', type: 'array<vec4f>', access: 'read' },
      { name: 'dy', type: `array<${dtype}>`, access: 'read' },
      { name: 'grads', type: `array<${dtype}>`, access: 'write' },
      { name: 'sums', type: 'array<f32>', access: 'write' },
    ],
    params: [...parameters(v), 'batch0', 'region', 'tokenSums', 'dy0'].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [width * teams * chunks],
    workgroupBytes: backwardBytes(quads, { saveInterval, layout }),
    // One index, which Tint keeps within bounds, does for all that belongs to a stretch.
    declarations: `${FUNCTIONS}\n${together ? `struct Stretch { states: array<vec4f, ${quads}>, steps: array<vec4f, ${stretch}> }` : ''}\n${sums.declarations}\n${seam?.declarations ?? ''}\n${stage?.declarations ?? ''}
${inWorkgroup ? history : ''}`,
    body: `${laneSetup(v, layout, held, 'wid.y + p.batch0')}
  ${inWorkgroup ? '' : history}
  ${sets.length === 1 || merged ? body(sets) : `if (wid.z == 0u) {\n${body([sets[0]])}\n} else {\n${body([sets[1]])}\n}`}`,
  };
});
