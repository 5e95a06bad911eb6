// What the modules in `tuned/` hold, and what is known of each before it is loaded.

import type { Tier } from '../gpu/adapter.ts';

/** A table, and the adapter that it was measured on, by what stays the same of it. */
export interface ShippedTable {
  readonly vendor: string;
  /** Empty where the adapter doesn't tell. */
  readonly architecture: string;
  readonly device: string;
  readonly tier: Tier;
  load(): Promise<{ readonly configs: ShippedConfigs }>;
}

/**
 * Configurations, each with the keys of the problems that it is the fastest for; null is the kernel's own rule of
 * thumb.
 */
export type ShippedConfigs = readonly (readonly [config: unknown, keys: readonly string[]])[];
