// The training loop: captured as eager, in parts as whole, resumed as uninterrupted, and without a leak. The objective here is a
// small regression; the official trajectory is in test/golden.

import * as assert from 'uvu/assert';
import { fuse, Generator, linear, scope, type Device, type Tensor } from '../../core/index.ts';
import { Module, parameter } from '../../nn/index.ts';
import { DataLoader, type Dataset } from '../../models/data/dataset.ts';
import { LossSecondMomentResampler } from '../../models/diffusion/timestepSampler.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { Denoiser, StepRecord, TrainerOptions, TrainingObjective } from '../../models/train/types.ts';
import { gpuSuite, uniform, hasFeature } from '../support.ts';

const test = gpuSuite('trainer');

/** Predicts the noise from all pixels and the label, through one hidden layer with dropout. */
class Regression extends Module implements Denoiser {
  readonly config = { imgSize: 4, channels: 3, numClasses: 5 };
  readonly inner: Module & { weight: Tensor };
  readonly outer: Module & { weight: Tensor };
  readonly bias: Tensor;

  constructor(generator: Generator) {
    super();
    const layer = (shape: number[]): Module & { weight: Tensor } =>
      new (class extends Module {
        readonly weight = parameter(generator.normal(shape, { std: 0.2 }));
      })();
    this.inner = scope(() => layer([66, 48]));
    this.outer = scope(() => layer([48, 66]));
    this.bias = scope(() => parameter(generator.normal([48])));
  }

  matrices(): Tensor[] {
    return [this.inner.weight, this.outer.weight];
  }

  forward(x: Tensor, timesteps: Tensor, labels: Tensor, { generator }: { generator: Generator }): Tensor {
    const shift = timesteps
      .cast('f32')
      .mul(1 / 100)
      .add(labels.cast('f32'))
      .reshape(-1, 1);
    const type = this.inner.weight.dtype;
    let hidden = linear(x.reshape(-1, 48).cast(type), this.inner.weight).cast('f32').add(shift).silu();
    if (this.training) hidden = hidden.mul(generator.bernoulli(hidden.shape, 0.9));
    return linear(hidden.cast(type), this.outer.weight)
      .cast('f32')
      .add(this.bias)
      .reshape(...x.shape);
  }
}

const objective: TrainingObjective = {
  numTimesteps: 10,
  trainingLosses(model, xStart, t, { noise }) {
    const share = t.cast('f32').mul(0.1).reshape(-1, 1, 1, 1);
    const out = model(xStart.mul(share.neg().add(1)).add(noise.mul(share)), t);
    const mse = fuse((a, b) => a.sub(b).square(), 'squaredError')(out, noise).mean([1, 2, 3]);
    return { loss: mse.mul(2), mse };
  },
};

const dataset: Dataset = {
  length: 40,
  size: 4,
  channels: 3,
  numClasses: 5,
  classNames: ['a', 'b', 'c', 'd', 'e'],
  item: (i) => Promise.resolve({ pixels: Uint8Array.from(uniform(48, i + 1), (v) => (v + 1) * 127), label: i % 5 }),
};

function trainer(device: Device, options: Partial<TrainerOptions> = {}): Trainer {
  const generator = new Generator(device, 3);
  const model = new Regression(generator);
  generator.dispose();
  return new Trainer({
    device,
    model,
    diffusion: objective,
    batchSize: 8,
    lr: (step) => 0.01 / (1 + step),
    emaDecay: 0.9,
    seed: 7,
    ...options,
  });
}

async function steps(t: Trainer, until: number, pauseEvery?: number): Promise<StepRecord[]> {
  const records: StepRecord[] = [];
  for await (const r of t.run(new DataLoader(dataset, { batchSize: 8, seed: 5, flip: true, cursor: t.cursor }), {
    steps: until,
    pauseEvery,
  }))
    records.push(r);
  return records;
}

function numbers(records: readonly StepRecord[]): unknown[] {
  return records.map(({ imagesPerSecond, ...rest }) => (assert.ok(imagesPerSecond > 0), rest));
}

function done(t: Trainer): void {
  t.dispose();
  t.model.dispose();
}

test('captured and eager steps are the same, bit for bit', async ({ device }) => {
  const [a, b] = [trainer(device), trainer(device, { capture: false })];
  const [x, y] = [await steps(a, 12), await steps(b, 12)];
  assert.equal(
    x.map((r) => r.step),
    Array.from({ length: 12 }, (_, i) => i + 1),
  );
  assert.equal(x[6].epoch, 1);
  assert.equal(numbers(x), numbers(y));
  assert.ok(x[11].loss < x[0].loss);
  assert.is(a.plans.size, 1);
  assert.is(b.plans.size, 0);
  [a, b].forEach(done);
});

test("micro-batches give the whole batch's gradient", async ({ device }) => {
  const batch = (await new DataLoader(dataset, { batchSize: 8, seed: 1 }).next()).value!;
  const given = { timesteps: Int32Array.from({ length: 8 }, (_, i) => i), noise: uniform(8 * 48, 4) };
  const results: StepRecord[] = [];
  for (const microBatches of [1, 2, 8]) {
    const t = trainer(device, { microBatches });
    t.model.eval();
    await t.trainBatch(batch, given);
    results.push(await t.trainBatch(batch, given));
    done(t);
  }
  for (const r of results.slice(1)) {
    assert.ok(Math.abs(r.loss / results[0].loss - 1) < 1e-6, `${r.loss} ${results[0].loss}`);
    assert.ok(Math.abs(r.gradNorm / results[0].gradNorm - 1) < 1e-5, `${r.gradNorm} ${results[0].gradNorm}`);
  }
});

for (const [name, options] of Object.entries({
  f32: {},
  'micro-batches': { microBatches: 2 },
  'loss-aware timesteps': { timestepSampler: new LossSecondMomentResampler(10, { historyPerTerm: 2 }) },
  f16: { precision: 'f16' },
} satisfies Record<string, Partial<TrainerOptions>>)) {
  const needs = name === 'f16' ? ('shader-f16' as const) : undefined;
  test(`a run resumed from its state goes on bit for bit: ${name}`, { needs }, async ({ device }) => {
    const whole = trainer(device, options);
    const first = await steps(whole, 4, 2);
    const state = await whole.state();
    const json = JSON.parse(JSON.stringify(state.json)) as typeof state.json;
    const rest = await steps(whole, 9);
    const again = trainer(device, { ...options, seed: 999 });
    again.loadState({ ...state, json });
    assert.is(again.step, 4);
    assert.equal(numbers(await steps(again, 9)), numbers(rest));
    const [a, b] = [await whole.state(), await again.state()];
    assert.equal(a.json, b.json);
    for (const part of ['model', 'ema', 'optimizer'] as const)
      for (const [key, { data }] of a[part]) assert.equal(b[part].get(key)!.data, data, key);
    assert.is(first.length, 4);
    [whole, again].forEach(done);
  });
}

test('a resumed run keeps the learning rate it was given, not that of the state', async ({ device }) => {
  const [slow, fast] = [trainer(device, { lr: 1e-3 }), trainer(device, { lr: 1e-2 })];
  await steps(slow, 2);
  await steps(fast, 1);
  const state = await slow.state();
  fast.loadState({ ...state, json: JSON.parse(JSON.stringify(state.json)) as typeof state.json });
  const read = async (t: Trainer): Promise<Float32Array> =>
    Float32Array.from(await t.model.stateDict().get('inner.weight')!.data());
  const before = await read(fast);
  assert.equal(before, await read(slow));
  await Promise.all([steps(slow, 3), steps(fast, 3)]);
  const [small, large] = [await read(slow), await read(fast)];
  // AdamW's step is proportional to the rate.
  for (let i = 0; i < before.length; i++)
    assert.ok(
      Math.abs(large[i] - before[i] - 10 * (small[i] - before[i])) < 1e-5 + 1e-3 * Math.abs(large[i] - before[i]),
      `${i}: ${large[i] - before[i]} is not ten times ${small[i] - before[i]}`,
    );
  [slow, fast].forEach(done);
});

test('a state of another model is refused and nothing is changed', async ({ device }) => {
  const t = trainer(device);
  await steps(t, 1);
  const state = await t.state();
  const other = new Map(state.optimizer);
  other.set('v.bias', { shape: [3], data: new Float32Array(3) });
  assert.throws(
    () => t.loadState({ ...state, optimizer: other }),
    /optimizer\.v\.bias has shape \(3,?\) in the state, expected \(48,?\)/,
  );
  other.delete('v.bias');
  assert.throws(() => t.loadState({ ...state, optimizer: other }), /optimizer\.v\.bias is missing/);
  assert.equal(await t.state(), state);
  done(t);
});

test('moving averages are in the model only inside of withEma', async ({ device }) => {
  for (const precision of hasFeature(device, 'shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const)) {
    const t = trainer(device, { precision });
    await steps(t, 3);
    const read = async (): Promise<number[]> => Array.from(await t.model.stateDict().get('inner.weight')!.data());
    const before = await read();
    const state = await t.state();
    const [inside, training] = await t.withEma(async () => [await read(), t.model.training] as const);
    assert.is(training, false);
    assert.is(t.model.training, true);
    const ema = Array.from(state.ema.get('inner.weight')!.data as Float32Array);
    assert.ok(ema.every((v, i) => Math.abs(v - inside[i]) <= (precision === 'f16' ? 1e-3 : 0)));
    assert.not.equal(inside, before);
    assert.equal(await read(), before);
    done(t);
  }
});

test(
  'f16: the loss scale falls at an overflow, the step is left out, and training goes on',
  { needs: 'shader-f16' },
  async ({ device }) => {
    const t = trainer(device, { precision: 'f16' });
    const batch = (await new DataLoader(dataset, { batchSize: 8 }).next()).value!;
    const first = await t.trainBatch({ ...batch, images: batch.images.map((v) => v * 1e4) });
    const next = await t.trainBatch(batch);
    assert.equal([first.skipped, next.skipped], [true, false]);
    assert.ok(Number.isFinite(next.gradNorm) && Number.isFinite(next.loss));
    assert.is((await t.optimizer.counters()).lossScale, 32768);
    done(t);
  },
);

test('an aborted run ends after the step under way and can go on', async ({ device }) => {
  const t = trainer(device);
  const stop = new AbortController();
  const loader = new DataLoader(dataset, { batchSize: 8 });
  let last = 0;
  for await (const { step } of t.run(loader, { steps: 100, signal: stop.signal })) {
    last = step;
    if (step === 3) stop.abort();
  }
  assert.is(last, t.step);
  assert.ok(last < 6);
  for await (const { step } of t.run(loader, { steps: last + 2 })) last = step;
  assert.is(last, t.step);
  done(t);
});

test('no leak: tensors and bytes after step 10 are those after step 1,000', async ({ device }) => {
  const t = trainer(device, { microBatches: 2 });
  await steps(t, 10);
  const before = device.memory();
  await steps(t, 1000);
  const after = device.memory();
  assert.equal(
    [after.liveTensors, after.liveBytes, after.pooledBytes],
    [before.liveTensors, before.liveBytes, before.pooledBytes],
  );
  done(t);
});

test('labels that are no class of the model are refused before anything is trained', async ({ device }) => {
  const t = trainer(device);
  const batch = (await new DataLoader(dataset, { batchSize: 8 }).next()).value!;
  for (const [label, hint] of [
    [-1, ''],
    [7, ''],
    [5, '; count classes from 0'],
  ] as const) {
    const labels = batch.labels.slice();
    labels[3] = label;
    assert.throws(
      () => t.trainBatch({ ...batch, labels }),
      (error: Error) =>
        error.message === `[Trainer] A label is ${label}, expected 0 to 4 for a model of 5 classes${hint}.`,
    );
  }
  assert.is(t.step, 0);
  done(t);
});

test('batches that do not fit are refused', async ({ device }) => {
  const t = trainer(device);
  const batch = (await new DataLoader(dataset, { batchSize: 4 }).next()).value!;
  assert.throws(() => t.trainBatch(batch), /The batch has shape \(4,3,4,4\), expected \(8,3,4,4\)/);
  assert.throws(
    () => new Trainer({ device, model: t.model, diffusion: objective, batchSize: 8, microBatches: 3 }),
    /microBatches is 3, expected a divisor of the batch of 8/,
  );
  done(t);
});

test.run();
