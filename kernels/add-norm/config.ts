// Which form of the norm kernels runs. The defaults need no measuring; a tuner may pass its own.

import type { Device } from '../../core/index.ts';
import type { Team } from './team.ts';
import { teamRuns } from './team.ts';

/** Which form of the norm kernels runs. */
export interface NormConfig {
  readonly team: Team;
  /** Whether the forward kernel holds the row in registers between passes; otherwise every pass reads it again. */
  readonly keep: boolean;
  /**
   * The same for the backward kernel. It holds up to five times as much, and then also sums the gradients of weight and
   * bias.
   */
  readonly keepBackward: boolean;
  /** Partial sums of the gradients of weight and bias. */
  readonly partials: number;
  /** Invocations that share a column when those are summed. */
  readonly slices: number;
}

/**
 * Floats of a row that an invocation may hold, forward and backward. More of them halve a GPU's occupancy. A CPU spills
 * them to its first-level cache, which pays backward only: rows that are not held need another dispatch for the sums of
 * weight and bias. docs/kernels/add-norm.md has the measurements.
 */
const HELD = { software: { forward: 64, backward: 128 }, gpu: { forward: 32, backward: 32 } } as const;

/** The form for rows of `width` on this adapter. */
export function normConfig(device: Device, width: number): NormConfig {
  const { software } = device.adapter;
  const most = HELD[software ? 'software' : 'gpu'];
  const subgroup: Team = { kind: 'subgroup', size: device.subgroupMaxSize };
  const teams: Team[] = [];
  // Needs no barriers, where a subgroup can hold the row.
  if (device.subgroupMaxSize > 0 && (software || heldFloats(width, subgroup) <= most.forward)) teams.push(subgroup);
  // Workgroup memory with barriers costs a software adapter more than reading the row again.
  if (!software) teams.push({ kind: 'workgroup', size: width <= 1024 ? 64 : width <= 2048 ? 128 : 256 });
  const team = teams.find((candidate) => teamRuns(candidate, device)) ?? { kind: 'invocation', size: 1 };
  const held = heldFloats(width, team);
  return {
    team,
    keep: team.kind !== 'invocation' && held <= most.forward,
    keepBackward: team.kind !== 'invocation' && held <= most.backward,
    partials: software ? 64 : 1024,
    slices: software ? 1 : 8,
  };
}

/** Every form that may be chosen for rows of `width`, for tuners and tests. */
export function normConfigs(device: Device, width: number): NormConfig[] {
  const teams: Team[] = [
    { kind: 'invocation', size: 1 },
    ...[64, 128, 256].map((size): Team => ({ kind: 'workgroup', size })),
  ];
  if (device.subgroupMaxSize > 0) teams.push({ kind: 'subgroup', size: device.subgroupMaxSize });
  const configs: NormConfig[] = [];
  for (const team of teams) {
    if (!teamRuns(team, device)) continue;
    configs.push({ team, keep: false, keepBackward: false, partials: 5, slices: 1 });
    if (team.kind !== 'invocation' && heldFloats(width, team) <= HELD.software.backward)
      configs.push({ team, keep: true, keepBackward: true, partials: 7, slices: 8 });
  }
  return configs;
}

/** Floats of a row that each invocation of the team works on. */
export function heldFloats(width: number, team: Team): number {
  const vector = width % 4 === 0 ? 4 : 1;
  return Math.ceil(width / vector / team.size) * vector;
}
