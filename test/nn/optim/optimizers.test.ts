import * as assert from 'uvu/assert';
import { capture, noGrad, scope, tensor, type Device, type Tensor } from '../../../core/index.ts';
import {
  Adam,
  AdamW,
  clipGradNorm,
  Module,
  parameter,
  readSafetensors,
  saveStateDict,
  SGD,
  type AdamOptions,
  type Optimizer,
  type SGDOptions,
} from '../../../nn/index.ts';
import { adamReference, learned, sgdReference, type Learned } from '../../reference/optimizers.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('optimizers');

/** A matrix and a scalar. */
class Pair extends Module {
  readonly first: Tensor;
  readonly second: Tensor;

  constructor(device: Device) {
    super();
    this.first = parameter(tensor(device, uniform(15, 1), { shape: [3, 5] }));
    this.second = parameter(tensor(device, uniform(1, 2), { shape: [] }));
  }
}

/** Gradients of all sizes, a zero among them. */
function gradientOf(p: { readonly length: number }, step: number): Float32Array {
  return uniform(p.length, 17 * step + p.length).map((v, i) => (i === 3 ? 0 : v * 10 ** ((i % 4) - 2)));
}

function give(p: Tensor, values: Float32Array): void {
  p.grad = tensor(p.device, values, { shape: p.shape });
}

/** Six steps; the second parameter gets no gradient in the first two, and the learning rate changes once. */
async function compare(
  device: Device,
  name: string,
  make: (model: Module) => Optimizer,
  slots: readonly string[],
  reference: (p: Learned, g: ArrayLike<number>, lr: number) => void,
): Promise<void> {
  using model = new Pair(device);
  using optimizer = make(model);
  const expected = [learned(await model.first.data(), slots), learned(await model.second.data(), slots)];
  for (let step = 1; step <= 6; step++) {
    if (step === 4) optimizer.lr = 0.03;
    [model.first, model.second].forEach((p, i) => {
      if (i === 1 && step <= 2) return;
      const gradient = gradientOf(expected[i].values, step);
      give(p, gradient);
      reference(expected[i], gradient, optimizer.lr);
    });
    optimizer.step();
    optimizer.zeroGrad();
    assert.is(model.first.grad, null);
    assertClose(await model.first.data(), expected[0].values, 1e-6, `${name}, step ${step}`);
    assertClose(await model.second.data(), expected[1].values, 1e-6, `${name}, step ${step}, second`);
  }
  const state = optimizer.stateDict();
  assert.equal([...state.keys()], ['lr', 'step', ...slots.flatMap((slot) => [`${slot}.0`, `${slot}.1`])]);
  assert.equal(Array.from(await state.get('step')!.data()), [6, 4]);
  for (const slot of slots) assertClose(await state.get(`${slot}.0`)!.data(), expected[0].slots[slot], 2e-6, slot);
}

const sgd: Record<string, SGDOptions> = {
  plain: { lr: 0.1 },
  'weight decay': { lr: 0.1, weightDecay: 0.2 },
  momentum: { lr: 0.1, momentum: 0.9 },
  dampening: { lr: 0.1, momentum: 0.9, dampening: 0.4, weightDecay: 0.1 },
  nesterov: { lr: 0.1, momentum: 0.8, nesterov: true, weightDecay: 0.1 },
};
for (const [name, options] of Object.entries(sgd)) {
  test(`SGD, ${name}`, ({ device }) =>
    compare(
      device,
      name,
      (model) => new SGD(model, options),
      options.momentum ? ['momentum_buffer'] : [],
      (p, g, lr) => sgdReference(p, g, { ...options, lr }),
    ));
}

const adam: Record<string, AdamOptions> = {
  defaults: {},
  'penalty and other rates': { lr: 0.02, betas: [0.7, 0.95], eps: 1e-3, weightDecay: 0.3 },
  amsgrad: { lr: 0.05, betas: [0.5, 0.5], amsgrad: true },
  'no momentum': { lr: 0.01, betas: [0, 0.9] },
};
for (const [name, options] of Object.entries(adam)) {
  const slots = ['exp_avg', 'exp_avg_sq', ...(options.amsgrad ? ['max_exp_avg_sq'] : [])];
  test(`Adam, ${name}`, ({ device }) =>
    compare(
      device,
      name,
      (model) => new Adam(model, options),
      slots,
      (p, g, lr) => adamReference(p, g, { ...options, lr }),
    ));
  test(`AdamW, ${name}`, ({ device }) =>
    compare(
      device,
      name,
      (model) => new AdamW(model, options),
      slots,
      (p, g, lr) => adamReference(p, g, { weightDecay: 0.01, ...options, lr, decoupled: true }),
    ));
}

test('a state goes through safetensors, and the run goes on bit for bit', async ({ device }) => {
  using model = new Pair(device),
    other = new Pair(device);
  using optimizer = new Adam(model, { lr: 0.05 }),
    resumed = new Adam(other, { lr: 1 });
  const run = (m: Pair, o: Optimizer, from: number, to: number): void => {
    for (let step = from; step <= to; step++) {
      for (const p of m.parameters()) give(p, gradientOf({ length: p.numel }, step));
      o.step();
    }
    o.zeroGrad();
  };
  run(model, optimizer, 1, 3);
  other.loadStateDict(readSafetensors(await saveStateDict(model.stateDict())).tensors);
  await resumed.loadStateDict(readSafetensors(await saveStateDict(optimizer.stateDict())).tensors);
  assert.is(resumed.lr, Math.fround(0.05));
  run(model, optimizer, 4, 6);
  run(other, resumed, 4, 6);
  assert.equal(await other.first.data(), await model.first.data());
  using stranger = new SGD(model, { momentum: 0.9 });
  try {
    await stranger.loadStateDict(optimizer.stateDict());
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /missing: momentum_buffer\.0, momentum_buffer\.1; unexpected: exp_avg\.0/);
  }
});

test('a captured step is the same as one that is not, with a learning rate that changes', async ({ device }) => {
  const train = async (captured: boolean): Promise<ArrayLike<number>> => {
    using model = new Pair(device);
    using optimizer = new Adam(model, { lr: 0.1 });
    const body = (): void =>
      scope(() => {
        optimizer.zeroGrad();
        model.first.mul(model.second).sub(1).square().sum().backward();
        clipGradNorm(model, 0.5);
        optimizer.step();
        optimizer.zeroGrad();
      });
    const step = captured ? capture(device, body) : null;
    if (!step) body();
    for (let i = 2; i <= 5; i++) {
      optimizer.lr = 0.1 / i;
      if (step) step.replay();
      else body();
    }
    const result = await model.first.data();
    step?.dispose();
    return result;
  };
  assert.equal(await train(true), await train(false));
});

test('clipGradNorm scales all gradients by their common norm', async ({ device }) => {
  using model = new Pair(device);
  const host = [uniform(15, 3), uniform(1, 4)];
  const all = [...host[0], ...host[1]];
  const norms: [type: number, norm: number][] = [
    [2, Math.hypot(...all)],
    [1, all.reduce((s, v) => s + Math.abs(v), 0)],
    [Infinity, Math.max(...all.map(Math.abs))],
    [3, all.reduce((s, v) => s + Math.abs(v) ** 3, 0) ** (1 / 3)],
  ];
  for (const [type, norm] of norms) {
    for (const maxNorm of [0.3, 100]) {
      model.parameters().forEach((p, i) => give(p, host[i]));
      const found = clipGradNorm(model, maxNorm, type);
      assertClose(await found.data(), [norm], 2e-6, `norm ${type}`);
      const factor = Math.min(1, maxNorm / (norm + 1e-6));
      for (const [i, p] of model.parameters().entries())
        assertClose(
          await p.grad!.data(),
          host[i].map((v) => v * factor),
          2e-6,
          `${type}, ${maxNorm}`,
        );
      found.dispose();
    }
  }
  // Both leaves of a sum get one gradient, which must not be scaled twice.
  model.zeroGrad();
  const [a, b] = [1, 2].map((seed) => tensor(device, uniform(4, seed), { requiresGrad: true }));
  scope(() => a.add(b).mul(3).sum().backward());
  clipGradNorm([a, b], 1).dispose();
  for (const t of [a, b])
    assertClose(
      await t.grad!.data(),
      [1, 1, 1, 1].map(() => 3 / (3 * Math.sqrt(8) + 1e-6)),
      2e-6,
    );
  for (const t of [a, b]) t.dispose();
  assert.throws(() => clipGradNorm(model, 1), /No parameter has a gradient; call it after backward/);
  assert.throws(() => clipGradNorm([], 1), /There are no parameters/);
});

test('numbers that make no sense are refused', ({ device }) => {
  using model = new Pair(device);
  assert.throws(() => new SGD(model, { lr: -1 }), '[SGD] lr is -1, expected a finite number from 0 on.');
  assert.throws(() => new SGD(model, { nesterov: true }), /nesterov with momentum 0/);
  assert.throws(
    () => new AdamW(model, { betas: [0.9, 1] }),
    '[AdamW] betas[1] is 1, expected a finite number from 0 on and below 1.',
  );
  assert.throws(() => new Adam([]), '[Adam] There are no parameters, expected at least one.');
});

test('half-precision parameters are updated in f32', { needs: 'shader-f16' }, async ({ device }) => {
  const start = uniform(6, 5),
    gradient = uniform(6, 6);
  const p = noGrad(() => parameter(tensor(device, start, { dtype: 'f16' })));
  const expected = learned(await p.data(), ['exp_avg', 'exp_avg_sq']);
  using optimizer = new Adam([p], { lr: 0.1 });
  p.grad = tensor(device, gradient, { dtype: 'f16' });
  adamReference(expected, await p.grad.data(), { lr: 0.1 });
  optimizer.step();
  assertClose(await p.data(), expected.values, 1e-3);
  p.dispose();
});

test.run();
