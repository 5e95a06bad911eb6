// Random arguments of a scan, laid out on the device as columns of wider arrays, and what comes out of it.

import type { Device } from '../../core/gpu/device.ts';
import { leavesOf } from '../../core/autograd/tree.ts';
import { Storage } from '../../core/gpu/storage.ts';
import { emptyTensor } from '../../core/tensor/make.ts';
import {
  scanBackward,
  scanForward,
  scanLastState,
  type ScanProblem,
  type ScanSet,
} from '../../kernels/selective-scan/launch.ts';
import { scanPlan } from '../../kernels/selective-scan/plan.ts';
import type { Rows } from '../../kernels/rows.ts';
import type { ScanArguments, ScanDerivatives } from '../reference/selectiveScan.ts';

/** Numbers in [-1, 1) that are the same on every run. */
export function generator(seed: number): () => number {
  let h = seed >>> 0;
  return () => {
    h = (h + 0x9e3779b1) >>> 0;
    let x = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2147483648 - 1;
  };
}

export function values(count: number, make: () => number): Float32Array {
  return Float32Array.from({ length: count }, make);
}

export function upload(device: Device, data: Float32Array): Storage {
  const storage = new Storage(device, data.byteLength, 'test data');
  device.gpu.queue.writeBuffer(storage.buffer.gpu, 0, data.buffer, data.byteOffset, data.byteLength);
  return storage;
}

export async function download(device: Device, storage: Storage, offset: number, count: number): Promise<Float32Array> {
  return new Float32Array(await device.readBytes(storage, offset * 4, count * 4));
}

/** Arrays (rows, width) side by side in one (rows, margin + Σ width) array, as a projection gives them. */
export function columns(
  device: Device,
  rows: number,
  margin: number,
  parts: readonly { data: Float32Array; width: number }[],
): Rows[] {
  const row = parts.reduce((sum, part) => sum + part.width, margin);
  const all = new Float32Array(rows * row);
  let offset = margin;
  const storage = { offset: [] as number[] };
  for (const { data, width } of parts) {
    for (let r = 0; r < rows; r++) all.set(data.subarray(r * width, (r + 1) * width), r * row + offset);
    storage.offset.push(offset);
    offset += width;
  }
  const memory = upload(device, all);
  return storage.offset.map((start) => ({ storage: memory, offset: start, row }));
}

export interface ScanCase extends ScanArguments {
  u: Float32Array;
  delta: Float32Array;
  z?: Float32Array | undefined;
  A: Float32Array;
  B: Float32Array;
  C: Float32Array;
  D?: Float32Array | undefined;
  deltaBias?: Float32Array | undefined;
}

export interface CaseOptions {
  z?: boolean;
  D?: boolean;
  deltaBias?: boolean;
  deltaSoftplus?: boolean;
  reverse?: boolean;
  seed?: number;
}

export function randomCase(
  batch: number,
  length: number,
  channels: number,
  states: number,
  options: CaseOptions = {},
): ScanCase {
  const next = generator(options.seed ?? 1);
  const elements = batch * length * channels;
  const deltaSoftplus = options.deltaSoftplus ?? true;
  return {
    batch,
    length,
    channels,
    states,
    deltaSoftplus,
    reverse: options.reverse ?? false,
    u: values(elements, next),
    delta: values(elements, deltaSoftplus ? () => 2 * next() : () => 0.3 + 0.25 * next()),
    z: options.z === false ? undefined : values(elements, () => 2 * next()),
    A: values(channels * states, () => -1 - 0.9 * next()),
    B: values(batch * length * states, next),
    C: values(batch * length * states, next),
    D: options.D === false ? undefined : values(channels, next),
    deltaBias: options.deltaBias === false ? undefined : values(channels, () => 0.5 * next() - 1),
  };
}

/** One or two cases of the same sizes (two share z) as a problem on the device, its rows as slices of wider arrays. */
export function problemOf(device: Device, cases: readonly ScanCase[]): ScanProblem {
  const { batch, length, channels, states, deltaSoftplus, z } = cases[0];
  const rows = batch * length;
  let gate: Rows | null = null;
  const whole = (data: Float32Array | undefined): { storage: Storage; byteOffset: number } | null =>
    data ? { storage: upload(device, data), byteOffset: 0 } : null;
  const sets = cases.map((c): ScanSet => {
    const [u, zRows] = columns(device, rows, 0, [
      { data: c.u, width: channels },
      ...(z ? [{ data: z, width: channels }] : []),
    ]);
    gate ??= zRows ?? null;
    const [B, C] = columns(device, rows, 3, [
      { data: c.B, width: states },
      { data: c.C, width: states },
    ]);
    const [delta] = columns(device, rows, 0, [{ data: c.delta, width: channels }]);
    return {
      direction: c.reverse ? 'reverse' : 'forward',
      u,
      delta,
      A: whole(c.A)!,
      B,
      C,
      D: whole(c.D),
      bias: whole(c.deltaBias),
    };
  });
  const size = { batch, length, channels, states };
  return {
    ...size,
    dtype: 'f32',
    softplus: deltaSoftplus,
    sets,
    z: gate,
    plan: scanPlan(device, { ...size, directions: sets.length }),
  };
}

export async function runForward(
  device: Device,
  problem: ScanProblem,
): Promise<{ out: Float32Array; lastState: Float32Array }> {
  const { batch, length, channels, states } = problem;
  const forward = scanForward(device, problem, true);
  const last = scanLastState(device, problem, forward.saved!);
  const result = {
    out: await download(device, forward.out.storage, 0, batch * length * channels),
    lastState: await download(device, last.storage, 0, batch * channels * states),
  };
  for (const t of leavesOf({ forward, last })) t.dispose();
  return result;
}

export async function runBackward(
  device: Device,
  problem: ScanProblem,
  dout: Float32Array,
  sumsBytes?: number,
): Promise<Partial<ScanDerivatives>[]> {
  const { batch, length, channels, states, sets } = problem;
  const elements = batch * length * channels;
  const forward = scanForward(device, problem, true);
  const small = batch * length * states;
  const tokenSums = sets.map(() => emptyTensor(device, [2 * small], 'f32'));
  const tokens = tokenSums.map(({ storage }) => ({
    storage,
    bOffset: 0,
    bRow: states,
    cOffset: small,
    cRow: states,
  }));
  const result = scanBackward(
    device,
    problem,
    forward.packed,
    forward.saved!,
    { storage: upload(device, dout), offset: 0, row: channels },
    { tokens, sumsBytes },
  );
  const read = async (storage: Storage, offset: number, count: number): Promise<Float64Array> =>
    Float64Array.from(await download(device, storage, offset, count));
  const gradients: Partial<ScanDerivatives>[] = [];
  for (let i = 0; i < sets.length; i++) {
    const { du, ddelta, small: sums } = result.sets[i];
    gradients.push({
      u: await read(result.grads.storage, du, elements),
      delta: await read(result.grads.storage, ddelta, elements),
      A: await read(sums.storage, 0, channels * states),
      B: await read(tokens[i].storage, 0, small),
      C: await read(tokens[i].storage, small, small),
      ...(sets[i].D && { D: await read(sums.storage, channels * states, channels) }),
      ...(sets[i].bias && { deltaBias: await read(sums.storage, channels * (states + 1), channels) }),
      ...(result.dz && { z: await read(result.dz.storage, 0, elements) }),
    });
  }
  for (const t of leavesOf({ forward, result, tokenSums })) t.dispose();
  return gradients;
}
