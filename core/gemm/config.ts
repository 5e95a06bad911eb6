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

const tile = (rows: number, quads: number, x: number, y: number, depth: number): GemmConfig =>
  ({ form: 'tile', rows, quads, x, y, depth, splits: 1 });
const vector = (rows: number, quads: number, x: number, y: number): GemmConfig =>
  ({ form: 'vector', rows, quads, x, y, depth: 4, splits: 1 });

/** 32 × 32, 64 × 64, 128 × 64 and 128 × 128 elements of c: all within the 16 KiB and 256 invocations that WebGPU guarantees. */
const TILES = [tile(4, 1, 8, 8, 16), tile(4, 1, 16, 16, 16), tile(8, 1, 16, 16, 16), tile(8, 2, 16, 16, 16)] as const;

/** Workgroups that keep a large GPU at work. */
const ENOUGH = 256;

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

/** The same configuration with K cut so that the adapter has enough to do. */
function cut(spec: GemmSpec, config: GemmConfig): GemmConfig {
  return { ...config, splits: partsFor(spec, config.rows * config.y, 4 * config.quads * config.x, ENOUGH) };
}

/** Every configuration that computes this product on this adapter. The first is the heuristic's choice. */
export function configs(device: GemmAdapter, spec: GemmSpec): GemmConfig[] {
  const { M, N, K } = spec;
  const size = fixedSubgroup(device);
  const list: GemmConfig[] = [];
  if (size) for (const rows of [8, 16, 32]) if (rows % size === 0) list.push(subgroup(rows, 1, size));
  list.push(register(1, 1, 64, 1), register(4, 1, 8, 8), register(4, 2, 8, 8), register(8, 1, 8, 8));
  // Where the CPU computes, workgroup memory with its barriers is many times slower than registers.
  if (!device.adapter.software) list.push(...TILES);
  if (K >= 64) list.push(...list.filter((c) => c.rows >= 4).map((c) => ({ ...c, splits: Math.max(2, cut(spec, c).splits) })));
  if (M <= 16 || N <= 16) list.push(vector(1, 1, 16, 4), vector(1, 1, 64, 1), vector(4, 1, 16, 4), vector(4, 0.25, 16, 4));
  const chosen = chooseConfig(device, spec);
  return [chosen, ...list.filter((c) => JSON.stringify(c) !== JSON.stringify(chosen))];
}

/** The configuration to take unmeasured. */
export function chooseConfig(device: GemmAdapter, spec: GemmSpec): GemmConfig {
  const { M, N, a, b } = spec;
  if (device.adapter.software) {
    const size = fixedSubgroup(device);
    if (size) return subgroup(Math.max(size, M <= 8 ? 8 : 16), 1, size);
    return M <= 2 ? register(1, 1, 64, 1) : register(4, 1, 8, 8);
  }
  // Few results: lanes share K, if both lie along it.
  if (M <= 4 && b.transposed) return vector(M === 1 ? 1 : 4, 1, 16, 4);
  if (N === 1 && !a.transposed) return vector(4, 0.25, 16, 4);
  if (M <= 4) return cut(spec, register(M === 1 ? 1 : 4, 1, 64, 1));
  // The largest tile that still gives enough workgroups; K is cut where even the smallest gives too few.
  const { batch = 1 } = spec;
  for (const large of [TILES[3], TILES[2]]) {
    if (Math.ceil(M / (large.rows * large.y)) * Math.ceil(N / (4 * large.quads * large.x)) * batch >= ENOUGH) return large;
  }
  return cut(spec, M <= 32 || N <= 32 ? TILES[0] : TILES[1]);
}
