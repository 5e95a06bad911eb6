// Making tensors, writing and reading them, printing them, and what is said of wrong data.

import { Float16Array } from '@petamoriken/float16';
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import * as core from '../../core/index.ts';
import { grad, noGrad, scope, tensor, type DType, type Tensor } from '../../core/index.ts';
import { format } from '../../core/tensor/print.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('tensor');

test('data of every kind makes a tensor of its type', async ({ device }) => {
  const cases: [
    data: Parameters<typeof tensor>[1],
    options: Parameters<typeof tensor>[2],
    dtype: DType,
    shape: number[],
    values: unknown,
  ][] = [
    [3, {}, 'f32', [], 3],
    [true, {}, 'bool', [], true],
    [[1, 2.5], {}, 'f32', [2], [1, 2.5]],
    [
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      {},
      'f32',
      [3, 2],
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
    ],
    [[[true], [false]], {}, 'bool', [2, 1], [[true], [false]]],
    [[], {}, 'f32', [0], []],
    [[[], []], {}, 'f32', [2, 0], [[], []]],
    [Float32Array.of(1, 2), {}, 'f32', [2], [1, 2]],
    [Float64Array.of(0.1), {}, 'f32', [1], [Math.fround(0.1)]],
    [Int32Array.of(-1, 2), {}, 'i32', [2], [-1, 2]],
    [Uint32Array.of(2 ** 32 - 1), {}, 'u32', [1], [2 ** 32 - 1]],
    [Uint8Array.of(255, 0), {}, 'f32', [2], [255, 0]],
    [Int16Array.of(-5), { dtype: 'i32' }, 'i32', [1], [-5]],
    [Float16Array.of(0.1, -65504), {}, 'f16', [2], [0.0999755859375, -65504]],
    [Float16Array.of(0.1), { dtype: 'f32' }, 'f32', [1], [0.0999755859375]],
    [
      Float32Array.of(0.1, 70000, 1e-8, 2049, 2051),
      { dtype: 'f16' },
      'f16',
      [5],
      [0.0999755859375, Infinity, 0, 2048, 2052],
    ],
    [[1, 0, 2], { dtype: 'bool' }, 'bool', [3], [true, false, true]],
    [
      Float32Array.of(1, 2, 3, 4),
      { shape: [2, 2], dtype: 'i32' },
      'i32',
      [2, 2],
      [
        [1, 2],
        [3, 4],
      ],
    ],
    [new Float32Array([9, 1, 2]).subarray(1), {}, 'f32', [2], [1, 2]],
    [[NaN, Infinity], {}, 'f32', [2], [NaN, Infinity]],
  ];
  for (const [data, options, dtype, shape, values] of cases) {
    const t = tensor(device, data, options);
    assert.is(t.dtype, dtype);
    assert.equal(t.shape, shape);
    assert.equal(await t.tolist(), values);
    t.dispose();
  }
});

test('fill, ranges and the identity', async ({ device }) => {
  const result = scope(() => [
    core.zeros(device, [2, 1]),
    core.ones(device, [3], 'i32'),
    core.full(device, [2], -Infinity),
    core.full(device, [2], 7, 'bool'),
    core.arange(device, 4),
    core.arange(device, 2, -3, -2),
    core.arange(device, 0, 1, 0.3),
    core.arange(device, 5, 5),
    core.linspace(device, -1, 1, 5),
    core.linspace(device, 3, 4, 1),
    core.eye(device, 2, 'i32'),
    core.full(device, [2], 2 ** 32 - 1, 'u32'),
    core.zeros(device, [0, 3]),
  ]);
  const expected = [
    [[0], [0]],
    [1, 1, 1],
    [-Infinity, -Infinity],
    [true, true],
    [0, 1, 2, 3],
    [2, 0, -2],
    [0, 0.3, 0.6, 0.9].map(Math.fround),
    [],
    [-1, -0.5, 0, 0.5, 1],
    [3],
    [
      [1, 0],
      [0, 1],
    ],
    [2 ** 32 - 1, 2 ** 32 - 1],
    [],
  ];
  const got = await Promise.all(result.map((t) => t.tolist()));
  got[6] = (got[6] as number[]).map((v) => Math.fround(Math.round(v * 10) / 10));
  assert.equal(got, expected);
  result.forEach((t) => t.dispose());
});

test('what is read back is what was there when it was asked for', async ({ device }) => {
  const t = tensor(device, [1, 2, 3]);
  const [first, second] = [t.data(), t.data()];
  t.write([4, 5, 6]);
  const third = t.data();
  t.write([7, 8, 9]);
  assert.equal(
    (await Promise.all([first, second, third, t.data()])).map((values) => Array.from(values)),
    [
      [1, 2, 3],
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ],
  );
  t.dispose();
});

test('values come back as written, through views, whatever the type and the alignment', async ({ device }) => {
  for (const dtype of ['f32', 'f16', 'i32', 'bool'] as DType[]) {
    if (dtype === 'f16' && !device.has('shader-f16')) continue;
    for (const n of [1, 7, 55, 66]) {
      const host = Float32Array.from({ length: n }, (_, i) => (dtype === 'bool' ? (i % 3 === 0 ? 1 : 0) : i - 3));
      const t = tensor(device, host, { dtype });
      assert.equal(Array.from(await t.data()), [...host]);
      if (n > 5) {
        const [part, every] = [t.slice(0, 1, 4), t.slice(0, 1, n, 3)];
        part.write([1, 0, 1]);
        host.set([1, 0, 1], 1);
        assert.equal(
          Array.from(await t.data()),
          [...host],
          `${dtype} of ${n}: the neighbours of a part that was written`,
        );
        assert.equal(Array.from(await part.data()), [1, 0, 1]);
        every.write(new Float32Array(every.numel).fill(1));
        for (let i = 1; i < n; i += 3) host[i] = 1;
        assert.equal(Array.from(await t.data()), [...host]);
        part.dispose();
        every.dispose();
      }
      t.dispose();
    }
  }
});

test('copy_ casts, broadcasts, writes through views and onto itself', async ({ device }) => {
  const x = tensor(device, [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  scope(() => {
    x.select(1, 1).copy_(tensor(device, Int32Array.of(9)));
    x.slice(1, 2).copy_(x.slice(1, 0, 1));
    x.copy_(x.flip(0));
  });
  assert.equal(await x.tolist(), [
    [4, 9, 4],
    [1, 9, 1],
  ]);
  scope(() => assert.throws(() => x.copy_(core.zeros(device, [4])), /^\[copy_\] /));
  const w = tensor(device, [1, 2, 3], { requiresGrad: true });
  assert.throws(() => w.copy_(x), /not differentiable, expected tensors that need no gradient; use noGrad\(\)/);
  scope(() => assert.throws(() => x.copy_(w), /not differentiable/));
  noGrad(() => x.copy_(w));
  assert.equal(await x.tolist(), [
    [1, 2, 3],
    [1, 2, 3],
  ]);
  // A value that the backward pass needs may not be overwritten in the meantime, by a kernel neither.
  const y = scope(() => w.mul(x).sum());
  scope(() => x.copy_(tensor(device, 1)));
  assert.throws(() => grad(y, [w]), /was overwritten since; write to a copy instead/);
  for (const t of [x, y, w]) t.dispose();
});

test("text is NumPy's", () => {
  // str(array) of NumPy 2.4; `arange` counts from 0.
  const cases = JSON.parse(readFileSync(new URL('../fixtures/core/print.json', import.meta.url), 'utf8')) as {
    dtype: DType;
    shape: number[];
    data: (number | string)[] | 'arange';
    text: string;
  }[];
  for (const { dtype, shape, data, text } of cases) {
    const special: Record<string, number> = { nan: NaN, inf: Infinity, '-inf': -Infinity };
    const values =
      data === 'arange'
        ? Array.from({ length: core.numelOf(shape) }, (_, i) => i)
        : data.map((v) => (typeof v === 'string' ? special[v] : v));
    assert.is(format(values, shape, dtype), text);
  }
});

test('a tensor prints its values when asked, and its kind at once', async ({ device }) => {
  const x = tensor(
    device,
    [
      [1, 2.5],
      [-3, 4],
    ],
    { requiresGrad: true },
  );
  assert.is(await x.toText(), '[[ 1.   2.5]\n [-3.   4. ]]');
  assert.is(String(x), 'Tensor(f32, (2,2), requiresGrad)');
  x.dispose();
  assert.is(String(x), 'Tensor(f32, (2,2), disposed)');
});

test('wrong data, shapes and types are told with the offending value', ({ device }) => {
  const bad = (data: unknown, pattern: RegExp, options: object = {}): void =>
    assert.throws(
      () => tensor(device, data as number, options),
      (e: Error) => e instanceof core.EngineError && pattern.test(e.message),
    );
  bad([[1, 2], [3]], /^\[tensor\] Nested arrays have 1 items where the first has 2, in dimension 1/);
  bad([[1], 2], /have no items where the first has 1/);
  bad([1, [2]], /deeper in one place than in another, expected 1 levels/);
  bad('12', /^\[tensor\] 12 is no number/);
  bad([1, null], /null is no number/);
  bad(undefined, /undefined is no number/);
  bad(new BigInt64Array(2), /The data is a BigInt64Array, expected numbers/);
  bad([1, 2, 3], /^\[tensor\] 3 values given for shape \(2,2\), expected 4/, { shape: [2, 2] });
  bad([1], /Shape \(-1,\) has a size of -1/, { shape: [-1] });
  bad([1], /^\[tensor\] A i32 tensor has no gradient/, { dtype: 'i32', requiresGrad: true });
  assert.throws(() => core.zeros(device, [2.5]), /^\[empty\] Shape \(2.5,\) has a size of 2.5/);
  assert.throws(() => core.arange(device, 0, 5, 0), /^\[arange\] From 0 to 5 by 0/);
  assert.throws(() => core.arange(device, 0, Infinity), /expected finite numbers/);
  scope(() => {
    const x = core.zeros(device, [2, 3]);
    const wrong: [fn: () => unknown, pattern: RegExp][] = [
      [() => x.reshape(4, -1), /^\[reshape\] Shape \(4,-1\) doesn't hold 6 elements/],
      [() => x.permute(0, 0), /^\[permute\] Axes \[0,0\] are no permutation/],
      [() => x.expand(4, 3), /^\[expand\] /],
      [() => x.add(core.zeros(device, [4])), /^\[add\] Shapes \(2,3\) and \(4,\) cannot be broadcast/],
      [() => x.slice(0, 0, 1, 0), /^\[slice\] The step is 0/],
      [() => x.slice(0, 0.5), /^\[slice\] The bounds are 0.5 and Infinity/],
      [() => x.select(1, 3), /^\[select\] Axis 3 is out of range/],
      [() => x.split(0), /^\[split\] Sizes 0, expected whole numbers from 1/],
      [() => x.split([1, 3]), /add up to 4, expected 2/],
      [() => x.chunk(0), /^\[chunk\] 0 parts/],
      [() => x.flip(2), /^\[flip\] Axis 2/],
      [() => x.pad([[1, 1]]), /^\[pad\] Widths/],
      [() => core.concat([]), /^\[concat\] No tensors/],
      [() => core.concat([x, core.zeros(device, [2, 2])]), /^\[concat\] Shapes \(2,3\), \(2,2\) differ/],
      [() => core.concat([x, core.zeros(device, [2, 3], 'i32')]), /^\[concat\] Types f32, i32 differ; cast/],
      [() => core.stack([]), /^\[stack\] No tensors/],
      [() => core.stack([x, x.T]), /^\[stack\] Shapes \(2,3\), \(3,2\) differ/],
      [() => x.gather(0, core.zeros(device, [1, 3])), /^\[gather\] The index is f32, expected i32 or u32/],
      [() => x.gather(0, core.zeros(device, [3], 'i32')), /^\[gather\] The index has shape \(3,\)/],
      [
        () => x.indexSelect(0, core.zeros(device, [1, 1], 'i32')),
        /^\[indexSelect\] The index has shape \(1,1\), expected one dimension/,
      ],
      [
        () => core.zeros(device, [0, 3]).indexSelect(0, core.zeros(device, [1], 'i32')),
        /is empty, there is nothing to index/,
      ],
      [
        () => x.scatterAdd(0, core.zeros(device, [1, 3], 'i32'), core.zeros(device, [1, 2])),
        /^\[scatterAdd\] The source has shape \(1,2\)/,
      ],
      [() => core.oneHot(x, 3), /^\[oneHot\] The index is f32/],
      [() => x.matmul(x), /^\[matmul\] a has shape \(2,3\) and b \(2,3\), expected the last dimension of a/],
      [() => x.matmul(core.zeros(device, [3, 2], 'i32')), /^\[matmul\] Types f32 and i32/],
      [() => x.matmul(tensor(device, 1)), /^\[matmul\] A scalar has no rows/],
      [
        () => core.linear(x, core.zeros(device, [4, 3]), core.zeros(device, [3])),
        /^\[linear\] The bias has shape \(3,\), expected \(4,\)/,
      ],
      [() => x.write([1]), /^\[write\] 1 values given for a tensor of shape \(2,3\), expected 6/],
      [() => x.setData(core.zeros(device, [3, 2])), /^\[setData\] A f32 tensor of shape \(3,2\)/],
      [() => x.exp().requiresGrad_().exp().requiresGrad_(false), /^\[requiresGrad\] Only a leaf can change it/],
      [() => x.squeeze(2), /^\[squeeze\] Axis 2/],
      [() => core.add(1, 2), /^\[add\] No operand is a tensor, expected at least one/],
      [
        () => {
          x.grad = core.zeros(device, [3]);
        },
        /^\[grad\] A gradient of shape \(3,\) doesn't fit/,
      ],
    ];
    for (const [fn, pattern] of wrong)
      assert.throws(fn, (e: Error) => e instanceof core.EngineError && pattern.test(e.message), String(fn));
  });
});

test('item wants one element', async ({ device }) => {
  const x = core.zeros(device, [2]),
    y = tensor(device, [[5]]);
  assert.is(await y.item(), 5);
  try {
    await x.item();
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /^\[item\] A tensor of shape \(2,\) has 2 elements, expected one/);
  }
  x.dispose();
  y.dispose();
});

test('using disposes at the end of the block, scopes free what they do not return, keep takes out', ({ device }) => {
  const before = device.memory();
  {
    using x = tensor(device, uniform(66));
    assert.is(x.disposed, false);
  }
  assert.is(device.memory().liveBytes, before.liveBytes);
  let kept: Tensor | undefined, lost: Tensor | undefined;
  const result = scope(() => {
    const x = tensor(device, [1]);
    kept = core.keep(x.add(1));
    lost = x.add(2);
    return { list: [x.add(3)], map: new Map([['x', x.add(4)]]) };
  });
  assert.equal(
    [kept!.disposed, lost!.disposed, result.list[0].disposed, result.map.get('x')!.disposed],
    [false, true, false, false],
  );
  assert.throws(
    () => lost!.add(1),
    /A f32 tensor of shape \(1,\) was used after it was disposed of; return it from its scope\(\), or keep\(\) it/,
  );
  assert.throws(
    () =>
      scope(async () => {
        await Promise.resolve();
      }),
    /expected a synchronous function/,
  );
  assert.throws(
    () =>
      scope(() => {
        tensor(device, [1]);
        throw new Error('in the middle');
      }),
    /in the middle/,
  );
  for (const t of [kept!, result.list[0], result.map.get('x')!]) t.dispose();
  const after = device.memory();
  assert.equal([after.liveTensors, after.liveBytes], [before.liveTensors, before.liveBytes]);
  assert.ok(after.peakBytes >= after.liveBytes && after.pooledBytes > 0);
  device.trim();
  assert.is(device.memory().pooledBytes, 0);
});

test('an operation outside of any scope leaves nothing but its result', ({ device }) => {
  const x = tensor(device, uniform(12), { shape: [3, 4] }),
    v = tensor(device, uniform(4)),
    at = tensor(device, Int32Array.of(2, 0)),
    pairs = tensor(device, Int32Array.of(0, 1, 1, 0), { shape: [2, 2] });
  const image = tensor(device, uniform(2 * 4 * 6 * 6), { shape: [2, 4, 6, 6] }),
    weight = tensor(device, uniform(4 * 4 * 9), { shape: [4, 4, 3, 3] }),
    line = tensor(device, uniform(2 * 4 * 6), { shape: [2, 4, 6] }),
    taps = tensor(device, uniform(4 * 4 * 3), { shape: [4, 4, 3] });
  const single: Record<string, () => Tensor> = {
    mean: () => x.mean(1),
    var: () => x.var(0),
    max: () => x.max(),
    argmax: () => x.argmax(1),
    'argmin of all': () => x.argmin(),
    softmax: () => x.softmax(1),
    logSoftmax: () => x.logSoftmax(0),
    cumsum: () => x.cumsum(1),
    linear: () => core.linear(x, x, null),
    'vector products': () => v.matmul(v),
    'matrix times vector': () => x.matmul(v),
    einsum: () => core.einsum('ij,j->i', x, v),
    'einsum of one': () => core.einsum('ij->ji', x),
    select: () => x.select(0, 1),
    stack: () => core.stack([v, v], 1),
    concat: () => core.concat([x, x], 1),
    pad: () =>
      x.pad([
        [1, 1],
        [0, 0],
      ]),
    flatten: () => x.flatten(),
    squeeze: () => x.squeeze(),
    T: () => x.T,
    unsqueeze: () => x.unsqueeze(0),
    gather: () => x.gather(0, pairs),
    'gather of a part': () => x.gather(1, pairs),
    scatterAdd: () => x.scatterAdd(0, pairs, x),
    indexSelect: () => x.indexSelect(0, at),
    oneHot: () => core.oneHot(at, 3),
    conv2d: () => core.conv2d(image, weight, v, { padding: 1 }),
    conv1d: () => core.conv1d(line, taps, v),
    maxPool2d: () => core.maxPool2d(image, 2, { padding: 1 }),
    avgPool2d: () => core.avgPool2d(image, 3),
    unfold: () => core.unfold(image, 3),
    'clamp between tensors': () => core.clamp(x, v, v),
    where: () => core.where(x, x, 0),
    pow: () => x.pow(2),
    linspace: () => core.linspace(device, 0, 1, 5),
    eye: () => core.eye(device, 3),
    arange: () => core.arange(device, 3),
    clone: () => x.clone(),
  };
  const leaky: string[] = [];
  for (const [name, fn] of Object.entries(single)) {
    const before = device.liveTensors;
    const result = fn();
    if (device.liveTensors - before !== 1) leaky.push(`${name}: ${device.liveTensors - before}`);
    result.dispose();
  }
  assert.equal(leaky, []);
  for (const t of [x, v, at, pairs, image, weight, line, taps]) t.dispose();
});

test.run();
