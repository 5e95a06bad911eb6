// The GPUs of this machine, told apart by their address: equal cards have equal names, and WebGPU takes the first.

import { readdir, readFile, realpath } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Option } from 'commander';
import { UsageError } from '../errors.ts';
import { flag, integer, list, type Parser } from '../options.ts';

export interface Gpu {
  /** On the PCI bus, for example `0000:00:06.0`. */
  readonly address: string;
  readonly name: string;
  /** Device files by which a driver reaches it. A process that doesn't see them doesn't see the GPU. */
  readonly files: readonly string[];
}

/** `4`: so many; `0,2`: these. */
export const gpuList: Parser<number | number[]> = (value, name) =>
  value.includes(',') ? list(integer({ min: 0 }))(value, name) : integer({ min: 1 })(value, name);

/** Flags of commands that divide their work among GPUs without MPI. */
export const workerFlags = (): Option[] => [
  flag(
    '--gpus <n or list>',
    'draw on so many GPUs of this machine, or on these: 0,2; the pictures are the same',
    gpuList,
  ),
  new Option('--oversubscribe', 'with --gpus: let several processes share an adapter'),
];

/** @throws UsageError where a flag lacks the one that it belongs to */
export function checkGpuOptions({ gpus, oversubscribe }: { gpus?: unknown; oversubscribe?: boolean }): void {
  if (oversubscribe && gpus === undefined)
    throw new UsageError('--oversubscribe belongs to --gpus; give both, or leave it out.');
}

const NVIDIA = '/proc/driver/nvidia/gpus',
  DRM = '/sys/class/drm';
const VENDORS: Readonly<Record<string, string>> = { '0x1002': 'AMD', '0x10de': 'NVIDIA', '0x8086': 'Intel' };

/**
 * GPUs in the order of their addresses; none where the system has no such files (other systems than Linux, virtual
 * GPUs).
 */
export async function listGpus(): Promise<Gpu[]> {
  const found = new Map<string, { name: string; files: string[] }>();
  const at = (address: string, name: string): { name: string; files: string[] } => {
    const known = found.get(address) ?? { name, files: [] };
    found.set(address, known);
    return known;
  };
  for (const entry of await names(NVIDIA)) {
    const text = await readFile(join(NVIDIA, entry, 'information'), 'utf8').catch(() => '');
    const field = (name: string): string | undefined => new RegExp(`^${name}:\\s*(.+)$`, 'm').exec(text)?.[1].trim();
    const minor = field('Device Minor');
    if (minor !== undefined)
      at((field('Bus Location') ?? entry).toLowerCase(), field('Model') ?? 'NVIDIA').files.push(`/dev/nvidia${minor}`);
  }
  for (const node of (await names(DRM)).filter((name) => /^(renderD|card)\d+$/.test(name))) {
    const device = await realpath(join(DRM, node, 'device')).catch(() => '');
    const address = basename(device).toLowerCase();
    if (!/^[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.\d$/.test(address)) continue;
    const id = async (file: string): Promise<string> =>
      (await readFile(join(device, file), 'utf8').catch(() => '')).trim();
    const vendor = await id('vendor');
    // A card without a render node shows pictures and computes nothing.
    if (!node.startsWith('renderD') && !(await names(join(device, 'drm'))).some((name) => name.startsWith('renderD')))
      continue;
    at(address, `${VENDORS[vendor] ?? vendor} ${(await id('device')).replace(/^0x/, '')}`).files.push(
      `/dev/dri/${node}`,
    );
  }
  return [...found].map(([address, gpu]) => ({ address, ...gpu })).sort((a, b) => (a.address < b.address ? -1 : 1));
}

/**
 * The GPUs that `--gpus` names: a number of them, or a list of their places.
 *
 * @param oversubscribe several ranks may share a GPU, or an adapter that is none
 * @returns a place for each rank
 * @throws UsageError where there are not as many
 */
export function chooseGpus(wanted: number | readonly number[], gpus: readonly Gpu[], oversubscribe: boolean): number[] {
  const places = typeof wanted === 'number' ? Array.from({ length: wanted }, (_, k) => k) : [...wanted];
  const count = Math.max(1, gpus.length);
  if (oversubscribe) return places.map((place) => place % count);
  const missing = places.find((place) => place >= count);
  if (missing !== undefined)
    throw new UsageError(
      `--gpus asks for GPU ${missing}, and this machine has ${
        gpus.map(({ name, address }, k) => `${k} (${name} at ${address})`).join(', ') || 'none that can be told apart'
      }; ` + 'give fewer, or let ranks share one with --oversubscribe.',
    );
  if (new Set(places).size < places.length)
    throw new UsageError('--gpus names a GPU twice; give each once, or let ranks share it with --oversubscribe.');
  return places;
}

async function names(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort();
}
