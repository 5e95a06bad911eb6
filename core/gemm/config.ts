// Which way to compute a product: all that can, and the one to take unmeasured.

import type { KernelEnv } from '../kernel.ts';
import type { GemmConfig, GemmSpec } from './spec.ts';

/** What the choice looks at: the adapter's abilities, and whether it computes on the CPU. A `Device` is one. */
export interface GemmAdapter extends KernelEnv {
  readonly adapter: { readonly software: boolean };
}

const register = (rows: number, quads: number, x: number, y: number, splits = 1): GemmConfig =>
  ({ form: 'register', rows, quads, x, y, depth: 4, splits });
const subgroup = (rows: number, quads: number, size: number, splits = 1): GemmConfig =>
  ({ form: 'subgroup', rows, quads, x: size, y: 1, depth: 4, splits });

/** The subgroup size where it is fixed and of use here, otherwise 0. */
function fixedSubgroup(device: KernelEnv): number {
  const size = device.subgroupMinSize;
  return device.has('subgroups') && size === device.subgroupMaxSize && size >= 4 && size <= 32 ? size : 0;
}

/** Parts to cut K into, so that about `workgroups` are at work: no part under 128. */
function partsFor(spec: GemmSpec, tileRows: number, tileColumns: number, workgroups: number): number {
  const tiles = Math.ceil(spec.M / tileRows) * Math.ceil(spec.N / tileColumns) * (spec.batch ?? 1);
  return Math.max(1, Math.min(Math.floor(workgroups / tiles), Math.floor(spec.K / 128), 64));
}

/** Every configuration that computes this product on this adapter. The first is the heuristic's choice. */
export function configs(device: GemmAdapter, spec: GemmSpec): GemmConfig[] {
  const list: GemmConfig[] = [];
  const size = fixedSubgroup(device);
  if (size) for (const rows of [8, 16, 32]) if (rows % size === 0) list.push(subgroup(rows, 1, size));
  list.push(register(1, 1, 64, 1), register(4, 1, 8, 8), register(4, 2, 8, 8), register(8, 1, 8, 8));
  const split = list.filter((c) => c.rows >= 4).map((c) => ({ ...c, splits: Math.max(2, partsFor(spec, c.rows * c.y, 4 * c.quads * c.x, 256)) }));
  if (spec.K >= 16) list.push(...split);
  const chosen = chooseConfig(device, spec);
  return [chosen, ...list.filter((c) => JSON.stringify(c) !== JSON.stringify(chosen))];
}

/** The configuration to take unmeasured. */
export function chooseConfig(device: GemmAdapter, spec: GemmSpec): GemmConfig {
  const size = fixedSubgroup(device);
  if (size) {
    const rows = Math.max(size, spec.M <= 8 ? 8 : 16);
    return subgroup(rows, 1, size);
  }
  if (spec.M <= 2) return register(1, 1, 64, 1);
  return register(4, 1, 8, 8);
}
