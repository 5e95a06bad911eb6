import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { grad, gradcheck, scope, tensor, type DType, type Tensor } from '../../../core/index.ts';
import { erf, erfc } from '../../reference/erf.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('elementwise');

/** Functions with a float64 reference, and where to sample them. */
const unary: Record<
  string,
  { ref: (x: number) => number; at?: (u: number) => number; limit?: number; smooth?: boolean }
> = {
  neg: { ref: (x) => -x },
  abs: { ref: Math.abs, smooth: false },
  sign: { ref: Math.sign, smooth: false },
  square: { ref: (x) => x * x },
  reciprocal: { ref: (x) => 1 / x, at: (u) => u + 2 },
  exp: { ref: Math.exp, at: (u) => 3 * u },
  log: { ref: Math.log, at: (u) => u + 1.5 },
  log1p: { ref: Math.log1p, at: (u) => 0.9 * u },
  expm1: { ref: Math.expm1 },
  sqrt: { ref: Math.sqrt, at: (u) => u + 1.5 },
  rsqrt: { ref: (x) => 1 / Math.sqrt(x), at: (u) => u + 1.5 },
  sin: { ref: Math.sin },
  cos: { ref: Math.cos },
  tanh: { ref: Math.tanh, at: (u) => 3 * u },
  sigmoid: { ref: (x) => 1 / (1 + Math.exp(-x)), at: (u) => 5 * u },
  silu: { ref: (x) => x / (1 + Math.exp(-x)), at: (u) => 5 * u },
  relu: { ref: (x) => Math.max(0, x), smooth: false },
  softplus: { ref: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), at: (u) => 30 * u },
  erf: { ref: erf, at: (u) => 3 * u, limit: 1e-6 },
  erfc: { ref: erfc, at: (u) => 3 * u, limit: 1e-6 },
  gelu: { ref: (x) => 0.5 * x * erfc(-x * Math.SQRT1_2), at: (u) => 3 * u, limit: 1e-6 },
  floor: { ref: Math.floor, at: (u) => 7 * u, smooth: false },
  ceil: { ref: Math.ceil, at: (u) => 7 * u, smooth: false },
  trunc: { ref: Math.trunc, at: (u) => 7 * u, smooth: false },
};

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
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  minimum: Math.min,
  maximum: Math.max,
  remainder: (x, y) => x - y * Math.floor(x / y),
};

for (const [name, ref] of Object.entries(binary)) {
  test(`${name} broadcasts, and its gradient sums what was repeated`, async ({ device }) => {
    const op = (core as unknown as Record<string, (x: Tensor, y: Tensor) => Tensor>)[name];
    for (const [a, b] of [
      [
        [7, 1, 5],
        [3, 1],
      ],
      [[2, 66], [66]],
      [
        [2, 8],
        [2, 1],
      ],
      [[], [3]],
      [
        [4, 12],
        [4, 12],
      ],
    ] as number[][][]) {
      // Far from each other: differences straddle no kink of min and max.
      const x = tensor(
        device,
        uniform(core.numelOf(a), 5).map((v) => Math.round(8 * v) / 4),
        { shape: a },
      );
      const y = tensor(
        device,
        uniform(core.numelOf(b), 6).map((v) => Math.round(4 * v) / 4 + 1.625),
        { shape: b },
      );
      const out = op(x, y);
      const [xs, ys] = [await x.data(), await y.data()];
      const expected: number[] = [];
      const shape = core.broadcastShapes('test', a, b);
      const index = (of: readonly number[], at: readonly number[]): number =>
        of.reduce((i, size, d) => i * size + (size === 1 ? 0 : at[d + shape.length - of.length]), 0);
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
  const x = tensor(
    device,
    Float32Array.from({ length: 60 }, (_, i) => i),
    { shape: [3, 4, 5] },
  );
  const out = scope(() => x.permute(2, 0, 1).slice(0, 1).flip(1).add(0.5));
  const expected: number[] = [];
  for (let c = 1; c < 5; c++)
    for (let a = 2; a >= 0; a--) for (let b = 0; b < 4; b++) expected.push(a * 20 + b * 5 + c + 0.5);
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
  assertClose(
    await out.data(),
    Array.from(x, (v, i) => (v / (1 + Math.exp(-v))) * y[i] + z[i]),
    1e-6,
  );
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
    return [
      x.lt(y),
      x.eq(y),
      x.isNan(),
      x.isInf(),
      x.isFinite(),
      x.isNan().logicalOr(x.isInf()).logicalNot(),
      core.where(x.gt(0), x, y),
    ];
  });
  const [lt, eq, nan, inf, finite, neither, chosen] = await Promise.all(
    result.map(async (t) => Array.from(await t.data())),
  );
  assert.equal([lt[0], lt[2], lt[3]], [1, 0, 0]);
  assert.equal([eq[0], eq[3]], [0, 1]);
  assert.equal(nan, [0, 1, 0, 0]);
  assert.equal(inf, [0, 0, 1, 0]);
  assert.equal(finite, [1, 0, 0, 1]);
  assert.equal(neither, [1, 0, 0, 1]);
  assert.equal([chosen[0], chosen[2], chosen[3]], [1, Infinity, -3]);
  result.forEach((t) => t.dispose());
});

test('NaN reaches every result, and infinities are what PyTorch makes of them', async ({ device }) => {
  const host = [NaN, Infinity, -Infinity, 1, -1, 0];
  const expected: Record<string, [fn: (x: Tensor) => Tensor, values: number[]]> = {
    'minimum with a number': [(x) => x.minimum(0.5), [NaN, 0.5, -Infinity, 0.5, -1, 0]],
    'maximum with a number': [(x) => x.maximum(0.5), [NaN, Infinity, 0.5, 1, 0.5, 0.5]],
    'minimum with NaN': [(x) => core.minimum(1, x.mul(NaN)), host.map(() => NaN)],
    'minimum of NaN and numbers': [(x) => core.minimum(x.zerosLike(), x), [NaN, 0, -Infinity, 0, -1, 0]],
    'maximum of NaN and numbers': [(x) => core.maximum(x.zerosLike(), x), [NaN, Infinity, 0, 1, 0, 0]],
    clamp: [(x) => x.clamp(-0.5, 0.5), [NaN, 0.5, -0.5, 0.5, -0.5, 0]],
    'clamp between infinities': [(x) => x.clamp(-Infinity, Infinity), host],
    'clamp where the bounds cross': [(x) => x.clamp(2, -2), [NaN, -2, -2, -2, -2, -2]],
    relu: [(x) => x.relu(), [NaN, Infinity, 0, 1, 0, 0]],
    where: [(x) => core.where(x.gt(0), x, 7), [7, Infinity, 7, 1, 7, 7]],
    'where with infinity': [(x) => core.where(x.gt(0), -Infinity, x), [NaN, -Infinity, -Infinity, -Infinity, -1, 0]],
    'times zero': [(x) => x.mul(0), [NaN, NaN, NaN, 0, -0, 0]],
    exp: [(x) => x.exp(), [NaN, Infinity, 0, Math.E, 1 / Math.E, 1]],
    log: [(x) => x.log(), [NaN, Infinity, NaN, 0, NaN, -Infinity]],
    log1p: [(x) => x.log1p(), [NaN, Infinity, NaN, Math.LN2, -Infinity, 0]],
    expm1: [(x) => x.expm1(), [NaN, Infinity, -1, Math.E - 1, 1 / Math.E - 1, 0]],
    sqrt: [(x) => x.sqrt(), [NaN, Infinity, NaN, 1, NaN, 0]],
    rsqrt: [(x) => x.rsqrt(), [NaN, 0, NaN, 1, NaN, Infinity]],
    tanh: [(x) => x.tanh(), [NaN, 1, -1, Math.tanh(1), -Math.tanh(1), 0]],
    sigmoid: [(x) => x.sigmoid(), [NaN, 1, 0, 1 / (1 + 1 / Math.E), 1 / (1 + Math.E), 0.5]],
    softplus: [(x) => x.softplus(), [NaN, Infinity, 0, Math.log1p(Math.E), Math.log1p(1 / Math.E), Math.LN2]],
    erf: [(x) => x.erf(), [NaN, 1, -1, erf(1), -erf(1), 0]],
    abs: [(x) => x.abs(), [NaN, Infinity, Infinity, 1, 1, 0]],
    reciprocal: [(x) => x.reciprocal(), [NaN, 0, -0, 1, -1, Infinity]],
    floor: [(x) => x.floor(), host],
    eq: [(x) => x.eq(x), [0, 1, 1, 1, 1, 1]],
    ne: [(x) => x.ne(x), [1, 0, 0, 0, 0, 0]],
    ge: [(x) => x.ge(0), [0, 1, 0, 1, 0, 1]],
    lt: [(x) => x.lt(0), [0, 0, 1, 0, 1, 0]],
  };
  // Six elements are computed one by one, twelve as vectors.
  for (const values of [host, [...host, ...host]]) {
    const x = tensor(device, values);
    for (const [name, [fn, one]] of Object.entries(expected)) {
      const y = scope(() => fn(x));
      const got = Array.from(await y.data());
      got.forEach((v, i) => {
        const want = one[i % host.length];
        assert.ok(
          Number.isFinite(want) ? Math.abs(v - want) <= 1e-6 : Object.is(v, want),
          `${name} of ${values[i]}: ${v}, expected ${want}`,
        );
      });
      y.dispose();
    }
    x.dispose();
  }
});

test('gradients at kinks are those of PyTorch', async ({ device }) => {
  const x = tensor(device, [-2, -1, 0, 1, 2], { requiresGrad: true });
  const expected: [fn: (x: Tensor) => Tensor, gradient: number[]][] = [
    [(v) => v.clamp(-1, 1), [0, 1, 1, 1, 0]],
    [(v) => v.relu(), [0, 0, 0, 1, 1]],
    [(v) => v.abs(), [-1, -1, 0, 1, 1]],
    [(v) => v.maximum(1), [0, 0, 0, 0.5, 1]],
    [(v) => v.minimum(1), [1, 1, 1, 0.5, 0]],
    [(v) => v.sign(), [0, 0, 0, 0, 0]],
    [(v) => core.where(v.gt(0), v.mul(3), v), [1, 1, 1, 3, 3]],
    [(v) => v.pow(2), [-4, -2, 0, 2, 4]],
    [(v) => v.pow(v.zerosLike()), [0, 0, 0, 0, 0]],
    [(v) => v.pow(v.onesLike().mul(3)), [12, 3, 0, 3, 12]],
  ];
  for (const [fn, gradient] of expected) {
    const [g] = scope(() => grad(fn(x).sum(), [x]));
    assertClose(g ? await g.data() : new Float32Array(5), gradient, 1e-6, String(fn));
    g?.dispose();
  }
  // Bounds that are tensors get what the values that lie outside don't.
  const [lo, hi] = [-1.5, 1.5].map((v) => tensor(device, [v], { requiresGrad: true }));
  const grads = scope(() => grad(core.clamp(x, lo, hi).sum(), [x, lo, hi])) as Tensor[];
  assert.equal(await Promise.all(grads.map(async (g) => Array.from(await g.data()))), [[0, 1, 1, 1, 0], [1], [1]]);
  for (const t of [x, lo, hi, ...grads]) t.dispose();
});

test('pow over its whole domain', async ({ device }) => {
  const bases = [-3, -2.5, -1, -0.5, 0, 0.1, 0.5, 1, 2.5, 10],
    exponents = [-3, -2, -0.5, 0, 0.5, 1, 2, 3, 4.5];
  const [x, y] = [
    tensor(
      device,
      bases.map((v) => [v]),
    ),
    tensor(device, exponents),
  ];
  const z = core.pow(x, y);
  const got = Array.from(await z.data());
  bases.forEach((b, i) =>
    exponents.forEach((e, j) => {
      const v = got[i * exponents.length + j],
        want = b ** e;
      assert.ok(
        Number.isFinite(want) ? Math.abs(v - want) <= 2e-5 * Math.abs(want) : Object.is(v, want),
        `${b} ** ${e}: ${v}, expected ${want}`,
      );
    }),
  );
  const p = tensor(
      device,
      bases.slice(5).map((v) => [v]),
    ),
    q = tensor(device, exponents);
  await gradcheck((u, v) => core.pow(u, v).mul(1e-3), [p, q], { eps: 1e-3, samples: 5 });
  for (const t of [x, y, z, p, q]) t.dispose();
});

test('more tensors than a kernel binds are computed in parts, or refused with their number', async ({ open, own }) => {
  const device = await open({ defaultLimits: true });
  const inputs = Array.from({ length: 8 }, (_, i) => own(tensor(device, uniform(7, i + 1))));
  const sum = core.fuse((...x) => x.reduce((a, b) => a.mul(0.9).add(b.sin())));
  // Seven inputs fit forward; their gradients read eight tensors and write seven.
  await gradcheck(sum, inputs.slice(0, 7), { samples: 2 });
  assert.throws(
    () => sum(...inputs),
    /^\[fuse\] An expression reads 8 tensors and writes one, expected at most 8 in all/,
  );
  const many = core
    .fuse((x, y) => Array.from({ length: 9 }, (_, k) => x.mul(k).add(y)))(inputs[0], inputs[1])
    .map(own);
  const [x, y] = [await inputs[0].data(), await inputs[1].data()];
  for (const [k, t] of many.entries())
    assertClose(
      await t.data(),
      Array.from(x, (v, i) => k * v + y[i]),
      1e-6,
    );
});

test('integers stay integers and mixed types are promoted', async ({ device }) => {
  const result = scope(() => {
    const i = tensor(device, Int32Array.of(7, -7));
    const f = tensor(device, [0.5, 0.5]);
    return [i.add(1), i.mul(f), i.div(2), i.remainder(3), i.gt(0).sum()];
  });
  assert.equal(
    result.map((t) => t.dtype),
    ['i32', 'f32', 'f32', 'i32', 'i32'],
  );
  assert.equal(await Promise.all(result.map(async (t) => Array.from(await t.data()))), [
    [8, -6],
    [3.5, -3.5],
    [3.5, -3.5],
    [1, 2],
    [1],
  ]);
  result.forEach((t) => t.dispose());
});

test('integer arithmetic is exact over the whole range', async ({ device }) => {
  const i = tensor(device, Int32Array.of(16777217, -7, 2 ** 31 - 1, 0)),
    u = tensor(device, Uint32Array.of(16777217, 7, 2 ** 32 - 1, 0)),
    b = tensor(device, [true, false]);
  const cases: [fn: () => Tensor, dtype: DType, values: number[]][] = [
    [() => i.add(16777217), 'i32', [33554434, 16777210, -(2 ** 31) + 16777216, 16777217]],
    [() => i.sub(1), 'i32', [16777216, -8, 2 ** 31 - 2, -1]],
    [() => i.mul(3), 'i32', [50331651, -21, 2147483645, 0]],
    [() => i.remainder(-5), 'i32', [-3, -2, -3, 0]],
    [() => i.neg(), 'i32', [-16777217, 7, -(2 ** 31) + 1, 0]],
    [() => i.abs(), 'i32', [16777217, 7, 2 ** 31 - 1, 0]],
    [() => i.sign(), 'i32', [1, -1, 1, 0]],
    [() => i.clamp(-3, 16777216), 'i32', [16777216, -3, 16777216, 0]],
    [() => i.relu(), 'i32', [16777217, 0, 2 ** 31 - 1, 0]],
    [() => i.floor(), 'i32', [16777217, -7, 2 ** 31 - 1, 0]],
    [() => i.pow(4).slice(0, 1, 2), 'i32', [2401]],
    [() => i.slice(0, 1, 2).pow(tensor(device, Int32Array.of(5))), 'i32', [-16807]],
    [() => i.gt(16777216), 'bool', [1, 0, 1, 0]],
    [() => i.eq(16777217), 'bool', [1, 0, 0, 0]],
    [() => i.minimum(5), 'i32', [5, -7, 5, 0]],
    [() => i.div(7), 'f32', [16777217 / 7, -1, (2 ** 31 - 1) / 7, 0]],
    [() => i.gt(0.5), 'bool', [1, 0, 1, 0]],
    [() => u.add(1), 'u32', [16777218, 8, 0, 1]],
    [() => u.sub(1), 'u32', [16777216, 6, 2 ** 32 - 2, 2 ** 32 - 1]],
    [() => u.remainder(5), 'u32', [2, 2, 0, 0]],
    [() => u.neg().neg(), 'u32', [16777217, 7, 2 ** 32 - 1, 0]],
    [() => u.sign(), 'u32', [1, 1, 1, 0]],
    [() => u.gt(2 ** 31), 'bool', [0, 0, 1, 0]],
    [() => u.maximum(i), 'i32', [16777217, 7, 2 ** 31 - 1, 0]],
    [() => b.add(b), 'i32', [2, 0]],
    [() => b.mul(0.5), 'f32', [0.5, 0]],
    [() => b.add(2), 'i32', [3, 2]],
    [() => b.logicalNot(), 'bool', [0, 1]],
    [() => core.where(b, 3, -4), 'i32', [3, -4]],
    [() => i.cast('bool'), 'bool', [1, 1, 1, 0]],
    [() => b.cast('f32'), 'f32', [1, 0]],
    [() => tensor(device, [-1.9, 1.9, 0.4]).cast('i32'), 'i32', [-1, 1, 0]],
  ];
  for (const [fn, dtype, values] of cases) {
    const y = scope(fn);
    assert.is(y.dtype, dtype, String(fn));
    assert.equal(Array.from(await y.data()), dtype === 'f32' ? values.map(Math.fround) : values, String(fn));
    y.dispose();
  }
  assert.throws(() => i.pow(-1), /to the power of -1 is not whole/);
  for (const t of [i, u, b]) t.dispose();
});

test('a number keeps f16 as it is, and mixed floats give f32', { needs: 'shader-f16' }, async ({ device }) => {
  const result = scope(() => {
    const h = tensor(device, [1, 2], { dtype: 'f16' }),
      f = tensor(device, [0.5, 0.5]),
      i = tensor(device, Int32Array.of(1, 2));
    return [h.add(0.5), h.mul(f), h.mul(i), i.add(h), h.gt(1)];
  });
  assert.equal(
    result.map((t) => t.dtype),
    ['f16', 'f32', 'f16', 'f16', 'bool'],
  );
  result.forEach((t) => t.dispose());
});

test.run();
