// Runs the scan's kernels on storages: allocation, packing, grids, splitting. What the public operations (op.ts) stand on.

import type { Device, Operand } from '../../core/device.ts';
import { sizeOf } from '../../core/dtype.ts';
import { grid1d } from '../../core/kernel.ts';
import { Storage } from '../../core/storage.ts';
import { columnsPerGroup, sharingOf } from '../partSums.ts';
import { bindRows as bind, type Rows } from '../rows.ts';
import { backwardKernel, paddedLength } from './backward.ts';
import { forwardKernel } from './forward.ts';
import { scanPlan, type ScanPlan } from './plan.ts';
import { packedSize, prepareKernel } from './prepare.ts';
import { channelSums, lastStateKernel, reduceChannelsKernel, reduceTokensKernel, sumHalvesKernel } from './reduce.ts';
import type { Direction, ScanDType } from './wgsl.ts';

/** The arguments of one direction. */
export interface ScanSet {
  readonly direction: Direction;
  readonly u: Rows;
  readonly delta: Rows;
  /** (D, N) f32, contiguous. */
  readonly A: Operand;
  readonly B: Rows;
  readonly C: Rows;
  readonly D: Operand | null;
  readonly bias: Operand | null;
}

export interface ScanProblem {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly states: number;
  readonly dtype: ScanDType;
  readonly softplus: boolean;
  /** Every A holds log(-A). Default false. */
  readonly logA?: boolean;
  /** One direction or two; two are added up. */
  readonly sets: readonly ScanSet[];
  readonly z: Rows | null;
  /** Default what `scanPlan` gives for the adapter. */
  readonly plan?: ScanPlan;
}

export interface ScanForward {
  /** (B, L, D). */
  readonly out: Storage;
  readonly packed: Storage;
  readonly saved: Storage | null;
}

export interface ScanGradients {
  /** Holds (B, L, D) gradients of u and delta, of each direction where its `du` and `ddelta` say, in elements. */
  readonly grads: Storage;
  /** The gradient of the gate, null without one: in `grads`, where it was asked for, or in a storage of its own. */
  readonly dz: Rows | null;
  /** dA is the gradient of log(-A) if that was given. */
  readonly sets: readonly {
    readonly du: number; readonly ddelta: number; readonly dA: Storage; readonly tokens: TokenGradients; readonly dD: Storage; readonly dBias: Storage;
  }[];
}

/** dB and dC (rows, N) in one buffer. */
export interface TokenGradients {
  readonly storage: Storage;
  readonly bOffset: number;
  readonly bRow: number;
  readonly cOffset: number;
  readonly cRow: number;
}

export interface ScanBackwardOptions {
  /** Where dB and dC of each direction are written; default new storages. */
  readonly tokens?: readonly TokenGradients[];
  /** Where the sum of both directions' dz is written; default a new storage. */
  readonly dz?: Rows;
  /** Bytes of partial sums at a time, if those of one batch item fit. A larger batch is run in parts. Default 64 MiB. */
  readonly sumsBytes?: number;
}

const SUMS_BYTES = 64 * 2 ** 20;

const whole = (storage: Storage): Operand => ({ storage, byteOffset: 0 });

/** Slots of saved states: one a stretch, and the last states. */
export function savedSlots(device: Device, problem: ScanProblem): number {
  return Math.ceil(problem.length / planOf(device, problem).every) + 1;
}

function planOf(device: Device, { plan, states }: ScanProblem): ScanPlan {
  return plan ?? scanPlan(states, device);
}

/** Elements between gradients in one buffer: each begins where a binding may begin. */
function regionSize(device: Device, { batch, length, channels, dtype }: ScanProblem): number {
  const align = device.limits.minStorageBufferOffsetAlignment / sizeOf(dtype);
  return Math.ceil((batch * length * channels) / align) * align;
}

/** Runs the scan; `save` keeps the states that the backward and `lastState` need. */
export function scanForward(device: Device, problem: ScanProblem, save: boolean): ScanForward {
  const { batch, length, channels, states, dtype, softplus, logA = false, sets, z } = problem;
  const plan = planOf(device, problem);
  const { quads } = plan;
  const size = packedSize(quads, channels, batch * length);
  const packed = new Storage(device, sets.length * size * 4, 'packed arguments of selectiveScan');
  sets.forEach(({ A, B, C, D, bias }, i) => {
    device.run(prepareKernel, { states, dtype, skip: D !== null, bias: bias !== null, logA },
      [A, bind(B), bind(C), ...(D ? [D] : []), ...(bias ? [bias] : []), whole(packed)],
      [size, channels, i * size, B.offset, B.row, C.offset, C.row], grid1d(size, 256));
  });
  const slots = savedSlots(device, problem);
  const saved = save ? new Storage(device, sets.length * batch * slots * quads * channels * 16, 'saved states of selectiveScan') : null;
  const elements = batch * length * channels;
  const out = new Storage(device, sets.length * elements * sizeOf(dtype), 'result of selectiveScan');
  device.run(forwardKernel, { plan, dtype, directions: sets.map((s) => s.direction), first: 0, gate: z !== null, softplus, save },
    [...sets.flatMap(({ u, delta }) => [bind(u), bind(delta)]), ...(z ? [bind(z)] : []), whole(packed), whole(out), ...(saved ? [whole(saved)] : [])],
    [length, channels, batch, 0, slots, size / 4, z?.offset ?? 0, z?.row ?? 0, ...sets.flatMap(geometry)],
    [Math.ceil(channels / (plan.forward.width * plan.forward.teams)), batch, sets.length]);
  if (sets.length === 1) return { out, packed, saved };
  const sum = new Storage(device, elements * sizeOf(dtype), 'result of selectiveScan');
  sumHalves(device, dtype, out, 0, elements, elements, { storage: sum, offset: 0, row: channels }, channels);
  out.release();
  return { out: sum, packed, saved };
}

/** The last states (B, D, N) f32 of a scan in one direction. */
export function scanLastState(device: Device, problem: ScanProblem, saved: Storage): Storage {
  const { batch, channels, states } = problem;
  const size = batch * channels * states;
  const last = new Storage(device, size * 4, 'last state of selectiveScan');
  device.run(lastStateKernel, { states }, [whole(saved), whole(last)], [channels, savedSlots(device, problem), size], grid1d(size, 64));
  return last;
}

/**
 * All gradients, from the upstream gradient `dout` (B, L, D) and what the forward kept. How the batch is divided for the partial
 * sums doesn't change a bit of the result.
 */
export function scanBackward(device: Device, problem: ScanProblem, packed: Storage, saved: Storage, dout: Rows, options: ScanBackwardOptions = {}): ScanGradients {
  const { batch, length, channels, states, dtype, softplus, logA = false, sets, z } = problem;
  const plan = planOf(device, problem);
  const { quads } = plan;
  const blocks = Math.ceil(channels / (plan.backward.width * plan.backward.teams));
  const padded = paddedLength(plan, length);
  const region = regionSize(device, problem);
  const regions = z ? 3 : 2;
  const grads = new Storage(device, sets.length * regions * region * sizeOf(dtype), 'gradients of selectiveScan');
  const perChannel = channelSums(states) * channels;
  const tokenSums = Math.ceil((sets.length * batch * perChannel) / 4) * 4;
  const perBatch = sets.length * padded * blocks * 8 * quads;
  const room = Math.min(options.sumsBytes ?? SUMS_BYTES, device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize) / 4 - tokenSums;
  const part = Math.min(batch, Math.max(1, Math.floor(room / perBatch)));
  const sums = new Storage(device, (tokenSums + part * perBatch) * 4, 'partial sums of selectiveScan');

  const results = sets.map((_, i) => {
    const make = (elements: number, bytes: number, what: string): Storage => new Storage(device, elements * bytes, `${what} of selectiveScan`);
    return {
      du: i * regions * region, ddelta: (i * regions + 1) * region, dA: make(channels * states, 4, 'dA'), dD: make(channels, 4, 'dD'), dBias: make(channels, 4, 'ddeltaBias'),
      tokens: options.tokens?.[i] ?? {
        storage: make(2 * batch * length * states, sizeOf(dtype), 'dB and dC'), bOffset: 0, bRow: states, cOffset: batch * length * states, cRow: states,
      },
    };
  });
  /** u, delta of each direction, then what all share. */
  const buffers = 2 * sets.length + (z ? 1 : 0) + 5;
  const runs = buffers <= device.limits.maxStorageBuffersPerShaderStage ? [{ first: 0, sets }] : sets.map((set, first) => ({ first, sets: [set] }));
  for (let batch0 = 0; batch0 < batch; batch0 += part) {
    const count = Math.min(part, batch - batch0);
    for (const run of runs) {
      device.run(backwardKernel, { plan, dtype, directions: run.sets.map((s) => s.direction), first: run.first, gate: z !== null, softplus },
        [...run.sets.flatMap(({ u, delta }) => [bind(u), bind(delta)]), ...(z ? [bind(z)] : []), whole(packed), whole(saved), bind(dout), whole(grads), whole(sums)],
        [length, channels, batch, batch0, savedSlots(device, problem), packedSize(quads, channels, batch * length) / 4,
          z?.offset ?? 0, z?.row ?? 0, ...run.sets.flatMap(geometry), dout.offset, dout.row, region, tokenSums],
        [blocks, count, run.sets.length]);
    }
    const rows = count * length;
    results.forEach(({ tokens: { storage, bOffset, bRow, cOffset, cRow } }, i) => {
      device.run(reduceTokensKernel, { states, dtype, direction: sets[i].direction }, [whole(sums), whole(storage)],
        [length, padded, rows, blocks, tokenSums / 4 + i * count * padded * blocks * 2 * quads, batch0 * length, bOffset, bRow, cOffset, cRow], grid1d(rows * 2 * quads, 64));
    });
  }
  results.forEach(({ dA, dD, dBias }, i) => {
    const sharing = sharingOf(perChannel, batch);
    device.run(reduceChannelsKernel, { states, logA, sharing }, [whole(sums), whole(dA), whole(dD), whole(dBias), ...(logA ? [sets[i].A] : [])],
      [channels, batch, i * batch * perChannel], grid1d(perChannel, columnsPerGroup(sharing)));
  });
  sums.release();

  let dz: Rows | null = z && { storage: grads, offset: 2 * region, row: channels };
  if (dz && sets.length === 2) {
    const elements = batch * length * channels;
    dz = options.dz ?? { storage: new Storage(device, elements * sizeOf(dtype), 'dz of selectiveScan'), offset: 0, row: channels };
    sumHalves(device, dtype, grads, 2 * region, 5 * region, elements, dz, channels);
  }
  return { grads, dz, sets: results };
}

/** to = the sum of two runs of `elements` in `from`. */
function sumHalves(device: Device, dtype: ScanDType, from: Storage, first: number, second: number, elements: number, to: Rows, width: number): void {
  const vector = [first, second, to.offset, to.row, width].every((n) => n % 4 === 0) ? 4 : 1;
  device.run(sumHalvesKernel, { dtype, vector }, [whole(from), whole(to.storage)],
    [elements, first, second, width, to.offset, to.row].map((n) => n / vector), grid1d(elements / vector, 256));
}

function geometry({ u, delta }: ScanSet): number[] {
  return [u.offset, u.row, delta.offset, delta.row];
}
