import * as assert from 'uvu/assert';
import { numelOf, scope, tensor, type Tensor } from '../../core/index.ts';
import { GroupNorm, LayerNorm, RMSNorm, type Layer, type Module } from '../../nn/index.ts';
import { addNormReference } from '../reference/norm.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';
import { checkGradients, values } from './support.ts';

const test = gpuSuite('norms');

/** Parameters other than the initial ones and zeros. */
function perturb(module: Module): void {
  module.parameters().forEach((p, i) => p.write(uniform(p.numel, i + 5).map((v) => v + 0.5)));
}

test('RMSNorm and LayerNorm are over the last dimensions', async ({ device }) => {
  for (const [shape, row] of [
    [[3, 5, 7], 7],
    [
      [3, 5, 7],
      [5, 7],
    ],
    [[2, 130], [130]],
  ] as const) {
    const x = tensor(device, uniform(numelOf(shape), 1), { shape });
    const rowShape = typeof row === 'number' ? [row] : row;
    const width = numelOf(rowShape);
    for (const [norm, layer, eps] of [
      ['rms', new RMSNorm({ device }, row, { eps: 0.1 }), 0.1],
      ['layer', new LayerNorm({ device }, row), 1e-5],
    ] as const) {
      for (const p of layer.parameters()) assert.equal(p.shape, rowShape);
      perturb(layer);
      const { y, shape: out, parameters } = await values(layer, x);
      assert.equal(out, [...shape]);
      const expected = addNormReference({
        norm,
        rows: x.numel / width,
        width,
        eps,
        x: (await x.data()) as Float32Array,
        weight: parameters.get('weight'),
        bias: parameters.get('bias'),
      });
      assertClose(y, expected.y, 3e-6, norm);
      if (width < 10) await checkGradients(layer, x);
      layer.dispose();
    }
    x.dispose();
  }
});

test("initial values, names and options are PyTorch's", async ({ device }) => {
  const on = { device };
  const names = (module: Module): string[] => [...module.stateDict().keys()];
  using rms = new RMSNorm(on, 6),
    layer = new LayerNorm(on, 6),
    group = new GroupNorm(on, 2, 6);
  using unbiased = new LayerNorm(on, 6, { bias: false }),
    plain = new LayerNorm(on, 6, { elementwiseAffine: false }),
    bare = new GroupNorm(on, 3, 6, { affine: false });
  assert.equal([rms, layer, group, unbiased, plain, bare].map(names), [
    ['weight'],
    ['weight', 'bias'],
    ['weight', 'bias'],
    ['weight'],
    [],
    [],
  ]);
  assert.equal(Array.from(await layer.weight!.data()), [1, 1, 1, 1, 1, 1]);
  assert.equal(Array.from(await layer.bias!.data()), [0, 0, 0, 0, 0, 0]);
  assert.is(layer.eps, 1e-5);
  // The machine epsilon is what keeps tiny values from being blown up entirely.
  const tiny = tensor(device, [[3e-4, -3e-4, 3e-4, -3e-4, 3e-4, -3e-4]]);
  const expected = 3e-4 / Math.sqrt(9e-8 + 2 ** -23);
  assertClose(
    (await values(rms, tiny)).y,
    [1, -1, 1, -1, 1, -1].map((s) => s * expected),
    1e-6,
  );
  tiny.dispose();
});

test('GroupNorm is over the channels of a group and all places', async ({ device }) => {
  for (const [groups, channels, places] of [
    [2, 6, [5, 3]],
    [1, 4, [9]],
    [5, 5, []],
  ] as const) {
    using layer: GroupNorm = new GroupNorm({ device }, groups, channels, { eps: 1e-3 });
    perturb(layer);
    const shape = [3, channels, ...places];
    const x = tensor(device, uniform(numelOf(shape), 2), { shape });
    const { y, parameters } = await values(layer, x);
    const rows = 3 * groups,
      width = x.numel / rows,
      inner = numelOf(places);
    const plain = addNormReference({ norm: 'layer', rows, width, eps: 1e-3, x: (await x.data()) as Float32Array }).y;
    const channel = (i: number): number => Math.floor(i / inner) % channels;
    assertClose(
      y,
      plain.map((v, i) => v * parameters.get('weight')![channel(i)] + parameters.get('bias')![channel(i)]),
      3e-6,
      `${groups} groups`,
    );
    if (groups < 5) await checkGradients(layer, x);
    x.dispose();
  }
});

test('half precision keeps its type', { needs: 'shader-f16' }, async ({ device }) => {
  const x = tensor(device, uniform(2 * 4 * 3, 3), { shape: [2, 4, 3] }),
    half = scope(() => x.cast('f16'));
  const on = { device };
  for (const layer of [new LayerNorm(on, 3), new RMSNorm(on, 3, { eps: 1e-5 }), new GroupNorm(on, 2, 4)] as (Layer &
    Module)[]) {
    const y: Tensor = scope(() => layer.forward(half));
    assert.is(y.dtype, 'f16');
    assertClose(await y.data(), (await values(layer, x)).y, 4e-3);
    y.dispose();
    layer.dispose();
  }
  x.dispose();
  half.dispose();
});

test('what does not fit is told by its shape', ({ device }) => {
  const on = { device };
  using layer = new LayerNorm(on, [4, 3]),
    group = new GroupNorm(on, 2, 4);
  scope(() => {
    const x = tensor(device, uniform(24), { shape: [2, 3, 4] });
    assert.throws(() => layer.forward(x), '[LayerNorm] x has shape (2,3,4), expected (…, 4, 3).');
    assert.throws(() => group.forward(x), '[GroupNorm] x has shape (2,3,4), expected (N, 4, …).');
    assert.throws(() => new GroupNorm(on, 3, 4), /4 channels, expected a multiple of the 3 groups/);
    assert.throws(() => new RMSNorm(on, []), /number of normalized dimensions is 0/);
  });
});

test.run();
