import * as assert from 'uvu/assert';
import {
  conv1d,
  conv2d,
  enableGrad,
  fold,
  grad,
  gradcheck,
  numelOf,
  scope,
  tensor,
  unfold,
  zeros,
  type Tensor,
} from '../../../core/index.ts';
import { conv2dReference, type Conv2dCase } from '../../reference/conv2d.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('conv2d');

const cases: Record<string, Conv2dCase> = {
  'one by one': { x: [2, 3, 4, 5], weight: [5, 3, 1, 1] },
  '3×3 with padding': { x: [2, 3, 7, 5], weight: [4, 3, 3, 3], padding: [1, 1] },
  'strided patches': { x: [3, 2, 6, 8], weight: [5, 2, 2, 2], stride: [2, 2] },
  'everything different in the two directions': {
    x: [2, 4, 9, 11],
    weight: [6, 2, 3, 2],
    stride: [2, 3],
    padding: [2, 1],
    dilation: [2, 4],
    groups: 2,
  },
  depthwise: { x: [1, 5, 6, 7], weight: [5, 1, 3, 3], padding: [1, 1], groups: 5 },
  'windows that skip input': { x: [1, 2, 7, 7], weight: [3, 2, 2, 2], stride: [3, 3] },
};

for (const [name, c] of Object.entries(cases)) {
  test(`${name}: value, derivative and second derivative`, async ({ device }) => {
    const outputs = c.weight[0];
    const host = [uniform(numelOf(c.x), 1), uniform(numelOf(c.weight), 2), uniform(outputs, 3)];
    const inputs = [c.x, c.weight, [outputs]].map((shape, i) => tensor(device, host[i], { shape }));
    const run = (x: Tensor, w: Tensor, b: Tensor): Tensor => conv2d(x, w, b, c);
    const expected = conv2dReference(c, host[0], host[1], host[2]);
    const y = scope(() => run(inputs[0], inputs[1], inputs[2]));
    assert.equal(y.shape, expected.shape);
    assertClose(await y.data(), expected.y, 2e-6, name);
    y.dispose();
    await gradcheck((...t) => run(t[0], t[1], t[2]), inputs, { samples: 8 });
    // The gradient of Σ y² is linear in each input: central differences of it are exact but for rounding.
    const gradient =
      (k: number) =>
      (x: Tensor, w: Tensor): Tensor =>
        enableGrad(() => {
          const leaves = [x, w].map((t) => (t.requiresGrad ? t : t.detach().requiresGrad_()));
          return grad(run(leaves[0], leaves[1], inputs[2]).square().sum(), leaves, { createGraph: true })[k]!;
        });
    for (const k of [0, 1]) await gradcheck(gradient(k), inputs.slice(0, 2), { samples: 4 });
    for (const t of inputs) t.dispose();
  });
}

test('half precision: operands in f16, sums in f32', { needs: 'shader-f16' }, async ({ device }) => {
  const c = cases['everything different in the two directions'];
  const inputs = [c.x, c.weight, [c.weight[0]]].map((shape, i) =>
    tensor(device, uniform(numelOf(shape), i + 1), { shape, dtype: 'f16' }),
  );
  const host = await Promise.all(inputs.map((t) => t.data()));
  const expected = conv2dReference(c, host[0], host[1], host[2]);
  const leaves = inputs.map((t) => t.requiresGrad_());
  const y = scope(() => conv2d(leaves[0], leaves[1], leaves[2], c));
  assert.is(y.dtype, 'f16');
  assertClose(await y.data(), expected.y, 2e-3);
  const whole = scope(() => {
    const f32 = inputs.map((t) => t.detach().cast('f32').requiresGrad_());
    return grad(conv2d(f32[0], f32[1], f32[2], c).sum(), f32) as Tensor[];
  });
  const half = scope(() => grad(y.cast('f32').sum(), leaves) as Tensor[]);
  for (let k = 0; k < 3; k++) assertClose(await half[k].data(), await whole[k].data(), 4e-3, `gradient ${k}`);
  for (const t of [y, ...inputs, ...whole, ...half]) t.dispose();
});

test('an image that is a view is read in place', async ({ device }) => {
  const c: Conv2dCase = { x: [2, 3, 5, 4], weight: [2, 3, 3, 3], padding: [1, 1] };
  const w = tensor(device, uniform(54, 2), { shape: c.weight });
  const [y, plain] = scope(() => {
    const view = tensor(device, uniform(240, 1), { shape: [2, 5, 4, 6] })
      .slice(3, 1, 4)
      .permute(0, 3, 1, 2);
    return [conv2d(view, w, null, c), view.contiguous()];
  });
  assertClose(await y.data(), conv2dReference(c, await plain.data(), uniform(54, 2), null).y, 2e-6);
  for (const t of [w, y, plain]) t.dispose();
});

test('conv1d is the convolution of one row', async ({ device }) => {
  const c: Conv2dCase = {
    x: [2, 4, 1, 13],
    weight: [6, 2, 1, 3],
    stride: [1, 2],
    padding: [0, 2],
    dilation: [1, 3],
    groups: 2,
  };
  const host = [uniform(104, 1), uniform(36, 2), uniform(6, 3)];
  const [x, w, b] = [[2, 4, 13], [6, 2, 3], [6]].map((shape, i) => tensor(device, host[i], { shape }));
  const y = scope(() => conv1d(x, w, b, { stride: 2, padding: 2, dilation: 3, groups: 2 }));
  const expected = conv2dReference(c, host[0], host[1], host[2]);
  assert.equal(y.shape, [2, 6, expected.shape[3]]);
  assertClose(await y.data(), expected.y, 2e-6);
  for (const t of [x, w, b, y]) t.dispose();
});

test('fold adds up what unfold has read', async ({ device }) => {
  const options = { stride: [2, 1], padding: [1, 0], dilation: [1, 2] } as const;
  const [x, unfolded, folded] = scope(() => {
    const image = tensor(device, uniform(2 * 3 * 5 * 6, 1), { shape: [2, 3, 5, 6] });
    const cols = unfold(image, [3, 2], options);
    return [image, cols, fold(cols, [5, 6], [3, 2], options)];
  });
  assert.equal(unfolded.shape, [2, 18, 12]);
  // Each pixel comes back as often as there are windows over it: along a direction that number is that of a row of ones.
  const times = (size: number, k: number, s: number, p: number, d: number): number[] => {
    const count = new Array<number>(size).fill(0);
    for (let i = 0; i * s + d * (k - 1) < size + 2 * p; i++)
      for (let u = 0; u < k; u++) if (count[i * s + u * d - p] !== undefined) count[i * s + u * d - p]++;
    return count;
  };
  const [down, across] = [times(5, 3, 2, 1, 1), times(6, 2, 1, 0, 2)];
  const expected = Array.from(await x.data(), (v, i) => v * down[Math.floor(i / 6) % 5] * across[i % 6]);
  assertClose(await folded.data(), expected, 1e-6);
  for (const t of [x, unfolded, folded]) t.dispose();
});

test('what does not fit is told by its shape', ({ device }) => {
  scope(() => {
    const x = zeros(device, [2, 4, 5, 5]),
      w = zeros(device, [6, 2, 3, 3]);
    assert.throws(
      () => conv2d(x, w),
      '[conv2d] The image has shape (2,4,5,5), expected 2 channels for a weight of shape (6,2,3,3) and 1 groups.',
    );
    assert.throws(() => conv2d(x, w, zeros(device, [5]), { groups: 2 }), /The bias has shape \(5,\), expected \(6,\)/);
    assert.throws(() => conv2d(x, w, null, { groups: 4 }), /expected outputs that 4 groups divide/);
    assert.throws(
      () => conv2d(x, w, null, { groups: 2, dilation: 3 }),
      /window of \(3,3\) with dilation \(3,3\) doesn't fit an image of shape \(2,4,5,5\)/,
    );
    assert.throws(() => conv2d(x, w, null, { stride: 0 }), /stride is \(0,0\), expected whole numbers from 1 on/);
    assert.throws(() => conv2d(x, w.cast('i32')), /The weight is i32, expected the input's f32/);
    assert.throws(() => fold(zeros(device, [1, 8, 3]), 4, 2), /expected \(1,8,9\) for an image of \(4,4\)/);
  });
});

test("every form compiles under WebGPU's default limits, with all features and with none", async ({ open }) => {
  for (const without of [[], ['subgroups', 'shader-f16']]) {
    const plain = await open({ backend: 'null', defaultLimits: true, without });
    for (const dtype of plain.has('shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const)) {
      for (const c of Object.values(cases)) {
        scope(() => {
          const [x, w] = [c.x, c.weight].map((shape) => zeros(plain, shape, dtype).requiresGrad_());
          conv2d(x, w, null, c).sum().backward();
          x.grad = w.grad = null;
        });
      }
    }
    await plain.synchronize();
    assert.ok(plain.kernels.compiled > 0);
  }
});

test.run();
