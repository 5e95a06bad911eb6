// What lies between the projections of a bidirectional Mamba mixer, as one operation: convolution, the products that
// give step sizes, B and C, and the selective scan. As it knows the whole, its backward writes each gradient where it
// is used:
// - the product that carries the gradient through x_proj adds to du of the scan (there is no second du to add);
// - d(dt), dB and dC are columns of one matrix, d(x) and d(z) are columns of d(xz) (nothing is concatenated);
// - the convolutions of both directions share one dispatch each way and leave one d(x);
// - A = -exp(A_log) is computed where the scan packs its arguments, its derivative where the scan adds up dA.
//
// docs/kernels/mamba-inner.md has what that saves.

import {
  concat,
  DTypeError,
  empty,
  sameShape,
  scope,
  ShapeError,
  show,
  sizeOf,
  type FloatDType,
  type Shape,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, gemm, type GemmMatrix, type GradientsOf, type Needs } from '../../core/kit.ts';
import {
  convPairBackward,
  convPairForward,
  type ConvPairArguments,
  type RowPair,
} from '../causal-conv1d/bidirectional.ts';
import { partOf, rowsOf, type Rows } from '../rows.ts';
import { scanBackward, scanForward, type ScanProblem, type ScanSaved } from '../selective-scan/launch.ts';
import { channelGradients } from '../selective-scan/op.ts';
import type { ScanPlan } from '../selective-scan/plan.ts';
import { chooseScanPlan } from '../selective-scan/tunable.ts';

/** Parameters of one direction; I the inner width, R the rank of the step size, N states. */
export interface MambaDirection {
  /** (I, W), W from 2 to 4. */
  readonly convWeight: Tensor;
  /** (I) */
  readonly convBias: Tensor | null;
  /** (R + 2 N, I), of xz's type. */
  readonly xProj: Tensor;
  /** (I, R), of xz's type. */
  readonly dtProj: Tensor;
  /** (I) */
  readonly dtBias: Tensor;
  /** (I, N) */
  readonly aLog: Tensor;
  /** (I) */
  readonly D: Tensor;
}

/** Arguments of `mambaInner`. */
export interface MambaInnerOptions {
  /** (B, L, 2 I) f32 or f16: x, then the gate z. */
  readonly xz: Tensor;
  readonly forward: MambaDirection;
  readonly reverse: MambaDirection;
}

const DIRECTIONS = ['forward', 'reverse'] as const;
/** Gradients of the scan's backward pass: du and ddelta of each direction. */
const GRADIENT_REGIONS = 4;

/**
 * For each direction, over tokens in its order and with its own parameters,
 *
 *     u = silu(causalConv1d(x) + convBias);   [dt | B | C] = xProj u;   delta = dtProj dt
 *     y = (scan(u, softplus(delta + dtBias), -exp(aLog), B, C) + D u) · silu(z)
 *
 * Returns the sum of both y, (B, L, I): `mamba_inner_fn_no_out_proj` of Vision Mamba (arXiv 2401.09417, §3.3), forward
 * and reversed. Sums are f32. The gradient is deterministic; there is no second derivative. A batch whose gradients
 * exceed the adapter's largest binding is computed in parts.
 *
 * @throws ShapeError, DTypeError
 */
export function mambaInner({ xz, forward, reverse }: MambaInnerOptions): Tensor {
  if (xz.ndim !== 3 || xz.numel === 0 || xz.shape[2] % 2)
    throw new ShapeError('mambaInner', `xz has shape ${show(xz.shape)}`, {
      expected: '(batch, length, 2 · inner width), none of them 0',
    });
  if (xz.dtype !== 'f32' && xz.dtype !== 'f16')
    throw new DTypeError('mambaInner', `xz is ${xz.dtype}`, { expected: 'f32 or f16', remedy: 'cast it' });
  check('forward', forward, forward, xz);
  check('reverse', reverse, forward, xz);
  const sets = [forward, reverse];
  // The gradients of a part must fit into one binding.
  const [batch, length, twice] = xz.shape;
  const most = Math.max(
    1,
    Math.floor(
      xz.device.limits.maxStorageBufferBindingSize / (GRADIENT_REGIONS * length * (twice / 2) * sizeOf(xz.dtype)),
    ),
  );
  if (batch <= most) return mambaInnerOp({ xz, sets });
  return scope(() =>
    concat(xz.split(Math.ceil(batch / Math.ceil(batch / most))).map((part) => mambaInnerOp({ xz: part, sets }))),
  );
}

/** Shapes of a direction; sizes that nothing else fixes are those of the forward one. */
function check(name: string, given: MambaDirection, first: MambaDirection, xz: Tensor): void {
  const inner = xz.shape[2] / 2;
  const expected: Record<keyof MambaDirection, Shape> = {
    convWeight: [inner, first.convWeight.shape[1]],
    convBias: [inner],
    xProj: [first.dtProj.shape[1] + 2 * first.aLog.shape[1], inner],
    dtProj: [inner, first.dtProj.shape[1]],
    dtBias: [inner],
    aLog: [inner, first.aLog.shape[1]],
    D: [inner],
  };
  for (const [key, shape] of Object.entries(expected)) {
    const t = given[key as keyof MambaDirection];
    if (t && !sameShape(t.shape, shape))
      throw new ShapeError('mambaInner', `${key} of the ${name} direction has shape ${show(t.shape)}`, {
        expected: `${show(shape)} with xz ${show(xz.shape)}`,
      });
  }
  if (given.convWeight.shape[1] < 2 || given.convWeight.shape[1] > 4)
    throw new ShapeError('mambaInner', `convWeight has shape ${show(given.convWeight.shape)}`, {
      expected: '2 to 4 taps',
    });
  if ((given.convBias === null) !== (first.convBias === null))
    throw new ShapeError('mambaInner', 'One direction has a convBias', { expected: 'one for both or for none' });
  for (const key of ['xProj', 'dtProj'] as const) {
    if (given[key].dtype !== xz.dtype)
      throw new DTypeError('mambaInner', `${key} of the ${name} direction is ${given[key].dtype}`, {
        expected: `${xz.dtype} as xz is`,
        remedy: 'cast it',
      });
  }
}

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly rank: number;
  readonly states: number;
  /** Elements from one direction to the other in a buffer of both. */
  readonly region: number;
  /**
   * Elements from one token's row of dt, B and C to the next: a multiple of 8, as the matrix unit's operands are read 8
   * elements at a time.
   */
  readonly width: number;
}

function sizesOf(xz: Tensor, [{ dtProj, aLog }]: readonly MambaDirection[]): Sizes {
  const [batch, length, twice] = xz.shape;
  const channels = twice / 2;
  const align = xz.device.limits.minStorageBufferOffsetAlignment / sizeOf(xz.dtype);
  const rank = dtProj.shape[1],
    states = aLog.shape[1];
  return {
    batch,
    length,
    channels,
    rank,
    states,
    width: Math.ceil((rank + 2 * states) / 8) * 8,
    region: Math.ceil((batch * length * channels) / align) * align,
  };
}

interface MambaTensors {
  readonly xz: Tensor;
  /** Forward and reverse. */
  readonly sets: readonly MambaDirection[];
}

const mambaInnerOp = defineOp({
  name: 'mambaInner',
  firstDerivativeOnly: true,
  forward({ xz, sets }: MambaTensors, _: unknown, needs) {
    const { device } = xz;
    const dtype = xz.dtype as FloatDType;
    const sizes = sizesOf(xz, sets);
    const { batch, length, channels, rank, states, region, width } = sizes;
    const rows = batch * length;
    const u = empty(device, [2 * region], dtype);
    const delta = empty(device, [2 * region], dtype);
    convPairForward(device, convArguments(xz, sets, sizes), { storage: u.storage, offsets: [0, region] });
    const projected = sets.map(({ xProj, dtProj }, i) => {
      const out = empty(device, [rows, width], dtype);
      gemm(device, {
        M: rows,
        N: rank + 2 * states,
        K: channels,
        a: matrix(u, channels, i * region),
        b: transposed(matrixOf(xProj)),
        c: matrixOf(out),
      });
      gemm(device, {
        M: rows,
        N: channels,
        K: rank,
        a: matrixOf(out),
        b: transposed(matrixOf(dtProj)),
        c: matrix(delta, channels, i * region),
      });
      return out;
    });
    const training = [needs.xz, ...needs.sets.flatMap((set) => Object.values(set))].some(Boolean);
    const plan = chooseScanPlan(device, { batch, length, channels, states, directions: 2, dtype }, training);
    const { out, packed, saved } = scanForward(
      device,
      scanProblem(xz, sets, sizes, u, delta, projected, plan),
      training,
    );
    return { out, saved: { xz, sets, u, delta, projected, packed, scan: saved, plan } };
  },
  backward: gradients,
});

/** What the forward pass leaves to the backward pass. */
interface MambaSaved extends MambaTensors {
  /** Of both directions, `region` elements apart. */
  readonly u: Tensor;
  readonly delta: Tensor;
  readonly projected: readonly Tensor[];
  readonly packed: Tensor;
  readonly scan: ScanSaved | null;
  readonly plan: ScanPlan;
}

function gradients(
  dy: Tensor,
  { xz, sets, u, delta, projected, packed, scan, plan }: MambaSaved,
  needs: Needs<MambaTensors>,
): GradientsOf<MambaTensors> {
  const sizes = sizesOf(xz, sets);
  const { batch, length, channels, rank, states, region, width } = sizes;
  const { device } = xz;
  const dtype = xz.dtype as FloatDType;
  const rows = batch * length;
  const dxz = empty(device, xz.shape, dtype);
  const dprojected = sets.map(() => empty(device, [rows, width], dtype));
  const { grads, sets: scanned } = scanBackward(
    device,
    scanProblem(xz, sets, sizes, u, delta, projected, plan),
    packed,
    scan!,
    rowsOf(dy.cast(dtype)),
    {
      tokens: dprojected.map(({ storage }) => ({
        storage,
        bOffset: rank,
        bRow: width,
        cOffset: rank + states,
        cRow: width,
      })),
      dz: { storage: dxz.storage, offset: channels, row: 2 * channels },
    },
  );
  const products = sets.map(({ xProj, dtProj }, i) => {
    const du = matrix(grads, channels, scanned[i].du);
    const ddelta = matrix(grads, channels, scanned[i].ddelta);
    const dwide = matrixOf(dprojected[i]);
    const dxProj = needs.sets[i].xProj ? empty(device, xProj.shape, dtype) : null;
    const ddtProj = needs.sets[i].dtProj ? empty(device, dtProj.shape, dtype) : null;
    gemm(device, { M: rows, N: rank, K: channels, a: ddelta, b: matrixOf(dtProj), c: dwide });
    if (ddtProj)
      gemm(device, {
        M: channels,
        N: rank,
        K: rows,
        a: transposed(ddelta),
        b: matrixOf(projected[i]),
        c: matrixOf(ddtProj),
      });
    gemm(device, { M: rows, N: channels, K: rank + 2 * states, a: dwide, b: matrixOf(xProj), c: du, accumulate: true });
    if (dxProj)
      gemm(device, {
        M: rank + 2 * states,
        N: channels,
        K: rows,
        a: transposed(dwide),
        b: matrix(u, channels, i * region),
        c: matrixOf(dxProj),
      });
    return { dxProj, ddtProj };
  });
  const dy2: RowPair = { storage: grads.storage, offsets: [scanned[0].du, scanned[1].du] };
  const taps = sets[0].convWeight.shape[1];
  const dconv = convPairBackward(device, convArguments(xz, sets, sizes), dy2, {
    storage: dxz.storage,
    offset: 0,
    row: 2 * channels,
  });
  const perSet = sets.map(({ convBias }, i) => {
    const at = i * (taps + 1) * channels;
    const { dA, dD, dBias } = channelGradients(scanned[i].small, channels, states);
    return {
      convWeight: partOf(dconv, [channels, taps], at),
      convBias: convBias && partOf(dconv, [channels], at + taps * channels),
      xProj: products[i].dxProj,
      dtProj: products[i].ddtProj,
      dtBias: dBias,
      aLog: dA,
      D: dD,
    };
  });
  return { xz: dxz, sets: perSet };
}

function convArguments(
  xz: Tensor,
  [forward, reverse]: readonly MambaDirection[],
  { batch, length, channels }: Sizes,
): ConvPairArguments {
  const f32 = (t: Tensor): Tensor => dense(t.cast('f32'));
  return {
    batch,
    length,
    channels,
    width: forward.convWeight.shape[1],
    dtype: xz.dtype as FloatDType,
    silu: true,
    x: half(xz, 0),
    weights: [f32(forward.convWeight), f32(reverse.convWeight)],
    biases: forward.convBias && reverse.convBias ? [f32(forward.convBias), f32(reverse.convBias)] : null,
  };
}

function scanProblem(
  xz: Tensor,
  sets: readonly MambaDirection[],
  sizes: Sizes,
  u: Tensor,
  delta: Tensor,
  projected: readonly Tensor[],
  plan: ScanPlan,
): ScanProblem {
  const { batch, length, channels, rank, states, region, width } = sizes;
  const f32 = (t: Tensor): Tensor => dense(t.cast('f32'));
  return {
    batch,
    length,
    channels,
    states,
    dtype: xz.dtype as FloatDType,
    softplus: true,
    logA: true,
    z: half(xz, channels),
    plan,
    sets: sets.map(({ dtBias, aLog, D }, i) => ({
      direction: DIRECTIONS[i],
      u: { storage: u.storage, offset: i * region, row: channels },
      delta: { storage: delta.storage, offset: i * region, row: channels },
      B: { storage: projected[i].storage, offset: rank, row: width },
      C: { storage: projected[i].storage, offset: rank + states, row: width },
      A: f32(aLog),
      D: f32(D),
      bias: f32(dtBias),
    })),
  };
}

/** Half of the columns of xz, in place. */
function half(xz: Tensor, from: number): Rows {
  const rows = rowsOf(xz);
  return { ...rows, offset: rows.offset + from };
}

/** Rows of `columns` values in a tensor's memory, from element `offset` on. */
function matrix(t: Tensor, columns: number, offset = 0): GemmMatrix {
  return { storage: t.storage, offset: t.offset + offset, rowStride: columns, dtype: t.dtype as FloatDType };
}

/** A two-dimensional tensor. It is copied unless it is row-major. */
function matrixOf(t: Tensor): GemmMatrix {
  const rows = t.contiguous();
  return matrix(rows, rows.shape[1]);
}

function transposed(m: GemmMatrix): GemmMatrix {
  return { ...m, transposed: true };
}
