import * as assert from 'uvu/assert';
import { scope, tensor, zeros, type Device, type Tensor } from '../../core/index.ts';
import { buffer, Module, parameter, readSafetensors, saveStateDict } from '../../nn/index.ts';
import { gpuSuite, hasFeature, uniform } from '../support.ts';

const test = gpuSuite('module');

class Affine extends Module {
  readonly scale: Tensor;
  readonly steps: Tensor;
  readonly cache: Tensor;

  constructor(device: Device, size: number) {
    super();
    this.scale = parameter(tensor(device, uniform(size, size)));
    this.steps = buffer(tensor(device, Int32Array.of(7)));
    this.cache = buffer(zeros(device, [2]), { persistent: false });
  }
}

class Tree extends Module {
  readonly first: Affine;
  readonly blocks: Affine[];
  readonly bias: Tensor;
  readonly tied: Tensor;

  constructor(device: Device) {
    super();
    this.first = new Affine(device, 2);
    this.blocks = [new Affine(device, 3), new Affine(device, 4)];
    this.bias = parameter(zeros(device, [5]));
    this.tied = this.blocks[1].scale;
  }
}

test("names are PyTorch's: own tensors first, then children, each in order", ({ device }) => {
  using tree = scope(() => new Tree(device));
  assert.equal(
    Array.from(tree.namedParameters(), ([name]) => name),
    ['bias', 'tied', 'first.scale', 'blocks.0.scale'],
  );
  assert.equal(
    Array.from(tree.namedBuffers('m'), ([name]) => name),
    ['m.first.steps', 'm.first.cache', 'm.blocks.0.steps', 'm.blocks.0.cache', 'm.blocks.1.steps', 'm.blocks.1.cache'],
  );
  assert.equal(
    [...tree.stateDict().keys()],
    [
      'bias',
      'tied',
      'first.scale',
      'first.steps',
      'blocks.0.scale',
      'blocks.0.steps',
      'blocks.1.scale',
      'blocks.1.steps',
    ],
  );
  assert.is(tree.parameterCount(), 5 + 4 + 2 + 3);
  tree.eval();
  assert.is(tree.blocks[1].training, false);
  assert.is(tree.train().first.training, true);
  assert.is(tree.requiresGrad_(false).parameters().length, 4, 'frozen parameters are parameters');
});

test('a state goes through safetensors and back', async ({ device }) => {
  using one = new Tree(device),
    two = new Tree(device);
  two.loadStateDict(
    new Map([...one.stateDict()].map(([name, t]) => [name, { shape: t.shape, data: new Float32Array(t.numel) }])),
  );
  assert.equal(Array.from(await two.tied.data()), [0, 0, 0, 0]);
  const file = readSafetensors(await saveStateDict(one.stateDict(), { step: '3' }));
  assert.is(file.metadata.get('step'), '3');
  two.loadStateDict(file.tensors);
  for (const [name, t] of one.stateDict()) assert.equal(await two.stateDict().get(name)!.data(), await t.data(), name);
  using three = new Tree(device);
  three.loadStateDict(one.stateDict());
  assert.equal(await three.tied.data(), await one.tied.data());
});

test('a state that does not fit says what is missing, unexpected and of another shape, and writes nothing', async ({
  device,
}) => {
  using tree = new Tree(device);
  const before = await tree.first.scale.data();
  const state = new Map<string, { shape: number[]; data: number[] }>([
    ['first.scale', { shape: [2], data: [8, 9] }],
    ['other', { shape: [1], data: [0] }],
  ]);
  assert.throws(
    () => tree.loadStateDict(state),
    /Names differ; missing: bias, tied, first\.steps, .*; unexpected: other; pass strict: false/,
  );
  assert.equal(await tree.first.scale.data(), before);
  const report = tree.loadStateDict(state, { strict: false });
  assert.equal(report.unexpected, ['other']);
  assert.equal(Array.from(await tree.first.scale.data()), [8, 9]);
  assert.throws(
    () => tree.loadStateDict(new Map([['bias', { shape: [2, 3], data: [] }]]), { strict: false }),
    /Shapes differ: bias \(2,3\) instead of \(5,\)/,
  );
});

test('to() converts and keeps sharing and frozenness; replaceTensors replaces everywhere', async ({ device }) => {
  using tree = new Tree(device);
  tree.bias.requiresGrad_(false);
  const shared = tree.tied;
  const next = scope(() => tensor(device, [1, 2, 3, 4]));
  tree.replaceTensors(new Map([[shared, next]]));
  shared.dispose();
  assert.is(tree.tied, next);
  assert.is(tree.blocks[1].scale, next);
  assert.ok(next.requiresGrad);
  if (!hasFeature(device, 'shader-f16')) return;
  tree.to('f16');
  assert.is(tree.tied, tree.blocks[1].scale);
  assert.is(tree.tied.dtype, 'f16');
  assert.is(tree.first.steps.dtype, 'i32');
  assert.not(tree.bias.requiresGrad);
  assert.equal(Array.from(await tree.tied.data()), [1, 2, 3, 4]);
});

test.run();
