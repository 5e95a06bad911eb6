// The causal convolution against its definition in float64: lengths around the stretch of an invocation, both directions, columns of
// a wider array, f16, and what it refuses.

import * as assert from 'uvu/assert';
import { DTypeError, grad, scope, ShapeError, tensor, ValueError, zeros } from '../../core/index.ts';
import { causalConv1d } from '../../kernels/causal-conv1d/index.ts';
import { assertClose } from '../golden/support.ts';
import { convReference } from '../reference/causalConv1d.ts';
import { gpuSuite } from '../support.ts';
import { generator, values } from './scanCase.ts';

const test = gpuSuite('causal conv1d');

const CASES = [
  { batch: 1, length: 1, channels: 1, width: 4 },
  { batch: 2, length: 7, channels: 5, width: 3, reverse: true },
  { batch: 1, length: 16, channels: 3, width: 2, silu: false },
  { batch: 2, length: 17, channels: 4, width: 4, bias: false },
  { batch: 2, length: 55, channels: 66, width: 4, reverse: true },
  { batch: 1, length: 258, channels: 2, width: 4 },
  { batch: 3, length: 2, channels: 7, width: 4, reverse: true, silu: false },
  { batch: 5, length: 300, channels: 3, width: 4 },
];

for (const { batch, length, channels, width, silu = true, bias = true, reverse = false } of CASES) {
  for (const dtype of ['f32', 'f16'] as const) {
    const title = `${dtype}, (${batch},${length},${channels}), width ${width}${reverse ? ', reversed' : ''}`;
    test(title, { needs: dtype === 'f16' ? 'shader-f16' : undefined }, async ({ device, own }) => {
      const next = generator(7);
      const rows = batch * length;
      // x is the first half of the columns of a projection.
      const wide = values(rows * 2 * channels, next);
      const weights = values(channels * width, next);
      const offsets = values(channels, next);
      const upstream = values(rows * channels, next);
      const projected = own(tensor(device, wide, { shape: [batch, length, 2 * channels], dtype }));
      const rounded = await projected.data();
      const dout = own(tensor(device, upstream, { shape: [batch, length, channels], dtype }));
      const x = own(own(projected.slice(2, 0, channels)).detach()).requiresGrad_();
      const weight = own(tensor(device, weights, { shape: [channels, width], requiresGrad: true }));
      const shift = bias ? own(tensor(device, offsets, { requiresGrad: true })) : null;
      const expected = convReference(
        {
          batch,
          length,
          channels,
          width,
          silu,
          reverse,
          weight: weights,
          bias: bias ? offsets : undefined,
          x: Float32Array.from(
            { length: rows * channels },
            (_, i) => rounded[Math.floor(i / channels) * 2 * channels + (i % channels)],
          ),
        },
        await dout.data(),
      );
      // f16 keeps 11 bits of what is stored; sums are f32.
      const limit = dtype === 'f16' ? 1e-3 : 5e-6;
      const out = own(
        causalConv1d({
          x,
          weight,
          bias: shift,
          activation: silu ? 'silu' : null,
          direction: reverse ? 'reverse' : 'forward',
        }),
      );
      assertClose(await out.data(), expected.out, limit, 'out');
      const [dx, dweight, dbias] = grad(out, [x, weight, ...(shift ? [shift] : [])], { gradient: dout }).map((g) =>
        own(g!),
      );
      assertClose(await dx.data(), expected.gradients.x, limit, 'gradient of x');
      assertClose(await dweight.data(), expected.gradients.weight, limit, 'gradient of weight');
      if (shift) assertClose(await dbias.data(), expected.gradients.bias, limit, 'gradient of bias');
    });
  }
}

test('refuses what does not fit', ({ device }) =>
  scope(() => {
    const x = zeros(device, [1, 3, 4]);
    assert.throws(
      () => causalConv1d({ x, weight: zeros(device, [5, 4]) }),
      (e: Error) => e instanceof ShapeError && e.message.includes('(5,4)'),
    );
    assert.throws(
      () => causalConv1d({ x, weight: zeros(device, [4, 5]) }),
      (e: Error) => e instanceof ValueError && e.message.includes('width 5'),
    );
    assert.throws(
      () => causalConv1d({ x, weight: zeros(device, [4, 4]), bias: zeros(device, [3]) }),
      (e: Error) => e instanceof ShapeError,
    );
    assert.throws(
      () => causalConv1d({ x: zeros(device, [1, 3, 4], 'i32'), weight: zeros(device, [4, 4]) }),
      (e: Error) => e instanceof DTypeError,
    );
    assert.throws(
      () => causalConv1d({ x: zeros(device, [3, 4]), weight: zeros(device, [4, 4]) }),
      (e: Error) => e instanceof ShapeError,
    );
  }));

test('sums over 40,000 tokens keep their digits', async ({ device, own }) => {
  const [batch, length, channels] = [8, 5000, 3];
  // All of one sign: nothing cancels, and a long chain of additions would lose a digit.
  const x = values(batch * length * channels, generator(3)).map((v) => 1.5 + v);
  const weight = own(zeros(device, [channels, 4]).requiresGrad_());
  const bias = own(zeros(device, [channels]).requiresGrad_());
  const [dweight, dbias] = scope(() => {
    const y = causalConv1d({ x: tensor(device, x, { shape: [batch, length, channels] }), weight, bias });
    return grad(y, [weight, bias], { gradient: y.onesLike() });
  }).map(own);
  const expected = new Float64Array(channels * 4);
  for (let b = 0; b < batch; b++)
    for (let t = 0; t < length; t++)
      for (let d = 0; d < channels; d++)
        for (let w = 0; w < 4; w++)
          if (t - 3 + w >= 0) expected[d * 4 + w] += x[(b * length + t - 3 + w) * channels + d];
  assertClose(await dweight.data(), expected, 5e-7, 'd weight');
  assertClose(
    await dbias.data(),
    [0, 1, 2].map(() => batch * length),
    5e-7,
    'd bias',
  );
});

test.run();
