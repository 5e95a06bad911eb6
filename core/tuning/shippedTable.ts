// What the modules in `tuned/` hold, and what is known of each before it is loaded.

import type { Tier } from '../gpu/adapter.ts';

/** A table by what is stable of the adapter that it was measured on. */
export interface ShippedTable {
  readonly vendor: string;
  /** Empty where the implementation knows none. */
  readonly architecture: string;
  readonly device: string;
  readonly tier: Tier;
  load(): Promise<{ readonly configs: ShippedConfigs }>;
}

/** Configurations with the keys that they are the fastest for; null is the kernel's own rule of thumb. */
export type ShippedConfigs = readonly (readonly [config: unknown, keys: readonly string[]])[];
