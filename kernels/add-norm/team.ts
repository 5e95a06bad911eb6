// How invocations share a row. A team is the invocations that work on one row together; the kernels are written once in
// terms of a team, its lanes and the sum over it.
//
//   invocation   one invocation, one row: no communication at all. For adapters without fast communication.
//   subgroup     the lanes of a subgroup: coalesced, summed in registers. Needs subgroups of one known size.
//   workgroup    a workgroup, summed as a tree in workgroup memory: the portable form for GPUs.
//
// docs/kernels/add-norm.md compares them.

import type { KernelEnv, KernelExtension } from '../../core/kit.ts';

export interface Team {
  readonly kind: 'invocation' | 'subgroup' | 'workgroup';
  /** Invocations of a team; a power of two. */
  readonly size: number;
}

export interface TeamCode {
  readonly enable: readonly KernelExtension[];
  readonly declarations: string;
  readonly workgroupSize: readonly [number];
  readonly workgroupBytes: number;
  /** Declares `team` and `lane_` (the invocation's place in it). */
  readonly prologue: string;
}

const GROUP = 64;

/** Invocations of the workgroup that a team lives in. */
export function groupSize(team: Team): number {
  return team.kind === 'workgroup' ? team.size : Math.max(GROUP, team.size);
}

/** Whether the adapter can run the team. */
export function teamRuns(team: Team, env: KernelEnv): boolean {
  if (team.kind === 'subgroup')
    return env.has('subgroups') && env.subgroupMinSize === team.size && env.subgroupMaxSize === team.size;
  return team.size <= env.limits.maxComputeInvocationsPerWorkgroup;
}

/**
 * WGSL of a team: where an invocation is in it, and `teamSum(vec2f, lane)`, which all invocations must call (uniform
 * control flow).
 */
export function teamCode(team: Team): TeamCode {
  const workgroupSize = [groupSize(team)] as const;
  if (team.kind === 'invocation') {
    return {
      enable: [],
      workgroupSize,
      workgroupBytes: 0,
      declarations: 'fn teamSum(v: vec2f, lane: u32) -> vec2f { return v; }',
      prologue: 'let team = flat;\nlet lane_ = 0u;',
    };
  }
  if (team.kind === 'subgroup') {
    return {
      enable: ['subgroups'],
      workgroupSize,
      workgroupBytes: 0,
      declarations: 'fn teamSum(v: vec2f, lane: u32) -> vec2f { return subgroupAdd(v); }',
      prologue: `let team = flat / ${team.size}u;\nlet lane_ = lane;`,
    };
  }
  return {
    enable: [],
    workgroupSize,
    workgroupBytes: team.size * 8,
    declarations: `var<workgroup> teamScratch: array<vec2f, ${team.size}>;
fn teamSum(v: vec2f, lane: u32) -> vec2f {
  teamScratch[lane] = v;
  workgroupBarrier();
  for (var half = ${team.size / 2}u; half > 0u; half >>= 1u) {
    if (lane < half) { teamScratch[lane] += teamScratch[lane + half]; }
    workgroupBarrier();
  }
  let total = teamScratch[0];
  workgroupBarrier();
  return total;
}`,
    prologue: 'let team = wid.y * nwg.x + wid.x;\nlet lane_ = li;',
  };
}
