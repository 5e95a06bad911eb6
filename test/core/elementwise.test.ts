import * as assert from 'uvu/assert';
import * as core from '../../core/index.ts';
import { grad, gradcheck, scope, tensor, type Tensor } from '../../core/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('elementwise');

/** Functions with a float64 reference, and where to sample them. */
const unary: Record<string, { ref: (x: number) => number; at?: (u: number) => number; limit?: number; smooth?: boolean }> = {
  neg: { ref: (x) => -x }, abs: { ref: Math.abs, smooth: false }, sign: { ref: Math.sign, smooth: false }, square: { ref: (x) => x * x },
  reciprocal: { ref: (x) => 1 / x, at: (u) => u + 2 }, exp: { ref: Math.exp, at: (u) => 3 * u }, log: { ref: Math.log, at: (u) => u + 1.5 },
  log1p: { ref: Math.log1p, at: (u) => 0.9 * u }, expm1: { ref: Math.expm1 }, sqrt: { ref: Math.sqrt, at: (u) => u + 1.5 }, rsqrt: { ref: (x) => 1 / Math.sqrt(x), at: (u) => u + 1.5 },
  sin: { ref: Math.sin }, cos: { ref: Math.cos }, tanh: { ref: Math.tanh, at: (u) => 3 * u }, sigmoid: { ref: (x) => 1 / (1 + Math.exp(-x)), at: (u) => 5 * u },
  silu: { ref: (x) => x / (1 + Math.exp(-x)), at: (u) => 5 * u }, relu: { ref: (x) => Math.max(0, x), smooth: false },
  softplus: { ref: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), at: (u) => 30 * u }, erf: { ref: erf, at: (u) => 3 * u, limit: 1e-6 },
  gelu: { ref: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)), at: (u) => 3 * u, limit: 1e-6 },
  floor: { ref: Math.floor, at: (u) => 7 * u, smooth: false }, ceil: { ref: Math.ceil, at: (u) => 7 * u, smooth: false }, trunc: { ref: Math.trunc, at: (u) => 7 * u, smooth: false },
};

/** By its series: 60 terms are exact to double precision below 4. */
function erf(x: number): number {
  let term = x, sum = x;
  for (let n = 1; n < 80; n++) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
  }
  return sum * 2 / Math.sqrt(Math.PI);
}

for (const [name, { ref, at = (u: number) => u, limit = 2e-6, smooth = true }] of Object.entries(unary)) {
  test(`${name} in f32 and f16, values and gradient`, async ({ device }) => {
    const op = (core as unknown as Record<string, (x: Tensor) => Tensor>)[name];
    for (const n of [1, 7, 66, 368]) {
      const host = uniform(n, n).map(at);
      const x = tensor(device, host);
      const y = op(x);
      assertClose(await y.data(), Array.from(host, ref), limit, `${name} of ${n}`);
      x.dispose();
      y.dispose();
    }
    if (device.has('shader-f16')) {
      const x = tensor(device, uniform(55, 2).map(at), { dtype: 'f16' });
      const y = op(x);
      assert.is(y.dtype, 'f16');
      assertClose(await y.data(), Array.from(await x.data(), ref), 2e-3, `${name} in f16`);
      x.dispose();
      y.dispose();
    }
    if (smooth) {
      const x = tensor(device, uniform(7, 3).map(at));
      await gradcheck((v) => op(v), [x], { eps: 5e-3, tolerance: 2e-2 });
      x.dispose();
    }
  });
}

const binary: Record<string, (x: number, y: number) => number> = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y, minimum: Math.min, maximum: Math.max,
  remainder: (x, y) => x - y * Math.floor(x / y),
};

for (const [name, ref] of Object.entries(binary)) {
  test(`${name} broadcasts, and its gradient sums what was repeated`, async ({ device }) => {
    const op = (core as unknown as Record<string, (x: Tensor, y: Tensor) => Tensor>)[name];
    for (const [a, b] of [[[7, 1, 5], [3, 1]], [[2, 66], [66]], [[2, 8], [2, 1]], [[], [3]], [[4, 12], [4, 12]]] as number[][][]) {
      // Far from each other: differences straddle no kink of min and max.
      const x = tensor(device, uniform(core.numelOf(a), 5).map((v) => Math.round(8 * v) / 4), { shape: a });
      const y = tensor(device, uniform(core.numelOf(b), 6).map((v) => Math.round(4 * v) / 4 + 1.625), { shape: b });
      const out = op(x, y);
      const [xs, ys] = [await x.data(), await y.data()];
      const expected: number[] = [];
      const shape = core.broadcastShapes('test', a, b);
      const index = (of: readonly number[], at: readonly number[]): number => of.reduce((i, size, d) => i * size + (size === 1 ? 0 : at[d + shape.length - of.length]), 0);
      for (let i = 0; i < core.numelOf(shape); i++) {
        const at = shape.map((size, d) => Math.floor(i / core.numelOf(shape.slice(d + 1))) % size);
        expected.push(ref(xs[index(a, at)], ys[index(b, at)]));
      }
      assert.equal(out.shape, shape);
      assertClose(await out.data(), expected, 1e-6, `${name} ${core.show(a)} ${core.show(b)}`);
      if (name !== 'remainder') await gradcheck((p, q) => op(p, q), [x, y], { eps: 1e-2, samples: 5 });
      for (const t of [x, y, out]) t.dispose();
    }
  });
}

test('pow of negative bases and of zero is what PyTorch gives', async ({ device }) => {
  const x = tensor(device, [-2, -2, -2, 0, 2]);
  const y = tensor(device, [3, 2, 0.5, 0, -1]);
  const z = core.pow(x, y);
  const got = await z.data();
  assertClose([got[0], got[1], got[3], got[4]], [-8, 4, 1, 0.5], 1e-6);
  assert.ok(Number.isNaN(got[2]));
  for (const t of [x, y, z]) t.dispose();
});

test('strided and offset views are read in place', async ({ device }) => {
  const x = tensor(device, Float32Array.from({ length: 60 }, (_, i) => i), { shape: [3, 4, 5] });
  const out = scope(() => x.permute(2, 0, 1).slice(0, 1).flip(1).add(0.5));
  const expected: number[] = [];
  for (let c = 1; c < 5; c++) for (let a = 2; a >= 0; a--) for (let b = 0; b < 4; b++) expected.push(a * 20 + b * 5 + c + 0.5);
  assert.equal(Array.from(await out.data()), expected);
  x.dispose();
  out.dispose();
});

test('fuse makes one kernel, with first and second derivatives', async ({ device }) => {
  const f = core.fuse((x, y, z) => x.silu().mul(y).add(z));
  const inputs = [1, 2, 3].map((seed) => tensor(device, uniform(55, seed), { shape: [5, 11] }));
  const before = device.stream.dispatches;
  const out = f(...inputs);
  assert.is(device.stream.dispatches - before, 1);
  const [x, y, z] = await Promise.all(inputs.map((t) => t.data()));
  assertClose(await out.data(), Array.from(x, (v, i) => v / (1 + Math.exp(-v)) * y[i] + z[i]), 1e-6);
  await gradcheck(f, inputs);
  const second = (v: Tensor): Tensor => {
    const leaf = v.requiresGrad ? v : v.detach().requiresGrad_();
    return core.enableGrad(() => grad(leaf.silu().sum(), [leaf], { createGraph: true })[0]!);
  };
  await gradcheck(second, [inputs[0]], { eps: 1e-2 });
  out.dispose();
  inputs.forEach((t) => t.dispose());
});

test('comparisons, logic, where and the tests for NaN', async ({ device }) => {
  const result = scope(() => {
    const x = tensor(device, [1, NaN, Infinity, -3]);
    const y = tensor(device, [2, 2, 2, -3]);
    return [x.lt(y), x.eq(y), x.isNan(), x.isInf(), x.isFinite(), x.isNan().logicalOr(x.isInf()).logicalNot(), core.where(x.gt(0), x, y)];
  });
  const [lt, eq, nan, inf, finite, neither, chosen] = await Promise.all(result.map(async (t) => Array.from(await t.data())));
  assert.equal([lt[0], lt[2], lt[3]], [1, 0, 0]);
  assert.equal([eq[0], eq[3]], [0, 1]);
  assert.equal(nan, [0, 1, 0, 0]);
  assert.equal(inf, [0, 0, 1, 0]);
  assert.equal(finite, [1, 0, 0, 1]);
  assert.equal(neither, [1, 0, 0, 1]);
  assert.equal([chosen[0], chosen[2], chosen[3]], [1, Infinity, -3]);
  result.forEach((t) => t.dispose());
});

test('integers stay integers and mixed types are promoted', async ({ device }) => {
  const result = scope(() => {
    const i = tensor(device, Int32Array.of(7, -7));
    const f = tensor(device, [0.5, 0.5]);
    return [i.add(1), i.mul(f), i.div(2), i.remainder(3), i.gt(0).sum()];
  });
  assert.equal(result.map((t) => t.dtype), ['i32', 'f32', 'f32', 'i32', 'i32']);
  assert.equal(await Promise.all(result.map(async (t) => Array.from(await t.data()))), [[8, -6], [3.5, -3.5], [3.5, -3.5], [1, 2], [1]]);
  result.forEach((t) => t.dispose());
});

test.run();
