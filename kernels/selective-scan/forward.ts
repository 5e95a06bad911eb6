// The forward scan: h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t],  y[t] = <C[t], h[t]> + D u[t], gated by
// silu(z[t]).
//
// A lane owns a channel and walks along the tokens with its states in registers, one direction after the other; four
// lanes may share four channels, so that each reads a part of B and C. Loads of the next tokens are in flight while
// these are computed. With few rows a workgroup cuts the sequence into parts. For gradients, states are saved every
// `saveInterval` tokens.
//
// What holds it on a GPU: instructions without saved states, probably memory with them. docs/kernels/selective-scan.md
// tells the layout, every step with its ratio, and what was tried in vain.

import { defineKernel } from '../../core/kit.ts';
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
  /** Whether to save the states every `saveInterval` tokens and after the last one, and the result before a gate. */
  readonly save: boolean;
  /** Number of directions of the whole scan; this dispatch may run only one of them. */
  readonly total: number;
}

/**
 * Grid: (ceil(D / (width · teams)), batch). A lane runs one direction after the other and adds their results in place.
 * `out` is (B, L, D), and so is `ungated`, which is saved where there is a gate. `saved` is (directions, B, slots,
 * quads, `savedColumns`) of vec4: slot c holds the states before token c · saveInterval in the scan's order, the last
 * slot the states at the end.
 */
export const forwardKernel = defineKernel<ForwardVariant>('selectiveScan.forward', (v) => {
  const { layout, dtype, quads, saveInterval, gate, save, total } = v;
  const { stretch, chunks, split, ahead } = layout;
  const { held, slots } = slotsOf(quads, layout);
  const seam = chunks > 1 ? seams(quads, layout, 'up') : null;
  const sum = gate && save ? 'ungated' : 'out';
  const store = (slot: string): string =>
    `if (column < savedRow) { ${slots((k, r) => `saved[${savedIndex(v, layout, slot, k, r)}] = h${k}q${r};`, ' ')} }`;
  // A CPU takes a branch even if no lane is in it, so it gets a loop between saved states. A GPU is faster with the
  // branch.
  const keep = `if (${chunks > 1 ? 'begin + i < L' : 'true'}) { ${store(`(begin + i) / ${saveInterval}u`)} }`;

  const direction = (sets: readonly number[]): string => {
    /**
     * Whether this code runs a direction after the first, or the last one; and how to say so where it runs others too.
     */
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
     * Whether the results of a stretch are written one turn of the loop later. A turn then ends in one block, in which
     * a driver's compiler can put the loads ahead; it moves them behind branches that follow. With saved states this
     * takes too many registers.
     */
    const delayed = ahead && one && !save;
    const result = (j: number): string =>
      `${dtype}(${gate && last ? `y${j} * gate${j} * mathQuickSigmoid(gate${j})` : `y${j}`})`;
    /** Writes the results of the stretch that ends before token `end`; `live` says whether token j of it exists. */
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
    ${each(split, (k) =>
      each(
        stretch,
        (j) => `let slotDelta${k}x${j} = ${across(`delta${j}`, k)};
      let slotInput${k}x${j} = ${across(`dx${j}`, k)}; var slotY${k}x${j} = 0.0;`,
      ),
    )}
    ${each(held, (r) =>
      each(split, (k) =>
        each(
          stretch,
          (j) => `h${k}q${r} = exp2(slotDelta${k}x${j} * A${k}q${r}) * h${k}q${r}
      + slotInput${k}x${j} * B${r}x${j}; slotY${k}x${j} += dot(h${k}q${r}, C${r}x${j});`,
        ),
      ),
    )}
    ${each(stretch, (j) => each(split, (k) => `y${j} += ${across(`slotY${k}x${j}`, k)};`, ' '))}
    ${each(stretch, (j) =>
      delayed
        ? `result${j} = ${result(j)};`
        : `if (inside && live${j}) {
      let at${j} = t${j} * D + d; ${write(j)} }`,
    )}`;
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
  ${
    layout.merged && sets.length > 1
      ? `for (var way = 0u; way < ${total}u; way++) {${direction(sets)}\n}`
      : sets.map((set) => `{\n  const way = ${set}u;${direction([set])}\n}`).join('\n')
  }`,
  };
});
