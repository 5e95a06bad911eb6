// What a device is told about its adapter, as plain data.

import type { GPUSupportedLimits } from './webgpu.ts';

/** `stock`: what the implementation offers by itself. `fast`: with Dawn's toggles. */
export type Tier = 'stock' | 'fast';

/** What kind of adapter a device runs on. */
export interface AdapterSummary {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** Whether it computes on the CPU. */
  readonly software: boolean;
  readonly backend: 'node' | 'browser' | 'null';
}

/** Optional features that kernels ask for. */
export type Feature = 'shader-f16' | 'subgroups' | 'timestamp-query' | 'subgroup-matrix';

/** One shape of the matrix unit, as Dawn reports it. */
export interface GPUSubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** The same limits as numbers: what the implementation gives asks it each time. */
export function plainLimits(limits: GPUSupportedLimits): GPUSupportedLimits {
  const plain: Record<string, number> = {};
  for (const name in limits) plain[name] = limits[name as 'maxBufferSize'];
  return Object.freeze(plain) as unknown as GPUSupportedLimits;
}
