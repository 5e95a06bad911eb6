// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) with clipping, loss scaling and the parameters' moving
// average, over flat arenas: one pass that reads and writes each value once.
//
//   g = grad * gradScale                               gradScale = min(1, maxNorm / (norm + 1e-6)) / lossScale
//   m += (g - m) (1 - beta1),   v = beta2 v + (1 - beta2) g^2
//   p = p (1 - lr weightDecay) - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//   ema += (p - ema) (1 - emaDecay)
//
// The scalars come from the state buffer, which `advanceAdamW` brings up to date once per step.

import { DTypeError, ShapeError, type Device, type FloatDType } from '../../core/index.ts';
import { defineKernel, grid1d, wgslMath, type Operand } from '../../core/kit.ts';
import { floatArena, vectorOf, type FlatArray } from './globalNorm.ts';
import { ADAMW_STATE_WGSL } from './state.ts';

/**
 * Counts the step and computes its scalars. Operands: state, norm? (norm, 1 if not finite). If it is not finite the
 * step is skipped: only `skipped` is counted, and a dynamic loss scale is halved.
 */
export const advanceKernel = defineKernel<{ norm: boolean }>('adamWAdvance', ({ norm }) => ({
  bindings: [
    { name: 'state', type: 'AdamWState', access: 'write' },
    ...(norm ? [{ name: 'norm', type: 'array<f32>', access: 'read' } as const] : []),
  ],
  workgroupSize: [1],
  // For a beta near 1 and a small t, 1 - beta^t keeps its digits only as -expm1(t log beta).
  declarations: `${ADAMW_STATE_WGSL}
${wgslMath(['expm1'])}
fn oneMinusPower(t: f32, logBeta: f32) -> f32 { return -mathExpm1(t * logBeta); }`,
  body: `
let scaled = ${norm ? 'norm[0] / state.lossScale' : '0f'};
let bad = ${norm ? 'norm[1] != 0' : 'false'};
state.gradNorm = scaled;
state.apply = select(1f, 0f, bad);
if (bad) {
  state.skipped += 1;
  state.growth = 0;
  if (state.growthInterval > 0) { state.lossScale = max(state.lossScale / 2, 1); }
  return;
}
state.step += 1;
state.gradScale = 1 / state.lossScale;
if (state.maxNorm > 0) { state.gradScale *= min(1, state.maxNorm / (scaled + 1e-6)); }
state.stepSize = state.lr / oneMinusPower(state.step, state.logBeta1);
state.rootScale = inverseSqrt(oneMinusPower(state.step, state.logBeta2));
if (state.growthInterval > 0) {
  state.growth += 1;
  if (state.growth >= state.growthInterval) {
    state.growth = 0;
    state.lossScale = min(state.lossScale * 2, 16777216);
  }
}`,
}));

/** Prepares the state for the next step. `norm`: as `globalNorm` wrote it. */
export function advanceAdamW(device: Device, state: Operand, norm: Operand | null = null): void {
  state.storage.version++;
  device.run(advanceKernel, { norm: norm !== null }, norm ? [state, norm] : [state], [], [1]);
}

/** Which form of the kernel runs. */
export interface AdamWConfig {
  /** Vectors that an invocation updates. */
  readonly unroll: number;
}

/** The form of the kernel for this adapter. */
export function adamWConfig(device: Device): AdamWConfig {
  return { unroll: device.adapter.software ? 4 : 1 };
}

interface AdamWVariant extends AdamWConfig {
  readonly vector: 1 | 4;
  readonly grads: FloatDType;
  readonly ema: boolean;
  readonly half: boolean;
}

const GROUP = 64;

/** Operands: state, params, grads, m, v, ema?, half?. Parameters: count (vectors), decayed (elements). */
export const fusedAdamWKernel = defineKernel<AdamWVariant>('fusedAdamW', ({ vector, grads, ema, half, unroll }) => {
  const value = vector === 4 ? 'vec4f' : 'f32';
  const array = (type: string): string => `array<${vector === 4 ? `vec4<${type}>` : type}>`;
  const index = vector === 4 ? 'vec4u(4u * i) + vec4u(0, 1, 2, 3)' : 'i';
  return {
    bindings: [
      { name: 'state', type: 'AdamWState', access: 'read' },
      { name: 'params', type: array('f32'), access: 'write' },
      { name: 'grads', type: array(grads), access: 'read' },
      { name: 'm', type: array('f32'), access: 'write' },
      { name: 'v', type: array('f32'), access: 'write' },
      ...(ema ? [{ name: 'ema', type: array('f32'), access: 'write' } as const] : []),
      ...(half ? [{ name: 'half', type: array('f16'), access: 'write' } as const] : []),
    ],
    params: [
      { name: 'count', type: 'u32' },
      { name: 'decayed', type: 'u32' },
    ],
    workgroupSize: [GROUP],
    enable: grads === 'f16' || half ? ['f16'] : [],
    declarations: `${ADAMW_STATE_WGSL}
fn update(i: u32) {
  let g = ${value}(grads[i]) * state.gradScale;
  let first = m[i];
  let moment = first + (g - first) * state.rate1;
  m[i] = moment;
  let second = v[i];
  let square = second + (g * g - second) * state.rate2;
  v[i] = square;
  let decay = select(${value}(0), ${value}(state.lr * state.weightDecay), ${index} < ${vector === 4 ? 'vec4u(p.decayed)' : 'p.decayed'});
  let old = params[i];
  let next = old - decay * old - state.stepSize * moment / (sqrt(square) * state.rootScale + state.eps);
  params[i] = next;
  ${ema ? 'let average = ema[i];\n  ema[i] = average + (next - average) * state.emaRate;' : ''}
  ${half ? `half[i] = ${vector === 4 ? 'vec4<f16>' : 'f16'}(next);` : ''}
}`,
    // A skipped step leaves everything as it was.
    body: `
if (state.apply == 0) { return; }
let begin = (wid.y * nwg.x + wid.x) * ${GROUP * unroll}u + li;
${Array.from({ length: unroll }, (_, k) => `if (begin + ${k * GROUP}u < p.count) { update(begin + ${k * GROUP}u); }`).join('\n')}`,
  };
});

/** The arenas that one step reads and writes, elements in the same order. */
export interface FusedAdamWArgs {
  /** `ADAMW_STATE_WORDS` f32 words; see `adamWState`. */
  readonly state: Operand;
  /** f32, as all arenas but grads and half. A multiple of 4 elements is fastest. */
  readonly params: FlatArray;
  /** f32 or f16. */
  readonly grads: FlatArray;
  /** First and second moment; zeros before the first step. */
  readonly m: FlatArray;
  readonly v: FlatArray;
  /** Moving average of the parameters; a copy of them before the first step. */
  readonly ema?: FlatArray | null;
  /** A copy of the parameters in f16. */
  readonly half?: FlatArray | null;
  /** Weight decay applies to elements before this one. Default: all. */
  readonly decayed?: number;
}

/**
 * One AdamW step over flat arenas, in place and in one dispatch. Call `advanceAdamW` first, once per step, also where
 * several arenas share a state.
 *
 * @throws ShapeError, DTypeError where an arena has another length than params, or another type than it should
 */
export function fusedAdamW(device: Device, args: FusedAdamWArgs, config: AdamWConfig = adamWConfig(device)): void {
  const { state, params, grads, m, v, ema, half, decayed = params.numel } = args;
  const length = params.numel;
  for (const [name, arena] of Object.entries({ params, grads, m, v, ema, half })) {
    if (!arena) continue;
    if (arena.numel !== length)
      throw new ShapeError('fusedAdamW', `${name} has ${arena.numel} elements`, {
        expected: `the ${length} of params`,
      });
    const expected = name === 'half' ? 'f16' : 'f32';
    if (floatArena('fusedAdamW', name, arena) !== expected && name !== 'grads')
      throw new DTypeError('fusedAdamW', `${name} has dtype ${arena.dtype}`, { expected: `${expected}` });
    if (name !== 'grads') arena.storage.version++;
  }
  const vector = vectorOf(length);
  const operands = [state, params, grads, m, v, ...(ema ? [ema] : []), ...(half ? [half] : [])];
  device.run(
    fusedAdamWKernel,
    {
      vector,
      grads: floatArena('fusedAdamW', 'grads', grads),
      ema: ema != null,
      half: half != null,
      unroll: config.unroll,
    },
    operands,
    [length / vector, decayed],
    grid1d(Math.ceil(length / vector / config.unroll), GROUP),
  );
}
