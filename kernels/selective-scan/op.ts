// The public selective scan and its place on the autograd tape.

import {
  defineOp,
  dense,
  DTypeError,
  LimitError,
  sameShape,
  scope,
  ShapeError,
  show,
  type Device,
  type DType,
  type OpContext,
  type Shape,
  type Tensor,
  type FloatDType,
} from '../../core/index.ts';
import type { Storage } from '../../core/gpu/storage.ts';
import { adopt, partOf, rowsOf } from '../rows.ts';
import { scanBackward, scanForward, scanLastState, type ScanProblem, type ScanSet } from './launch.ts';
import type { ScanPlan } from './plan.ts';
import { chooseScanPlan } from './tunable.ts';
import type { Direction } from '../direction.ts';

/** The arguments that each direction of a scan has of its own. */
export interface ScanParameters {
  /** (B, L, D) f32 or f16. May be columns of a wider array. */
  readonly u: Tensor;
  /** (B, L, D), step sizes before bias and softplus. May be columns of a wider array. */
  readonly delta: Tensor;
  /** (D, N), negative for a decaying state. */
  readonly A: Tensor;
  /** (B, L, N). May be columns of a wider array. */
  readonly B: Tensor;
  /** (B, L, N). May be columns of a wider array. */
  readonly C: Tensor;
  /** (D), the direct path from u. */
  readonly D?: Tensor | null;
  /** (D), added to delta. */
  readonly deltaBias?: Tensor | null;
}

export interface SelectiveScanOptions extends ScanParameters {
  /** (B, L, D), gate: the result is multiplied by silu(z). May be columns of a wider array. */
  readonly z?: Tensor | null;
  /** Step sizes are softplus(delta + deltaBias), with threshold 20. Default false. */
  readonly deltaSoftplus?: boolean;
  /** `reverse` runs from the last token to the first. */
  readonly direction?: Direction;
  readonly returnLastState?: boolean;
}

export interface BidirectionalScanOptions {
  readonly forward: ScanParameters;
  readonly reverse: ScanParameters;
  /** (B, L, D), gate of both directions. */
  readonly z?: Tensor | null;
  readonly deltaSoftplus?: boolean;
}

interface Config {
  readonly op: string;
  readonly softplus: boolean;
  readonly directions: readonly Direction[];
  readonly lastState: boolean;
}

/** u, delta, A, B, C, D, deltaBias of one direction. */
type SetArguments = [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | null, Tensor | null];
const PER_SET = 7;
/** The states of a channel stay in registers, and no adapter has room for more than these. */
const MAX_STATES = 128;

/**
 * The selective scan (Gu & Dao, Mamba, arXiv 2312.00752, algorithm 2), per batch b, channel d and state n:
 *
 *     s[t] = softplus(delta[t,d] + deltaBias[d])
 *     h[t,n] = exp(s[t] A[d,n]) h[t-1,n] + s[t] B[t,n] u[t,d],   h[-1,n] = 0
 *     out[t,d] = (Σ_n C[t,n] h[t,n] + D[d] u[t,d]) · silu(z[t,d])
 *
 * Shapes: u, delta, z (B, L, D); A (D, N); B, C (B, L, N); D, deltaBias (D); N from 1 to 128. u, delta, z, B and C have
 * one type, f32 or f16; states and sums are f32. The gradient is deterministic; there is no second derivative.
 * `lastState` (B, D, N) f32 has no gradient. Arguments whose rows are a fixed distance apart are read in place, others
 * are copied once. docs/kernels/selective-scan.md explains it.
 *
 * @throws ShapeError, DTypeError, LimitError
 */
export function selectiveScan(options: SelectiveScanOptions & { readonly returnLastState: true }): {
  out: Tensor;
  lastState: Tensor;
};
export function selectiveScan(options: SelectiveScanOptions & { readonly returnLastState?: false }): Tensor;
export function selectiveScan(options: SelectiveScanOptions): Tensor | { out: Tensor; lastState: Tensor } {
  const lastState = options.returnLastState ?? false;
  const config: Config = {
    op: 'selectiveScan',
    softplus: options.deltaSoftplus ?? false,
    directions: [options.direction ?? 'forward'],
    lastState,
  };
  const z = options.z ?? null;
  checkArguments(config.op, options, z);
  return scope(() => {
    const [out, last] = scanOp(config, z, ...setArguments(options));
    return lastState ? { out, lastState: last.detach() } : out;
  });
}

/**
 * A forward and a reverse selective scan over the same tokens, each with its own arguments, in one dispatch and added
 * up: `selectiveScan({...forward, z}) + selectiveScan({...reverse, z, direction: 'reverse'})` (Vision Mamba, arXiv
 * 2401.09417, section 3.3; without its division by two, as in DiS). Arguments as in `selectiveScan`.
 *
 * @throws ShapeError, DTypeError, LimitError
 */
export function selectiveScanBidirectional(options: BidirectionalScanOptions): Tensor {
  const { forward, reverse, z = null, deltaSoftplus = false } = options;
  const config: Config = {
    op: 'selectiveScanBidirectional',
    softplus: deltaSoftplus,
    directions: ['forward', 'reverse'],
    lastState: false,
  };
  checkArguments(config.op, forward, z);
  checkArguments(config.op, reverse, z);
  expectShape(
    config.op,
    'u of the reverse direction',
    reverse.u.shape,
    forward.u.shape,
    'that of the forward direction',
  );
  expectShape(
    config.op,
    'A of the reverse direction',
    reverse.A.shape,
    forward.A.shape,
    'that of the forward direction',
  );
  if (reverse.u.dtype !== forward.u.dtype)
    throw new DTypeError(config.op, `u of the reverse direction is ${reverse.u.dtype}`, {
      expected: `${forward.u.dtype} as in the forward direction`,
      remedy: 'cast it',
    });
  return scope(() => scanOp(config, z, ...setArguments(forward), ...setArguments(reverse))[0]);
}

function setArguments(s: ScanParameters): SetArguments {
  return [s.u, s.delta, s.A, s.B, s.C, s.D ?? null, s.deltaBias ?? null];
}

const scanOp = defineOp<[Config, Tensor | null, ...(Tensor | null)[]], Tensor[]>({
  name: 'selectiveScan',
  firstDerivativeOnly: true,
  forward(ctx, config, z, ...rest) {
    const training = ctx.needs.some(Boolean);
    const { problem, shape, dtype, device } = problemOf(config, z, rest, training || config.lastState);
    const { out, packed, saved } = scanForward(device, problem, training || config.lastState);
    const result = [adopt(device, out, shape, dtype)];
    const kept = [packed, ...(saved ? [saved.states] : [])].map((storage) =>
      adopt(device, storage, [storage.bytes / 4], 'f32'),
    );
    if (saved?.ungated) kept.push(adopt(device, saved.ungated, shape, dtype));
    if (config.lastState)
      result.push(
        adopt(device, scanLastState(device, problem, saved!), [problem.batch, problem.channels, problem.states], 'f32'),
      );
    if (training) {
      const given = [z, ...rest];
      ctx.state.config = config;
      ctx.state.plan = problem.plan;
      ctx.state.present = given.map((t) => t !== null);
      ctx.save(...kept, ...given.filter((t): t is Tensor => t !== null));
    }
    return result;
  },
  backward(ctx, dout) {
    return dout ? gradients(ctx, dout) : [];
  },
});

function gradients(ctx: OpContext, dout: Tensor): (Tensor | null)[] {
  const config = ctx.state.config as Config;
  const present = ctx.state.present as boolean[];
  const [packed, saved, ...kept] = ctx.saved;
  const ungated = present[0] ? kept.shift()!.storage : null;
  let next = 0;
  const [z, ...rest] = present.map((given) => (given ? kept[next++] : null));
  const { problem, shape, dtype, device } = problemOf(config, z, rest, true, ctx.state.plan as ScanPlan);
  const { batch, length, channels, states } = problem;
  const upstream = dout.cast(dtype);
  const result = scanBackward(
    device,
    problem,
    packed.storage,
    { states: saved.storage, ungated },
    rowsOf(z ? upstream : upstream.contiguous()),
  );
  const grads = adopt(device, result.grads, [result.grads.bytes / (dtype === 'f16' ? 2 : 4)], dtype);
  const small = [batch, length, states];
  const sets = result.sets.flatMap(({ du, ddelta, small: sums, tokens }) => {
    const both = adopt(device, tokens.storage, [2, ...small], dtype);
    const [dB, dC] = [tokens.bOffset, tokens.cOffset].map((offset) => partOf(both, small, offset));
    const { dA, dD, dBias } = channelGradients(device, sums, channels, states);
    return [partOf(grads, shape, du), partOf(grads, shape, ddelta), dA, dB, dC, dD, dBias];
  });
  const { dz } = result;
  return [null, dz && adopt(device, dz.storage, shape, dtype), ...sets];
}

/** dA (D, N), dD (D) and ddeltaBias (D), as the backward scan leaves them. */
export function channelGradients(
  device: Device,
  storage: Storage,
  channels: number,
  states: number,
): { dA: Tensor; dD: Tensor; dBias: Tensor } {
  const all = adopt(device, storage, [channels * (states + 2)], 'f32');
  return {
    dA: partOf(all, [channels, states], 0),
    dD: partOf(all, [channels], channels * states),
    dBias: partOf(all, [channels], channels * (states + 1)),
  };
}

function problemOf(
  config: Config,
  z: Tensor | null,
  rest: readonly (Tensor | null)[],
  save: boolean,
  plan?: ScanPlan,
): { problem: ScanProblem; shape: Shape; dtype: DType; device: Tensor['device'] } {
  const u = rest[0]!;
  const [batch, length, channels] = u.shape;
  const sets = config.directions.map((direction, i): ScanSet => {
    const [x, delta, A, B, C, D, bias] = rest.slice(i * PER_SET, (i + 1) * PER_SET) as SetArguments;
    return {
      direction,
      u: rowsOf(x),
      delta: rowsOf(delta),
      A: dense(A.cast('f32')),
      B: rowsOf(B),
      C: rowsOf(C),
      D: D && dense(D.cast('f32')),
      bias: bias && dense(bias.cast('f32')),
    };
  });
  const dtype = u.dtype as FloatDType;
  const size = { batch, length, channels, states: rest[2]!.shape[1], directions: sets.length, dtype };
  const problem = {
    ...size,
    softplus: config.softplus,
    sets,
    z: z && rowsOf(z),
    plan: plan ?? chooseScanPlan(u.device, size, save),
  };
  return { problem, shape: u.shape, dtype, device: u.device };
}

function expectShape(op: string, name: string, shape: Shape, expected: Shape, because: string): void {
  if (!sameShape(shape, expected))
    throw new ShapeError(op, `${name} has shape ${show(shape)}`, { expected: `${show(expected)}, ${because}` });
}

function checkArguments(op: string, s: ScanParameters, z: Tensor | null): void {
  const { u, delta, A, B, C, D, deltaBias } = s;
  if (u.ndim !== 3 || u.numel === 0)
    throw new ShapeError(op, `u has shape ${show(u.shape)}`, { expected: '(batch, length, channels), none of them 0' });
  const [batch, length, channels] = u.shape;
  if (A.ndim !== 2 || A.shape[0] !== channels || A.shape[1] === 0)
    throw new ShapeError(op, `A has shape ${show(A.shape)}`, {
      expected: `(${channels}, states), the first the channels of u`,
    });
  const states = A.shape[1];
  if (states > MAX_STATES)
    throw new LimitError(op, `A has ${states} states a channel`, {
      expected: `at most ${MAX_STATES}`,
      remedy: 'split the states and add the results',
    });
  expectShape(op, 'delta', delta.shape, u.shape, 'the shape of u');
  if (z) expectShape(op, 'z', z.shape, u.shape, 'the shape of u');
  const small = [batch, length, states];
  expectShape(op, 'B', B.shape, small, '(batch, length, states)');
  expectShape(op, 'C', C.shape, small, '(batch, length, states)');
  if (D) expectShape(op, 'D', D.shape, [channels], '(channels)');
  if (deltaBias) expectShape(op, 'deltaBias', deltaBias.shape, [channels], '(channels)');
  if (u.dtype !== 'f32' && u.dtype !== 'f16')
    throw new DTypeError(op, `u is ${u.dtype}`, { expected: 'f32 or f16', remedy: 'cast it' });
  for (const [name, t] of Object.entries({ delta, B, C, ...(z && { z }) })) {
    if (t.dtype !== u.dtype)
      throw new DTypeError(op, `${name} is ${t.dtype}`, { expected: `${u.dtype} as u is`, remedy: 'cast it' });
  }
}
