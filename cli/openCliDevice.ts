// The adapter that a command runs on, chosen by flags that all commands share.

import type { Option } from 'commander';
import type { Device, Tier } from '../core/index.ts';
import { AdapterError, openDevice } from '../core/index.ts';
import { UsageError } from './errors.ts';
import { choice, flag, text } from './options.ts';

export interface AdapterOptions {
  readonly adapter?: string;
  readonly tier: Tier;
}

/** Flags that choose the adapter. */
export function adapterFlags(): Option[] {
  return [
    flag('--adapter <name>', 'part of the name of the GPU adapter to use', text),
    flag(
      '--tier <tier>',
      'stock: what the driver offers by itself; fast: with toggles for f16 on NVIDIA and tensor cores',
      choice(['stock', 'fast']),
      'stock',
    ),
  ];
}

/**
 * Opens the chosen adapter.
 * @throws UsageError when none has the name given, with those there are; AdapterError when there is none at all
 */
export async function openCliDevice({ adapter, tier }: AdapterOptions): Promise<Device> {
  try {
    return await openDevice({ tier, ...(adapter !== undefined && { adapter }) });
  } catch (error) {
    if (adapter === undefined || !(error instanceof AdapterError) || error.available.length === 0) throw error;
    throw new UsageError(
      `--adapter is ${JSON.stringify(adapter)}, expected a part of the name of one of ${error.available.join(', ')}.`,
    );
  }
}

/** The adapter in a few words. */
export function adapterLabel({ adapter }: Device): string {
  const name = adapter.device || adapter.description || adapter.vendor || 'unknown adapter';
  return adapter.software ? `${name} (software)` : name;
}
