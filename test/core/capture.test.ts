import * as assert from 'uvu/assert';
import { backward, capture, Generator, keep, noGrad, scope, tensor } from '../../core/index.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('capture');

test('a replay computes with what the inputs hold then', async ({ device }) => {
  const x = tensor(device, uniform(66));
  const step = capture(device, () => scope(() => x.mul(2).add(1).exp().sum()));
  for (const seed of [1, 2, 3]) {
    const host = uniform(66, seed);
    x.write(host);
    step.replay();
    const expected = host.reduce((s, v) => s + Math.exp(2 * v + 1), 0);
    assert.ok(Math.abs((await step.result.item()) - expected) < 1e-4 * expected);
  }
  step.result.dispose();
  step.dispose();
  x.dispose();
});

test('captured training gives the same parameters, bit for bit, as training that is not captured', async ({ device }) => {
  const train = async (captured: boolean): Promise<number[]> => {
    const g = new Generator(device, 5);
    const w = keep(tensor(device, uniform(7 * 5, 2), { shape: [7, 5], requiresGrad: true }));
    const x = tensor(device, uniform(11 * 7, 3), { shape: [11, 7] });
    const lr = tensor(device, [0.1]);
    const body = (): void => scope(() => {
      const noise = g.normal([11, 5]);
      w.grad = null;
      backward(x.matmul(w).silu().sub(noise).square().mean());
      noGrad(() => w.copy_(w.detach().sub(w.grad!.mul(lr))));
      w.grad = null;
    });
    const step = captured ? capture(device, body) : null;
    if (!captured) body();
    for (let i = 1; i < 10; i++) {
      lr.write([0.1 / (i + 1)]);
      if (step) step.replay();
      else body();
    }
    const result = Array.from(await w.data());
    step?.dispose();
    for (const t of [w, x, lr, g]) t.dispose();
    return result;
  };
  assert.equal(await train(true), await train(false));
});

test('memory is planned by liveness, and stays the same over replays', async ({ device }) => {
  const x = tensor(device, uniform(4096));
  const step = capture(device, () => scope(() => {
    let y = x.add(0);
    for (let i = 0; i < 20; i++) {
      const next = scope(() => y.mul(1.01).add(0.01));
      y.dispose();
      y = next;
    }
    return y;
  }));
  assert.ok(step.plan.planned <= 1.15 * step.plan.lowerBound, JSON.stringify(step.plan));
  assert.ok(step.plan.naive > 3 * step.plan.planned);
  step.replay();
  await device.synchronize();
  const before = device.memory();
  for (let i = 0; i < 200; i++) step.replay();
  await device.synchronize();
  assert.equal(device.memory(), before);
  step.result.dispose();
  step.dispose();
  x.dispose();
});

test('a step that reads back is refused in words', async ({ device }) => {
  const x = tensor(device, [1]);
  let reading: Promise<unknown> = Promise.resolve();
  capture(device, () => { reading = x.data(); }).dispose();
  try {
    await reading;
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /return tensors and read them after the step/);
  }
  x.dispose();
});

test.run();
