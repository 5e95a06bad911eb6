import * as assert from 'uvu/assert';
import { Generator } from '../../core/index.ts';
import { ExponentialMovingAverage, Linear, readSafetensors, saveStateDict } from '../../nn/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('ema');

test('averages follow the parameters, go into the module and out again', async ({ device }) => {
  const g = new Generator(device, 31);
  using model = new Linear(g, 5, 3);
  using ema = new ExponentialMovingAverage(model, 0.9);
  const expected = Float64Array.from(await model.weight.data());
  for (let step = 1; step <= 6; step++) {
    const values = uniform(15, step);
    model.weight.write(values);
    ema.update();
    values.forEach((v, i) => {
      expected[i] = 0.9 * expected[i] + 0.1 * v;
    });
  }
  assert.equal([...ema.stateDict().keys()], ['weight', 'bias']);
  assertClose(await ema.stateDict().get('weight')!.data(), expected, 1e-6);
  const own = await model.weight.data();
  ema.copyTo();
  ema.copyTo();
  assertClose(await model.weight.data(), expected, 1e-6, 'copied');
  assert.throws(() => ema.update(), /call restore\(\) before training on/);
  ema.restore();
  assert.equal(await model.weight.data(), own);
  assert.throws(() => ema.restore(), /Nothing to restore/);
  g.dispose();
});

test('averages are saved, loaded, and copied to another module', async ({ device }) => {
  const g = new Generator(device, 32);
  using model = new Linear(g, 5, 3),
    other = new Linear(g, 5, 3),
    small = new Linear(g, 5, 2);
  using ema = new ExponentialMovingAverage(model),
    loaded = new ExponentialMovingAverage(other);
  loaded.loadStateDict(readSafetensors(await saveStateDict(ema.stateDict())).tensors);
  loaded.copyTo(other);
  assert.equal(await other.weight.data(), await model.weight.data());
  assert.throws(() => ema.copyTo(small), /There is no average for weight of shape \(2,5\)/);
  assert.throws(() => new ExponentialMovingAverage(model, 1.1), /decay is 1\.1, expected 0 to 1/);
  g.dispose();
});

test.run();
