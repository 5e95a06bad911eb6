// How the scan is laid out: which lanes own which channels, states and tokens. All that an adapter can compute, and
// what to take unmeasured; tunable.ts measures.

import type { KernelEnv } from '../../core/gpu/kernel.ts';

export interface Layout {
  /** Tokens that are computed at a time, in registers. A power of two. */
  readonly stretch: number;
  /**
   * Where B and C of a token, the same for all channels, come from: each lane of a team fetches a part and broadcasts
   * it, all read the same address, or a workgroup puts those of some tokens into its memory.
   */
  readonly fetch: 'broadcast' | 'direct' | 'staged';
  /** Invocations of a team: a run of them, one a channel, that exchange values. A power of two. */
  readonly width: number;
  /** Teams of a workgroup that own different channels. */
  readonly teams: number;
  /**
   * Parts of the sequence, each with a team of its own in the workgroup, for few rows: states at the seams are found by
   * a first pass over each part. More than 1 only with one team.
   */
  readonly chunks: number;
  /**
   * Lanes of a team that share as many channels, each with that part of every channel's states: B and C are read in
   * parts then, and sums over channels begin in registers. 1, 2 or 4, for they lie in a quad, and a divisor of the
   * vec4s of a channel; more than 1 needs subgroups.
   */
  readonly split: number;
  /** Whether both directions run the same code, which chooses where it loads, or each its own. */
  readonly merged: boolean;
}

export interface ForwardLayout extends Layout {
  /** Whether the next stretch's loads are in flight while this one is computed. Only with direct fetches. */
  readonly ahead: boolean;
}

export interface BackwardLayout extends Layout {
  /** Whether a team lies within one subgroup; otherwise it sums in workgroup memory. */
  readonly subgroups: boolean;
  /**
   * Where a lane keeps states and step sizes between recomputing and using them. An array that is indexed costs a CPU a
   * dozen instructions a value, workgroup memory, of which each lane has a part to itself, three or four.
   */
  readonly history: 'private' | 'workgroup';
}

/** What training fixes together: saved states are written by one kernel and read by the other. */
export interface BackwardPlan {
  /** Tokens between saved states. A multiple of the stretches. */
  readonly saveInterval: number;
  readonly layout: BackwardLayout;
}

export interface ScanPlan {
  /** vec4s that hold the states of a channel. */
  readonly quads: number;
  readonly saveInterval: number;
  readonly forward: ForwardLayout;
  readonly backward: BackwardLayout;
}

/** What a layout is chosen by. */
export interface ScanSize {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly states: number;
  readonly directions: number;
}

/** What the choice looks at. A `Device` is one. */
export interface ScanAdapter extends KernelEnv {
  readonly adapter: { readonly software: boolean };
}

/** Bytes of workgroup memory that every adapter has. */
const WORKGROUP_BYTES = 16384;

/** Invocations of a workgroup that every adapter has. */
const INVOCATIONS = 256;

export const quadsOf = (states: number): number => Math.ceil(states / 4);

/** Bytes of workgroup memory for the states at the seams between parts of the sequence. */
export function seamBytes(quads: number, { width, chunks }: Pick<Layout, 'width' | 'chunks'>): number {
  return (chunks - 1) * width * (16 * quads + 4);
}

/** Bytes of workgroup memory for B and C of `tokens`, twice. */
const stageBytes = (quads: number, tokens: number): number => 2 * tokens * 2 * quads * 16;

/** Bytes of workgroup memory that the backward scan takes. */
export function backwardBytes(quads: number, { saveInterval, layout }: BackwardPlan): number {
  const { width, teams, subgroups, stretch, history, fetch } = layout;
  if (!subgroups) return width * stretch * 8 * 4;
  const kept = history === 'workgroup' ? width * 16 * ((saveInterval / stretch + 1) * quads + saveInterval) : 0;
  return (
    kept +
    (fetch === 'staged' ? stageBytes(quads, saveInterval) : 0) +
    seamBytes(quads, layout) +
    (teams > 1 ? 2 * teams * saveInterval * 8 * quads * 4 : 0)
  );
}

/** Tokens of a part of the sequence: whole strides of saved states. */
export function chunkLength(length: number, saveInterval: number, { chunks }: Layout): number {
  return Math.ceil(Math.ceil(length / saveInterval) / chunks) * saveInterval;
}

/** Lanes of a team on this adapter, and whether they can exchange values. */
function team(env: KernelEnv): { width: number; subgroups: boolean } {
  const subgroups = env.has('subgroups') && env.subgroupMinSize >= 4;
  return { subgroups, width: subgroups ? Math.min(64, env.subgroupMinSize) : 32 };
}

/**
 * Subgroups as narrow as this are those of CPUs: their compilers take seconds over long programs, and their memory is
 * read one lane at a time.
 */
function narrow(env: KernelEnv): boolean {
  const { width, subgroups } = team(env);
  return subgroups && width <= 8 && env.subgroupMaxSize === width;
}

/** Tokens at a time on a CPU: two where that is not too long a program. */
const narrowStretch = (quads: number): number => (quads <= 4 ? 2 : 1);

/** Tokens whose states may be recomputed into private memory: 512 values of it at most. */
function historyTokens(quads: number): number {
  let saveInterval = 32;
  while (saveInterval > 2 && saveInterval * quads * 4 > 512) saveInterval /= 2;
  return saveInterval;
}

/** The most tokens at a time whose values fit into registers beside the states of a lane. */
function longestStretch(quads: number): number {
  return Math.max(1, Math.min(4, 2 ** Math.floor(Math.log2(16 / quads))));
}

/** Subgroups that keep a large GPU at work. */
const ENOUGH_TEAMS = 1024;

/**
 * Parts of the sequence that keep a large GPU at work where rows alone don't; at most 8, none shorter than a stride.
 */
function chunksFor(
  { batch, length, channels, states }: ScanSize,
  directions: number,
  width: number,
  saveInterval: number,
): number {
  const teams = Math.ceil(channels / width) * batch * directions;
  const fitting = (chunks: number): boolean =>
    chunks * saveInterval <= length &&
    chunks * width <= INVOCATIONS &&
    seamBytes(quadsOf(states), { width, chunks }) <= WORKGROUP_BYTES;
  let chunks = 1;
  while (chunks < 8 && teams * chunks < ENOUGH_TEAMS && fitting(2 * chunks)) chunks *= 2;
  return chunks;
}

/**
 * The same layout in parts of the sequence, and with several teams a workgroup: the one that suits the size first. A
 * stage is for teams that have the same tokens.
 */
function shared<L extends Layout>(
  layout: Omit<L, 'teams' | 'chunks'>,
  chunks: number,
  bytes: (layout: L) => number,
): L[] {
  const whole = [4, 2, 1]
    .map((teams) => ({ ...layout, teams, chunks: 1 }) as L)
    .find((l) => bytes(l) <= WORKGROUP_BYTES && l.width * l.teams <= INVOCATIONS)!;
  return chunks > 1 ? [{ ...layout, fetch: 'direct', teams: 1, chunks } as L, whole] : [whole];
}

/** Every stride and layout of the backward scan that is worth measuring. The first is the one to take unmeasured. */
export function backwardPlans(env: ScanAdapter, size: ScanSize): BackwardPlan[] {
  const quads = quadsOf(size.states);
  const { width, subgroups } = team(env);
  const history = historyTokens(quads);
  const alone = { stretch: 1, width, teams: 1, chunks: 1, split: 1, subgroups, history: 'private' } as const;
  if (narrow(env)) {
    const stretch = narrowStretch(quads);
    return unique([history, Math.min(16, history)]).map((saveInterval) => {
      const [plan, small] = (['workgroup', 'private'] as const).map((place): BackwardPlan => ({
        saveInterval,
        layout: { ...alone, stretch, fetch: 'broadcast', merged: true, history: place },
      }));
      return backwardBytes(quads, plan) <= WORKGROUP_BYTES ? plan : small;
    });
  }
  if (!subgroups)
    return [{ saveInterval: Math.min(16, history), layout: { ...alone, fetch: 'direct', merged: false } }];
  const longest = longestStretch(quads),
    split = Math.min(4, quads & -quads);
  return [
    [16, longest],
    [8, longest],
    [8, longest / 2],
  ]
    .map(([saveInterval, stretch]) => ({
      stretch: Math.max(1, stretch),
      saveInterval: Math.max(longest, Math.min(saveInterval, history)),
    }))
    .filter(
      ({ saveInterval, stretch }, i, all) =>
        all.findIndex((other) => other.saveInterval === saveInterval && other.stretch === stretch) === i,
    )
    .flatMap(({ saveInterval, stretch }) => {
      const layout = {
        stretch,
        fetch: split > 1 ? 'staged' : 'direct',
        width,
        split,
        merged: false,
        subgroups,
        history: 'private',
      } as const;
      return shared<BackwardLayout>(layout, chunksFor(size, size.directions, width, saveInterval), (one) =>
        backwardBytes(quads, { saveInterval, layout: one }),
      ).map((one) => ({ saveInterval, layout: one }));
    });
}

/** Every layout of the forward scan that is worth measuring. The first is the one to take unmeasured. */
export function forwardLayouts(env: ScanAdapter, size: ScanSize, saveInterval: number): ForwardLayout[] {
  const quads = quadsOf(size.states);
  const { width, subgroups } = team(env);
  if (narrow(env)) {
    const one = { fetch: 'broadcast', width, teams: 1, chunks: 1, split: 1, ahead: false } as const;
    // Code of its own for each direction has no branches, which a CPU takes both of.
    const list: ForwardLayout[] = [
      { ...one, stretch: narrowStretch(quads), merged: false },
      { ...one, stretch: 1, merged: true },
    ];
    return size.directions === 1 ? list.reverse() : list;
  }
  const chunks = chunksFor(size, 1, width, saveInterval);
  const longest = subgroups ? longestStretch(quads) : 1,
    split = subgroups ? Math.min(4, quads & -quads) : 1;
  // Loads ahead make up for a short stretch; with all of the sequence before it a lane has time for a long one.
  const stretches = unique(
    (chunks > 1 ? [longest, 2 * longest] : [2 * longest, longest]).map((stretch) =>
      subgroups ? Math.min(stretch, saveInterval) : 1,
    ),
  );
  return stretches.flatMap((stretch) =>
    shared<ForwardLayout>(
      { stretch, fetch: 'direct', width, split, merged: !subgroups, ahead: subgroups },
      chunks,
      (layout) => seamBytes(quads, layout),
    ),
  );
}

/** The layout for this adapter and size, unmeasured. */
export function scanPlan(env: ScanAdapter, size: ScanSize): ScanPlan {
  const [{ saveInterval, layout }] = backwardPlans(env, size);
  return {
    quads: quadsOf(size.states),
    saveInterval,
    forward: forwardLayouts(env, size, saveInterval)[0],
    backward: layout,
  };
}

function unique(values: readonly number[]): number[] {
  return [...new Set(values)];
}
