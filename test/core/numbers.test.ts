// Numbers at the ends of their ranges: what NumPy and PyTorch give, or an error that says why not.

import * as assert from 'uvu/assert';
import * as core from '../../core/index.ts';
import { arange, full, grad, scope, tensor, zeros, type DType, type Tensor } from '../../core/index.ts';
import { crossEntropy, Embedding, GroupNorm, LayerNorm, nllLoss, RMSNorm } from '../../nn/index.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('numbers');

/** Values of what `fn` makes; everything else that it makes is freed. */
async function values(fn: () => Tensor): Promise<number[]> {
  const t = scope(fn);
  const data = Array.from(await t.data());
  t.dispose();
  return data;
}

/** Each value as wanted: NaN and infinities themselves, others to a relative error. */
function same(actual: readonly number[], expected: readonly number[], label: string, relative = 0): void {
  assert.is(actual.length, expected.length, label);
  actual.forEach((v, i) => {
    const want = expected[i];
    const good = Number.isFinite(want) ? Math.abs(v - want) <= relative * Math.abs(want) : Object.is(v, want);
    assert.ok(good, `${label}: [${i}] is ${v}, expected ${want}`);
  });
}

test('softmax and its logarithm keep the normaliser whatever the size, along rows and columns', async ({ device }) => {
  for (const v of [0, 1, 1e4, 1e6, 1e8, 3e38, -3e38]) {
    for (const width of [2, 3, 4, 8, 100]) {
      const row = new Array<number>(width).fill(v);
      const expected = row.map(() => -Math.log(width));
      same(await values(() => tensor(device, [row]).logSoftmax(1)), expected, `log softmax of ${width} × ${v}`, 3e-7);
      same(await values(() => tensor(device, row.map((x) => [x])).logSoftmax(0)), expected, `columns of ${v}`, 3e-7); // prettier-ignore
    }
    const [loss, gradient] = scope(() => {
      const x = tensor(device, [[v, v]], { requiresGrad: true });
      const y = crossEntropy(x, tensor(device, Int32Array.of(0)));
      return [y.detach(), grad(y, [x])[0]!];
    });
    same(Array.from(await loss.data()), [Math.LN2], `cross entropy at ${v}`, 3e-7);
    same(Array.from(await gradient.data()), [-0.5, 0.5], `its gradient at ${v}`, 3e-7);
    loss.dispose();
    gradient.dispose();
  }
});

test('the one-dispatch softmax and the general one agree at extreme operands', async ({ device }) => {
  const rows = [
    [0, -80, -100, 5],
    [1e30, -1e30, 0, 1e30],
    [Infinity, 1, 2, 3],
    [-Infinity, 1, 2, 3],
    [-Infinity, -Infinity, -Infinity, -Infinity],
    [NaN, 1, 2, 3],
    [20, 0, 0, 0],
  ];
  for (const op of ['softmax', 'logSoftmax'] as const) {
    const fused = await values(() => tensor(device, rows)[op](1));
    const general = await values(() => tensor(device, rows).permute(1, 0).contiguous()[op](0).permute(1, 0));
    fused.forEach((v, i) => {
      const near = Math.abs(v - general[i]) <= 1e-6 * Math.abs(general[i]);
      assert.ok(Object.is(v, general[i]) || near || Math.abs(v - general[i]) < 1e-37, `${op}[${i}] ${v} ${general[i]}`);
    });
  }
  // A row that is nearly certain: the logarithm of a number near 1.
  const [first] = await values(() => tensor(device, [[12, 0]]).logSoftmax(1));
  same([first], [-Math.log1p(Math.exp(-12))], 'nearly certain', 0.02);
});

test('the remainder is exact, and has the sign of the divisor', async ({ device }) => {
  const pi = Math.fround(Math.PI);
  const cases: [number, number, number][] = [
    [1e9, pi, 1e9 % pi],
    [1e10, 3, 1],
    [5, Infinity, 5],
    [-5, Infinity, Infinity],
    [5, -Infinity, -Infinity],
    [-5, -Infinity, -5],
    [3e38, 7, Number(BigInt(Math.fround(3e38)) % 7n)],
    [-7, 3, 2],
    [7, -3, -2],
    [-1e-45, 3, 3],
    [0.3, 0.1, Math.fround(0.3) % Math.fround(0.1)],
    [Infinity, 2, NaN],
    [1, 0, NaN],
    [NaN, 2, NaN],
    [2, NaN, NaN],
  ];
  const [x, y, want] = [0, 1, 2].map((k) => cases.map((c) => c[k]));
  same(await values(() => tensor(device, x).remainder(tensor(device, y))), want.map(Math.fround), 'floats', 1e-7);
  const seeds = uniform(4000, 3);
  const a = Float32Array.from(seeds.subarray(0, 2000), (v) => v * 10 ** (30 * Math.abs(v)));
  const b = Float32Array.from(seeds.subarray(2000), (v) => v * 3 + Math.sign(v));
  const exact = Array.from(a, (v, i) => {
    const r = v % b[i];
    return Math.fround(r !== 0 && r < 0 !== b[i] < 0 ? r + b[i] : r);
  });
  same(await values(() => tensor(device, a).remainder(tensor(device, b))), exact, 'many', 0);
  const [p, q] = [[2147483646, -2147483648, 2147483647, -7, 7], [2147483647, 2147483647, -2147483648, 3, -3]]; // prettier-ignore
  const whole = p.map((v, i) => ((v % q[i]) + q[i]) % q[i]);
  same(await values(() => tensor(device, Int32Array.from(p)).remainder(tensor(device, Int32Array.from(q)))), whole, 'i32'); // prettier-ignore
  same(await values(() => tensor(device, Uint32Array.of(4294967294)).remainder(4294967295)), [4294967294], 'u32');
});

test('sums and counts are not of the type of the data', async ({ device }) => {
  same(await values(() => tensor(device, Int32Array.of(2e9, 2e9)).mean()), [2e9], 'mean of i32');
  same(await values(() => tensor(device, Uint32Array.of(4e9, 4e9, 4e9)).mean()), [4e9], 'mean of u32', 1e-7);
  same(
    await values(() =>
      tensor(
        device,
        Int32Array.from({ length: 3e5 }, () => -2e9),
      ).mean(),
    ),
    [-2e9],
    'long',
    1e-7,
  );
  same(await values(() => tensor(device, [[2e9], [2e9]], { dtype: 'i32' }).mean(0)), [2e9], 'of columns');
  if (!device.has('shader-f16')) return;
  for (const op of ['max', 'min'] as const) {
    const [g] = scope(() => {
      const x = zeros(device, [70000], 'f16').requiresGrad_();
      return grad(x[op](), [x]) as Tensor[];
    });
    same(Array.from((await g.data()).subarray(0, 2)), [1 / 70000, 1 / 70000], `gradient of ${op}`, 4e-3);
    g.dispose();
  }
  const half = (v: number): Tensor => full(device, [70000, 2], v, 'f16');
  same(await values(() => half(3).mean()), [3], 'mean of f16');
  same(await values(() => half(300).var()), [0], 'variance of f16');
  const labels = (): Tensor => zeros(device, [70000], 'i32');
  same(await values(() => crossEntropy(half(0), labels())), [Math.LN2], 'cross entropy in f16', 1e-3);
  same(await values(() => nllLoss(half(-2), labels())), [2], 'likelihood in f16', 1e-3);
  const [g] = scope(() => {
    const x = tensor(device, [[1, 2, 3, 4]], { dtype: 'f16', requiresGrad: true });
    const y = x.softmax(1);
    return grad(y, [x], { gradient: full(device, [1, 4], 60000, 'f16') }) as Tensor[];
  });
  assert.ok(Array.from(await g.data()).every(Number.isFinite), 'gradient of softmax in f16');
  g.dispose();
});

test('long sums keep their digits', async ({ device }) => {
  const tenth = Math.fround(0.1);
  const tenths = (...shape: number[]): Tensor => full(device, shape, 0.1);
  same(await values(() => tenths(1e7).sum()), [1e7 * tenth], 'ten million', 1e-6);
  same(await values(() => tenths(1e7).mean()), [tenth], 'their mean', 1e-6);
  for (const n of [10007, 40000, 65535]) {
    same(await values(() => tenths(3, n).sum(1)), [n, n, n].map((v) => v * tenth), `rows of ${n}`, 3e-7); // prettier-ignore
    same(await values(() => tenths(300, n).sum(1).slice(0, 299)), [n * tenth], `many rows of ${n}`, 3e-7);
    same(await values(() => tenths(n, 3).sum(0)), [n, n, n].map((v) => v * tenth), `columns of ${n}`, 3e-7); // prettier-ignore
    same(
      await values(() =>
        tenths(n)
          .cumsum(0)
          .slice(0, n - 1),
      ),
      [n * tenth],
      `running sum of ${n}`,
      3e-7,
    );
    same(await values(() => tenths(2, n).softmax(1).slice(1, 0, 1)), [1 / n, 1 / n], `softmax of ${n}`, 1e-6);
    same(
      await values(() => tenths(n, 2).softmax(0).slice(0, 0, 1)),
      [1 / n, 1 / n],
      `softmax of columns of ${n}`,
      1e-6,
    );
    for (const [m, k] of [
      [1, 1],
      [1, 3],
      [4, 4],
      [3, 1],
    ])
      // prettier-ignore
      same(await values(() => tenths(m, n).matmul(full(device, [n, k], 1)).slice(0, 0, 1).slice(1, 0, 1)), [n * tenth], `product of ${m}, ${n} and ${k}`, device.adapter.software ? 2e-6 : 2e-5);
  }
  // Gradients that are sums over rows.
  const rows = 50000;
  const gradients = scope(() => {
    const gradient = tenths(rows, 4);
    const norm = new LayerNorm({ device }, 4);
    const x = tensor(device, uniform(rows * 4, 7), { shape: [rows, 4] });
    const [bias] = grad(norm.forward(x), [norm.bias!], { gradient }) as Tensor[];
    const table = zeros(device, [3, 4]).requiresGrad_();
    const [row] = grad(table.indexSelect(0, zeros(device, [rows], 'i32')), [table], { gradient }) as Tensor[];
    norm.dispose();
    return [bias, row.select(0, 0)];
  });
  for (const g of gradients) {
    same(Array.from(await g.data()), new Array<number>(4).fill(rows * tenth), 'gradient over rows', 1e-6);
    g.dispose();
  }
  const wide = 40000;
  const noise = uniform(wide, 5);
  const host = Float32Array.from(noise, (v) => v + 100);
  const mean = host.reduce((s, v) => s + v, 0) / wide;
  const variance = host.reduce((s, v) => s + (v - mean) ** 2, 0) / wide;
  const normed = await values(() => new LayerNorm({ device }, wide, { elementwiseAffine: false }).forward(tensor(device, host, { shape: [1, wide] }))); // prettier-ignore
  const error = Math.max(...normed.map((v, i) => Math.abs(v - (host[i] - mean) / Math.sqrt(variance + 1e-5))));
  assert.ok(error < 5e-5, `layer norm of ${wide}: ${error}`);
});

test('NaN and infinities in every argument', async ({ device }) => {
  const cases: [number, number, number][] = [
    [0, NaN, NaN], [NaN, 0, 1], [1, NaN, 1], [1, Infinity, 1], [-1, Infinity, 1], [-1, -Infinity, 1],
    [-0, -1, -Infinity], [-0, -2, Infinity], [0, -1, Infinity], [-0, 3, -0], [0, 0, 1], [10, 30, 1e30], [10, -30, 1e-30],
    [0.5, Infinity, 0], [0.5, -Infinity, Infinity], [2, -Infinity, 0], [-Infinity, 3, -Infinity], [-Infinity, 2, Infinity],
    [-Infinity, -3, -0], [-Infinity, 0.5, Infinity], [Infinity, -1, 0], [-8, 1 / 3, NaN], [-2, 3, -8], [2, 0.5, Math.SQRT2],
    [NaN, 2, NaN], [1.0000001, 1e7, Math.fround(1.0000001) ** 1e7], [3e38, 2, Infinity], [1e-30, 2, 0],
  ]; // prettier-ignore
  const [x, y, want] = [0, 1, 2].map((k) => cases.map((c) => c[k]));
  same(await values(() => tensor(device, x).pow(tensor(device, y))), want, 'pow', 3e-7);
  const bounds: [number, number, number, number][] = [
    [1, NaN, 2, NaN], [1, 0, NaN, NaN], [NaN, 0, 2, NaN], [1, -Infinity, Infinity, 1], [Infinity, 0, 2, 2], [1, 3, 2, 2], [1, 2, 3, 2],
  ]; // prettier-ignore
  const [v, lo, hi, clamped] = [0, 1, 2, 3].map((k) => tensor(device, bounds.map((b) => b[k]))); // prettier-ignore
  same(await values(() => core.clamp(v, lo, hi)), bounds.map((b) => b[3]), 'clamp'); // prettier-ignore
  for (const [a, b] of [[NaN, 2], [0, NaN]]) same(await values(() => tensor(device, [1]).clamp(a, b)), [NaN], 'clamp by numbers'); // prettier-ignore
  same(await values(() => tensor(device, [NaN, -1, 2]).sign()), [NaN, -1, 1], 'sign');
  for (const t of [v, lo, hi, clamped]) t.dispose();
});

/** Functions, and where each is tried: sizes from the first to the second number, with both signs where it has them. */
const accurate: Record<string, { ref: (x: number) => number; sizes: [number, number][]; positive?: boolean; limit?: number }> = {
  exp: { ref: Math.exp, sizes: [[1e-6, 1e-2], [0.1, 10], [10, 85]] },
  log: { ref: Math.log, sizes: [[1e-30, 1e-3], [0.9, 1.1], [0.999, 1.001], [2, 1e30]], positive: true },
  log1p: { ref: Math.log1p, sizes: [[1e-20, 1e-6], [1e-3, 0.9], [1, 1e20]], positive: true },
  expm1: { ref: Math.expm1, sizes: [[1e-20, 1e-6], [1e-3, 2], [2, 80]], limit: 5e-7 },
  sqrt: { ref: Math.sqrt, sizes: [[1e-30, 1e30]], positive: true },
  rsqrt: { ref: (x) => 1 / Math.sqrt(x), sizes: [[1e-30, 1e30]], positive: true },
  sin: { ref: Math.sin, sizes: [[1e-10, 1e-3], [0.01, 10], [100, 1e4], [1e5, 1e12]] },
  cos: { ref: Math.cos, sizes: [[1e-10, 1e-3], [0.01, 10], [100, 1e4], [1e5, 1e12]] },
  tanh: { ref: Math.tanh, sizes: [[1e-10, 1e-3], [1e-3, 1], [1, 20]] },
  // WGSL grants the built-in exp 3 + 2 |x| units in the last place.
  sigmoid: { ref: (x) => 1 / (1 + Math.exp(-x)), sizes: [[1e-3, 1], [1, 80]], limit: 2e-5 },
  softplus: { ref: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), sizes: [[1e-3, 1], [1, 80]], limit: 5e-7 },
}; // prettier-ignore

test('functions are good to a few last places, relative to themselves', async ({ device }) => {
  for (const [name, { ref, sizes, positive, limit = 4e-7 }] of Object.entries(accurate))
    for (const [least, most] of sizes)
      for (const sign of positive ? [1] : [1, -1])
        for (const count of [63, 64]) {
          const host = Float32Array.from({ length: count }, (_, i) => sign * least * (most / least) ** (i / count));
          const op = (core as unknown as Record<string, (x: Tensor) => Tensor>)[name];
          const expected = Array.from(host, ref);
          same(
            await values(() => op(tensor(device, host))),
            expected,
            `${name} of ${sign * least} to ${sign * most}`,
            limit,
          );
        }
  same(await values(() => tensor(device, [1e-3]).tanh()), [Math.tanh(Math.fround(1e-3))], 'tanh', 1e-7);
});

test('integers beside numbers that they cannot be', async ({ device }) => {
  const i = tensor(device, Int32Array.of(5, -5, 2 ** 31 - 1));
  const u = tensor(device, Uint32Array.of(4e9, 0));
  const ref: Record<string, (a: number, b: number) => boolean> = {
    lt: (a, b) => a < b,
    le: (a, b) => a <= b,
    gt: (a, b) => a > b,
    ge: (a, b) => a >= b,
    eq: (a, b) => a === b,
    ne: (a, b) => a !== b,
  };
  const numbers = [
    3e9,
    -3e9,
    1e20,
    -1e20,
    2 ** 31,
    2 ** 32,
    -1,
    4e9,
    4.5,
    -5.5,
    5,
    Infinity,
    -Infinity,
    NaN,
    2147483646.5,
  ];
  for (const [op, compare] of Object.entries(ref)) {
    const fn = (core as unknown as Record<string, (x: Tensor | number, y: Tensor | number) => Tensor>)[op];
    for (const t of [i, u]) {
      const data = Array.from(await t.data());
      for (const v of numbers) {
        assert.equal(await values(() => fn(t, v)), data.map((a) => Number(compare(a, v))), `${op}(${data}, ${v})`); // prettier-ignore
        assert.equal(await values(() => fn(v, t)), data.map((a) => Number(compare(v, a))), `${op}(${v}, ${data})`); // prettier-ignore
        const fused = core.fuse((x) => x[op as 'lt'](v));
        assert.equal(await values(() => fused(t)), data.map((a) => Number(compare(a, v))), `fused ${op}(${data}, ${v})`); // prettier-ignore
      }
    }
    const [a, b] = [[5, -5, -1], [4e9, 5, 4294967295]]; // prettier-ignore
    const [x, y] = [tensor(device, Int32Array.from(a)), tensor(device, Uint32Array.from(b))];
    assert.equal(await values(() => fn(x, y)), a.map((v, k) => Number(compare(v, b[k]))), `${op} of i32 and u32`); // prettier-ignore
    assert.equal(await values(() => fn(y, x)), a.map((v, k) => Number(compare(b[k], v))), `${op} of u32 and i32`); // prettier-ignore
    x.dispose();
    y.dispose();
  }
  assert.equal(await values(() => i.clamp(0, 3e9)), [5, 0, 2 ** 31 - 1]);
  assert.equal(await values(() => i.clamp(-3e9, 4)), [4, -5, 4]);
  assert.equal(await values(() => u.clamp(-1, 3e9)), [3e9, 0]);
  assert.equal(await values(() => i.minimum(3e9)), [5, -5, 2 ** 31 - 1]);
  assert.equal(await values(() => u.maximum(-1)), [4e9, 0]);
  assert.equal(await values(() => i.div(3e9).mul(3e9)), [5, -5, 2 ** 31]);
  for (const wrong of [
    () => i.add(3e9),
    () => u.sub(-1),
    () => i.clamp(3e9, 4e9),
    () => i.maximum(3e9),
    () => u.minimum(-1),
    () => i.mul(1e10),
  ])
    // prettier-ignore
    assert.throws(() => scope(() => void wrong()), /stands beside [iu]32 values, expected one from/);
  for (const wrong of [
    () => tensor(device, [3e9], { dtype: 'i32' }),
    () => tensor(device, [-1], { dtype: 'u32' }),
    () => tensor(device, [NaN], { dtype: 'i32' }),
    () => full(device, [2], 3e9, 'i32'),
    () => full(device, [2], NaN, 'u32'),
    () => tensor(device, Float32Array.of(1e20), { dtype: 'u32' }),
    () => zeros(device, [1], 'i32').write([3e9]),
    () => arange(device, 2147483640, 2147483650, 1, 'i32'),
  ])
    // prettier-ignore
    assert.throws(() => scope(() => void wrong()), /is no [iu]32, expected numbers from/);
  assert.throws(() => arange(device, 0, 4, 0.5, 'i32'), /expected whole numbers/);
  assert.equal(await values(() => tensor(device, [1.9, -1.9], { dtype: 'i32' })), [1, -1]);
  for (const make of [
    () => tensor(device, [NaN, 0, -0, 0.5], { dtype: 'bool' }),
    () => tensor(device, [NaN, 0, -0, 0.5]).cast('bool'),
  ])
    // prettier-ignore
    assert.equal(await values(make), [1, 0, 0, 1]);
  assert.equal(await values(() => full(device, [1], NaN, 'bool')), [1]);
  assert.equal(await values(() => core.logicalOr(tensor(device, [false]), NaN)), [1]);
  const floats = [3e9, -3e9, NaN, Infinity, -Infinity, -1.9];
  assert.equal(await values(() => tensor(device, floats).cast('i32')), [2 ** 31 - 1, -(2 ** 31), 0, 2 ** 31 - 1, -(2 ** 31), -1]); // prettier-ignore
  assert.equal(await values(() => tensor(device, floats).cast('u32')), [3e9, 0, 0, 2 ** 32 - 1, 0, 0]);
  i.dispose();
  u.dispose();
});

test('tensors of nothing', async ({ device }) => {
  const generator = new core.Generator(device, 1);
  const layers: [name: string, module: { forward(x: Tensor): Tensor; parameters(): Tensor[]; dispose(): void }, shape: number[], dtype: DType][] = [
    ['LayerNorm', new LayerNorm({ device }, 4), [0, 4], 'f32'],
    ['LayerNorm', new LayerNorm({ device }, 4), [2, 0, 4], 'f32'],
    ['RMSNorm', new RMSNorm({ device }, 4), [0, 4], 'f32'],
    ['GroupNorm', new GroupNorm({ device }, 2, 4), [0, 4, 2], 'f32'],
    ['Embedding', new Embedding(generator, 3, 4), [0], 'i32'],
  ]; // prettier-ignore
  for (const [name, module, shape, dtype] of layers) {
    const grads = scope(() => {
      const x = zeros(device, shape, dtype);
      if (dtype === 'f32') x.requiresGrad_();
      const y = module.forward(x);
      assert.is(y.numel, 0, name);
      return grad(y.sum(), [...module.parameters(), ...(dtype === 'f32' ? [x] : [])]) as Tensor[];
    });
    for (const g of grads) same(Array.from(await g.data()), new Array<number>(g.numel).fill(0), name);
    for (const g of grads) g.dispose();
    module.dispose();
  }
  generator.dispose();
  await device.synchronize();
  const empty: Record<string, () => Tensor> = {
    'softmax over nothing': () => zeros(device, [3, 0]).softmax(1),
    'softmax of no rows': () => zeros(device, [0, 3]).softmax(1),
    'softmax of no columns': () => zeros(device, [3, 0]).softmax(0),
    'logarithm of softmax': () => zeros(device, [3, 0]).logSoftmax(1),
    'max of no rows': () => zeros(device, [0, 3]).max(1),
    'argmax of no rows': () => zeros(device, [0, 3]).argmax(1),
    reshape: () => zeros(device, [0, 4]).reshape(-1, 2),
    flatten: () => zeros(device, [2, 0, 4]).flatten(),
    product: () => zeros(device, [0, 3]).matmul(zeros(device, [3, 2])),
    concat: () => core.concat([zeros(device, [0, 2]), zeros(device, [0, 2])]),
    slice: () => zeros(device, [4]).slice(0, 4, 4).exp(),
    gather: () => zeros(device, [3]).gather(0, zeros(device, [0], 'i32')),
    cumsum: () => zeros(device, [0, 3]).cumsum(0),
    broadcast: () => zeros(device, [0, 3]).add(zeros(device, [3])),
  };
  for (const [name, fn] of Object.entries(empty)) assert.equal(await values(fn), [], name);
  const some: Record<string, [() => Tensor, number[]]> = {
    'sum over nothing': [() => zeros(device, [2, 0]).sum(1), [0, 0]],
    'sum of a part of nothing': [() => zeros(device, [4]).slice(0, 4, 4).sum(), [0]],
    'mean over nothing': [() => zeros(device, [2, 0]).mean(1), [NaN, NaN]],
    'product over nothing': [() => zeros(device, [2, 0]).matmul(zeros(device, [0, 2])), [0, 0, 0, 0]],
    'vector product over nothing': [() => zeros(device, [0]).matmul(zeros(device, [0])), [0]],
    'concat with nothing': [() => core.concat([zeros(device, [0, 2]), core.ones(device, [1, 2])]), [1, 1]],
    'mean loss of nothing': [() => crossEntropy(zeros(device, [0, 3]), zeros(device, [0], 'i32')), [NaN]],
  };
  for (const [name, [fn, want]] of Object.entries(some)) same(await values(fn), want, name);
  assert.throws(() => scope(() => void zeros(device, [2, 0]).max(1)), /Nothing to reduce/);
});

test('labels and indices out of range give no neighbour', async ({ device }) => {
  const logits = tensor(device, [[1, 2, 30]]);
  const label = (v: number): Tensor => tensor(device, Int32Array.of(v));
  for (const v of [7, 3, -1, -3, 2 ** 31 - 1]) {
    same(await values(() => crossEntropy(logits, label(v))), [NaN], `cross entropy of label ${v}`);
    same(await values(() => nllLoss(logits, label(v))), [NaN], `likelihood of label ${v}`);
    same(await values(() => crossEntropy(logits, label(v), { labelSmoothing: 0.1 })), [NaN], `smoothed, of label ${v}`);
    same(await values(() => crossEntropy(logits, label(v), { weight: core.ones(device, [3]) })), [NaN], `weighted, of ${v}`); // prettier-ignore
  }
  same(await values(() => crossEntropy(logits, label(-100), { reduction: 'sum' })), [0], 'an ignored label');
  same(await values(() => crossEntropy(logits, tensor(device, Uint32Array.of(1)))), [28], 'u32', 1e-6);
  const table = tensor(device, [[1, 2], [3, 4], [5, 6]]); // prettier-ignore
  const at = (): Tensor => tensor(device, Int32Array.of(3, -1, -4, 0, 1e9));
  const rows = [NaN, NaN, 5, 6, NaN, NaN, 1, 2, NaN, NaN];
  same(await values(() => table.indexSelect(0, at())), rows, 'indexSelect');
  same(await values(() => table.gather(0, at().unsqueeze(1))), [NaN, 5, NaN, 1, NaN], 'gather');
  const wide = tensor(device, [[1, 2, 3, 4], [5, 6, 7, 8]]); // prettier-ignore
  same(await values(() => wide.indexSelect(0, tensor(device, Int32Array.of(2, 1)))), [NaN, NaN, NaN, NaN, 5, 6, 7, 8], 'vectors'); // prettier-ignore
  same(await values(() => tensor(device, Int32Array.of(7, 8)).gather(0, tensor(device, Int32Array.of(2, 1)))), [0, 8], 'of integers'); // prettier-ignore
  const [g] = scope(() => {
    const x = table.detach().requiresGrad_();
    return grad(x.indexSelect(0, at()).sum(), [x]) as Tensor[];
  });
  same(Array.from(await g.data()), [1, 1, 0, 0, 1, 1], 'its gradient');
  for (const t of [logits, table, wide, g]) t.dispose();
});

test.run();
