import * as assert from 'uvu/assert';
import { gradcheck, grad, numelOf, scope, tensor, zeros, type Tensor } from '../../core/index.ts';
import { groupNorm } from '../../kernels/index.ts';
import { assertClose, gpuSuite, hasFeature, uniform } from '../support.ts';

const test = gpuSuite('group norm');

/** From the definition, in float64. */
function reference(
  x: ArrayLike<number>,
  shape: readonly number[],
  groups: number,
  [weight, bias]: readonly [ArrayLike<number>, ArrayLike<number>],
  eps: number,
  silu: boolean,
): Float64Array {
  const [N, C] = shape,
    plane = numelOf(shape.slice(2)),
    row = (C / groups) * plane;
  const y = new Float64Array(x.length);
  for (let r = 0; r < N * groups; r++) {
    const values = Array.from({ length: row }, (_, i) => x[r * row + i]);
    const mean = values.reduce((a, b) => a + b, 0) / row;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / row;
    values.forEach((v, i) => {
      const c = Math.floor((r * row + i) / plane) % C;
      const z = ((v - mean) / Math.sqrt(variance + eps)) * weight[c] + bias[c];
      y[r * row + i] = silu ? z / (1 + Math.exp(-z)) : z;
    });
  }
  return y;
}

for (const [shape, groups] of [
  [[2, 6, 5, 7], 2],
  [[1, 4, 67, 33], 4],
  [[3, 6], 2],
  [[2, 8, 3, 3], 1],
] as const)
  for (const activation of ['silu', null] as const)
    test(`(${shape.join()}) in ${groups} groups${activation ? ' with SiLU' : ''}`, async ({ device }) => {
      const C = shape[1];
      const host = [uniform(numelOf(shape), 1).map((v) => 3 * v + 2), uniform(C, 2), uniform(C, 3)] as const;
      const [x, weight, bias] = [shape, [C], [C]].map((s, i) => tensor(device, host[i], { shape: s }));
      const run = (x: Tensor, weight: Tensor, bias: Tensor): Tensor =>
        groupNorm({ x, groups, weight, bias, eps: 1e-3, activation });
      const expected = reference(host[0], shape, groups, [host[1], host[2]], 1e-3, activation === 'silu');
      const y = scope(() => run(x, weight, bias));
      assertClose(await y.data(), expected, 3e-6);
      await gradcheck((...t) => run(t[0], t[1], t[2]), [x, weight, bias], { samples: 8 });
      const plain = scope(() => groupNorm({ x, groups, eps: 1e-3, activation }));
      const ones = new Float32Array(C).fill(1),
        none = new Float32Array(C);
      assertClose(
        await plain.data(),
        reference(host[0], shape, groups, [ones, none], 1e-3, activation === 'silu'),
        3e-6,
        'without weight and bias',
      );
      if (hasFeature(device, 'shader-f16')) {
        const [half, g16, g32] = scope(() => {
          const h = x.cast('f16').detach().requiresGrad_();
          const f = h.detach().cast('f32').requiresGrad_();
          const r = tensor(device, uniform(numelOf(shape), 9), { shape });
          const result = run(h, weight, bias);
          return [
            result,
            grad(result.cast('f32').mul(r).sum(), [h])[0]!,
            grad(run(f, weight, bias).mul(r).sum(), [f])[0]!,
          ];
        });
        assert.is(half.dtype, 'f16');
        assertClose(await half.data(), expected, 3e-3, 'f16');
        assertClose(await g16.data(), await g32.data(), 6e-3, 'gradient in f16');
        for (const t of [half, g16, g32]) t.dispose();
      }
      for (const t of [x, weight, bias, y, plain]) t.dispose();
    });

test('what does not fit is told; the form for GPUs compiles', async ({ device, open }) => {
  scope(() => {
    const x = zeros(device, [2, 6, 4]);
    assert.throws(() => groupNorm({ x, groups: 4 }), /groups is 4, expected a divisor of the 6 channels/);
    assert.throws(() => groupNorm({ x, groups: 2, weight: zeros(device, [6]) }), /Only one of weight and bias/);
    assert.throws(
      () => groupNorm({ x, groups: 2, weight: zeros(device, [6]), bias: zeros(device, [5]) }),
      /bias has shape \(5,\), expected \(6,\)/,
    );
    const leaf = x.detach().requiresGrad_();
    assert.throws(
      () => grad(groupNorm({ x: leaf, groups: 2 }).square().sum(), [leaf], { createGraph: true }),
      /groupNorm is a fused kernel with a first derivative only/,
    );
  });
  const plain = await open({ backend: 'null', defaultLimits: true });
  scope(() => {
    const x = zeros(plain, [1, 4, 40, 40]).requiresGrad_();
    groupNorm({ x, groups: 2, activation: 'silu' }).sum().backward();
    x.grad = null;
  });
  await plain.synchronize();
  assert.ok(plain.kernels.compiled > 0);
});

test.run();
