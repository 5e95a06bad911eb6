import * as assert from 'uvu/assert';
import {
  Generator,
  keep,
  scope,
  tuningOf,
  zeros,
  type Device,
  type TuneOptions,
  type TuningResult,
} from '../../core/index.ts';
import { allCases } from '../../bench/cases/index.ts';
import { captureRepeated, measure, repeatsFor } from '../../bench/measure.ts';
import { sample, spreadOf } from '../../bench/sample.ts';
import { tuner } from '../../bench/tuner.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('bench');
const SHORT = { batch: 1e-3, seconds: 1e-3 };

test('samples are taken one after the other', async () => {
  let running = 0,
    calls = 0;
  const times = await sample(
    'pause',
    async () => {
      assert.is(++running, 1);
      calls++;
      await new Promise((resolve) => {
        setTimeout(resolve, 1);
      });
      running--;
    },
    { seconds: 0, samples: 3 },
  );
  assert.ok(times.length >= 3 && calls >= times.length);
  assert.ok(times.every((t) => t > 0));
});

test('what goes wrong in a sample rejects', async () => {
  let calls = 0;
  const fails = (how: () => Promise<void>): Promise<string> =>
    sample(
      'fails',
      () => {
        calls++;
        return how();
      },
      { seconds: 0 },
    ).then(
      () => 'no error',
      (error: Error) => error.message,
    );
  assert.is(await fails(() => Promise.reject(new Error('later'))), 'later');
  assert.is(
    await fails(() => {
      throw new Error('at once');
    }),
    'at once',
  );
  // None was called again after it had failed.
  assert.is(calls, 2);
});

test('quartiles lie between the values', () => {
  assert.equal(spreadOf([4, 1, 3, 2, 5]), { least: 1, median: 3, low: 2, high: 4, count: 5 });
  assert.equal(spreadOf([7]), { least: 7, median: 7, low: 7, high: 7, count: 1 });
});

test('a step is measured and everything given back', async ({ device }) => {
  const x = keep(zeros(device, [256]));
  const m = await measure(
    device,
    { name: 'two', prepare: () => ({ step: () => x.add(1).mul(x), dispose: () => x.dispose() }) },
    SHORT,
  );
  assert.is(m.dispatches, 2);
  assert.is(m.plan!.dispatches, 2, 'the plan is that of one iteration');
  assert.ok(m.repeats >= 1 && m.repeats <= 32);
  assert.is(m.pace === null, device.adapter.software);
  assert.ok(m.wall.median > 0 && m.host.eager! > 0 && m.host.replayed > 0);
  assert.ok(m.gpu === null || m.gpu.median > 0);
});

test('a short list does its work several times, a long or slow one once', () => {
  assert.is(repeatsFor(1, 1e-4, 0.02), 64);
  assert.is(repeatsFor(3, 1e-4, 0.02), 22);
  assert.is(repeatsFor(64, 1e-4, 0.02), 1);
  assert.is(repeatsFor(1, 0.005, 0.02), 4);
  assert.is(repeatsFor(1, 1, 0.02), 1);
  assert.is(repeatsFor(1, Infinity, 0.02), 1);
});

test('repetitions write the same memory one after the other', async ({ device }) => {
  const x = keep(zeros(device, [4096]));
  const step = (): void =>
    scope(() => {
      x.add(1).mul(x).exp();
    });
  step();
  const once = captureRepeated(device, step, 1),
    often = captureRepeated(device, step, 20);
  assert.is(often.plan.dispatches, 20 * once.plan.dispatches);
  assert.is(often.plan.planned, once.plan.planned);
  once.dispose();
  often.dispose();
  x.dispose();
});

test('kernels are tuned before a case is measured; a step that captured itself is prepared anew', async ({
  device,
}) => {
  let prepared = 0,
    disposed = 0;
  const x = keep(zeros(device, [64]));
  const of = (capture: 'replay' | 'none') => ({
    name: 'two',
    prepare: () => {
      prepared++;
      return {
        capture,
        step: () =>
          scope(() => {
            x.add(1);
          }),
        dispose: () => {
          disposed++;
        },
      };
    },
  });
  const tune =
    (measured: boolean) =>
    async (on: Device): Promise<boolean> => {
      assert.is(on, device);
      return Promise.resolve(measured);
    };
  await measure(device, of('none'), { ...SHORT, tune: tune(true) });
  assert.equal([prepared, disposed], [2, 2]);
  await measure(device, of('none'), { ...SHORT, tune: tune(false) });
  await measure(device, of('replay'), { ...SHORT, tune: tune(true) });
  assert.equal([prepared, disposed], [4, 4]);
  x.dispose();
});

test('tuning has a part of the time, and none where it is spent', async ({ device }) => {
  const asked: TuneOptions[] = [];
  const tuning = tuningOf(device);
  const { tune: own } = tuning;
  tuning.tune = (options: TuneOptions = {}) => {
    asked.push(options);
    return Promise.resolve(asked.length === 1 ? [{} as TuningResult] : []);
  };
  try {
    const tune = tuner(12.3456);
    assert.is(await tune(device), true);
    assert.is(await tune(device), false);
    assert.ok(asked.every(({ shipped, signal }) => shipped === true && signal instanceof AbortSignal));
    assert.is(await tuner(0.5)(device), false);
    assert.is(asked.length, 2);
  } finally {
    tuning.tune = own;
  }
});

test('a case that fails gives back what it made', async ({ device }) => {
  const generator = new Generator(device);
  const message = await measure(
    device,
    {
      name: 'fails',
      prepare: () => ({
        step: () => {
          throw new Error('no');
        },
        dispose: () => generator.dispose(),
      }),
    },
    SHORT,
  ).then(
    () => '',
    (error: Error) => error.message,
  );
  assert.is(message, 'no');
});

test('a step of each kind runs, forward, backward and training', async ({ device }) => {
  const find = (name: string, size: string) => allCases().find((c) => c.name === name && c.size === size)!;
  const picked = [
    find('selectiveScan backward', 'S 1×66'),
    find('causalConv1d + SiLU backward', 'S 1×66'),
    find('addRmsNorm backward', 'S 1×66'),
    find('x_proj backward', 'S 1×66'),
    find('gather of rows', 'S 1×66'),
    find('global norm', '2.8M'),
    find('DiS-N/2 training', '8×66'),
    find('quick start training', '16×18'),
    find('quick start training, not captured', '16×18'),
  ];
  for (const c of picked) {
    const prepared = await c.prepare(device);
    try {
      const m = await measure(
        device,
        { name: c.name, prepare: () => ({ ...prepared, dispose: () => {} }) },
        { batch: 1e-6, seconds: 0 },
      );
      assert.ok(m.dispatches >= 1, c.name);
    } finally {
      prepared.dispose();
    }
  }
  // The losses of the last step that was not captured may still be on their way.
  await new Promise((resolve) => {
    setTimeout(resolve, 200);
  });
});

test.run();
