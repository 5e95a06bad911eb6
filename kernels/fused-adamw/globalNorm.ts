// The Euclidean norm of all gradients, in two stages and a fixed order, so that it has the same bits every time. A
// gradient that is infinite or NaN is found by its exponent bits: compilers fold `x != x` to false.

import { DTypeError, ShapeError, type Device, type DType, type FloatDType } from '../../core/index.ts';
import { defineKernel, grid1d, mathName, wgslMath, type Operand } from '../../core/kit.ts';

/** A flat run of elements, contiguous from the operand's offset; a contiguous tensor is one. */
export interface FlatArray extends Operand {
  readonly numel: number;
  readonly dtype: DType;
}

/** @throws DTypeError where the arena holds no floats */
export function floatArena(op: string, name: string, { dtype }: FlatArray): FloatDType {
  if (dtype !== 'f32' && dtype !== 'f16')
    throw new DTypeError(op, `${name} has dtype ${dtype}`, { expected: 'f32 or f16' });
  return dtype;
}

/** Which form of the kernels for the global norm runs. */
export interface GlobalNormConfig {
  /** Workgroups of the first stage. */
  readonly groups: number;
  /** Whether a workgroup adds up its invocations' sums; otherwise each writes its own. */
  readonly shared: boolean;
}

/** The form for this adapter. Software adapters are slow at workgroup memory with barriers. */
export function globalNormConfig(device: Device): GlobalNormConfig {
  return device.adapter.software ? { groups: 32, shared: false } : { groups: 1024, shared: true };
}

const GROUP = 64;

/** Elements that a kernel handles together: 4 where the length is a multiple of it. */
export function vectorOf(length: number): 1 | 4 {
  return length % 4 === 0 ? 4 : 1;
}

interface PartialVariant {
  readonly vector: 1 | 4;
  readonly dtype: FloatDType;
  readonly shared: boolean;
}

/**
 * Sums of squares, one an invocation or one a workgroup; infinity where an element is not finite. Operands: grads,
 * partial. Parameters: count, first.
 */
export const squaresKernel = defineKernel<PartialVariant>('globalNormSquares', ({ vector, dtype, shared }) => {
  const value = vector === 4 ? 'vec4f' : 'f32';
  return {
    bindings: [
      { name: 'grads', type: `array<${vector === 4 ? `vec4<${dtype}>` : dtype}>`, access: 'read' },
      { name: 'partial', type: 'array<u32>', access: 'write' },
    ],
    params: [
      { name: 'count', type: 'u32' },
      { name: 'first', type: 'u32' },
    ],
    workgroupSize: [GROUP],
    workgroupBytes: shared ? GROUP * 8 : 0,
    enable: dtype === 'f16' ? ['f16'] : [],
    declarations: `${vector === 4 ? wgslMath([], ['notFinite']) : wgslMath(['notFinite'])}
${shared ? `var<workgroup> sums: array<f32, ${GROUP}>;\nvar<workgroup> flags: array<u32, ${GROUP}>;` : ''}`,
    // Adds up blocks of 16 first: a long chain of additions loses digits.
    body: `
let stride = nwg.x * ${GROUP}u;
var sum = 0f;
var bad = false;
for (var begin = flat; begin < p.count; begin += 16u * stride) {
  var block = ${value}(0);
  let end = min(p.count, begin + 16u * stride);
  for (var i = begin; i < end; i += stride) {
    let g = ${value}(grads[i]);
    block += g * g;
    bad = bad || any(${mathName('notFinite', vector === 4)}(g));
  }
  sum += ${vector === 4 ? 'dot(block, vec4f(1))' : 'block'};
}
${
  shared
    ? `sums[li] = sum;
flags[li] = select(0u, 1u, bad);
for (var half = ${GROUP / 2}u; half > 0u; half >>= 1u) {
  workgroupBarrier();
  if (li < half) {
    sums[li] += sums[li + half];
    flags[li] |= flags[li + half];
  }
}
if (li == 0u) { partial[p.first + wid.x] = select(bitcast<u32>(sums[0]), 0x7f800000u, flags[0] != 0u); }`
    : 'partial[p.first + flat] = select(bitcast<u32>(sum), 0x7f800000u, bad);'
}`,
  };
});

const TOTAL = { shared: 256, alone: 1 } as const;

/** Adds up the sums of squares. Operands: partial, out (norm, 1 if not finite). Parameters: count. */
export const normTotalKernel = defineKernel<{ shared: boolean }>('globalNormTotal', ({ shared }) => {
  const size = shared ? TOTAL.shared : TOTAL.alone;
  return {
    bindings: [
      { name: 'partial', type: 'array<u32>', access: 'read' },
      { name: 'result', type: 'array<f32>', access: 'write' },
    ],
    params: [{ name: 'count', type: 'u32' }],
    workgroupSize: [size],
    workgroupBytes: size * 8,
    declarations: `${wgslMath(['notFinite'])}
var<workgroup> sums: array<f32, ${size}>;
var<workgroup> flags: array<u32, ${size}>;`,
    body: `
var sum = 0f;
var bad = 0u;
for (var begin = li; begin < p.count; begin += ${16 * size}u) {
  var block = 0f;
  for (var i = begin; i < min(p.count, begin + ${16 * size}u); i += ${size}u) {
    let square = bitcast<f32>(partial[i]);
    bad |= select(0u, 1u, mathNotFinite(square));
    block += square;
  }
  sum += block;
}
sums[li] = sum;
flags[li] = bad;
for (var half = ${(size / 2) | 0}u; half > 0u; half >>= 1u) {
  workgroupBarrier();
  if (li < half) {
    sums[li] += sums[li + half];
    flags[li] |= flags[li + half];
  }
}
if (li == 0u) {
  result[0] = sqrt(sums[0]);
  result[1] = select(0f, 1f, flags[0] != 0u || mathNotFinite(sums[0]));
}`,
  };
});

/** f32 words that the partial sums of so many arenas take. */
export function globalNormPartials(config: GlobalNormConfig, arenas: number): number {
  return arenas * config.groups * (config.shared ? 1 : GROUP);
}

/**
 * `out[0]` = square root of the sum of squares over all arenas, `out[1]` = 1 where an element (or the sum) is infinite
 * or NaN, else 0. `partial` holds `globalNormPartials` words. One dispatch per arena and one more.
 */
export function globalNorm(
  device: Device,
  arenas: readonly FlatArray[],
  { partial, out }: { partial: Operand; out: Operand },
  config: GlobalNormConfig = globalNormConfig(device),
): void {
  const each = config.groups * (config.shared ? 1 : GROUP);
  const needed = globalNormPartials(config, arenas.length) * 4;
  if (partial.storage.bytes - partial.byteOffset < needed) {
    throw new ShapeError('globalNorm', `partial has ${partial.storage.bytes - partial.byteOffset} bytes`, {
      expected: `${needed} for ${arenas.length} arenas`,
      remedy: 'allocate globalNormPartials() f32 words',
    });
  }
  arenas.forEach((arena, k) => {
    const vector = vectorOf(arena.numel);
    const dtype = floatArena('globalNorm', `arena ${k}`, arena);
    device.run(
      squaresKernel,
      { vector, dtype, shared: config.shared },
      [arena, partial],
      [arena.numel / vector, k * each],
      grid1d(config.groups * GROUP, GROUP),
    );
  });
  device.run(normTotalKernel, { shared: config.shared }, [partial, out], [arenas.length * each], [1]);
}
