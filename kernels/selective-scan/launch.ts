// Runs the scan's kernels: memory, packing, grids, splitting. The public operations (op.ts) are built on it; tensors
// belong to the caller's scope.

import { sizeOf, type Device, type FloatDType, type Tensor } from '../../core/index.ts';
import { emptyTensor, grid1d, type Operand, type Storage } from '../../core/kit.ts';
import { columnsPerGroup, sharingOf } from '../partSums.ts';
import { bindRows as bind, rowsOf, type Rows } from '../rows.ts';
import { backwardKernel } from './backward.ts';
import { forwardKernel } from './forward.ts';
import { GATE_WORKGROUP, gateBackwardKernel } from './gate.ts';
import { chunkLength, quadsOf, type ScanPlan } from './plan.ts';
import { packedSize, prepareKernel } from './prepare.ts';
import { channelSums, lastStateKernel, reduceChannelsKernel, reduceTokensKernel } from './reduce.ts';
import type { Direction } from '../direction.ts';
import { savedColumns } from './wgsl.ts';

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
  readonly dtype: FloatDType;
  readonly softplus: boolean;
  /** Every A holds log(-A). Default false. */
  readonly logA?: boolean;
  /** One direction or two; two are added up. */
  readonly sets: readonly ScanSet[];
  readonly z: Rows | null;
  readonly plan: ScanPlan;
}

export interface ScanForward {
  /** (B, L, D). */
  readonly out: Tensor;
  readonly packed: Tensor;
  /** What the backward scan and `lastState` need. */
  readonly saved: ScanSaved | null;
}

export interface ScanSaved {
  readonly states: Tensor;
  /** (B, L, D), the result before the gate; null without one. */
  readonly ungated: Tensor | null;
}

export interface ScanGradients {
  /** Holds the gradients of u and delta (B, L, D) of each direction, at the elements that `du` and `ddelta` say. */
  readonly grads: Tensor;
  /** (B, L, D), the gradient of the gate; null without one, or where it was written elsewhere. */
  readonly dz: Tensor | null;
  /**
   * `small` has dA (D, N), dD (D) and ddeltaBias (D) f32, one behind the other; dA is the gradient of log(-A) if that
   * was given.
   */
  readonly sets: readonly {
    readonly du: number;
    readonly ddelta: number;
    readonly small: Tensor;
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
  /** Where dB and dC of each direction are written. */
  readonly tokens: readonly TokenGradients[];
  /** Where dz is written; default a new tensor. */
  readonly dz?: Rows;
  /**
   * Most bytes of partial sums at a time, but room for one batch item at least. A larger batch is run in parts. Default
   * 64 MiB.
   */
  readonly sumsBytes?: number;
}

const SUMS_BYTES = 64 * 2 ** 20;

/** Elements between gradients in one buffer: each begins where a binding may begin. */
function regionSize(device: Device, { batch, length, channels, dtype }: ScanProblem): number {
  const align = device.limits.minStorageBufferOffsetAlignment / sizeOf(dtype);
  return Math.ceil((batch * length * channels) / align) * align;
}

/** Runs the scan; `save` keeps what the backward and `lastState` need. */
export function scanForward(device: Device, problem: ScanProblem, save: boolean): ScanForward {
  const { batch, length, channels, states, dtype, softplus, logA = false, sets, z } = problem;
  const { saveInterval, forward: layout } = problem.plan;
  const quads = quadsOf(states);
  const size = packedSize(quads, channels, batch * length);
  const packed = emptyTensor(device, [sets.length * size * 4], 'f32');
  const mine = ({ A, B, C, D, bias }: ScanSet): Operand[] => [
    A,
    bind(B),
    bind(C),
    ...(D ? [D] : []),
    ...(bias ? [bias] : []),
  ];
  for (const run of runsOf(device, sets, (set) => mine(set).length, 1)) {
    const [x, y] = grid1d(size, 256);
    device.run(
      prepareKernel,
      { states, dtype, logA, sets: run.sets.map(({ D, bias }) => ({ skip: D !== null, bias: bias !== null })) },
      [...run.sets.flatMap(mine), packed],
      [size, channels, run.first * size, ...run.sets.flatMap(({ B, C }) => [B.offset, B.row, C.offset, C.row])],
      [x, y, run.sets.length],
    );
  }
  const shape = [batch, length, channels];
  const out = emptyTensor(device, shape, dtype);
  const saved = save
    ? {
        states: emptyTensor(
          device,
          [sets.length * batch * slotsOf(length, saveInterval) * quads * savedColumns(channels, layout) * 4],
          'f32',
        ),
        ungated: z && emptyTensor(device, shape, dtype),
      }
    : null;
  const shared = [
    ...(z ? [bind(z)] : []),
    out,
    ...(saved ? [saved.states] : []),
    ...(saved?.ungated ? [saved.ungated] : []),
  ];
  for (const run of runsOf(device, sets, () => 2, shared.length + 1)) {
    device.run(
      forwardKernel,
      {
        quads,
        saveInterval,
        layout,
        dtype,
        directions: run.sets.map((s) => s.direction),
        first: run.first,
        total: sets.length,
        gate: z !== null,
        softplus,
        save,
      },
      [...run.sets.flatMap(({ u, delta }) => [bind(u), bind(delta)]), packed, ...shared],
      [
        length,
        channels,
        batch,
        chunkLength(length, saveInterval, layout),
        ...run.sets.flatMap(geometry),
        z?.offset ?? 0,
        z?.row ?? 0,
      ],
      [Math.ceil(channels / (layout.width * layout.teams)), batch],
    );
  }
  return { out, packed, saved };
}

/** Slots of saved states: one for every interval, and one for the last states. */
function slotsOf(length: number, saveInterval: number): number {
  return Math.ceil(length / saveInterval) + 1;
}

/**
 * Both directions in one dispatch; or one by one, where the adapter has too few buffers for what each of them has and
 * `others`.
 */
function runsOf(
  device: Device,
  sets: readonly ScanSet[],
  each: (set: ScanSet) => number,
  others: number,
): { first: number; sets: readonly ScanSet[] }[] {
  const buffers = sets.reduce((sum, set) => sum + each(set), others);
  return buffers <= device.limits.maxStorageBuffersPerShaderStage
    ? [{ first: 0, sets }]
    : sets.map((set, first) => ({ first, sets: [set] }));
}

/** The last states (B, D, N) f32 of a scan in one direction. */
export function scanLastState(
  device: Device,
  { batch, length, channels, states, plan }: ScanProblem,
  saved: ScanSaved,
): Tensor {
  const size = batch * channels * states;
  const last = emptyTensor(device, [batch, channels, states], 'f32');
  device.run(
    lastStateKernel,
    { states, split: plan.forward.split },
    [saved.states, last],
    [channels, savedColumns(channels, plan.forward), slotsOf(length, plan.saveInterval), size],
    grid1d(size, 64),
  );
  return last;
}

/**
 * All gradients, from the upstream gradient `dout` (B, L, D), which is dense where there is no gate, and what forward
 * kept. In how many parts the batch is run changes no bit of the result.
 */
export function scanBackward(
  device: Device,
  problem: ScanProblem,
  packed: Tensor,
  saved: ScanSaved,
  dout: Rows,
  options: ScanBackwardOptions,
): ScanGradients {
  const { batch, length, channels, states, dtype, softplus, logA = false, sets } = problem;
  const { saveInterval, backward: layout } = problem.plan;
  const { width, teams, chunks, stretch } = layout;
  const quads = quadsOf(states);
  const blocks = Math.ceil(channels / (width * teams));
  const chunk = chunkLength(length, saveInterval, layout);
  const padded = chunks > 1 ? chunks * chunk : Math.ceil(length / stretch) * stretch;
  const region = regionSize(device, problem);
  const grads = emptyTensor(device, [sets.length * 2 * region], dtype);
  const parts = batch * chunks;
  const perChannel = channelSums(states) * channels;
  const tokenSums = Math.ceil((sets.length * parts * perChannel) / 4) * 4;
  const perBatch = sets.length * padded * blocks * 8 * quads;
  const room =
    Math.min(options.sumsBytes ?? SUMS_BYTES, device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize) /
      4 -
    tokenSums;
  const part = Math.min(batch, Math.max(1, Math.floor(room / perBatch)));

  const { dy, dz, gated } = gateBackward(device, problem, saved, dout, options.dz);
  const sums = emptyTensor(device, [tokenSums + part * perBatch], 'f32');
  const results = sets.map((_, i) => ({
    du: i * 2 * region,
    ddelta: (i * 2 + 1) * region,
    small: emptyTensor(device, [channels * (states + 2)], 'f32'),
  }));
  const runs = runsOf(device, sets, () => 2, 5);
  for (let batch0 = 0; batch0 < batch; batch0 += part) {
    const count = Math.min(part, batch - batch0);
    for (const run of runs) {
      device.run(
        backwardKernel,
        {
          quads,
          saveInterval,
          layout,
          dtype,
          directions: run.sets.map((s) => s.direction),
          first: run.first,
          softplus,
        },
        [...run.sets.flatMap(({ u, delta }) => [bind(u), bind(delta)]), packed, saved.states, bind(dy), grads, sums],
        [length, channels, batch, chunk, ...run.sets.flatMap(geometry), batch0, region, tokenSums, dy.offset],
        [blocks, count, run.sets.length],
      );
    }
    const rows = count * length;
    const [x, y] = grid1d(rows * 2 * quads, 64);
    device.run(
      reduceTokensKernel,
      { states, dtype, directions: sets.map((set) => set.direction) },
      [sums, ...options.tokens.map(({ storage }) => ({ storage, byteOffset: 0 }))],
      [
        length,
        padded,
        rows,
        blocks,
        tokenSums / 4,
        batch0 * length,
        ...options.tokens.flatMap(({ bOffset, bRow, cOffset, cRow }) => [bOffset, bRow, cOffset, cRow]),
      ],
      [x, y, sets.length],
    );
  }
  gated?.dispose();
  const sharing = sharingOf(perChannel, parts, device.adapter.software);
  const [x, y] = grid1d(perChannel, columnsPerGroup(sharing));
  device.run(
    reduceChannelsKernel,
    { states, logA, sharing, directions: sets.length },
    [sums, ...results.map(({ small }) => small), ...(logA ? sets.map(({ A }) => A) : [])],
    [channels, parts],
    [x, y, sets.length],
  );
  sums.dispose();
  return { grads, dz, sets: results };
}

/**
 * The gradient before the gate, in a tensor of its own (`gated`), and the gradient of the gate. Without a gate it is
 * `dout` itself.
 */
function gateBackward(
  device: Device,
  { batch, length, channels, dtype, z }: ScanProblem,
  { ungated }: ScanSaved,
  dout: Rows,
  into?: Rows,
): { dy: Rows; gated: Tensor | null; dz: Tensor | null } {
  if (!z) return { dy: dout, gated: null, dz: null };
  const shape = [batch, length, channels];
  const elements = batch * length * channels;
  const dz = into ? null : emptyTensor(device, shape, dtype);
  const to = into ?? rowsOf(dz!);
  const gated = emptyTensor(device, shape, dtype);
  const geometry = [elements, channels, dout.offset, dout.row, z.offset, z.row, to.offset, to.row];
  const vector = geometry.every((n) => n % 4 === 0) ? 4 : 1;
  device.run(
    gateBackwardKernel,
    { dtype, vector },
    [bind(dout), bind(z), ungated!, bind(to), gated],
    geometry.map((n) => n / vector),
    grid1d(elements / vector, GATE_WORKGROUP),
  );
  return { dy: rowsOf(gated), gated, dz };
}

function geometry({ u, delta }: ScanSet): number[] {
  return [u.offset, u.row, delta.offset, delta.row];
}
