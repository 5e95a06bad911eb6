// The pieces of WGSL that the scan's forward and backward share.
//
// Steps that made it fast, in order of effect:
// 1. one invocation owns one channel (b, d) and keeps all its states in registers, as vec4s: no exchange between invocations;
// 2. neighbouring invocations own neighbouring channels, so that every access to (B, L, D) is coalesced;
// 3. B and C of a token are the same for all channels. With subgroups of a known size each lane fetches one vec4 of them and
//    broadcasts it, without, all lanes read the same address;
// 4. A is multiplied by log2(e) beforehand and A, D, bias, B, C lie packed in one aligned buffer, padded to whole vec4s with
//    zeros (a padded state stays zero), so that any state size and any row stride takes the vec4 path with 8 bindings at most;
// 5. the workgroup is one subgroup, so that sums over channels need shuffles, not barriers.

import type { KernelEnv } from '../../core/kernel.ts';

export type ScanDType = 'f32' | 'f16';
export type Direction = 'forward' | 'reverse';

/** What the adapter makes of a scan with `states` states. */
export interface ScanPlan {
  /** vec4s that hold the states of a channel. */
  readonly quads: number;
  /** Invocations of a workgroup, and so channels. A power of two. */
  readonly width: number;
  /** Whether a workgroup is exactly one subgroup. */
  readonly subgroups: boolean;
  /** Tokens between saved states. A power of two. */
  readonly every: number;
}

/** Bytes of workgroup memory that every adapter has. */
const WORKGROUP_BYTES = 16384;

export function scanPlan(states: number, env: KernelEnv): ScanPlan {
  const quads = Math.ceil(states / 4);
  const size = env.subgroupMinSize;
  const subgroups = env.has('subgroups') && size === env.subgroupMaxSize && size >= 4 && size <= 64;
  let width = subgroups ? size : 32;
  while (!subgroups && width * quads * 32 > WORKGROUP_BYTES) width /= 2;
  // The states between two saved ones are recomputed into private memory: 512 values of it at most.
  let every = 32;
  while (every > 2 && every * quads * 4 > 512) every /= 2;
  return { quads, width, subgroups, every };
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

/** Statements that fetch B and C of row `row` of the packed buffer (a vec4 index) into `B0…` and `C0…`. */
export function fetchBC(plan: ScanPlan, row: string, parts: 'B' | 'BC'): string {
  const { quads, width, subgroups } = plan;
  const entries = parts === 'B' ? quads : 2 * quads;
  const name = (i: number): string => (i < quads ? `B${i}` : `C${i - quads}`);
  if (!subgroups) return each(entries, (i) => `let ${name(i)} = packed[${row} + ${i}u];`);
  const loads = each(Math.ceil(entries / width), (m) => `let part${m} = packed[${row} + min(lane + ${m * width}u, ${entries - 1}u)];`);
  return `${loads}\n${each(entries, (i) => `let ${name(i)} = subgroupBroadcast(part${Math.floor(i / width)}, ${i % width}u);`)}`;
}

/** Statements common to both kernels that set the channel and its parameters. `set` is the direction's index. */
export function channelSetup(plan: ScanPlan, set: number): string {
  const { quads, width, subgroups } = plan;
  return `
  let channel = wid.x * ${width}u + ${subgroups ? 'lane' : 'li'};
  let inside = channel < p.D;
  let d = min(channel, p.D - 1u);
  let b = wid.y + p.batch0;
  let L = p.L;
  let base = ${set}u * p.packedSet;
  ${each(quads, (q) => `let A${q} = packed[base + ${q}u * p.D + d];`)}
  let skip = packed[base + ${quads}u * p.D + d];
  let rows = base + ${quads + 1}u * p.D + b * L * ${2 * quads}u;
  let atU = p.u${set} + b * L * p.uRow${set} + d;
  let atDelta = p.delta${set} + b * L * p.deltaRow${set} + d;`;
}

/** The vec4 index of the states of this channel before chunk `chunk`. */
export function savedIndex(plan: ScanPlan, set: number, chunk: string): string {
  return `(((${set}u * p.batches + b) * p.slots + ${chunk}) * ${plan.quads}u) * p.D + d`;
}
