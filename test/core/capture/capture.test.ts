import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import {
  backward,
  capture,
  captureAhead,
  cut,
  Generator,
  grad,
  HostBuffer,
  keep,
  noGrad,
  scope,
  tensor,
  zeros,
  type Tensor,
} from '../../../core/index.ts';
import { gpuSuite, uniform } from '../../support.ts';

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

test('captured training gives the same parameters, bit for bit, as training that is not captured', async ({
  device,
}) => {
  const train = async (captured: boolean): Promise<number[]> => {
    const g = new Generator(device, 5);
    const w = keep(tensor(device, uniform(7 * 5, 2), { shape: [7, 5], requiresGrad: true }));
    const x = tensor(device, uniform(11 * 7, 3), { shape: [11, 7] });
    const lr = tensor(device, [0.1]);
    const body = (): void =>
      scope(() => {
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

test('memory is planned by liveness', ({ device }) => {
  const x = tensor(device, uniform(4096));
  const step = capture(device, () =>
    scope(() => {
      let y = x.add(0);
      for (let i = 0; i < 20; i++) {
        const next = scope(() => y.mul(1.01).add(0.01));
        y.dispose();
        y = next;
      }
      return y;
    }),
  );
  assert.ok(step.plan.planned <= 1.15 * step.plan.lowerBound, JSON.stringify(step.plan));
  assert.ok(step.plan.naive > 3 * step.plan.planned);
  step.result.dispose();
  step.dispose();
  x.dispose();
});

test('live tensors and bytes are the same after step 10 and step 1,000, captured or not, and all comes back in the end', async ({
  device,
}) => {
  const before = device.memory();
  for (const captured of [true, false]) {
    const g = new Generator(device, 1);
    const w = keep(tensor(device, uniform(7 * 5, 2), { shape: [7, 5], requiresGrad: true })),
      x = tensor(device, uniform(11 * 7, 3), { shape: [11, 7] }),
      lr = tensor(device, [0.1]);
    const body = (): Tensor =>
      scope(() => {
        const loss = x
          .matmul(w)
          .silu()
          .sub(g.normal([11, 5]))
          .square()
          .mean();
        backward(loss);
        noGrad(() => w.copy_(w.sub(w.grad!.mul(lr))));
        w.grad = null;
        return loss.detach();
      });
    const step = captured ? capture(device, body) : null;
    const report = async (): Promise<object> => {
      await device.synchronize();
      const { liveTensors, liveBytes, pooledBytes } = device.memory();
      return { liveTensors, liveBytes, pooledBytes, buffers: device.pool.created };
    };
    let after10 = {};
    for (let i = 1; i <= (captured ? 1000 : 100); i++) {
      lr.write([0.1 / i]);
      if (step) step.replay();
      else body().dispose();
      if (i === 10) after10 = await report();
    }
    assert.equal(await report(), after10);
    step?.result.dispose();
    step?.dispose();
    for (const t of [w, x, lr, g]) t.dispose();
  }
  assert.equal([device.memory().liveTensors, device.memory().liveBytes], [before.liveTensors, before.liveBytes]);
});

test('a replay is noticed by the tape, and its intermediate values come from the pool', async ({ device }) => {
  const w = tensor(device, [1, 2], { requiresGrad: true }),
    x = tensor(device, uniform(8192));
  const y = scope(() => w.mul(w).sum());
  const created = device.pool.created;
  const step = capture(device, () =>
    scope(() => {
      noGrad(() => w.copy_(w.mul(2)));
      return x.add(1).exp().sum();
    }),
  );
  const grown = device.pool.created - created,
    live = device.memory().liveBytes;
  step.replay();
  assert.is(device.memory().liveBytes, live);
  assert.ok(grown <= 6, `${grown} buffers were made`);
  assert.throws(() => grad(y, [w]), /was overwritten since/);
  assert.equal(Array.from(await w.data()), [4, 8]);
  for (const t of [w, x, y, step.result, step]) t.dispose();
});

test('an adapter that waits is given a small batch first, one that has work is given as much at a time as ever', async ({
  device,
}) => {
  const x = tensor(device, uniform(66));
  const step = capture(device, () =>
    scope(() => {
      for (let i = 0; i < 60; i++) x.copy_(x.add(1));
    }),
  );
  const submitsOf = (replays: number): number => {
    const before = device.stream.submits;
    for (let i = 0; i < replays; i++) step.replay();
    return device.stream.submits - before;
  };
  await device.synchronize();
  assert.ok(submitsOf(1) > 2, 'a small batch first');
  const done = device.synchronize();
  assert.ok(submitsOf(2) >= 1);
  await done;
  assert.ok(submitsOf(1) <= 1, 'the wait was overtaken');
  await device.synchronize();
  assert.ok(submitsOf(1) > 2, 'a small batch again');
  step.dispose();
  x.dispose();
});

test('a step that reads back is refused in words', async ({ device }) => {
  const x = tensor(device, [1]);
  let reading: Promise<unknown> = Promise.resolve();
  capture(device, () => {
    reading = x.data();
  }).dispose();
  try {
    await reading;
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /return tensors and read them after the step/);
  }
  x.dispose();
});

test('what can not be replayed is refused in words, and leaves the device as it was', async ({ device }) => {
  const x = tensor(device, [1]);
  const step = capture(device, () => scope(() => x.add(1)));
  const live = device.memory().liveBytes;
  const cases: [fn: () => unknown, pattern: RegExp][] = [
    [() => capture(device, () => 1), /^\[capture\] A captured step captures another, expected dispatches alone/],
    [() => step.replay(), /^\[capture\] A captured step replays another/],
    [
      async () => {
        await Promise.resolve();
      },
      /^\[capture\] A captured step is asynchronous/,
    ],
    [
      () => {
        device.stream.clear(x.storage.buffer);
      },
      /^\[capture\] A captured step clears a buffer/,
    ],
    [
      () => {
        scope(() => {
          x.add(1);
          throw new Error('of its own');
        });
      },
      /^of its own$/,
    ],
  ];
  for (const [fn, pattern] of cases) assert.throws(() => capture(device, fn), pattern);
  assert.is(device.memory().liveBytes, live);
  assert.is(device.stream.recorder, null);
  x.write([5]);
  assert.equal(Array.from(await step.replay().data()), [6]);
  step.result.dispose();
  step.dispose();
  step.dispose();
  assert.throws(() => step.replay(), /^\[capture\] The captured step was disposed of/);
  x.dispose();
});

test('an asynchronous step, scope or noGrad is refused, and what goes on of it ends no process', async ({ device }) => {
  const unseen: unknown[] = [];
  const note = (reason: unknown): number => unseen.push(reason);
  process.on('unhandledRejection', note);
  const x = tensor(device, [1, 2]);
  let sum: core.Tensor;
  try {
    const fail = (): Promise<never> => Promise.reject(new Error('nobody waits for this'));
    const step = (): Promise<number> => {
      sum = x.sum();
      return sum.item();
    };
    assert.throws(() => capture(device, step), /^\[capture\] A captured step is asynchronous/);
    sum!.dispose();
    assert.throws(() => capture(device, fail), /^\[capture\] A captured step is asynchronous/);
    assert.throws(() => scope(fail), /^\[scope\] The function returned a promise/);
    assert.throws(() => core.noGrad(fail), /^\[noGrad\] The function returned a promise/);
    await new Promise((done) => {
      setTimeout(done, 5);
    });
    assert.equal(unseen, []);
  } finally {
    process.off('unhandledRejection', note);
    x.dispose();
  }
});

test('what a step makes of host data, zeros and copies is there at each replay', async ({ device }) => {
  const x = tensor(device, [1, 2, 3]),
    total = core.zeros(device, [3]);
  const step = capture(device, () =>
    scope(() => {
      const fresh = core.zeros(device, [3]).add(x).clone(),
        constant = tensor(device, [10, 20, 30]);
      total.copy_(total.add(fresh).add(constant));
      return fresh;
    }),
  );
  x.write([4, 5, 6]);
  step.replay();
  assert.equal(
    [Array.from(await total.data()), Array.from(await step.result.data())],
    [
      [25, 47, 69],
      [4, 5, 6],
    ],
  );
  for (const t of [x, total, step.result, step]) t.dispose();
});

test('a step captured ahead has not run, and then gives what one captured by running gives', async ({ device }) => {
  const run = async (ahead: boolean): Promise<number[][]> => {
    const x = tensor(device, [1, 2, 3, 4]),
      g = new core.Generator(device, 5);
    g.normal([7]).dispose();
    const step = (): core.Tensor =>
      scope(() => {
        x.copy_(x.mul(2).add(g.uniform([4])));
        return x.silu();
      });
    const captured = ahead ? await core.captureAhead(device, step) : capture(device, step);
    if (ahead) {
      assert.equal([Array.from(await x.data()), g.position], [[1, 2, 3, 4], 2]);
      captured.replay();
    }
    const seen = [Array.from(await captured.result.data())];
    captured.replay();
    seen.push(Array.from(await captured.result.data()), Array.from(await x.data()), [g.position]);
    for (const t of [x, g, captured.result, captured]) t.dispose();
    return seen;
  };
  assert.equal(await run(true), await run(false));
});

test('kernels captured ahead may be used by others at once', async ({ device }) => {
  const x = tensor(device, [1, 2, 3]);
  const cube = core.fuse((v) => v.square().mul(v).add(0.123));
  const captured = core.captureAhead(device, () => scope(() => cube(x)));
  const eager = scope(() => cube(x));
  assert.equal(Array.from(await eager.data()), Array.from(await (await captured).replay().data()));
  const { result } = await captured;
  (await captured).dispose();
  for (const t of [x, eager, result]) t.dispose();
});

test('a kernel that is refused ahead is reported when the capture is done', async ({ open, own }) => {
  const device = await open({ backend: 'null' });
  const refused = core.defineKernel<object>('refused', () => ({
    bindings: [{ name: 'x', type: 'array<f32>', access: 'write' }],
    workgroupSize: [1],
    body: 'x[0] = missing;',
  }));
  const x = own(tensor(device, [1]));
  const error = await core
    .captureAhead(device, () => device.run(refused, {}, [x], [], [1]))
    .then(
      () => null,
      (e: unknown) => e,
    );
  assert.instance(error, core.CompileError);
  assert.match((error as Error).message, /^\[refused\] [^]*missing/);
});

test('a replay in parts stops at each cut, where the host reads what is done and writes what comes next', async ({
  device,
}) => {
  const x = tensor(device, [1, 2, 3, 4]),
    sum = zeros(device, [4]);
  const step = await captureAhead(device, () =>
    scope(() => {
      noGrad(() => sum.copy_(x.mul(2)));
      cut(device, 7);
      const out = sum.add(1);
      cut(device, 8);
      return out.mul(10);
    }),
  );
  const down = new HostBuffer(device, 16, 'read'),
    up = new HostBuffer(device, 16, 'write');
  const place = { storage: sum.storage, byteOffset: sum.byteOffset };
  const cuts: number[] = [];
  for (let round = 0; round < 2; round++) {
    for (const tag of step.replayInParts()) {
      cuts.push(tag);
      if (tag !== 7) continue;
      down.copyFrom(place, 16);
      const [read, write] = await Promise.all([down.map(), up.map()]);
      assert.equal(Array.from(new Float32Array(read)), [2, 4, 6, 8]);
      new Float32Array(write).set([round, 20, 30, 40]);
      down.unmap();
      up.unmap();
      up.copyTo(place, 16);
    }
    assert.equal(Array.from(await step.result.data()), [(round + 1) * 10, 210, 310, 410]);
  }
  assert.equal(cuts, [7, 8, 7, 8]);
  assert.equal(Array.from(await step.replay().data()), [30, 50, 70, 90]);
  assert.throws(() => new HostBuffer(device, 6, 'read'), /bytes is 6, expected a multiple of 4/);
  for (const buffer of [down, up]) buffer.destroy();
  step.result.dispose();
  step.dispose();
  for (const t of [x, sum]) t.dispose();
});

test.run();
