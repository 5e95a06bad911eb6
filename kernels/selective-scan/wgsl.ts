// The pieces of WGSL that the scan's forward and backward share.

import type { KernelBinding } from '../../core/kernel.ts';
import type { Layout, ScanPlan } from './plan.ts';

export type ScanDType = 'f32' | 'f16';
export type Direction = 'forward' | 'reverse';

/** What both kernels are made for. */
export interface ScanVariant {
  readonly plan: ScanPlan;
  readonly dtype: ScanDType;
  readonly directions: readonly Direction[];
  /** Index of the first direction, where the directions of one scan are run one by one. */
  readonly first: number;
  readonly gate: boolean;
  readonly softplus: boolean;
}

/** `count` texts, one for each number from 0. */
export function each(count: number, text: (i: number) => string, separator = '\n'): string {
  return Array.from({ length: count }, (_, i) => text(i)).join(separator);
}

/**
 * log(1 + e) for e in [0, 1] as 2 artanh(e / (2 + e)): relatively exact, where log(1.0 + e) loses the digits of a small e, which
 * is a small step size. From it the softplus, overflow-safe and equal to x in f32 from far below the threshold 20.
 */
export const FUNCTIONS = `
struct Gate { value: f32, slope: f32 }
fn log1pUnit(e: f32) -> f32 {
  let s = e / (2.0 + e);
  let r = s * s;
  return 2.0 * s * (1.0 + r * (0.33333333 + r * (0.2 + r * (0.14285714 + r * (0.11111111 + r * (0.09090909 + r * 0.07692308))))));
}
fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}
fn softplus(x: f32) -> Gate {
  let e = exp(-abs(x));
  return Gate(max(x, 0.0) + log1pUnit(e), select(select(e, 1.0, x >= 0.0) / (1.0 + e), 1.0, x > 20.0));
}`;

/** The place of the ith token in the order of direction `way`. */
function token({ directions, first }: ScanVariant, i: string): string {
  const place = (direction: Direction): string => (direction === 'reverse' ? `L - 1u - ${i}` : i);
  const [one, two = one] = directions;
  return one === two ? `(${place(one)})` : `select(${place(two)}, ${place(one)}, way == ${first}u)`;
}

/** Bindings that both kernels begin with. */
export function inputs({ directions, first, gate, dtype }: ScanVariant): KernelBinding[] {
  const read = (name: string): KernelBinding => ({ name, type: `array<${dtype}>`, access: 'read' });
  return [
    ...directions.flatMap((_, i) => [read(`u${first + i}In`), read(`delta${first + i}In`)]),
    ...(gate ? [read('z')] : []),
    { name: 'packed', type: 'array<vec4f>', access: 'read' },
  ];
}

/** Parameters that both kernels begin with. */
export function parameters({ directions, first }: ScanVariant): string[] {
  return ['L', 'D', 'batches', 'batch0', 'slots', 'packedSet', 'z0', 'zRow',
    ...directions.flatMap((_, i) => [`u${first + i}`, `uRow${first + i}`, `delta${first + i}`, `deltaRow${first + i}`])];
}

/** The kernel's body from that of some of its directions, counted as `ScanVariant.first` does. */
export function bodies(v: ScanVariant, { merged }: Layout, body: (sets: readonly number[]) => string): string {
  const sets = v.directions.map((_, i) => v.first + i);
  if (sets.length === 1 || merged) return body(sets);
  return `if (wid.z == 0u) {\n${body([0])}\n} else {\n${body([1])}\n}`;
}

/** Statements that set the direction `way`, the channel and its places. Parameters that loops use are read once, ahead of them. */
export function channelSetup({ plan: { quads }, gate }: ScanVariant, { width, teams }: Layout, sets: readonly number[]): string {
  return `
  ${sets.length === 1 ? `const way = ${sets[0]}u;` : 'let way = wid.z;'}
  let channel = wid.x * ${width * teams}u + li;
  let inside = channel < p.D;
  let d = min(channel, p.D - 1u);
  let b = wid.y + p.batch0;
  let L = p.L;
  let base = way * p.packedSet;
  let skip = packed[base + ${quads}u * p.D + d];
  let rows = base + ${quads + 1}u * p.D;
  let states = ((way * p.batches + b) * p.slots) * ${quads}u;
  let D = p.D;
  ${sets.map((set) => `let u${set}At = p.u${set} + d; let uRow${set} = p.uRow${set}; let delta${set}At = p.delta${set} + d; let deltaRow${set} = p.deltaRow${set};`).join('\n')}
  ${gate ? 'let zAt = p.z0 + d; let zRow = p.zRow;' : ''}`;
}

/** The vec4 index of quad `quad` of the states of channel `d` in slot `slot`. */
export function savedIndex(plan: ScanPlan, slot: string, quad: string, d: string): string {
  return `(states + ${slot} * ${plan.quads}u + ${quad}) * D + ${d}`;
}

/**
 * Statements that name, of the stretch of tokens from `first` on in the scan's own order, the rows `t0…` and whether they are
 * `live0…`: tokens past the end are not, and have the last token's row.
 */
export function placeStretch(v: ScanVariant, { stretch }: Layout): string {
  return each(stretch, (j) => (stretch === 1 ? `const live0 = true; let t0 = b * L + ${token(v, 'first')};`
    : `let live${j} = first + ${j}u < L; let t${j} = b * L + ${token(v, `min(first + ${j}u, L - 1u)`)};`));
}

/** Statements that load their inputs `x0…` and step sizes `delta0…`, with `slope` their derivatives `slope0…`. Tokens past the end have a step of 0, which leaves every state as it is. */
export function loadStretch({ softplus }: ScanVariant, { stretch }: Layout, sets: readonly number[], slope = false): string {
  // One branch for all loads: they wait together.
  const load = (set: number): string => each(stretch, (j) => `x${j} = f32(u${set}In[u${set}At + t${j} * uRow${set}]);`)
    + each(stretch, (j) => `raw${j} = f32(delta${set}In[delta${set}At + t${j} * deltaRow${set}]);`);
  return `${each(stretch, (j) => `var x${j}: f32; var raw${j}: f32;`)}
    ${sets.length === 1 ? load(sets[0]) : `if (way == 0u) {\n${load(0)}\n} else {\n${load(1)}\n}`}
    ${each(stretch, (j) => `raw${j} += skip.y;
    ${softplus ? `let step${j} = softplus(raw${j});` : ''}
    let delta${j} = select(0.0, ${softplus ? `step${j}.value` : `raw${j}`}, live${j});
    ${slope ? `let slope${j} = select(0.0, ${softplus ? `step${j}.slope` : '1.0'}, live${j});` : ''}`)}`;
}

type Parts = 'B' | 'BC';

/**
 * Statements that load B, and with 'BC' C, of the stretch's tokens into `B{quad}x{token}` and `C{quad}x{token}`, where a team shares
 * the loads: each lane fetches another vec4 and broadcasts it. Empty otherwise.
 */
export function fetchShared(v: ScanVariant, { stretch, width, fetch }: Layout, parts: Parts): string {
  const { quads } = v.plan;
  if (fetch === 'direct') return '';
  const entries = parts === 'B' ? quads : 2 * quads;
  const items = stretch * entries;
  const load = (m: number): string => (stretch === 1 && items <= width ? `let part${m} = packed[rows + t0 * ${2 * quads}u + min(lane, ${items - 1}u)];`
    : `let item${m} = min((lane & ${width - 1}u) + ${m * width}u, ${items - 1}u);
    let part${m} = packed[rows + (b * L + ${token(v, `min(first + item${m} / ${entries}u, L - 1u)`)}) * ${2 * quads}u + item${m} % ${entries}u];`);
  return each(Math.ceil(items / width), load) + each(items, (i) => {
      const [j, e] = [Math.floor(i / entries), i % entries];
      return `let ${e < quads ? `B${e}` : `C${e - quads}`}x${j} = subgroupBroadcast(part${Math.floor(i / width)}, ${i % width}u);`;
    });
}

/** The same for one quad, counted from the first of this lane, where every lane loads for itself. */
export function fetchQuad({ quads }: ScanPlan, { stretch, fetch, split = 1 }: Layout & { readonly split?: number }, quad: number, parts: Parts): string {
  if (fetch === 'broadcast') return '';
  const load = (name: string, e: number): string => each(stretch, (j) => `let ${name}${quad}x${j} = packed[rows + t${j} * ${2 * quads}u + ${e}u${split > 1 ? ' + quad' : ''}];`);
  return `${load('B', quad)}\n${parts === 'BC' ? load('C', quads + quad) : ''}`;
}
