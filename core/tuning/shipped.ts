// Kernel configurations that come with the engine. They were measured on the adapters in `tuned/`. A device takes the
// table of its own kind when it is opened: only that table is loaded, and a bundler makes it a chunk of its own.

import type { AdapterSummary, Tier } from '../gpu/adapter.ts';
import type { Device } from '../gpu/device.ts';
import type { ShippedTable } from './shippedTable.ts';
import { TABLES } from './tuned/tables.ts';
import { tuningOf, type ShippedTuning } from './tuning.ts';

/**
 * The table for an adapter: of the same device, or else of the same architecture, as browsers tell no more. Each tier
 * has tables of its own, as it can compute other things.
 */
export function findShipped(
  { vendor, architecture, device }: Pick<AdapterSummary, 'vendor' | 'architecture' | 'device'>,
  tier: Tier,
  tables: readonly ShippedTable[] = TABLES,
): { table: ShippedTable; match: ShippedTuning['match'] } | null {
  const near = tables.filter((table) => table.tier === tier && table.vendor === vendor && vendor !== '');
  const same = device === '' ? undefined : near.find((table) => table.device === device);
  if (same) return { table: same, match: 'device' };
  const related = architecture === '' ? undefined : near.find((table) => table.architecture === architecture);
  return related ? { table: related, match: 'architecture' } : null;
}

/**
 * Gives a device the table of its adapter, if there is one. Without it, or if it cannot be loaded, rules of thumb
 * decide.
 */
export async function useShippedTuning(device: Device, tables: readonly ShippedTable[] = TABLES): Promise<void> {
  const found = findShipped(device.adapter, device.tier, tables);
  if (!found) return;
  const { table, match } = found;
  try {
    const { configs } = await table.load();
    tuningOf(device).ship({
      name: table.device || table.architecture,
      match,
      entries: Object.fromEntries(configs.flatMap(([config, keys]) => keys.map((key) => [key, config]))),
    });
  } catch {
    // The chunk could not be loaded. Rules of thumb decide.
  }
}
