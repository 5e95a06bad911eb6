// WGSL that the forward and the backward scan share.

import type { FloatDType } from '../../core/index.ts';
import { wgslMath, type KernelBinding } from '../../core/kit.ts';
import type { Direction } from '../direction.ts';
import { seamBytes, type Layout } from './plan.ts';

/** What both kernels depend on. */
export interface ScanVariant {
  /** vec4s that hold the states of a channel. */
  readonly quads: number;
  /** Tokens between saved states. */
  readonly saveInterval: number;
  readonly dtype: FloatDType;
  readonly directions: readonly Direction[];
  /** Index of the first direction, where the directions are run one by one. */
  readonly first: number;
  readonly softplus: boolean;
}

/** `count` texts, one for each number from 0. */
export function each(count: number, text: (i: number) => string, separator = '\n'): string {
  return Array.from({ length: count }, (_, i) => text(i)).join(separator);
}

/**
 * Softplus and its slope. A small step size keeps its digits; nothing overflows, and softplus equals x in f32 well
 * below the threshold of 20.
 */
export const FUNCTIONS = `${wgslMath(['quickSigmoid', 'log1pUnit'])}
struct Gate { value: f32, slope: f32 }
fn softplus(x: f32) -> Gate {
  let e = exp(-abs(x));
  return Gate(max(x, 0.0) + mathLog1pUnit(e), select(e, 1.0, x >= 0.0) / (1.0 + e));
}`;

/** The place of the ith token in the order of direction `way`. */
export function token({ directions, first }: ScanVariant, i: string): string {
  const place = (direction: Direction): string => (direction === 'reverse' ? `L - 1u - ${i}` : i);
  const [one, two = one] = directions;
  return one === two ? `(${place(one)})` : `select(${place(two)}, ${place(one)}, way == ${first}u)`;
}

/** Bindings that both kernels begin with. */
export function inputs({ directions, first, dtype }: ScanVariant): KernelBinding[] {
  const read = (name: string): KernelBinding => ({ name, type: `array<${dtype}>`, access: 'read' });
  return [
    ...directions.flatMap((_, i) => [read(`u${first + i}In`), read(`delta${first + i}In`)]),
    { name: 'packed', type: 'array<vec4f>', access: 'read' },
  ];
}

/** Parameters that both kernels begin with. */
export function parameters({ directions, first }: ScanVariant): string[] {
  return [
    'L',
    'D',
    'batches',
    'chunk',
    ...directions.flatMap((_, i) => [`u${first + i}`, `uRow${first + i}`, `delta${first + i}`, `deltaRow${first + i}`]),
  ];
}

/** Indices of the directions that a kernel runs. */
export function setsOf({ directions, first }: ScanVariant): number[] {
  return directions.map((_, i) => first + i);
}

/**
 * A text for each of a lane's slots. A slot is one vec4 of states of one channel: slot (k, r) holds vec4 `quad + r` of
 * channel `d{k}`.
 */
export type Slots = (text: (k: number, r: number) => string, separator?: string) => string;

export function slotsOf(quads: number, { split }: Layout): { held: number; slots: Slots } {
  const held = quads / split;
  return {
    held,
    slots: (text, separator = '\n') => each(split, (k) => each(held, (r) => text(k, r), separator), separator),
  };
}

/**
 * The value of the lane that owns the channel of slot k, or the other way round. Lanes that share channels lie in one
 * quad. A swap in a quad cannot leave the subgroup; after a `subgroupShuffleXor`, which could, Dawn adds a select.
 */
export function across(value: string, k: number): string {
  return k === 0 ? value : `quadSwap${['X', 'Y', 'Diagonal'][k - 1]}(${value})`;
}

/**
 * Sets the lane's channels, and which vec4s of their states it has. Parameters that loops use are read once, before
 * them.
 */
export function laneSetup(
  { quads, saveInterval }: ScanVariant,
  { width, teams, chunks, split }: Layout,
  held: number,
  batch: string,
): string {
  return `
  ${
    chunks > 1
      ? `let part = li / ${width}u; let column = wid.x * ${width}u + li % ${width}u;`
      : `const part = 0u; let column = wid.x * ${width * teams}u + li;`
  }
  let L = p.L;
  let D = p.D;
  let inside = column < D;
  let d = min(column, D - 1u);
  let b = ${batch};
  let slots = (L + ${saveInterval - 1}u) / ${saveInterval}u + 1u;
  let packedSet = ${quads + 1}u * D + ${2 * quads}u * p.batches * L;
  ${split > 1 ? `let quad = (li & ${split - 1}u) * ${held}u;` : 'const quad = 0u;'}
  ${each(split, (k) => `let channel${k} = column ^ ${k}u; let d${k} = min(channel${k}, D - 1u);`)}
  let savedRow = ${split > 1 ? `(D + ${split - 1}u) & ~${split - 1}u` : 'D'};
  let savedColumn = min(column, savedRow - 1u);`;
}

/** Statements that set what belongs to direction `way`. */
export function directionSetup({ quads }: ScanVariant, slots: Slots, sets: readonly number[]): string {
  return `
  let base = way * packedSet;
  let skip = packed[base + ${quads}u * D + d];
  let rows = base + ${quads + 1}u * D;
  let states = ((way * p.batches + b) * slots) * ${quads}u;
  ${sets
    .map(
      (set) => `let u${set}At = p.u${set} + d; let uRow${set} = p.uRow${set}; let delta${set}At = p.delta${set} + d;
    let deltaRow${set} = p.deltaRow${set};`,
    )
    .join('\n')}
  ${slots((k, r) => `let A${k}q${r} = packed[base + (quad + ${r}u) * D + d${k}];`)}`;
}

/** Columns of a row of saved states: one for each lane that has a part of some channel. */
export function savedColumns(channels: number, { split }: Pick<Layout, 'split'>): number {
  return Math.ceil(channels / split) * split;
}

/**
 * The index, in vec4s, of slot (k, r) of the lane in slot `slot` of the saved states. There is a row for each (k, r),
 * in the order of the lanes, so that neighbouring lanes write neighbouring vec4s.
 */
export function savedIndex({ quads }: ScanVariant, { split }: Layout, slot: string, k: number, r: number): string {
  return `(states + ${slot} * ${quads}u + ${k * (quads / split) + r}u) * savedRow + savedColumn`;
}

/**
 * Names the rows `t0…` of the stretch of tokens from `first` on, in the scan's order, and whether they exist
 * (`live0…`). Tokens past the end get the row of the last token.
 */
export function placeStretch(v: ScanVariant, { stretch, chunks }: Layout): string {
  return each(stretch, (j) =>
    stretch === 1 && chunks === 1
      ? `const live0 = true; let t0 = b * L + ${token(v, 'first')};`
      : `let live${j} = first + ${j}u < L; let t${j} = b * L + ${token(v, `min(first + ${j}u, L - 1u)`)};`,
  );
}

/**
 * Values that a stretch reads from memory. They are declared as variables `{prefix}x0…`, so that they can be loaded
 * earlier than they are used.
 */
export interface Loads {
  /** Declarations of the variables. */
  declare(prefix?: string): string;
  /** Loads them for the rows `t0…`. */
  load(prefix?: string): string;
  /** Takes over what was loaded with another prefix. */
  take(prefix: string): string;
}

/** Which arguments a piece of code reads. */
export interface Wanted {
  /** u and delta, or delta alone. */
  readonly steps?: 'u and delta' | 'delta';
  /** Parts of B and C, where each lane loads for itself. */
  readonly B?: boolean;
  readonly C?: boolean;
  /** Number of tokens; default those of a stretch. It may be less for B and C. */
  readonly tokens?: number;
  readonly tokensOfB?: number;
  /** Further values, by name and by the row of token j. */
  readonly others?: readonly { readonly name: string; readonly from: (j: number) => string }[];
}

export function loadsOf({ quads }: ScanVariant, layout: Layout, sets: readonly number[], wanted: Wanted): Loads {
  const { stretch, fetch, split } = layout;
  const { held } = slotsOf(quads, layout);
  const { tokens = stretch, tokensOfB = tokens, steps, others = [] } = wanted;
  const names: { name: string; type: 'f32' | 'vec4f' }[] = [];
  const bySet: ((prefix: string, set: number) => string)[] = [];
  const plain: ((prefix: string) => string)[] = [];
  for (let j = 0; j < tokens; j++) {
    if (steps) names.push({ name: `raw${j}`, type: 'f32' });
    if (steps)
      bySet.push((prefix, set) => `${prefix}raw${j} = f32(delta${set}In[delta${set}At + t${j} * deltaRow${set}]);`);
    if (steps === 'u and delta') {
      names.push({ name: `x${j}`, type: 'f32' });
      bySet.push((prefix, set) => `${prefix}x${j} = f32(u${set}In[u${set}At + t${j} * uRow${set}]);`);
    }
    for (const { name, from } of others) {
      names.push({ name: `${name}${j}`, type: 'f32' });
      plain.push((prefix) => `${prefix}${name}${j} = ${from(j)};`);
    }
  }
  if (fetch !== 'broadcast') {
    for (const [name, second, count] of [
      ...(wanted.B ? [['B', 0, tokensOfB] as const] : []),
      ...(wanted.C ? [['C', 1, tokens] as const] : []),
    ]) {
      for (let r = 0; r < held; r++) {
        for (let j = 0; j < count; j++) {
          names.push({ name: `${name}${r}x${j}`, type: 'vec4f' });
          const at =
            fetch === 'staged'
              ? `staged[stageAt + ${2 * (quads * j + r) + second}u]`
              : `packed[rows + t${j} * ${2 * quads}u + ${2 * r + second}u${split > 1 ? ' + 2u * quad' : ''}]`;
          plain.push((prefix) => `${prefix}${name}${r}x${j} = ${at};`);
        }
      }
    }
  }
  return {
    declare: (prefix = '') => names.map(({ name, type }) => `var ${prefix}${name}: ${type};`).join(' '),
    // One branch for all loads, so that they wait together.
    load: (prefix = '') => {
      const own = (set: number): string => bySet.map((text) => text(prefix, set)).join('\n');
      return `${
        bySet.length === 0
          ? ''
          : sets.length === 1
            ? own(sets[0])
            : `if (way == ${sets[0]}u) {\n${own(sets[0])}\n} else {\n${own(sets[1])}\n}`
      }
    ${plain.map((text) => text(prefix)).join('\n')}`;
    },
    take: (prefix) => names.map(({ name }) => `let ${name} = ${prefix}${name};`).join(' '),
  };
}

/**
 * Computes the step sizes `delta0…` from what was loaded, and with `slope` their derivatives `slope0…`. Tokens past the
 * end have a step size of 0, which changes no state.
 */
export function stepSizes({ softplus }: ScanVariant, tokens: number, slope = false): string {
  // For a very negative argument a softplus and its derivative are 0.
  return each(
    tokens,
    (j) => `let full${j} = select(${softplus ? '-1e30' : '0.0'}, raw${j} + skip.y, live${j});
    ${softplus ? `let step${j} = softplus(full${j}); let delta${j} = step${j}.value;` : `let delta${j} = full${j};`}
    ${slope ? `let slope${j} = ${softplus ? `step${j}.slope` : `select(0.0, 1.0, live${j})`};` : ''}`,
  );
}

/**
 * Loads B, C or both of the stretch's tokens into `B{quad}x{token}` and `C{quad}x{token}`, where a team shares the
 * loads: each lane loads another vec4, and all take it from there. A shuffle is one instruction of a CPU, a broadcast
 * three. Empty for other layouts.
 */
export function fetchShared(v: ScanVariant, { stretch, width, fetch }: Layout, parts: 'B' | 'C' | 'BC'): string {
  const { quads } = v;
  if (fetch !== 'broadcast') return '';
  const entries = parts === 'BC' ? 2 * quads : quads;
  const entry = (e: string): string => (parts === 'BC' ? e : `2u * (${e})${parts === 'C' ? ' + 1u' : ''}`);
  const items = stretch * entries;
  const load = (m: number): string =>
    stretch === 1 && items <= width
      ? `let part${m} = packed[rows + t0 * ${2 * quads}u + ${entry(`min(lane, ${items - 1}u)`)}];`
      : `let item${m} = min((lane & ${width - 1}u) + ${m * width}u, ${items - 1}u);
    let part${m} = packed[rows + (b * L + ${token(v, `min(first + item${m} / ${entries}u, L - 1u)`)}) * ${2 * quads}u
      + ${entry(`item${m} % ${entries}u`)}];`;
  return (
    each(Math.ceil(items / width), load) +
    each(items, (i) => {
      const [j, e] = [Math.floor(i / entries), i % entries];
      const name = parts === 'BC' ? `${e % 2 ? 'C' : 'B'}${e >> 1}` : `${parts}${e}`;
      return `let ${name}x${j} = subgroupShuffle(part${Math.floor(i / width)}, ${i % width}u);`;
    })
  );
}

/**
 * B and C of a run of tokens in workgroup memory, for all teams of a workgroup. There are two such places: one is
 * filled while the other is read.
 */
export interface Stage {
  readonly declarations: string;
  /** Declarations before everything else. */
  readonly begin: string;
  /** Loads this lane's part of the tokens from `first` on. */
  readonly load: string;
  /** Writes it to the place that the next tokens read, after a barrier. */
  readonly put: string;
  /** Switches to the place that was written. */
  readonly turn: string;
  /** Where the lane reads from, for the token `at`: the value of `stageAt`. */
  place(at: string): string;
}

export function stageOf(v: ScanVariant, { width, teams }: Layout, tokens: number): Stage {
  const row = 2 * v.quads,
    items = tokens * row,
    lanes = width * teams,
    parts = Math.ceil(items / lanes);
  const item = (m: number): string => (m === 0 ? 'li' : `(li + ${m * lanes}u)`);
  return {
    declarations: `var<workgroup> staged: array<vec4f, ${2 * items}>;`,
    begin: `${each(parts, (m) => `var part${m}: vec4f;`, ' ')} var stageHalf = 0u;`,
    load: each(
      parts,
      (m) =>
        `part${m} = packed[rows + (b * L + ${token(v, `min(first + min(${item(m)}, ${items - 1}u) / ${row}u, L - 1u)`)})
          * ${row}u + ${item(m)} % ${row}u];`,
    ),
    put: each(
      parts,
      (m) =>
        `${(m + 1) * lanes > items ? `if (${item(m)} < ${items}u) ` : ''}{ staged[${items}u - stageHalf + ${item(m)}] = part${m}; }`,
    ),
    turn: `stageHalf = ${items}u - stageHalf;`,
    place: (at) => `stageHalf + (${at}) * ${row}u + 2u * quad`,
  };
}

/**
 * Advances the states `h{k}q{r}` over tokens whose step sizes and inputs `dx0…` are known. `after` gives a statement to
 * follow each of them.
 */
export function advanceStates(
  v: ScanVariant,
  layout: Layout,
  tokens: number,
  after: (k: number, r: number, j: number) => string = () => '',
): string {
  const { held } = slotsOf(v.quads, layout);
  return each(
    layout.split,
    (k) => `{
        ${each(tokens, (j) => `let slotDelta${j} = ${across(`delta${j}`, k)}; let slotInput${j} = ${across(`dx${j}`, k)};`)}
        ${each(held, (r) =>
          each(
            tokens,
            (j) => `h${k}q${r} = exp2(slotDelta${j} * A${k}q${r}) * h${k}q${r}
          + slotInput${j} * B${r}x${j};${after(k, r, j)}`,
          ),
        )}
      }`,
  );
}

/** Workgroup memory and code that pass states from one part of the sequence to the next. Only for layouts in parts. */
export interface Seams {
  readonly declarations: string;
  readonly bytes: number;
  /**
   * Each part leaves its values `{name}{k}q{r}`, computed from a start of zero, and `total`, the sum of its step sizes.
   */
  leave(name: string, total: string): string;
  /**
   * Sets `{name}{k}q{r}`, declared before, to what comes in from the parts before this one, in the order of `order`.
   */
  enter(name: string): string;
}

/**
 * `order`: `up` passes values from the first part to the last (states), `down` from the last to the first (their
 * derivatives).
 */
export function seams(quads: number, layout: Layout, order: 'up' | 'down'): Seams {
  const { width, chunks } = layout;
  const { slots } = slotsOf(quads, layout);
  const place = order === 'up' ? 'part' : `(${chunks - 1}u - part)`;
  const at = (part: string, k: number, r: number): string =>
    `(${part} * ${quads}u + quad + ${r}u) * ${width}u + ${lane(layout, k)}`;
  return {
    declarations: `var<workgroup> seamValues: array<vec4f, ${(chunks - 1) * quads * width}>;
var<workgroup> seamSteps: array<f32, ${(chunks - 1) * width}>;`,
    bytes: seamBytes(quads, layout),
    leave: (name, total) => `if (${place} < ${chunks - 1}u) {
      ${slots((k, r) => `seamValues[${at(place, k, r)}] = ${name}${k}q${r};`)}
      seamSteps[${place} * ${width}u + li % ${width}u] = ${total};
    }
    workgroupBarrier();`,
    enter: (name) => `${slots((k, r) => `${name}${k}q${r} = vec4f();`)}
    for (var m = 0u; m < ${place}; m++) {
      ${slots(
        (k, r) => `${name}${k}q${r} = exp2(seamSteps[m * ${width}u + ${lane(layout, k)}] * A${k}q${r})
        * ${name}${k}q${r} + seamValues[${at('m', k, r)}];`,
      )}
    }`,
  };
}

/** The place in the team of the lane that owns the channel of slot k. */
function lane({ width }: Layout, k: number): string {
  return k === 0 ? `li % ${width}u` : `((li % ${width}u) ^ ${k}u)`;
}
