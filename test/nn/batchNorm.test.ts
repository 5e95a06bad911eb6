import * as assert from 'uvu/assert';
import {
  conv2d,
  convTranspose2d,
  enableGrad,
  Generator,
  gradcheck,
  grad,
  numelOf,
  scope,
  tensor,
  zeros,
} from '../../core/index.ts';
import type { Tensor } from '../../core/index.ts';
import { BatchNorm1d, BatchNorm2d, ConvTranspose2d } from '../../nn/index.ts';
import { assertClose, gpuSuite, hasFeature, uniform } from '../support.ts';
import { checkGradients, values } from './support.ts';

const test = gpuSuite('batch normalisation and transposed convolution');

/** Mean, biased variance and normalised values of each channel, in float64. */
function reference(x: ArrayLike<number>, shape: readonly number[], eps: number) {
  const [N, C] = shape,
    places = numelOf(shape.slice(2));
  const mean = new Float64Array(C),
    variance = new Float64Array(C),
    y = new Float64Array(x.length);
  for (let c = 0; c < C; c++) {
    const at = Array.from({ length: N * places }, (_, i) => (Math.floor(i / places) * C + c) * places + (i % places));
    mean[c] = at.reduce((s, i) => s + x[i], 0) / at.length;
    variance[c] = at.reduce((s, i) => s + (x[i] - mean[c]) ** 2, 0) / at.length;
    for (const i of at) y[i] = (x[i] - mean[c]) / Math.sqrt(variance[c] + eps);
  }
  return { mean, variance, y, count: N * places };
}

test('normalises by the batch in training, by running statistics in evaluation', async ({ device }) => {
  for (const [shape, make] of [
    [[5, 3], () => new BatchNorm1d({ device }, 3)],
    [[4, 3, 7], () => new BatchNorm1d({ device }, 3, { momentum: null })],
    [[3, 5, 4, 7], () => new BatchNorm2d({ device }, 5, { eps: 1e-3, momentum: 0.3 })],
  ] as const) {
    using layer = make();
    assert.equal(
      [...layer.stateDict().keys()],
      ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'],
    );
    const C = shape[1];
    const [weight, bias] = [uniform(C, 5), uniform(C, 6)];
    layer.weight!.write(weight);
    layer.bias!.write(bias);
    const channel = (i: number): number => Math.floor(i / numelOf(shape.slice(2))) % C;
    let mean = new Float64Array(C),
      variance = new Float64Array(C).fill(1);
    for (const [k, seed] of [1, 2].entries()) {
      const x = tensor(
        device,
        uniform(numelOf(shape), seed).map((v) => 2 * v + 1),
        { shape },
      );
      const r = reference(await x.data(), shape, layer.eps);
      const { y } = await values(layer, x);
      assertClose(
        y,
        r.y.map((v, i) => v * weight[channel(i)] + bias[channel(i)]),
        3e-6,
        'training',
      );
      const share = layer.momentum ?? 1 / (k + 1);
      mean = mean.map((v, c) => v + share * (r.mean[c] - v));
      variance = variance.map((v, c) => v + share * ((r.variance[c] * r.count) / (r.count - 1) - v));
      assertClose(await layer.running_mean!.data(), mean, 3e-6, 'running mean');
      assertClose(await layer.running_var!.data(), variance, 3e-6, 'running variance');
      assert.is(await layer.num_batches_tracked!.item(), k + 1);
      x.dispose();
    }
    const x = tensor(device, uniform(numelOf(shape), 3), { shape });
    const host = await x.data();
    layer.eval();
    const expected = Array.from(host, (v, i) => {
      const c = channel(i);
      return ((v - mean[c]) / Math.sqrt(variance[c] + layer.eps)) * weight[c] + bias[c];
    });
    assertClose((await values(layer, x)).y, expected, 3e-6, 'evaluation');
    await checkGradients(layer, x);
    if (hasFeature(device, 'shader-f16')) {
      const half = scope(() => layer.forward(x.cast('f16')));
      assert.is(half.dtype, 'f16');
      assertClose(await half.data(), expected, 2e-3, 'half precision');
      half.dispose();
    }
    layer.train();
    await checkGradients(layer, x);
    x.dispose();
  }
});

test('what does not fit is told', ({ device }) => {
  using one = new BatchNorm1d({ device }, 3),
    two = new BatchNorm2d({ device }, 3, { affine: false, trackRunningStats: false });
  assert.equal([...two.stateDict().keys()], []);
  scope(() => {
    assert.throws(() => one.forward(zeros(device, [1, 3])), /one value a channel, expected at least two in training/);
    assert.throws(() => two.forward(zeros(device, [2, 4, 5, 5])), /\[BatchNorm2d\] x has shape \(2,4,5,5\), expected/);
  });
  assert.throws(() => new BatchNorm2d({ device }, 3, { momentum: 2 }), /momentum is 2, expected 0 to 1, or null/);
});

test('ConvTranspose2d is the adjoint of conv2d, with output padding and bias', async ({ device }) => {
  const g = new Generator(device, 4);
  for (const [C, O, kernel, options] of [
    [5, 4, [3, 3], { stride: 2, padding: 1, outputPadding: 1 }],
    [4, 6, [3, 2], { stride: [2, 3], padding: [0, 1], dilation: [2, 1], groups: 2 }],
    [3, 5, [2, 2], { stride: 3, outputPadding: [2, 0] }],
    [16, 16, [4, 4], { stride: 2, padding: 1, groups: 2 }],
  ] as const) {
    using layer = new ConvTranspose2d(g, C, O, kernel, options);
    const x = tensor(device, uniform(2 * C * 20, 1), { shape: [2, C, 4, 5] });
    const { y, shape, parameters } = await values(layer, x);
    assert.equal([...parameters.keys()], ['weight', 'bias']);
    // From the definition, in float64.
    const pair = (v: number | readonly [number, number] | undefined, d: number): readonly [number, number] =>
      v === undefined ? [d, d] : typeof v === 'number' ? [v, v] : v;
    const given = options as { stride?: number; padding?: number; dilation?: number; groups?: number };
    const [s, p, d] = [pair(given.stride, 1), pair(given.padding, 0), pair(given.dilation, 1)];
    const share = layer.weight.shape[1],
      perGroup = C / (given.groups ?? 1);
    const [host, w, b] = [await x.data(), parameters.get('weight')!, parameters.get('bias')!];
    const expected = new Float64Array(y.length).map((_, i) => b[Math.floor(i / (shape[2] * shape[3])) % O]);
    for (let n = 0; n < 2; n++)
      for (let c = 0; c < C; c++)
        for (let i = 0; i < 4; i++)
          for (let j = 0; j < 5; j++)
            for (let o = 0; o < share; o++)
              for (let u = 0; u < kernel[0]; u++)
                for (let v = 0; v < kernel[1]; v++) {
                  const row = i * s[0] + u * d[0] - p[0],
                    column = j * s[1] + v * d[1] - p[1];
                  if (row < 0 || row >= shape[2] || column < 0 || column >= shape[3]) continue;
                  const channel = Math.floor(c / perGroup) * share + o;
                  expected[((n * O + channel) * shape[2] + row) * shape[3] + column] +=
                    w[((c * share + o) * kernel[0] + u) * kernel[1] + v] * host[((n * C + c) * 4 + i) * 5 + j];
                }
    assertClose(y, expected, 3e-6, JSON.stringify(options));
    await checkGradients(layer, x, 4);
    const second = (t: Tensor): Tensor =>
      enableGrad(() => {
        const leaf = t.requiresGrad ? t : t.detach().requiresGrad_();
        return grad(layer.forward(leaf).square().sum(), [leaf], { createGraph: true })[0]!;
      });
    if (C < 16) await gradcheck(second, [x], { samples: 3 });
    if (hasFeature(device, 'shader-f16')) {
      const half = scope(() =>
        convTranspose2d(x.cast('f16'), layer.weight.cast('f16'), layer.bias!.cast('f16'), options),
      );
      assertClose(await half.data(), expected, 3e-3, 'half precision');
      half.dispose();
    }
    x.dispose();
  }
  scope(() => {
    const [x, w] = [zeros(device, [1, 4, 3, 3]), zeros(device, [4, 2, 3, 3])];
    assert.equal(convTranspose2d(x, w, null, { stride: 2, padding: 1, outputPadding: 1 }).shape, [1, 2, 6, 6]);
    assert.equal(conv2d(zeros(device, [1, 2, 6, 6]), w, null, { stride: 2, padding: 1 }).shape, [1, 4, 3, 3]);
    assert.throws(
      () => convTranspose2d(x, w, null, { outputPadding: 1 }),
      /outputPadding is \(1,1\), expected less than/,
    );
    assert.throws(() => convTranspose2d(x, zeros(device, [3, 2, 3, 3])), /expected \(N, 3, H, W\)/);
    assert.throws(() => convTranspose2d(x, w, null, { padding: 4 }), /expected a result with pixels/);
  });
  g.dispose();
});

test.run();
