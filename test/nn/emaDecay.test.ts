import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ValueError } from '../../core/errors.ts';
import { emaInitialShare, Linear, FusedAdamW, warmupEmaDecay } from '../../nn/index.ts';
import { backward, Generator, scope, tensor } from '../../core/index.ts';
import { gpuSuite } from '../support.ts';

const test = suite('emaDecay');
const gpu = gpuSuite('emaDecay, on the device');

test('the decay rises to its value and stays there', () => {
  const decay = warmupEmaDecay(0.9999);
  assert.equal([0, 8, 90, 89_990, 1e6].map(decay), [0.1, 0.5, 0.91, 0.9999, 0.9999]);
  assert.throws(
    () => warmupEmaDecay(1.5),
    (error: unknown) => error instanceof ValueError,
  );
});

test('with it an average forgets its beginning at once, with a constant decay after tens of thousands of steps', () => {
  // After n steps n! 9! / (n + 9)!.
  assert.ok(Math.abs(emaInitialShare(warmupEmaDecay(0.9999), 3) * 220 - 1) < 1e-12);
  assert.ok(emaInitialShare(warmupEmaDecay(0.9999), 30) < 1e-8);
  assert.ok(Math.abs(emaInitialShare(() => 0.9999, 1000) - 0.9999 ** 1000) < 1e-12);
});

gpu('the optimizer averages with the decay that is set before each step', async ({ device }) => {
  const generator = new Generator(device, 1);
  const layer = new Linear(generator, 2, 2);
  const optimizer = new FusedAdamW(layer, { lr: 0.1, emaDecay: 0.5 });
  const decay = warmupEmaDecay(0.9);
  const read = async (): Promise<{ params: number[]; ema: number[] }> => {
    const { params, ema } = await optimizer.saveState();
    const values = (tensors: typeof ema): number[] => [...(tensors.get('weight')!.data as Float32Array)];
    return { params: values(params), ema: values(ema) };
  };
  let expected = (await read()).ema;
  for (let step = 0; step < 4; step++) {
    optimizer.emaDecay = decay(step);
    scope(() => {
      const x = tensor(device, [[1, 2]]);
      backward(layer.forward(x).sum(), optimizer.backwardOptions());
      optimizer.step();
    });
    const { params, ema } = await read();
    expected = expected.map((average, i) => average + (params[i] - average) * (1 - decay(step)));
    ema.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-6, `step ${step}: ${ema} ${expected}`));
  }
  optimizer.dispose();
  layer.dispose();
  generator.dispose();
});

test.run();
gpu.run();
