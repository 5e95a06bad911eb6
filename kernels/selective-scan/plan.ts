// How the scan is laid out on an adapter.

import type { KernelEnv } from '../../core/kernel.ts';

export interface Layout {
  /** Tokens that are computed at a time, in registers. A power of two. */
  readonly stretch: number;
  /** Where B and C of a token, the same for all channels, come from: each lane of a team fetches a part and broadcasts it, or all read the same address. */
  readonly fetch: 'broadcast' | 'direct';
  /** Invocations of a team: a run of them, one a channel, that exchange values. A power of two. */
  readonly width: number;
  /** Teams of a workgroup and direction. */
  readonly teams: number;
  /** Whether both directions run the same code, which chooses where it loads, or each its own. */
  readonly merged: boolean;
}

export interface BackwardLayout extends Layout {
  /** Whether a team lies within one subgroup; otherwise it sums in workgroup memory. */
  readonly subgroups: boolean;
  /**
   * Lanes of a team that share as many channels, each with that part of every channel's states: sums over channels begin in registers
   * then, and B and C are read in parts. A power of two that divides the vec4s of a channel; more than 1 needs subgroups.
   */
  readonly split: number;
}

export interface ScanPlan {
  /** vec4s that hold the states of a channel. */
  readonly quads: number;
  /** Tokens between saved states. A multiple of both stretches. */
  readonly every: number;
  readonly forward: Layout;
  readonly backward: BackwardLayout;
}

/** Bytes of workgroup memory that every adapter has. */
const WORKGROUP_BYTES = 16384;

/** Bytes of workgroup memory that the backward scan takes. */
export function workgroupBytes(quads: number, { width, teams, subgroups, stretch }: BackwardLayout): number {
  if (!subgroups) return width * stretch * 8 * 4;
  return teams > 1 ? 2 * teams * stretch * 8 * quads * 4 : 0;
}

/** The layout for this adapter: what was measured to be the fastest on a data-centre GPU, and on a CPU. */
export function scanPlan(states: number, env: KernelEnv): ScanPlan {
  const quads = Math.ceil(states / 4);
  const subgroups = env.has('subgroups') && env.subgroupMinSize >= 4;
  const width = subgroups ? Math.min(64, env.subgroupMinSize) : 32;
  if (subgroups && width <= 8 && env.subgroupMaxSize === width) {
    // Subgroups as narrow as this are those of CPUs. Their compilers take seconds over long programs, their memory is read one lane at
    // a time, and what does not fit into registers lies in the cache.
    const layout = { stretch: 1, fetch: 'broadcast', width, teams: 1, merged: true } as const;
    return { quads, every: historyTokens(quads), forward: layout, backward: { ...layout, subgroups, split: 1 } };
  }
  // What a stretch keeps in registers grows with the states; sums in workgroup memory are as many again for each of its tokens.
  const stretch = subgroups ? Math.max(1, Math.min(4, 2 ** Math.floor(Math.log2(16 / quads)))) : 1;
  const layout = { stretch, fetch: 'direct', width, teams: subgroups ? 4 : 1 } as const;
  const split = subgroups ? Math.min(4, quads & -quads) : 1;
  let backward: BackwardLayout = { ...layout, merged: false, subgroups, split };
  while (backward.teams > 1 && workgroupBytes(quads, backward) > WORKGROUP_BYTES) backward = { ...backward, teams: backward.teams / 2 };
  return { quads, every: Math.max(stretch, Math.min(16, historyTokens(quads))), forward: { ...layout, merged: true }, backward };
}

/** Tokens whose states may be recomputed into private memory: 512 values of it at most. */
function historyTokens(quads: number): number {
  let every = 32;
  while (every > 2 && every * quads * 4 > 512) every /= 2;
  return every;
}
