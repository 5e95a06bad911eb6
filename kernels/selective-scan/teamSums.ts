// Sums over the channels of a workgroup, for dB and dC of every token. Eight values of a token are summed at a time:
// those of one vec4 of states.
//
// With subgroups it is a reduce-scatter: at each exchange a lane keeps half of its values and gives the other half
// away, so that a whole sum costs about one shuffle a value, not log2(width). After three exchanges a lane holds one
// value; the remaining exchanges go on with the values of other tokens. Without subgroups, and between teams, the sums
// go through workgroup memory.

import type { BackwardLayout, BackwardPlan } from './plan.ts';
import { each } from './wgsl.ts';

/** Values of a token that are summed at a time. */
const VALUES = 8;

/** Names of the values of token j, which the kernel defines as vec4s. */
const valuesOf = (j: number): string[] =>
  Array.from({ length: VALUES }, (_, i) => `g${i < VALUES / 2 ? 'B' : 'C'}${j}[${i % 4}]`);

/**
 * Code that adds up the values of each token in quad q and leaves the sums at `sums[block(token) + 8 q …]`. The token
 * is counted from `begin`.
 */
export interface TeamSums {
  readonly declarations: string;
  /** Goes before everything else. */
  readonly begin: string;
  /** Goes after token j of the stretch in quad q. The last token comes first. */
  token(q: number, j: number): string;
  /** Goes after all tokens of quad q. */
  quad(q: number): string;
  /**
   * Goes after the stretches between two saved states, whose number is the WGSL expression given. Teams meet once for
   * all of them.
   */
  end(stretches: string): string;
}

export function teamSums(quads: number, plan: BackwardPlan, block: (token: string) => string): TeamSums {
  const { layout } = plan;
  return layout.subgroups ? shuffled(quads, plan, block) : shared(layout, block);
}

function shuffled(quads: number, { saveInterval, layout }: BackwardPlan, block: (token: string) => string): TeamSums {
  const { width, teams, stretch, split } = layout;
  const masks = Array.from({ length: Math.log2(width / split) }, (_, i) => width >> (i + 1));
  const within = masks.slice(0, Math.log2(VALUES));
  const between = masks.slice(within.length);
  const group = Math.min(stretch, 2 ** between.length);
  /** Lanes that differ only in these bits hold the same sums. */
  const copies = between.slice(Math.log2(group)).reduce((sum, mask) => sum + mask, 0);
  const exchange = (lines: string[], held: readonly string[], mask: number, label: string): string[] => {
    const half = held.length / 2;
    return Array.from({ length: Math.ceil(half) }, (_, i) => {
      const name = `${label}m${mask}i${i}`;
      const [keep, give] =
        half < 1
          ? [held[0], held[0]]
          : [
              `select(${held[i]}, ${held[i + half]}, high${mask})`,
              `select(${held[i + half]}, ${held[i]}, high${mask})`,
            ];
      lines.push(`let ${name} = ${keep} + subgroupShuffle(${give}, partner${mask});`);
      return name;
    });
  };
  const bits = (list: readonly number[], size: number): string =>
    [
      '0u',
      ...list.flatMap((mask, i) => (size >> (i + 1) ? [`select(0u, ${size >> (i + 1)}u, high${mask})`] : [])),
    ].join(' + ');
  const row = VALUES * quads;
  const tile = saveInterval * row;
  const pending = new Map<number, string[]>();
  return {
    declarations: teams > 1 ? `var<workgroup> tile: array<f32, ${2 * teams * tile}>;` : '',
    begin: `${masks.map((mask) => `let high${mask} = (lane & ${mask}u) != 0u; let partner${mask} = lane ^ ${mask}u;`).join(' ')}
  let placeValue = ${bits(within, VALUES)}${split > 1 ? ` + (lane & ${split - 1}u) * ${row / split}u` : ''};
  let placeToken = ${bits(between, group)};
  ${copies ? `let original = (lane & ${copies}u) == 0u;` : ''}
  ${teams > 1 ? `let team = li / ${width}u; var turn = 0u;` : ''}`,
    token(q, j) {
      const lines: string[] = [];
      let held = valuesOf(j);
      for (const mask of within) held = exchange(lines, held, mask, `s${j}`);
      pending.set(j, held);
      if (j % group === 0) {
        // With fewer lanes than values, a lane holds several values of a token; otherwise one.
        const sums = Array.from({ length: held.length }, (_, i) => {
          let mine = Array.from({ length: group }, (_, k) => pending.get(j + k)![i]);
          for (const mask of between) mine = exchange(lines, mine, mask, `t${j}v${i}`);
          return mine[0];
        });
        const token = `(first - begin + ${j}u + placeToken)`;
        const at = teams > 1 ? `tile[turn + (team * ${saveInterval}u + ${token}) * ${row}u` : `sums[${block(token)}`;
        const stores = sums.map((sum, i) => `${at} + ${VALUES * q + i}u + placeValue] = ${sum};`).join(' ');
        lines.push(copies ? `if (original) { ${stores} }` : stores);
      }
      return lines.join('\n');
    },
    quad: () => '',
    end: (stretches) =>
      teams > 1
        ? `workgroupBarrier();
    for (var e = li; e < ${stretches} * ${stretch * row}u; e += ${width * teams}u) {
      sums[${block(`(e / ${row}u)`)} + e % ${row}u] = ${each(teams, (m) => `tile[turn + e + ${m * tile}u]`, ' + ')};
    }
    turn = ${teams * tile}u - turn;`
        : '',
  };
}

function shared({ width, stretch }: BackwardLayout, block: (token: string) => string): TeamSums {
  const count = stretch * VALUES;
  return {
    declarations: `var<workgroup> tile: array<f32, ${count * width}>;`,
    begin: '',
    token: (_, j) =>
      valuesOf(j)
        .map((name, i) => `tile[${(j * VALUES + i) * width}u + li] = ${name};`)
        .join(' '),
    // Starting at another place in each lane keeps the lanes on different memory banks.
    quad: (q) => `workgroupBarrier();
    for (var e = li; e < ${count}u; e += ${width}u) {
      var total = 0.0;
      for (var m = 0u; m < ${width}u; m++) { total += tile[e * ${width}u + ((m + li) & ${width - 1}u)]; }
      sums[${block(`(first - begin + e / ${VALUES}u)`)} + ${VALUES * q}u + e % ${VALUES}u] = total;
    }
    workgroupBarrier();`,
    end: () => '',
  };
}
