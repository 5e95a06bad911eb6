// How the scan is laid out: which lanes own which channels, states and tokens. Lists every layout that an adapter can
// run, and the one to take unmeasured; tunable.ts measures them.

import type { KernelEnv } from '../../core/kit.ts';

export interface Layout {
  /** Tokens that are computed at a time, in registers. A power of two. */
  readonly stretch: number;
  /**
   * Where a lane gets B and C of a token, which all channels share: `broadcast`, each lane of a team loads a part and
   * the others take it from there; `direct`, every lane loads for itself; `staged`, a workgroup puts those of some
   * tokens into its memory.
   */
  readonly fetch: 'broadcast' | 'direct' | 'staged';
  /** Lanes of a team: neighbours, one a channel, that exchange values. A power of two. */
  readonly width: number;
  /** Teams of a workgroup that own different channels. */
  readonly teams: number;
  /**
   * Parts that the sequence is cut into, for problems of few rows. Each part has a team of its own in the workgroup; a
   * first pass over each part finds the states where parts meet. More than 1 only with one team.
   */
  readonly chunks: number;
  /**
   * Lanes that share as many channels, each with a part of every channel's states: a lane then reads only a part of B
   * and C, and sums over channels begin in registers. 1, 2 or 4, as they lie in a quad; it divides the vec4s of a
   * channel. More than 1 needs subgroups.
   */
  readonly split: number;
  /** Whether both directions run the same code, with a branch where they load, or each its own code. */
  readonly merged: boolean;
}

export interface ForwardLayout extends Layout {
  /** Whether the loads of the next stretch are in flight while this one is computed. Only with direct fetches. */
  readonly ahead: boolean;
}

export interface BackwardLayout extends Layout {
  /** Whether a team lies within one subgroup; otherwise it adds up in workgroup memory. */
  readonly subgroups: boolean;
  /**
   * Where a lane keeps states and step sizes from recomputing them until they are used. Indexing a private array costs
   * a CPU a dozen instructions a value; workgroup memory, of which each lane uses a part of its own, three or four.
   */
  readonly history: 'private' | 'workgroup';
}

/** What the kernels of a training step must agree on: one writes the saved states, the other reads them. */
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

/** Tokens of a part of the sequence: a multiple of the save interval. */
export function chunkLength(length: number, saveInterval: number, { chunks }: Layout): number {
  return Math.ceil(Math.ceil(length / saveInterval) / chunks) * saveInterval;
}

/** Lanes of a team on this adapter, and whether they can exchange values. */
function team(env: KernelEnv): { width: number; subgroups: boolean } {
  const subgroups = env.has('subgroups') && env.subgroupMinSize >= 4;
  return { subgroups, width: subgroups ? Math.min(64, env.subgroupMinSize) : 32 };
}

/**
 * Whether subgroups are as narrow as those of CPUs. Their compilers take seconds for long programs, and they read
 * memory one lane at a time.
 */
function narrow(env: KernelEnv): boolean {
  const { width, subgroups } = team(env);
  return subgroups && width <= 8 && env.subgroupMaxSize === width;
}

/** Tokens at a time on a CPU: two, unless that makes the program too long. */
const narrowStretch = (quads: number): number => (quads <= 4 ? 2 : 1);

/** Most tokens whose states may be recomputed into private memory, which holds 512 values. */
function historyTokens(quads: number): number {
  let saveInterval = 32;
  while (saveInterval > 2 && saveInterval * quads * 4 > 512) saveInterval /= 2;
  return saveInterval;
}

/** Most tokens at a time whose values fit into registers beside the states of a lane. */
function longestStretch(quads: number): number {
  return Math.max(1, Math.min(4, 2 ** Math.floor(Math.log2(16 / quads))));
}

/** Subgroups that keep a large GPU at work. */
const ENOUGH_TEAMS = 1024;

/**
 * Parts of the sequence that give a large GPU enough to do where there are too few rows; at most 8, none shorter than a
 * save interval.
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
 * The layout in parts of the sequence, and the layout with several teams a workgroup; the one that suits the size comes
 * first. Only teams that work on the same tokens can share a stage.
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

/**
 * Every save interval and layout of the backward scan that is worth measuring. The first is the one to take unmeasured.
 */
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
    // A CPU executes both sides of a branch, so each direction has its own code.
    const list: ForwardLayout[] = [
      { ...one, stretch: narrowStretch(quads), merged: false },
      { ...one, stretch: 1, merged: true },
    ];
    return size.directions === 1 ? list.reverse() : list;
  }
  const chunks = chunksFor(size, 1, width, saveInterval);
  const longest = subgroups ? longestStretch(quads) : 1,
    split = subgroups ? Math.min(4, quads & -quads) : 1;
  // Loads ahead make up for a short stretch. A lane that has the whole sequence gains from a long one.
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

/** The plan for this adapter and size, unmeasured. */
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
