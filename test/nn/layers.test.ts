import * as assert from 'uvu/assert';
import {
  adaptiveAvgPool2d,
  avgPool2d,
  Generator,
  gradcheck,
  interpolate,
  maxPool2d,
  numelOf,
  pad,
  scope,
  tensor,
  type Device,
  type Tensor,
} from '../../core/index.ts';
import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  MaxPool2d,
  Upsample,
  ZeroPad2d,
  Conv1d,
  Conv2d,
  Embedding,
  Flatten,
  GELU,
  Identity,
  Linear,
  Module,
  ReLU,
  Sequential,
  Sigmoid,
  SiLU,
  Softplus,
  Tanh,
  type Layer,
} from '../../nn/index.ts';
import { conv2dReference } from '../reference/conv2d.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';
import { checkGradients, values } from './support.ts';

const test = gpuSuite('layers');

const image = (device: Device, shape: readonly number[], seed = 1): Tensor =>
  tensor(device, uniform(numelOf(shape), seed), { shape });

test('Linear is x Wᵀ + b over the last dimension', async ({ device }) => {
  const g = new Generator(device, 3);
  using layer = new Linear(g, 7, 5),
    bare = new Linear(g, 7, 5, { bias: false });
  const x = image(device, [2, 3, 7]);
  const host = await x.data();
  const { y, shape, parameters } = await values(layer, x);
  assert.equal([...parameters.keys()], ['weight', 'bias']);
  assert.equal(shape, [2, 3, 5]);
  const [w, b] = [...parameters.values()];
  const expected = Array.from(
    { length: 30 },
    (_, i) =>
      b[i % 5] + [...Array(7).keys()].reduce((s, k) => s + host[Math.floor(i / 5) * 7 + k] * w[(i % 5) * 7 + k], 0),
  );
  assertClose(y, expected, 2e-6);
  await checkGradients(layer, x);
  assert.equal([...bare.stateDict().keys()], ['weight']);
  scope(() => assert.throws(() => layer.forward(x.flatten()), '[Linear] x has shape (42,), expected (…, 7).'));
  assert.throws(() => new Linear(g, 0, 5), /inFeatures is 0, expected a whole number from 1 on/);
  x.dispose();
  g.dispose();
});

test("Conv1d and Conv2d take PyTorch's options", async ({ device }) => {
  const g = new Generator(device, 4);
  using two = new Conv2d(g, 4, 6, [3, 2], { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 });
  using one = new Conv1d(g, 4, 6, 3, { stride: 2, padding: 1, bias: false });
  const x2 = image(device, [2, 4, 7, 5]),
    x1 = image(device, [2, 4, 9]);
  const second = await values(two, x2);
  assert.equal(
    Array.from(two.stateDict(), ([name, t]) => [name, t.shape]),
    [
      ['weight', [6, 2, 3, 2]],
      ['bias', [6]],
    ],
  );
  const expected2 = conv2dReference(
    { x: [2, 4, 7, 5], weight: [6, 2, 3, 2], stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 },
    await x2.data(),
    second.parameters.get('weight')!,
    second.parameters.get('bias')!,
  );
  assert.equal(second.shape, expected2.shape);
  assertClose(second.y, expected2.y, 2e-6);
  const first = await values(one, x1);
  const expected1 = conv2dReference(
    { x: [2, 4, 1, 9], weight: [6, 4, 1, 3], stride: [1, 2], padding: [0, 1] },
    await x1.data(),
    first.parameters.get('weight')!,
    null,
  );
  assert.equal(first.shape, [2, 6, 5]);
  assertClose(first.y, expected1.y, 2e-6);
  await checkGradients(two, x2);
  await checkGradients(one, x1);
  assert.throws(
    () => new Conv2d(g, 4, 6, 3, { groups: 3 }),
    /4 input and 6 output channels, expected both divisible by the 3 groups/,
  );
  assert.throws(() => new Conv1d(g, 4, 6, 0), /kernelSize is 0/);
  for (const t of [x1, x2, g]) t.dispose();
});

test('weights in f16 take an input in f32', { needs: 'shader-f16' }, async ({ device }) => {
  const g = new Generator(device, 5);
  using layer = new Linear(g, 6, 4),
    conv = new Conv2d(g, 3, 4, 3);
  const x = image(device, [5, 6]),
    pixels = image(device, [1, 3, 5, 5]);
  const whole = [await values(layer, x), await values(conv, pixels)];
  layer.to('f16');
  conv.to('f16');
  const half = [await values(layer, x), await values(conv, pixels)];
  half.forEach(({ y }, i) => assertClose(y, whole[i].y, 3e-3));
  for (const t of [x, pixels, g]) t.dispose();
});

test('Embedding looks rows up; the padding row is zero and gets no gradient', async ({ device }) => {
  const g = new Generator(device, 6);
  using layer = new Embedding(g, 5, 3),
    padded = new Embedding(g, 5, 3, { paddingIdx: -4 });
  const index = tensor(device, Int32Array.of(4, 0, 1, 1, 3, 4), { shape: [2, 3] });
  const y = scope(() => layer.forward(index));
  assert.equal(y.shape, [2, 3, 3]);
  const table = await layer.weight.data();
  assert.equal(
    Array.from(await y.data()),
    [4, 0, 1, 1, 3, 4].flatMap((row) => Array.from(table.slice(3 * row, 3 * row + 3))),
  );
  const factors = uniform(18, 2);
  for (const [embedding, padding] of [
    [layer, -1],
    [padded, 1],
  ] as const) {
    scope(() =>
      embedding
        .forward(index)
        .mul(tensor(device, factors, { shape: [2, 3, 3] }))
        .sum()
        .backward(),
    );
    const expected = new Float32Array(15);
    [4, 0, 1, 1, 3, 4].forEach((row, i) => {
      if (row !== padding) for (let k = 0; k < 3; k++) expected[3 * row + k] += factors[3 * i + k];
    });
    assertClose(await embedding.weight.grad!.data(), expected, 1e-6);
  }
  assert.equal(Array.from((await padded.weight.data()).slice(3, 6)), [0, 0, 0]);
  assert.throws(() => new Embedding(g, 5, 3, { paddingIdx: 5 }), /paddingIdx is 5, expected -5 to 4/);
  for (const t of [index, y, g]) t.dispose();
});

const activations: [Layer, (x: number) => number][] = [
  [new Identity(), (x) => x],
  [new ReLU(), (x) => Math.max(x, 0)],
  [new Sigmoid(), (x) => 1 / (1 + Math.exp(-x))],
  [new SiLU(), (x) => x / (1 + Math.exp(-x))],
  [new Tanh(), Math.tanh],
  [
    new GELU({ approximate: 'tanh' }),
    (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  ],
  [new Softplus(), (x) => Math.log1p(Math.exp(x))],
  [new Softplus({ beta: 2, threshold: 3 }), (x) => (2 * x > 3 ? x : Math.log1p(Math.exp(2 * x)) / 2)],
  [new Softplus({ beta: -1 }), (x) => -Math.log1p(Math.exp(-x))],
];

test('activations are the functions of their names', async ({ device }) => {
  const host = uniform(33, 7).map((v) => 4 * v);
  const x = tensor(device, host);
  for (const [layer, reference] of activations) {
    assertClose((await values(layer, x)).y, Array.from(host, reference), 1e-6, layer.constructor.name);
    await gradcheck((t) => layer.forward(t), [x], { samples: 5, eps: 1e-3 });
  }
  // Φ(x) from tables, to seven digits.
  const known = tensor(device, [-2, -1, 0, 0.5, 1, 3]);
  assertClose(
    (await values(new GELU(), known)).y,
    [-2 * 0.0227501, -0.1586553, 0, 0.5 * 0.6914625, 0.8413447, 3 * 0.9986501],
    1e-6,
    'GELU',
  );
  assert.throws(() => new Softplus({ beta: 0 }), /beta is 0/);
  x.dispose();
  known.dispose();
});

test('Sequential chains, names its layers by number, and passes the mode on', async ({ device }) => {
  const g = new Generator(device, 8);
  using chain = new Sequential(
    new Conv2d(g, 2, 3, 3),
    new SiLU(),
    new Flatten(),
    new Linear(g, 12, 5, { bias: false }),
  );
  assert.equal([...chain.stateDict().keys()], ['0.weight', '0.bias', '3.weight']);
  assert.is(chain.eval().layers[1].training, false);
  const x = image(device, [2, 2, 4, 4]);
  const { shape, y } = await values(chain, x);
  assert.equal(shape, [2, 5]);
  const byHand = scope(() => chain.layers.reduce((t, layer) => layer.forward(t), x));
  assert.equal(await byHand.data(), y);
  await checkGradients(chain, x, 3);
  const empty = new Sequential();
  assert.is(empty.forward(x), x);
  for (const t of [x, byHand, g]) t.dispose();
});

test('an array of layers is a list whose names are indices', ({ device }) => {
  const g = new Generator(device, 9);
  class Blocks extends Module {
    readonly blocks = [new Linear(g, 2, 2), new Linear(g, 2, 2, { bias: false })];
  }
  using model = new Blocks();
  assert.equal([...model.stateDict().keys()], ['blocks.0.weight', 'blocks.0.bias', 'blocks.1.weight']);
  g.dispose();
});

test('pooling, resizing and padding layers are the operations of their names', async ({ device }) => {
  const x = image(device, [2, 3, 7, 5]);
  const layers: [Layer, (x: Tensor) => Tensor][] = [
    [new MaxPool2d(3, { stride: 2 }), (t) => maxPool2d(t, 3, { stride: 2 })],
    [
      new AvgPool2d(3, { stride: 1, padding: 1, countIncludePad: false }),
      (t) => avgPool2d(t, 3, { stride: 1, padding: 1, countIncludePad: false }),
    ],
    [new AdaptiveAvgPool2d([1, 2]), (t) => adaptiveAvgPool2d(t, [1, 2])],
    [new Upsample({ scaleFactor: 2 }), (t) => interpolate(t, { scaleFactor: 2 })],
    [
      new ZeroPad2d([0, 1, 2, 3]),
      (t) =>
        pad(t, [
          [0, 0],
          [0, 0],
          [2, 3],
          [0, 1],
        ]),
    ],
  ];
  for (const [layer, operation] of layers) {
    const [y, expected] = scope(() => [layer.forward(x), operation(x)]);
    assert.equal(y.shape, expected.shape);
    assert.equal(await y.data(), await expected.data());
    y.dispose();
    expected.dispose();
  }
  assert.throws(() => new ZeroPad2d([0, 1, -1, 0]), /padding is \(0,1,-1,0\), expected four whole numbers/);
  x.dispose();
});

test.run();
