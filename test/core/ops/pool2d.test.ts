import * as assert from 'uvu/assert';
import {
  adaptiveAvgPool2d,
  avgPool2d,
  enableGrad,
  grad,
  gradcheck,
  interpolate,
  maxPool2d,
  scope,
  tensor,
  zeros,
  type Tensor,
} from '../../../core/index.ts';
import { resizeReference, windowsOf, type PoolCase, type ResizeMode } from '../../reference/pool2d.ts';
import { assertClose, gpuSuite, hasFeature, uniform } from '../../support.ts';

const test = gpuSuite('pooling and resizing');

const planes = { planes: 6, height: 7, width: 5 };
const host = uniform(6 * 7 * 5, 1).map((v) => v - 2);

const pools: Record<string, PoolCase> = {
  'side by side': { kernel: [2, 2], stride: [2, 2] },
  'overlapping, with padding': { kernel: [3, 2], stride: [2, 1], padding: [1, 1] },
  'every place': { kernel: [3, 3], stride: [1, 1], padding: [1, 1] },
  dilated: { kernel: [2, 2], stride: [1, 2], dilation: [3, 2], padding: [1, 0] },
};

/** The gradient of Σ f(x)² as a function: its own derivative is the second one of f. */
const gradientOf =
  (f: (x: Tensor) => Tensor) =>
  (x: Tensor): Tensor =>
    enableGrad(() => {
      const leaf = x.requiresGrad ? x : x.detach().requiresGrad_();
      return grad(f(leaf).square().sum(), [leaf], { createGraph: true })[0]!;
    });

for (const [name, c] of Object.entries(pools)) {
  test(`${name}: the largest value and the mean of each window, with derivatives`, async ({ device }) => {
    const x = tensor(device, host, { shape: [2, 3, 7, 5] });
    const { windows, shape } = windowsOf(host, planes, c);
    const area = c.kernel[0] * c.kernel[1];
    const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0);
    const { kernel, ...options } = c;
    const forms: [string, (x: Tensor) => Tensor, (list: number[]) => number][] = [
      ['max', (t) => maxPool2d(t, kernel, options), (list) => Math.max(...list)],
      ['mean', (t) => avgPool2d(t, kernel, options), (list) => sum(list) / area],
      [
        'mean without padding',
        (t) => avgPool2d(t, kernel, { ...options, countIncludePad: false }),
        (list) => sum(list) / list.length,
      ],
    ];
    for (const [label, run, expected] of forms) {
      const y = scope(() => run(x));
      assert.equal(y.shape, [2, 3, ...shape]);
      assertClose(await y.data(), windows.map(expected), label === 'max' ? 0 : 1e-6, label);
      await gradcheck(run, [x], { samples: 12, eps: 1e-3 });
      await gradcheck(gradientOf(run), [x], { samples: 6, eps: 1e-3 });
      y.dispose();
      if (!hasFeature(device, 'shader-f16')) continue;
      const [half, halfGradient, gradient] = scope(() => {
        const [h, f] = [x.cast('f16'), x.cast('f16').cast('f32')].map((t) => t.detach().requiresGrad_());
        const result = run(h);
        assert.is(result.dtype, 'f16');
        return [result, grad(result.sum(), [h])[0]!, grad(run(f).sum(), [f])[0]!];
      });
      assertClose(await half.data(), windows.map(expected), 1e-3, `${label} f16`);
      assertClose(await halfGradient.data(), await gradient.data(), 1e-3, `${label} gradient f16`);
      for (const t of [half, halfGradient, gradient]) t.dispose();
    }
    x.dispose();
  });
}

test('the first of equal largest values gets the gradient, and a NaN is the largest', async ({ device }) => {
  const x = tensor(device, [1, 3, 3, NaN, 0, 5, 2, 2], { shape: [1, 2, 2, 2] }).requiresGrad_();
  const [y, g] = scope(() => {
    const out = maxPool2d(x, 2);
    return [out, grad(out.sum(), [x])[0]!];
  });
  assert.equal(Array.from(await y.data()), [NaN, 5]);
  assert.equal(Array.from(await g.data()), [0, 0, 0, 1, 0, 1, 0, 0]);
  const equal = tensor(device, [7, 7, 7, 7], { shape: [1, 1, 2, 2] }).requiresGrad_();
  const first = scope(() => grad(maxPool2d(equal, 2).sum(), [equal])[0]!);
  assert.equal(Array.from(await first.data()), [1, 0, 0, 0]);
  // A window that steps over a one-pixel image holds padding alone.
  const skipped = scope(() => maxPool2d(x.slice(2, 0, 1).slice(3, 0, 1), 2, { padding: 1, dilation: 2 }));
  assert.equal(Array.from(await skipped.data()), [-Infinity, -Infinity]);
  for (const t of [x, y, g, equal, first, skipped]) t.dispose();
});

const resizes: [ResizeMode, readonly [number, number]][] = [
  ['nearest', [14, 10]],
  ['nearest', [4, 11]],
  ['bilinear', [14, 10]],
  ['bilinear', [17, 3]],
  ['bilinear', [1, 1]],
  ['corners', [9, 4]],
  ['corners', [1, 12]],
  ['mean', [1, 1]],
  ['mean', [3, 4]],
  ['mean', [9, 5]],
];

for (const [mode, size] of resizes) {
  test(`${mode} to ${size.join('×')}: value and derivatives`, async ({ device }) => {
    const x = tensor(device, host, { shape: [2, 3, 7, 5] });
    const run = (t: Tensor): Tensor => {
      if (mode === 'mean') return adaptiveAvgPool2d(t, size);
      if (mode === 'nearest') return interpolate(t, { size });
      return interpolate(t, { size, mode: 'bilinear', alignCorners: mode === 'corners' });
    };
    const expected = resizeReference(mode, host, planes, size);
    const y = scope(() => run(x));
    assert.equal(y.shape, [2, 3, ...size]);
    assertClose(await y.data(), expected, 1e-6);
    await gradcheck(run, [x], { samples: 12 });
    await gradcheck(gradientOf(run), [x], { samples: 6 });
    if (hasFeature(device, 'shader-f16')) {
      const half = scope(() => run(x.cast('f16')));
      assertClose(await half.data(), expected, 1e-3);
      half.dispose();
    }
    // Every weight of the adjoint, not a sample: ⟨Ax, r⟩ = ⟨x, Aᵀr⟩ entry by entry, with r a unit vector at a time.
    const count = size[0] * size[1];
    const one = tensor(device, host.slice(0, 35), { shape: [1, 1, 7, 5] }).requiresGrad_();
    const rows = scope(() => {
      const basis = tensor(
        device,
        Float32Array.from({ length: count * count }, (_, i) => (i % (count + 1) === 0 ? 1 : 0)),
        { shape: [count, 1, ...size] },
      );
      const many = one.detach().expand(count, 1, 7, 5).contiguous().requiresGrad_();
      return grad(run(many).mul(basis).sum(), [many])[0]!;
    });
    const got = await rows.data();
    for (let pixel = 0; pixel < 35; pixel++) {
      const unit = Float32Array.from({ length: 35 }, (_, i) => (i === pixel ? 1 : 0));
      const column = resizeReference(mode, unit, { planes: 1, height: 7, width: 5 }, size);
      for (let o = 0; o < count; o++)
        assert.ok(Math.abs(got[o * 35 + pixel] - column[o]) < 2e-6, `weight of pixel ${pixel} in result ${o}`);
    }
    for (const t of [x, y, one, rows]) t.dispose();
  });
}

test('sizes come from scale factors, and what is wrong is said', ({ device }) => {
  scope(() => {
    const x = zeros(device, [2, 3, 7, 5]);
    assert.equal(interpolate(x, { scaleFactor: 2 }).shape, [2, 3, 14, 10]);
    assert.equal(interpolate(x, { scaleFactor: [1.5, 0.5], mode: 'bilinear' }).shape, [2, 3, 10, 2]);
    assert.throws(() => interpolate(x, {}), '[interpolate] No size is given, expected one of size and scaleFactor.');
    assert.throws(() => interpolate(x, { size: 3, scaleFactor: 2 }), /size and scaleFactor are given/);
    assert.throws(() => interpolate(x, { scaleFactor: -1 }), /scaleFactor is \(-1,-1\), expected numbers above 0/);
    assert.throws(() => interpolate(x, { size: 4, alignCorners: true }), /alignCorners is true, expected the mode/);
    assert.throws(() => interpolate(x.reshape(42, 5), { size: 4 }), /expected \(N,C,H,W\) with pixels/);
    assert.throws(() => adaptiveAvgPool2d(x, 0), /outputSize is \(0,0\), expected whole numbers from 1 on/);
    assert.throws(() => maxPool2d(x, 2, { padding: 2 }), /padding is \(2,2\), expected at most half of the window/);
    assert.throws(() => avgPool2d(x.cast('i32'), 2), /The type is i32, expected f32 or f16/);
  });
});

test("every form compiles under WebGPU's default limits", async ({ open }) => {
  const plain = await open({ backend: 'null', defaultLimits: true });
  for (const dtype of plain.has('shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const))
    scope(() => {
      const x = zeros(plain, [1, 2, 6, 6], dtype).requiresGrad_();
      const forms = [
        maxPool2d(x, 3, { stride: 2, padding: 1 }),
        avgPool2d(x, 3, { stride: 1, padding: 1, countIncludePad: false }),
        interpolate(x, { scaleFactor: 2 }),
        interpolate(x, { size: 4, mode: 'bilinear' }),
        interpolate(x, { size: 4, mode: 'bilinear', alignCorners: true }),
        adaptiveAvgPool2d(x, 4),
      ];
      for (const y of forms) y.sum().backward();
      x.grad = null;
    });
  await plain.synchronize();
  assert.ok(plain.kernels.compiled > 0);
});

test.run();
