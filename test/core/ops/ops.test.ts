import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { gradcheck, numelOf, scope, tensor, type Tensor } from '../../../core/index.ts';
import { at, build } from '../../reference/array.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('ops');

/** Float64 matrix product of row-major arrays. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, M: number, K: number, N: number): number[] {
  const c = new Array<number>(M * N).fill(0);
  for (let i = 0; i < M; i++)
    for (let k = 0; k < K; k++) for (let j = 0; j < N; j++) c[i * N + j] += a[i * K + k] * b[k * N + j];
  return c;
}

test('matmul at odd sizes, with transposed views', async ({ device }) => {
  for (const [M, K, N] of [
    [1, 1, 1],
    [7, 55, 66],
    [66, 7, 1],
    [1, 258, 55],
    [55, 368, 23],
  ]) {
    const host = [uniform(M * K, 1), uniform(K * N, 2)];
    const expected = product(host[0], host[1], M, K, N);
    for (const [ta, tb] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ]) {
      const out = scope(() => {
        const a = tensor(device, host[0], { shape: [M, K] }),
          b = tensor(device, host[1], { shape: [K, N] });
        return core.matmul(ta ? a.T.contiguous().T : a, tb ? b.T.contiguous().T : b);
      });
      assertClose(await out.data(), expected, 1e-5, `${M}×${K}×${N} ${ta} ${tb}`);
      out.dispose();
    }
  }
});

test('matmul broadcasts batches, takes vectors, and has its gradient', async ({ device }) => {
  for (const [a, b] of [
    [
      [5, 7],
      [7, 3],
    ],
    [
      [2, 5, 7],
      [7, 3],
    ],
    [
      [2, 1, 5, 7],
      [3, 7, 2],
    ],
    [[7], [7, 3]],
    [[5, 7], [7]],
    [[7], [7]],
    [
      [1, 5, 7],
      [4, 7, 3],
    ],
  ]) {
    const x = tensor(device, uniform(numelOf(a), 3), { shape: a }),
      y = tensor(device, uniform(numelOf(b), 4), { shape: b });
    await gradcheck((p, q) => core.matmul(p, q), [x, y], { samples: 6 });
    x.dispose();
    y.dispose();
  }
});

test('a wrong matmul names both shapes', ({ device }) => {
  scope(() =>
    assert.throws(
      () => core.matmul(core.zeros(device, [2, 3]), core.zeros(device, [4, 5])),
      '[matmul] a has shape (2,3) and b (4,5), expected the last dimension of a to be the one before last of b; transpose one of them.',
    ),
  );
});

test('reductions over any axes', async ({ device }) => {
  const shape = [3, 55, 2, 7];
  const host = uniform(numelOf(shape), 7);
  for (const axes of [[0], [1], [3], [0, 1], [1, 2], [0, 3], [1, 3], [0, 1, 2, 3]]) {
    const kept = shape.map((s, i) => (axes.includes(i) ? 1 : s));
    const sums = new Float64Array(numelOf(kept)),
      most = new Float64Array(numelOf(kept)).fill(-Infinity);
    host.forEach((v, i) => {
      let at = 0;
      shape.forEach((size, d) => {
        at = at * kept[d] + (kept[d] === 1 ? 0 : Math.floor(i / numelOf(shape.slice(d + 1))) % size);
      });
      sums[at] += v;
      most[at] = Math.max(most[at], v);
    });
    const [s, m] = scope(() => {
      const x = tensor(device, host, { shape });
      return [x.sum(axes), x.max(axes)];
    });
    assertClose(await s.data(), sums, 2e-6, `sum over ${axes.join()}`);
    assertClose(await m.data(), Float32Array.from(most), 0, `max over ${axes.join()}`);
    s.dispose();
    m.dispose();
  }
});

test('long columns are summed in pieces', async ({ device }) => {
  const host = uniform(2064 * 55, 9);
  const sums = new Float64Array(55);
  host.forEach((v, i) => {
    sums[i % 55] += v;
  });
  const s = scope(() => tensor(device, host, { shape: [2064, 55] }).sum(0));
  assertClose(await s.data(), sums, 2e-6);
  s.dispose();
});

const differentiable: Record<string, [shape: number[], fn: (x: Tensor) => Tensor]> = {
  sum: [[3, 5, 2], (x) => x.sum([0, 2])],
  mean: [[4, 7], (x) => x.mean(1, true).mul(x)],
  var: [[4, 7], (x) => x.var(1)],
  max: [[4, 7], (x) => x.max(1)],
  softmax: [[3, 7], (x) => x.softmax(1)],
  logSoftmax: [[3, 7], (x) => x.logSoftmax(0)],
  cumsum: [[2, 7, 3], (x) => x.cumsum(1)],
  permute: [[2, 3, 5], (x) => x.permute(2, 0, 1).square()],
  reshape: [[2, 3, 5], (x) => x.permute(1, 0, 2).reshape(3, 10).square()],
  slice: [[3, 9], (x) => x.slice(1, 1, 8, 3).square()],
  split: [
    [3, 7],
    (x) => {
      const [a, b] = x.split([3, 4], 1);
      return a.mul(b.slice(1, 0, 3));
    },
  ],
  flip: [[3, 4], (x) => x.flip(1).mul(x)],
  expand: [[3, 1], (x) => x.expand(2, 3, 4).square()],
  pad: [
    [2, 3],
    (x) =>
      x
        .pad(
          [
            [1, 0],
            [2, 1],
          ],
          0.5,
        )
        .square(),
  ],
  concat: [[2, 3], (x) => core.concat([x, x.square()], 1)],
  stack: [[2, 3], (x) => core.stack([x, x.square()], 1)],
  gather: [[4, 3], (x) => x.gather(0, tensor(x.device, Int32Array.of(0, 3, -1, 2, 2, 1), { shape: [2, 3] })).square()],
  indexSelect: [[4, 3], (x) => x.indexSelect(0, tensor(x.device, Int32Array.of(1, 1, 3))).square()],
};

for (const [name, [shape, fn]] of Object.entries(differentiable)) {
  test(`${name}: first and second derivative`, async ({ device }) => {
    const x = tensor(
      device,
      uniform(numelOf(shape), 11).map((v, i) => v + 0.01 * i),
      { shape },
    );
    await gradcheck(fn, [x], { samples: 10, eps: 5e-3 });
    const squared = (v: Tensor): Tensor =>
      core.enableGrad(() => {
        const leaf = v.requiresGrad ? v : v.detach().requiresGrad_();
        return core.grad(fn(leaf).mul(fn(leaf)).sum(), [leaf], { createGraph: true })[0]!;
      });
    if (name !== 'max') await gradcheck(squared, [x], { samples: 6, eps: 5e-3, tolerance: 3e-2 });
    x.dispose();
  });
}

test('einsum contracts, transposes, sums and broadcasts', async ({ device }) => {
  const a = tensor(device, uniform(2 * 3 * 4, 1), { shape: [2, 3, 4] }),
    b = tensor(device, uniform(2 * 4 * 5, 2), { shape: [2, 4, 5] }),
    c = tensor(device, uniform(3, 3));
  const [x, y, z] = await Promise.all([a, b, c].map(async (t) => Array.from(await t.data())));
  const cases: [string, Tensor[], number[], (i: number[]) => number][] = [
    [
      'bij,bjk->bik',
      [a, b],
      [2, 3, 5],
      ([n, i, k]) => [0, 1, 2, 3].reduce((s, j) => s + x[(n * 3 + i) * 4 + j] * y[(n * 4 + j) * 5 + k], 0),
    ],
    ['bij->jb', [a], [4, 2], ([j, n]) => [0, 1, 2].reduce((s, i) => s + x[(n * 3 + i) * 4 + j], 0)],
    [
      'bij,i->b',
      [a, c],
      [2],
      ([n]) => x.slice(n * 12, n * 12 + 12).reduce((s, v, q) => s + v * z[Math.floor(q / 4)], 0),
    ],
    [
      'i,bij,bjk->ki',
      [c, a, b],
      [5, 3],
      ([k, i]) =>
        [0, 1].reduce(
          (s, n) => s + [0, 1, 2, 3].reduce((r, j) => r + z[i] * x[(n * 3 + i) * 4 + j] * y[(n * 4 + j) * 5 + k], 0),
          0,
        ),
    ],
  ];
  for (const [equation, operands, shape, ref] of cases) {
    const out = scope(() => core.einsum(equation, ...operands));
    assert.equal(out.shape, shape);
    const expected = Array.from({ length: numelOf(shape) }, (_, q) =>
      ref(shape.map((size, d) => Math.floor(q / numelOf(shape.slice(d + 1))) % size)),
    );
    assertClose(await out.data(), expected, 2e-6, equation);
    await gradcheck((...t) => core.einsum(equation, ...t), operands, { samples: 4 });
    out.dispose();
  }
  for (const t of [a, b, c]) t.dispose();
});

test('einsum takes diagonals, broadcasts, and leaves leading dimensions open', async ({ device }) => {
  const shapes: Record<string, number[]> = { s: [3, 3], t: [2, 3, 3], a: [2, 1, 4], b: [5, 4, 2], v: [4], o: [1, 4] };
  const x = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], k) => [
      name,
      { shape, data: Array.from(uniform(numelOf(shape), k + 1)) },
    ]),
  );
  const cases: [string, string[], number[], (i: number[]) => number][] = [
    ['ii->', ['s'], [], () => [0, 1, 2].reduce((n, i) => n + at(x.s, [i, i]), 0)],
    ['ii->i', ['s'], [3], ([i]) => at(x.s, [i, i])],
    ['bii', ['t'], [2], ([b]) => [0, 1, 2].reduce((n, i) => n + at(x.t, [b, i, i]), 0)],
    ['...j->...', ['t'], [2, 3], ([b, i]) => [0, 1, 2].reduce((n, j) => n + at(x.t, [b, i, j]), 0)],
    ['...ij->...ji', ['t'], [2, 3, 3], ([b, j, i]) => at(x.t, [b, i, j])],
    [
      'b...d,...dk->b...k',
      ['a', 'b'],
      [2, 5, 2],
      ([b, e, k]) => [0, 1, 2, 3].reduce((n, d) => n + at(x.a, [b, 0, d]) * at(x.b, [e, d, k]), 0),
    ],
    ['id,d->i', ['o', 'v'], [1], () => [0, 1, 2, 3].reduce((n, d) => n + at(x.o, [0, d]) * at(x.v, [d]), 0)],
    ['xd,bxd->b', ['o', 'a'], [2], ([b]) => [0, 1, 2, 3].reduce((n, d) => n + at(x.o, [0, d]) * at(x.a, [b, 0, d]), 0)],
    ['...,...->...', ['v', 'a'], [2, 1, 4], ([b, c, d]) => at(x.v, [d]) * at(x.a, [b, c, d])],
  ];
  for (const [equation, names, shape, ref] of cases) {
    const operands = names.map((name) => tensor(device, x[name].data, { shape: shapes[name] }));
    const out = core.einsum(equation, ...operands);
    assert.equal(out.shape, shape, equation);
    assertClose(await out.data(), build(shape, ref).data, 2e-6, equation);
    await gradcheck((...t) => core.einsum(equation, ...t), operands, { samples: 4 });
    for (const t of [out, ...operands]) t.dispose();
  }
  scope(() => {
    const s = core.zeros(device, [2, 3]);
    const wrong: [string, Tensor[], RegExp][] = [
      ['i1', [s], /can't be read/],
      ['....i', [s], /can't be read/],
      ['ij', [s, s], /has 1 operands, 2 are given/],
      ['i', [s], /Operand 'i' has shape \(2,3\), expected 1 dimensions/],
      ['ij...k->i', [s], /expected 3 dimensions or more/],
      ['ij,ij->k', [s, s], /'k' is in the result and in no operand/],
      ['ij,jk', [s, s], /'j' is 3 in one place and 2 in another/],
      ['ij->ii', [s], /has a letter twice/],
    ];
    for (const [equation, operands, pattern] of wrong) assert.throws(() => core.einsum(equation, ...operands), pattern);
  });
});

test('checkpoint gives the same gradients from less memory, drawing the same numbers twice', async ({ device }) => {
  const g = new core.Generator(device, 4);
  const w = tensor(device, uniform(64, 1), { shape: [8, 8], requiresGrad: true }),
    x = tensor(device, uniform(4096 * 8, 2), { shape: [4096, 8], requiresGrad: true });
  const layer = (v: Tensor): Tensor => {
    let y = v;
    for (let i = 0; i < 4; i++)
      y = y
        .matmul(w)
        .silu()
        .mul(g.bernoulli([4096, 8], 0.9));
    return y;
  };
  const run = async (recompute: boolean): Promise<{ grads: number[][]; bytes: number }> => {
    g.manualSeed(4);
    const before = device.memory().liveBytes;
    const loss = scope(() =>
      (recompute ? core.checkpoint(layer, [x], { parameters: [w], generator: g }) : layer(x)).square().mean(),
    );
    const bytes = device.memory().liveBytes - before;
    const grads = core.grad(loss, [w, x]) as Tensor[];
    const values = await Promise.all(grads.map(async (t) => Array.from(await t.data())));
    assert.is(g.position, 4 * 8192);
    for (const t of [loss, ...grads]) t.dispose();
    return { grads: values, bytes };
  };
  const plain = await run(false),
    saved = await run(true);
  assert.equal(saved.grads, plain.grads);
  assert.ok(saved.bytes < plain.bytes / 3, `${saved.bytes} of ${plain.bytes}`);
  for (const t of [w, x, g]) t.dispose();
});

test('backward hands each leaf its gradient once, complete, and frees it', async ({ device }) => {
  const w = tensor(device, [2, 3], { requiresGrad: true }),
    b = tensor(device, [1, 1], { requiresGrad: true });
  const sums: Tensor[] = [];
  const seen: Tensor[] = [];
  scope(() =>
    core.backward(w.square().add(w.mul(b)).sum(), {
      accumulate: (leaf, g) => {
        seen.push(leaf);
        sums.push(core.keep(g.mul(2)));
      },
    }),
  );
  assert.equal(seen, [b, w]);
  assert.is(w.grad, null);
  assert.equal(await Promise.all(sums.map((t) => t.tolist())), [
    [4, 6],
    [10, 14],
  ]);
  for (const t of [w, b, ...sums]) t.dispose();
});

test('backward accumulates into grad, frees what it saved, and says so', async ({ device }) => {
  const w = tensor(device, [2, 3], { requiresGrad: true });
  scope(() => w.square().sum().backward());
  scope(() => w.square().sum().backward());
  assert.equal(Array.from(await w.grad!.data()), [8, 12]);
  w.grad = null;
  scope(() => {
    const y = w.square().sum();
    y.backward();
    assert.throws(() => y.backward(), /gone after one backward pass; pass retainGraph/);
  });
  w.dispose();
});

test('what is saved for the backward pass survives its scope and is freed with the result', ({ device }) => {
  const w = tensor(device, uniform(4096), { requiresGrad: true });
  const before = device.memory().liveBytes;
  const y = scope(() => w.exp().exp().exp());
  assert.ok(device.memory().liveBytes > before + y.numel * 4, 'the inner values are kept');
  y.dispose();
  assert.is(device.memory().liveBytes, before);
  w.dispose();
});

test('a tensor overwritten after it was saved is noticed', ({ device }) => {
  const w = tensor(device, [1, 2], { requiresGrad: true });
  const x = tensor(device, [1, 2]);
  const y = scope(() => w.mul(x).sum());
  x.write([3, 4]);
  assert.throws(() => y.backward(), /was overwritten since/);
  for (const t of [w, x, y]) t.dispose();
});

test('a disposed tensor and a tensor too large are told by name', ({ device }) => {
  const x = core.zeros(device, [2, 3]);
  x.dispose();
  assert.throws(() => x.add(1), /f32 tensor of shape \(2,3\) was used after it was disposed of/);
  assert.throws(
    () => core.zeros(device, [1 << 20, 1 << 14]),
    /shape \(1048576,16384\) takes \d+ bytes, expected at most/,
  );
});

test.run();
