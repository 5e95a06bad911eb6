import * as assert from 'uvu/assert';
import { concat, grad, linear, scope, tensor, zeros } from '../../core/index.ts';
import { concatLinear } from '../../kernels/concat-linear/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('concatLinear');

test('is the linear layer of the concatenation, with all gradients', async ({ device }) => {
  for (const [lead, sizes, out] of [
    [[2, 7], [5, 3], 6],
    [[11], [4, 8, 1], 7],
  ] as [number[], number[], number][]) {
    const total = sizes.reduce((a, b) => a + b);
    const rows = lead.reduce((a, b) => a * b);
    const host = sizes.map((size, i) => uniform(rows * size, i + 1));
    const results = scope(() => {
      const leaf = (data: Float32Array, shape: number[]) => tensor(device, data, { shape, requiresGrad: true });
      const parts = host.map((data, i) => leaf(data, [...lead, sizes[i]]));
      const weight = leaf(uniform(out * total, 8), [out, total]),
        bias = leaf(uniform(out, 9), [out]);
      const gradient = tensor(device, uniform(rows * out, 10), { shape: [...lead, out] });
      const leaves = [...parts, weight, bias];
      const y = concatLinear(parts, weight, bias),
        expected = linear(concat(parts, -1), weight, bias);
      return [
        [y, ...grad(y, leaves, { gradient })],
        [expected, ...grad(expected, leaves, { gradient })],
      ];
    });
    for (let i = 0; i < results[0].length; i++)
      assertClose(await results[0][i]!.data(), await results[1][i]!.data(), 2e-6, `${sizes.join()} tensor ${i}`);
    for (const t of results.flat()) t?.dispose();
  }
});

test('takes views, and gives only the gradients that are wanted', async ({ device }) => {
  const y = scope(() => {
    const wide = tensor(device, uniform(2 * 5 * 8), { shape: [2, 5, 8] });
    const weight = tensor(device, uniform(3 * 6, 2), { shape: [3, 6] });
    const a = wide.slice(2, 1, 5),
      b = wide.slice(2, 6).requiresGrad_();
    const out = concatLinear([a, b], weight);
    const [db] = grad(out, [b], { gradient: out.onesLike() });
    return [out, linear(concat([a, b], -1), weight), db!, linear(out.onesLike(), weight.slice(1, 4).T)];
  });
  assertClose(await y[0].data(), await y[1].data(), 2e-6);
  assertClose(await y[2].data(), await y[3].data(), 2e-6);
  for (const t of y) t.dispose();
});

test('wrong shapes are named', ({ device }) => {
  scope(() => {
    const part = zeros(device, [2, 3]);
    assert.throws(
      () => concatLinear([part, part], zeros(device, [4, 5])),
      '[concatLinear] weight has shape (4,5), expected (out, 6), the features of parts (2,3), (2,3) together.',
    );
    assert.throws(
      () => concatLinear([part, zeros(device, [3, 3])], zeros(device, [4, 6])),
      '[concatLinear] Parts have shapes (2,3), (3,3), expected the same sizes except in the last axis.',
    );
  });
});

test.run();
