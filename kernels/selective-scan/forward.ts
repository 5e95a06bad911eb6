// The forward scan: h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t],  y[t] = <C[t], h[t]> + D u[t], gated by silu(z[t]).
//
// Ladder, both directions of B64 L258 D736 N16 in f32 with what training saves, on an H100, µs by timestamps. Not of one run: step 0 is from a
// profile of a training step, the others from three runs of their own on the same kind of GPU, all with the clock up.
// 0. a lane a channel, 4 tokens loaded at a time, directions side by side (344), their results added up by a dispatch (55), arguments
//    packed in two (24): 423;
// 1. a lane runs one direction after the other and adds up in place; 4 lanes share 4 channels, so that each reads a part of B and C: 356 + 25;
// 2. the next tokens' loads in flight while these are computed, code of its own for each direction: 294 + 26;
// 3. 8 tokens at a time, both directions' arguments packed in one dispatch: 275 + 16;
// 4. quads share channels (backward.ts, step 6), softplus and gate without a division and its selects, four values packed an invocation: 280 + 12
//    for 291 + 14 in one run; without states 219 for 239, one direction without states 119 + 11 for 129 + 12;
// 5. without states, results are written a turn later, in alternation: 212 for 221, one direction 114 for 119; in parts B8 97 for 103, B1 59 for 62.
// In parts for few rows, in one run, form of step 1: B8 118 for 228, B1 72 for 157. Tried, in one run with step 2: 2 tokens (1.24, one code
// for both directions), 2 lanes for 4 (1.0), 8 subgroups a workgroup (1.1, the same). Taking things out of step 3: without exponentials,
// softplus and exchange 0.88 of the time, without the result's stores 0.64, so that memory is the likely limit: the first direction's
// result goes out and comes back, and saved states are a third as many bytes as the arguments, which makes 535 MB of the 292 that have to
// move. Of one direction, which moves no result twice, the time is the same in f16: instructions hold that. Tried there: softplus without a
// division (0.96 to 1.0), a loop of its own for tokens that are surely there (0.91 without a tail, 1.18 with one, which takes registers; on an H200
// with a tail of single tokens 0.96 of one direction and 0.97 of both, but 1.39 of both with states saved), with it B and C not ahead (0.92 of one
// direction, 1.03 to 1.47 of the others). Tried with step 4, of one direction: B and C in workgroup memory and no branches (0.97), with that the
// next token's exponentials in flight while this one's sums are made (1.1 to 1.2: the compiler issues them all at the end of a turn, where the special
// unit is what they wait for), 16 tokens (1.15). An exp2 takes one slot beside its 8 clocks of the special unit. Of what a
// further workgroup on a multiprocessor takes, 250 clocks a token and subgroup, the 20 exponentials and reciprocals fill 160. Arithmetic of which
// one in eight is an exponential issues in 0.87 of all clocks at best, with 11 clocks an exponential; this kernel issues in 0.66.
// On Mesa's lavapipe, B8, both directions, against the form of step 0 in alternation: 0.78. There no branch between
// saved states, 2 tokens at a time and code of its own for each direction: 0.89; 1 or 4 tokens so: 1.0; for one direction 1 token, 0.95 (2: 1.14).

import { defineKernel } from '../../core/gpu/kernel.ts';
import type { ForwardLayout } from './plan.ts';
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
  stepSizes,
  token,
  type ScanVariant,
} from './wgsl.ts';

export interface ForwardVariant extends ScanVariant {
  readonly layout: ForwardLayout;
  readonly gate: boolean;
  /** Save the states every `saveInterval` tokens and after the last one, and with a gate the result before it. */
  readonly save: boolean;
  /** Directions of the whole scan, of which this dispatch may run only one. */
  readonly total: number;
}

/**
 * Grid: (ceil(D / (width · teams)), batch). A lane runs one direction after the other and adds them up where the result lies. `out`,
 * and with a gate that is saved for `ungated`, have (B, L, D); `saved` has (directions, B, slots, quads,
 * `savedColumns`) vec4s, slot c holding the states before token c·saveInterval of the scan's own order and the last slot those at the end.
 */
export const forwardKernel = defineKernel<ForwardVariant>('selectiveScan.forward', (v) => {
  const { layout, dtype, quads, saveInterval, gate, save, total } = v;
  const { stretch, chunks, split, ahead } = layout;
  const { held, slots } = slotsOf(quads, layout);
  const seam = chunks > 1 ? seams(quads, layout, 'up') : null;
  const sum = gate && save ? 'ungated' : 'out';
  const store = (slot: string): string =>
    `if (column < savedRow) { ${slots((k, r) => `saved[${savedIndex(v, layout, slot, k, r)}] = h${k}q${r};`, ' ')} }`;
  // Between saved states a CPU would take the branch to here with no lane in it, so there a loop is in its place; a GPU is faster with the branch.
  const keep = `if (${chunks > 1 ? 'begin + i < L' : 'true'}) { ${store(`(begin + i) / ${saveInterval}u`)} }`;

  const direction = (sets: readonly number[]): string => {
    /** Whether this code runs some direction after the first, or the last one; and a condition where it runs others too. */
    const [later, last] = [sets.some((set) => set > 0), sets.includes(total - 1)];
    const one = sets.length === 1;
    const afterFirst = (value: string): string => (one ? value : `select(0.0, ${value}, way > 0u)`);
    const loads = loadsOf(v, layout, sets, {
      steps: 'u and delta',
      B: true,
      C: true,
      others: [
        ...(later ? [{ name: 'before', from: (j: number) => afterFirst(`f32(${sum}[t${j} * D + d])`) }] : []),
        ...(gate && last ? [{ name: 'gate', from: (j: number) => `f32(z[p.z0 + d + t${j} * p.zRow])` }] : []),
      ],
    });
    /**
     * Whether a stretch's results are written by the turn after it. Then a turn ends in one block, in whose midst a driver's compiler puts the
     * loads ahead; it moves them behind branches that come after. With states saved as well that takes too many registers.
     */
    const delayed = ahead && one && !save;
    const result = (j: number): string =>
      `${dtype}(${gate && last ? `y${j} * gate${j} * sigmoid(gate${j})` : `y${j}`})`;
    /** Writes the stretch before token `end`; `live` says whether token j of it is one. */
    const writeBefore = (end: string, live: (j: number) => string): string =>
      each(
        stretch,
        (j) => `if (${live(j)}) { out[(b * L + ${token(v, `(${end} - ${stretch - j}u)`)}) * D + d] = result${j}; }`,
      );
    const finish = (j: number): string =>
      `${gate && save ? `ungated[at${j}] = ${dtype}(y${j}); ` : ''}out[at${j}] = ${result(j)};`;
    const write = (j: number): string =>
      !gate || (last && one)
        ? finish(j)
        : last
          ? `if (way == ${total - 1}u) { ${finish(j)} } else { ${sum}[at${j}] = ${dtype}(y${j}); }`
          : `${sum}[at${j}] = ${dtype}(y${j});`;
    const run = `
    ${
      ahead
        ? `${loads.take('next')}
    {
      let first = begin + i + ${stretch}u;
      ${placeStretch(v, layout)}
      ${loads.load('next')}
    }
    ${placeStretch(v, layout)}`
        : `${placeStretch(v, layout)}
    ${loads.declare()}
    ${loads.load()}`
    }
    ${stepSizes(v, stretch)}
    ${each(stretch, (j) => `let dx${j} = delta${j} * x${j}; var y${j} = skip.x * x${j}${later ? ` + before${j}` : ''};`)}
    ${fetchShared(v, layout, 'BC')}
    ${each(split, (k) => each(stretch, (j) => `let slotDelta${k}x${j} = ${across(`delta${j}`, k)}; let slotInput${k}x${j} = ${across(`dx${j}`, k)}; var slotY${k}x${j} = 0.0;`))}
    ${each(held, (r) => each(split, (k) => each(stretch, (j) => `h${k}q${r} = exp2(slotDelta${k}x${j} * A${k}q${r}) * h${k}q${r} + slotInput${k}x${j} * B${r}x${j}; slotY${k}x${j} += dot(h${k}q${r}, C${r}x${j});`)))}
    ${each(stretch, (j) => each(split, (k) => `y${j} += ${across(`slotY${k}x${j}`, k)};`, ' '))}
    ${each(stretch, (j) => (delayed ? `result${j} = ${result(j)};` : `if (inside && live${j}) { let at${j} = t${j} * D + d; ${write(j)} }`))}`;
    const start = loadsOf(v, layout, sets, { steps: 'u and delta', B: true });
    return `
  ${directionSetup(v, slots, sets)}
  ${slots((k, r) => `var h${k}q${r} = vec4f();`)}
  ${
    seam
      ? `let begin = part * p.chunk;
  var span = 0.0;
  for (var i = 0u; i < p.chunk; i += ${stretch}u) {
    let first = begin + i;
    ${placeStretch(v, layout)}
    ${start.declare()}
    ${start.load()}
    ${stepSizes(v, stretch)}
    ${each(stretch, (j) => `let dx${j} = delta${j} * x${j}; span += delta${j};`)}
    ${fetchShared(v, layout, 'B')}
    ${advanceStates(v, layout, stretch)}
  }
  ${seam.leave('h', 'span')}
  ${seam.enter('h')}`
      : 'const begin = 0u;'
  }
  ${
    ahead
      ? `${loads.declare('next')}
  {
    let first = begin;
    ${placeStretch(v, layout)}
    ${loads.load('next')}
  }`
      : ''
  }
  let tokens = ${seam ? 'p.chunk' : 'L'};
  ${delayed ? each(stretch, (j) => `var result${j} = ${dtype}();`, ' ') : ''}
  ${
    save && !ahead
      ? `for (var i = 0u; i < tokens;) {
    ${keep}
    let next = min(i + ${saveInterval}u, tokens);
    for (; i < next; i += ${stretch}u) {
      let first = begin + i;
      ${run}
    }
  }`
      : `for (var i = 0u; i < tokens; i += ${stretch}u) {
    let first = begin + i;
    ${save ? (saveInterval === stretch ? keep : `if (first % ${saveInterval}u == 0u) { ${keep} }`) : ''}
    ${delayed ? `if (inside && i > 0u) { ${writeBefore('first', (j) => (seam ? `first - ${stretch - j}u < L` : 'true'))} }` : ''}
    ${run}
  }
  ${
    delayed
      ? `if (inside) {
    let end = begin + (tokens + ${stretch - 1}u) / ${stretch}u * ${stretch}u;
    ${writeBefore('end', (j) => `end - ${stretch - j}u < L`)}
  }`
      : ''
  }`
  }
  ${save ? `${seam ? `if (part == ${chunks - 1}u) {` : '{'} ${store('(slots - 1u)')} }` : ''}
  ${seam && total > 1 ? '// The next direction meets these tokens in other invocations.\n  storageBarrier();\n  workgroupBarrier();' : ''}`;
  };

  const sets = setsOf(v);
  return {
    enable: [
      ...(dtype === 'f16' ? ['f16' as const] : []),
      ...(layout.fetch === 'broadcast' || split > 1 ? ['subgroups' as const] : []),
    ],
    bindings: [
      ...inputs(v),
      ...(gate ? [{ name: 'z', type: `array<${dtype}>`, access: 'read' } as const] : []),
      { name: 'out', type: `array<${dtype}>`, access: 'write' },
      ...(save ? [{ name: 'saved', type: 'array<vec4f>', access: 'write' } as const] : []),
      ...(save && gate ? [{ name: 'ungated', type: `array<${dtype}>`, access: 'write' } as const] : []),
    ],
    params: [...parameters(v), 'z0', 'zRow'].map((name) => ({ name, type: 'u32' })),
    workgroupSize: [layout.width * layout.teams * chunks],
    workgroupBytes: seam?.bytes ?? 0,
    declarations: `${FUNCTIONS}\n${seam?.declarations ?? ''}`,
    body: `${laneSetup(v, layout, held, 'wid.y')}
  ${layout.merged && sets.length > 1 ? `for (var way = 0u; way < ${total}u; way++) {${direction(sets)}\n}` : sets.map((set) => `{\n  const way = ${set}u;${direction([set])}\n}`).join('\n')}`,
  };
});
