// The backward scan: the gradients of u and delta, and partial sums for those of A, B, C, D and the bias.
//
// It goes from the last saved state to the first. Between two saved states it recomputes the states of the tokens, then
// walks back over them, a few tokens (a stretch) at a time and one vec4 of states after the other, so that all of it
// stays in registers. The recurrence is never inverted: its factors underflow. Sums over channels (dB, dC) and over the
// batch (dA, dD, dbias) are left as partial sums for reduce.ts, added in a fixed order: WGSL has no f32 atomics, and
// the result must not depend on scheduling.
//
// What holds it on a GPU: registers, and 390 instructions a token and subgroup. docs/kernels/selective-scan.md has the
// derivation, the layout, the steps with their ratios, and what was tried in vain.

import { defineKernel } from '../../core/kit.ts';
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
 * Grid: (ceil(D / (width · teams)), batch items of this call, directions). `dy` (B, L, D) is the gradient of the result
 * before the gate. Writes `grads`: du and ddelta of each direction, each (B, L, D), `region` elements apart. Writes
 * `sums`: first (directions, B, chunks, 4·quads + 2, D) of dA, dD and dbias; then, from `tokenSums` on, (directions,
 * batch items of this call, padded L in the scan's order, workgroups along D, quads, 8) of dB (4) and dC (4).
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
  /** Whether the tokens between two saved states are few, so that they are advanced together. */
  const together = saveInterval <= 16 && split > 1;
  /**
   * The history: vec4 `i` of the states before stretch s; and x, delta, its slope and the gradient of token j of
   * stretch s.
   */
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
  /** Sets the gradients of tokens past the end to 0. Apart from the loads: a select beside a load would wait for it. */
  const upstream = (tokens: number): string =>
    each(tokens, (j) => `let up${j} = select(0.0, dy${j}, inside && live${j});`);

  /** Writes the states before each stretch and the numbers of each token into the history. */
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
  /**
   * What is loaded together for these tokens. With a stage it goes into variables `next…`, one turn of the loop ahead.
   */
  const ahead: Wanted = { steps: 'u and delta', tokens: saveInterval, others: [gradient] };
  const loadAhead = (sets: readonly number[]): string => `${placeStretch(v, { ...layout, stretch: saveInterval })}
        ${loadsOf(v, layout, sets, ahead).load('next')}
        ${stage!.load}`;
  /** `advance` for all tokens between two saved states at once. */
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
      ${each(
        saveInterval,
        (j) => `${step(`${Math.floor(j / stretch)}`, j % stretch)} = vec4f(x${j}, delta${j}, slope${j}, up${j});
        let dx${j} = delta${j} * x${j};`,
      )}
      ${advanceStates(v, layout, tokens, (k, r, j) =>
        (j + 1) % stretch === 0 ? ` ${start(`${(j + 1) / stretch}`, k * held + r)} = h${k}q${r};` : '',
      )}`;
  };

  /** Goes back over the stretch that begins at `first`, from the states before it. */
  const back = (sets: readonly number[]): string => {
    const loads = loadsOf(v, layout, sets, { B: true, C: true });
    return `
    ${placeStretch(v, layout)}
    ${loads.declare()}
    ${stage ? `let stageAt = ${stage.place('first - begin')};` : ''}
    ${loads.load()}
    ${each(
      stretch,
      (j) => `let step${j} = ${step('s', j)}; let x${j} = step${j}.x; let delta${j} = step${j}.y;
      let slope${j} = step${j}.z; let up${j} = step${j}.w;`,
    )}
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
      ${each(
        stretch,
        (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotInput${j} = ${across(`dx${j}`, k)};
        let slotUp${j} = ${across(`up${j}`, k)};`,
      )}
      let before0 = ${start('s', k * held + r)};
      ${each(
        stretch,
        (j) => `let a${j} = exp2(slotDelta${j} * A${k}q${r});
        let before${j + 1} = a${j} * before${j} + slotInput${j} * B${r}x${j};`,
      )}
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

  /** A first pass over a part of the sequence: the derivatives of the states that it passes on to the part before. */
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
      ${each(held, (r) =>
        each(
          stretch,
          (m) => `dh${k}q${r} = exp2(slotDelta${last - m} * A${k}q${r})
        * (dh${k}q${r} + slotUp${last - m} * C${r}x${last - m});`,
        ),
      )}
    }`,
    )}
  }`;
  };

  /** Everything between two saved states. */
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
  ${slots(
    (k, r) => `if (channel${k} < D) {
    ${each(4, (i) => `sums[(row + 4u * (quad + ${r}u) + ${i}u) * D + d${k}] = dA${k}q${r}[${i}];`, ' ')} }`,
  )}
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
    // One struct a stretch: its index is clamped once by Tint, not once for each array.
    declarations: `${FUNCTIONS}
${together ? `struct Stretch { states: array<vec4f, ${quads}>, steps: array<vec4f, ${stretch}> }` : ''}
${sums.declarations}\n${seam?.declarations ?? ''}\n${stage?.declarations ?? ''}
${inWorkgroup ? history : ''}`,
    body: `${laneSetup(v, layout, held, 'wid.y + p.batch0')}
  ${inWorkgroup ? '' : history}
  ${sets.length === 1 || merged ? body(sets) : `if (wid.z == 0u) {\n${body([sets[0]])}\n} else {\n${body([sets[1]])}\n}`}`,
  };
});
