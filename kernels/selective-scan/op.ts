// The public selective scan and its place on the autograd tape.

import {
  DTypeError,
  LimitError,
  sameShape,
  scope,
  ShapeError,
  show,
  type FloatDType,
  type Shape,
  type Tensor,
} from '../../core/index.ts';
import { defineOp, dense, emptyTensor } from '../../core/kit.ts';
import { partOf, rowsOf } from '../rows.ts';
import { scanBackward, scanForward, scanLastState, type ScanProblem } from './launch.ts';
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

/** Arguments of `selectiveScan`. */
export interface SelectiveScanOptions extends ScanParameters {
  /** (B, L, D), gate: the result is multiplied by silu(z). May be columns of a wider array. */
  readonly z?: Tensor | null;
  /** Step sizes are softplus(delta + deltaBias), with threshold 20. Default false. */
  readonly deltaSoftplus?: boolean;
  /** `reverse` runs from the last token to the first. */
  readonly direction?: Direction;
  readonly returnLastState?: boolean;
}

/** Arguments of `bidirectionalScan`. */
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

/** States of a channel stay in registers; more than this no adapter has. */
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
    const { out, lastState: last } = scanOp({ sets: [parameters(options)], z }, config);
    return last ? { out, lastState: last.detach() } : out;
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
  return scope(() => scanOp({ sets: [parameters(forward), parameters(reverse)], z }, config).out);
}

function parameters({ u, delta, A, B, C, D = null, deltaBias = null }: ScanParameters): Required<ScanParameters> {
  return { u, delta, A, B, C, D, deltaBias };
}

/** The tensors of a scan: each direction's, and the gate. */
interface ScanTensors {
  readonly sets: readonly Required<ScanParameters>[];
  readonly z: Tensor | null;
}

const scanOp = defineOp({
  name: ({ op }: Config) => op,
  firstDerivativeOnly: true,
  forward(tensors: ScanTensors, config: Config, needs) {
    const training = anyOf(needs);
    const problem = problemOf(config, tensors, training || config.lastState);
    const { device } = tensors.sets[0].u;
    const { out, packed, saved } = scanForward(device, problem, training || config.lastState);
    const lastState = config.lastState ? scanLastState(device, problem, saved!) : null;
    return { out: { out, lastState }, saved: { tensors, config, plan: problem.plan, packed, scan: saved } };
  },
  backward({ out: given }, { tensors, config, plan, packed, scan }) {
    // The last state carries no gradient, so this is there.
    const problem = problemOf(config, tensors, true, plan);
    const { batch, length, channels, states, dtype } = problem;
    const { u } = tensors.sets[0];
    const upstream = given!.cast(dtype);
    const small = [batch, length, states];
    const tokens = problem.sets.map(() => emptyTensor(u.device, [2, ...small], dtype));
    const result = scanBackward(
      u.device,
      problem,
      packed,
      scan!,
      rowsOf(tensors.z ? upstream : upstream.contiguous()),
      {
        tokens: tokens.map(({ storage }) => ({
          storage,
          bOffset: 0,
          bRow: states,
          cOffset: batch * length * states,
          cRow: states,
        })),
      },
    );
    const sets = result.sets.map(({ du, ddelta, small: sums }, i) => {
      const [dB, dC] = [0, batch * length * states].map((offset) => partOf(tokens[i], small, offset));
      const { dA, dD, dBias } = channelGradients(sums, channels, states);
      return {
        u: partOf(result.grads, u.shape, du),
        delta: partOf(result.grads, u.shape, ddelta),
        A: dA,
        B: dB,
        C: dC,
        D: dD,
        deltaBias: dBias,
      };
    });
    return { z: result.dz, sets };
  },
});

/** Whether any tensor needs a gradient. */
function anyOf(needs: unknown): boolean {
  return needs === true || (typeof needs === 'object' && needs !== null && Object.values(needs).some(anyOf));
}

/** dA (D, N), dD (D) and ddeltaBias (D), as the backward scan leaves them. */
export function channelGradients(
  all: Tensor,
  channels: number,
  states: number,
): { dA: Tensor; dD: Tensor; dBias: Tensor } {
  return {
    dA: partOf(all, [channels, states], 0),
    dD: partOf(all, [channels], channels * states),
    dBias: partOf(all, [channels], channels * (states + 1)),
  };
}

function problemOf(
  { directions, softplus }: Config,
  { sets, z }: ScanTensors,
  save: boolean,
  plan?: ScanPlan,
): ScanProblem {
  const { u, A } = sets[0];
  const [batch, length, channels] = u.shape;
  const dtype = u.dtype as FloatDType;
  const size = { batch, length, channels, states: A.shape[1], directions: sets.length, dtype };
  const f32 = (t: Tensor): Tensor => dense(t.cast('f32'));
  return {
    ...size,
    softplus,
    sets: sets.map((set, i) => ({
      direction: directions[i],
      u: rowsOf(set.u),
      delta: rowsOf(set.delta),
      A: f32(set.A),
      B: rowsOf(set.B),
      C: rowsOf(set.C),
      D: set.D && f32(set.D),
      bias: set.deltaBias && f32(set.deltaBias),
    })),
    z: z && rowsOf(z),
    plan: plan ?? chooseScanPlan(u.device, size, save),
  };
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
