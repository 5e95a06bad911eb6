// Random tensors. A generator is a seed and a position in Philox's sequence, counted in blocks of four numbers; every
// call takes the next blocks. Both lie in a small GPU buffer, so that a captured step draws new numbers each time it is
// replayed.
//
// Bits, uniform numbers in [0, 1), whole numbers, Bernoulli draws and permutations are the same on every adapter, bit
// for bit. Other ranges and normal numbers are functions of those bits, and differ in the last digits where adapters
// round differently.

import type { Device } from '../gpu/device.ts';
import type { Positioned } from '../gpu/recorder.ts';
import { isFloat, storageType, type DType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { wgslMath } from '../expr/wgslMath.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import { PHILOX_WGSL, philox4x32 } from './philox.ts';
import { keep, scope } from '../tensor/scope.ts';
import { checkDevice } from '../tensor/arguments.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { arange, empty } from '../ops/create.ts';

/** Where a generator stands; enough to go on exactly. */
export interface GeneratorState {
  readonly seed: number;
  readonly position: number;
}

/** Which samples of a batch are drawn here: `count` from `first` on, out of `total`. */
export interface SampleRange {
  readonly first: number;
  readonly count: number;
  readonly total: number;
}

type Distribution = 'bits' | 'uniform' | 'normal' | 'randint' | 'bernoulli';

/** Normal numbers of four random words. */
const GAUSS = `${wgslMath(['log', 'sinCosPart'])}
// Sine and cosine of u in [0, 1] turns: the nearest quarter turn leaves an angle within pi/4.
fn sinCos(u: f32) -> array<f32, 2> {
  let quarter = round(4.0 * u);
  return mathSinCosPart(i32(quarter), (u - 0.25 * quarter) * ${2 * Math.PI});
}
fn gauss(r: vec4u) -> vec4f {
  // Box and Muller; the radius never takes the logarithm of 0, nor the root of a logarithm that was rounded upwards.
  let u = (vec4f(r >> vec4u(8u)) + 0.5) * ${2 ** -24};
  let radius = sqrt(max(-2.0 * vec2f(mathLog(u.x), mathLog(u.z)), vec2f()));
  let a = sinCos(u.y); let b = sinCos(u.w);
  return vec4f(radius.x * a[1], radius.x * a[0], radius.y * b[1], radius.y * b[0]);
}`;

const randomKernel = defineKernel<{ kind: Distribution; type: 'f32' | 'f16' | 'i32' | 'u32' }>(
  'random',
  ({ kind, type }) => {
    const value: Record<Distribution, string> = {
      bits: 'r', // f16 holds eleven bits of a number below 1; with more, the largest would round to 1.
      uniform: `(p.a + (p.b - p.a) * ${type === 'f16' ? `vec4f(r >> vec4u(21u)) * ${2 ** -11}` : 'unit(r)'})`,
      normal: 'p.a + p.b * gauss(r)',
      randint:
        'vec4i(p.low) + vec4i(vec4u(mathMulHi(r.x, p.span), mathMulHi(r.y, p.span), mathMulHi(r.z, p.span), mathMulHi(r.w, p.span)))',
      bernoulli: 'select(vec4f(0.0), vec4f(1.0), unit(r) < vec4f(p.a))',
    };
    return {
      bindings: [
        { name: 'state', type: 'array<u32>', access: 'read' },
        { name: 'y', type: `array<${type}>`, access: 'write' },
      ],
      params: [
        { name: 'n', type: 'u32' },
        { name: 'first', type: 'u32' },
        { name: 'a', type: 'f32' },
        { name: 'b', type: 'f32' },
        { name: 'low', type: 'i32' },
        { name: 'span', type: 'u32' },
        { name: 'sample', type: 'u32' },
      ],
      workgroupSize: [64],
      coarsenable: true,
      label: `random.${kind}`,
      enable: type === 'f16' ? ['f16'] : [],
      declarations: `${PHILOX_WGSL}
fn unit(r: vec4u) -> vec4f { return vec4f(r >> vec4u(8u)) * ${2 ** -24}; }
${kind === 'normal' ? GAUSS : ''}`,
      // p.sample is the number of elements of a sample: y begins with sample state[4] of a whole that is drawn in
      // parts. Where that is not at the beginning of a block, an invocation writes the end of one block and no element
      // of the next.
      body: `  let skipped = state[4] * p.sample;
  let block = p.first + (skipped >> 2u) + flat;
  let first = i32(flat * 4u) - i32(skipped & 3u);
  if (first >= i32(p.n)) { return; }
  let low = state[2] + block;
  // A sum below either addend has overflowed.
  let carry = select(0u, 1u, block < flat) + select(0u, 1u, low < state[2]);
  let r = philox(vec4u(low, state[3] + carry, 0u, 0u), vec2u(state[0], state[1]));
  let v = ${value[kind]};
  for (var k = 0u; k < 4u; k++) {
    let i = first + i32(k);
    if (i < 0 || i >= i32(p.n)) { continue; }
    ${
      kind === 'uniform'
        ? `// Rounded, the largest may be the bound that is left out.
    y[i] = ${type}(select(v[k], p.a, f32(${type}(v[k])) >= p.b));`
        : `y[i] = ${type}(v[k]);`
    }
  }`,
    };
  },
);

/** A source of random tensors. */
export class Generator implements Positioned {
  /** Where its numbers are drawn. */
  readonly device: Device;
  private seedValue: number;
  private next: number;
  /** Position that the buffer holds; later blocks are counted from there. */
  private base = -1;
  private readonly state: Tensor;
  private range: SampleRange | null = null;

  /** @param seed a whole number from 0 to 2⁵³ − 1 */
  constructor(device: Device, seed = 0) {
    checkDevice('Generator', device);
    this.device = device;
    this.seedValue = checkSeed(seed);
    this.next = 0;
    this.state = keep(empty(device, [5], 'u32'));
  }

  /** What the numbers depend on, beside the position. */
  get seed(): number {
    return this.seedValue;
  }

  /** Blocks of four numbers drawn so far. */
  get position(): number {
    return this.next;
  }

  /** Seed and position: all that it needs to go on. */
  getState(): GeneratorState {
    return { seed: this.seedValue, position: this.next };
  }

  /** Goes on from a state that `getState()` gave. */
  setState(state: GeneratorState): void {
    this.seedValue = checkSeed(state.seed);
    if (!Number.isSafeInteger(state.position) || state.position < 0)
      throw new ValueError('Generator', `Position ${state.position} is not a whole number from 0 on`);
    this.next = state.position;
    this.base = -1;
  }

  /** Starts again from a seed. */
  manualSeed(seed: number): this {
    this.setState({ seed, position: 0 });
    return this;
  }

  /**
   * The part of a batch that is drawn from now on, or null for whole batches. The first dimension of what is drawn is
   * then that of the samples (or of so many rows of each), and every sample gets the numbers it has where the whole
   * batch is drawn at once.
   */
  get samples(): SampleRange | null {
    return this.range;
  }

  set samples(range: SampleRange | null) {
    if (range && !(range.first >= 0 && range.count > 0 && range.first + range.count <= range.total))
      throw new ValueError('Generator', `are ${range.count} from ${range.first} on of ${range.total}`, {
        option: 'samples',
        expected: 'a part of the batch',
      });
    this.range = range;
    this.base = -1;
  }

  /** Uniform in [low, high). */
  uniform(shape: Shape, options: { low?: number; high?: number; dtype?: DType } = {}): Tensor {
    return this.draw('uniform', shape, options.dtype ?? 'f32', options.low ?? 0, options.high ?? 1);
  }

  /** Normal. */
  normal(shape: Shape, options: { mean?: number; std?: number; dtype?: DType } = {}): Tensor {
    return this.draw('normal', shape, options.dtype ?? 'f32', options.mean ?? 0, options.std ?? 1);
  }

  /** Whole numbers (i32) from low to high − 1. */
  randint(shape: Shape, low: number, high: number): Tensor {
    if (!(Number.isInteger(low) && Number.isInteger(high) && high > low && high - low <= 2 ** 31))
      throw new ValueError('randint', `The range ${low} to ${high} is empty or too wide`);
    return this.draw('randint', shape, 'i32', 0, 0, low, high - low);
  }

  /** 1 with probability p, else 0. */
  bernoulli(shape: Shape, p: number, dtype: DType = 'f32'): Tensor {
    if (!(p >= 0 && p <= 1)) throw new ValueError('bernoulli', `The probability is ${p}`, { expected: '0 to 1' });
    return this.draw('bernoulli', shape, dtype, p);
  }

  /** Raw 32-bit numbers (u32). */
  bits(shape: Shape): Tensor {
    return this.draw('bits', shape, 'u32');
  }

  /** 0 … n − 1 (i32) in random order: sorted by n random keys, by Batcher's bitonic network. */
  permutation(n: number): Tensor {
    return scope(() => {
      const keys = this.bits([n]);
      const size = 2 ** Math.ceil(Math.log2(Math.max(1, n)));
      const order = arange(this.device, 0, size, 1, 'i32');
      for (let block = 2; block <= size; block *= 2) {
        for (let step = block / 2; step >= 1; step /= 2)
          this.device.run(sortKernel, {}, [keys, order], [n, size / 2, block, step], grid1d(size / 2, 64));
      }
      return order.slice(0, 0, n).clone();
    });
  }

  /** Uniform numbers in [0, 1) on the host, from the same sequence. */
  hostUniform(count: number): Float32Array {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 4) {
      const block = philox4x32(
        [this.next >>> 0, Math.floor(this.next / 2 ** 32), 0, 0],
        [this.seedValue >>> 0, Math.floor(this.seedValue / 2 ** 32)],
      );
      for (let k = 0; k < 4 && i + k < count; k++) out[i + k] = (block[k] >>> 8) * 2 ** -24;
      this.next++;
    }
    return out;
  }

  /** @internal Goes back to a position of this step, to draw its numbers once more. */
  rewind(to: { readonly position: number }): void {
    if (to.position < this.base) this.base = -1;
    this.next = to.position;
  }

  /** @internal Brings the buffer up to date; a capture does so before it records and before each replay. */
  rebase(): void {
    this.base = this.next;
    this.state.write(
      Uint32Array.of(
        this.seedValue >>> 0,
        Math.floor(this.seedValue / 2 ** 32),
        this.next >>> 0,
        Math.floor(this.next / 2 ** 32),
        this.range?.first ?? 0,
      ),
    );
  }

  /** @internal Skips what a replay has drawn. */
  advance(blocks: number): void {
    this.next += blocks;
  }

  /** Frees the buffer that captured steps read the position from. */
  dispose(): void {
    this.state.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private draw(kind: Distribution, shape: Shape, dtype: DType, a = 0, b = 0, low = 0, span = 0): Tensor {
    if ((kind === 'uniform' || kind === 'normal') && !isFloat(dtype))
      throw new DTypeError(kind, `The type is ${dtype}`, {
        expected: 'f32 or f16',
        remedy: 'use randint() for whole numbers',
      });
    this.device.stream.recorder?.drawn(this);
    if (this.base < 0 || this.next - this.base > 2 ** 31) this.rebase();
    const y = empty(this.device, shape, dtype);
    const { range } = this;
    const each = range ? y.numel / range.count : 0;
    if (!Number.isInteger(each))
      throw new ShapeError(
        kind,
        `${y.numel} numbers can't be divided among the ${range!.count} samples of a part of a batch`,
        {
          remedy: "draw them with the generator's samples set to null",
        },
      );
    // A part that begins inside of a block reaches into one more.
    const blocks = Math.ceil(y.numel / 4) + (range && range.total > range.count && each % 4 ? 1 : 0);
    if (y.numel)
      this.device.run(
        randomKernel,
        { kind, type: storageType(dtype) },
        [this.state, y],
        [y.numel, this.next - this.base, a, b, low, span, each],
        grid1d(blocks, 64),
      );
    this.next += Math.ceil((range ? each * range.total : y.numel) / 4);
    return y;
  }
}

/** A step of the bitonic network: `order` holds indices of keys, those from n on come last. */
const sortKernel = defineKernel<object>('random.sort', () => ({
  bindings: [
    { name: 'keys', type: 'array<u32>', access: 'read' },
    { name: 'order', type: 'array<i32>', access: 'write' },
  ],
  params: [
    { name: 'n', type: 'u32' },
    { name: 'pairs', type: 'u32' },
    { name: 'block', type: 'u32' },
    { name: 'step', type: 'u32' },
  ],
  workgroupSize: [64],
  declarations: `fn before(a: u32, b: u32) -> bool {
  if (a >= p.n || b >= p.n) { return a < b; }
  return keys[a] < keys[b] || (keys[a] == keys[b] && a < b);
}`,
  body: `  if (flat >= p.pairs) { return; }
  // The bit of the step is put between the others.
  let i = flat / p.step * p.step * 2u + flat % p.step;
  let j = i + p.step;
  let a = order[i]; let b = order[j];
  if (before(u32(b), u32(a)) == ((i & p.block) == 0u)) { order[i] = b; order[j] = a; }`,
}));

function checkSeed(seed: number): number {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new ValueError('Generator', `The seed is ${seed}`, { expected: 'a whole number from 0 to 2⁵³ − 1' });
  return seed;
}
