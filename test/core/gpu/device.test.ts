// What a device says and does when something goes wrong, when it is measured, when tensors are lost, and when all is done.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { capture, defineKernel, openDevice, scope, tensor, type Device } from '../../../core/index.ts';
import { coarsenedGrid } from '../../../core/gpu/grid.ts';
import { uniform } from '../../support.ts';

const test = suite('device');

async function rejects(
  promise: Promise<unknown>,
  type: new (...args: never[]) => Error,
  pattern: RegExp,
): Promise<void> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, type);
    assert.match((error as Error).message, pattern);
    return;
  }
  assert.unreachable(`expected ${type.name}`);
}

const withDevice = async (
  run: (device: Device) => Promise<void> | void,
  options: core.DeviceOptions = {},
): Promise<void> => {
  const device = await openDevice(options);
  try {
    await run(device);
  } finally {
    device.destroy();
  }
};

test('a lost device is told to whoever waits, computes or reads, as a typed error', () =>
  withDevice(async (device) => {
    const x = tensor(device, [1, 2]);
    const step = capture(device, () => scope(() => x.add(1)));
    const reading = x.data();
    device.gpu.destroy(); // the loss comes from below, not from Device.destroy()
    const error = await device.lost;
    assert.instance(error, core.DeviceLostError);
    assert.match(
      error.message,
      /^\[device\] The GPU device was lost \(destroyed\): .*open a new device and load the last checkpoint/,
    );
    await rejects(reading, core.DeviceLostError, /was lost/);
    await rejects(x.data(), core.DeviceLostError, /was lost/);
    await rejects(device.synchronize(), core.DeviceLostError, /was lost/);
    assert.throws(
      () => x.add(1),
      (e: Error) => e instanceof core.DeviceLostError,
    );
    assert.throws(
      () => step.replay(),
      (e: Error) => e instanceof core.DeviceLostError,
    );
    for (const t of [x, step.result, step]) t.dispose();
  }));

test('a destroyed device says so at once; disposing goes on', () =>
  withDevice(async (device) => {
    const x = tensor(device, [1, 2]);
    const reading = x.data();
    device.destroy();
    device.destroy();
    await rejects(reading, core.DeviceLostError, /^\[device\] The device was destroyed/);
    assert.throws(() => x.add(1), /The device was destroyed/);
    x.dispose();
    assert.is(device.liveTensors, 0);
  }));

test('a kernel that asks for more than there is is refused by limit', () =>
  withDevice(
    (device) => {
      const kernel = defineKernel<{
        buffers?: number;
        threads?: number;
        bytes?: number;
        extension?: 'f16' | 'subgroups';
      }>('greedy', ({ buffers = 1, threads = 64, bytes = 0, extension }) => ({
        bindings: Array.from({ length: buffers }, (_, i) => ({
          name: `x${i}`,
          type: 'array<f32>',
          access: 'write' as const,
        })),
        workgroupSize: [threads],
        workgroupBytes: bytes,
        enable: extension ? [extension] : [],
        body: 'x0[0] = 1.0;',
      }));
      const x = core.zeros(device, [1]);
      const refused = (variant: Parameters<typeof kernel.source>[0], pattern: RegExp, operands = 1, groups = 1): void =>
        assert.throws(
          () =>
            device.run(
              kernel,
              variant,
              Array.from({ length: operands }, () => x),
              [],
              [groups],
            ),
          (e: Error) => e instanceof core.LimitError && pattern.test(e.message),
          String(pattern),
        );
      refused(
        { buffers: 9 },
        /^\[greedy\] This form of the kernel needs 9 storage buffers, the adapter allows 8; use its portable form/,
        9,
      );
      refused({ threads: 257 }, /needs 257 invocations a workgroup, the adapter allows 256/);
      refused({ bytes: 20000 }, /needs 20000 bytes of workgroup memory, the adapter allows 16384/);
      refused({ extension: 'f16' }, /needs the feature shader-f16; cast\(\) to f32/);
      refused({ extension: 'subgroups' }, /needs the feature subgroups/);
      refused(
        {},
        /^\[greedy\] A grid of 65536 × 1 × 1 workgroups, expected at most 65535 a dimension; use grid1d/,
        1,
        65536,
      );
      assert.throws(() => device.run(kernel, {}, [x, x], [], [1]), /^\[greedy\] 2 operands given, expected 1/);
      assert.throws(() => device.run(kernel, {}, [x], [1], [1]), /^\[greedy\] 1 parameters given, expected 0/);
      assert.throws(
        () => core.zeros(device, [2 ** 15, 2 ** 12]),
        /^\[allocate\] a f32 tensor of shape \(32768,4096\) takes 536870912 bytes, expected at most 134217728, the adapter's largest storage binding; use a smaller batch, or split the tensor/,
      );
    },
    { defaultLimits: true, without: ['shader-f16', 'subgroups'] },
  ));

test('more workgroups than a dimension has are spread over two', () =>
  withDevice(async (device) => {
    // 65,537 workgroups of 64 and a rest.
    const n = 65537 * 64 + 7;
    const [sum, last, picked, most] = scope(() => {
      const x = core.arange(device, 0, n, 1, 'i32'),
        odd = x.remainder(2),
        f = core.full(device, [n], 0.5);
      return [
        odd.sum(),
        x.slice(0, n - 3).clone(),
        x.indexSelect(0, tensor(device, Int32Array.of(0, n - 1, 65536 * 64))),
        f.reshape(n, 1).sum(1).sum(),
      ];
    });
    assert.equal(
      [await sum.item(), Array.from(await last.data()), Array.from(await picked.data()), await most.item()],
      [Math.floor(n / 2), [n - 3, n - 2, n - 1], [0, n - 1, 65536 * 64], n / 2],
    );
    // Rows that a workgroup each reduces, and a batch of products.
    const [rows, products] = scope(() => [
      core.ones(device, [65600, 40]).sum(1).sum(),
      core
        .ones(device, [65600, 1, 2])
        .matmul(core.ones(device, [65600, 2, 1]))
        .sum(),
    ]);
    assert.equal([await rows.item(), await products.item()], [65600 * 40, 65600 * 2]);
  }));

test('the profile tells GPU and host time of each kernel, as a table and as a trace', () =>
  withDevice(async (device) => {
    const profiler = new core.Profiler(device);
    const x = tensor(device, uniform(4096), { shape: [64, 64] });
    device.profiler = profiler;
    scope(() => {
      for (let i = 0; i < 300; i++) x.matmul(x).silu().add(1);
    });
    const step = capture(device, () => scope(() => x.exp()));
    step.replay();
    device.profiler = null;
    scope(() => x.cos());
    const rows = await profiler.rows();
    const row = (name: string): core.ProfileRow | undefined => rows.find((r) => r.name === name);
    assert.equal([row('silu')?.count, row('add')?.count, row('exp')?.count, row('cos')], [300, 300, 2, undefined]);
    assert.ok(rows.every((r) => r.gpu >= 0 && r.host > 0) && rows.some((r) => r.gpu > 0), JSON.stringify(rows));
    assert.ok(Math.abs(rows.reduce((s, r) => s + r.share, 0) - 1) < 1e-9);
    const lines = (await profiler.table()).split('\n');
    assert.match(lines[0], /^kernel +count +GPU ms +share +host ms$/);
    assert.match(lines.at(-1)!, /^all +902 +[\d.]+ +100\.0 % +[\d.]+$/);
    const trace = JSON.parse(await profiler.chromeTrace()) as {
      traceEvents: { name: string; ph: string; tid: number; ts: number; dur: number }[];
    };
    const events = trace.traceEvents.filter((e) => e.ph === 'X');
    assert.is(events.length, 2 * 902);
    assert.ok(events.every((e) => e.ts >= 0 && e.dur >= 0));
  }));

test('a profiler without timestamp queries is refused', () =>
  withDevice(
    (device) => {
      assert.throws(
        () => new core.Profiler(device),
        (e: Error) => e instanceof core.LimitError,
      );
    },
    { without: ['timestamp-query'] },
  ));

/** Collects garbage until `done`, and gives what was warned of meanwhile. */
async function collectUntil(done: () => boolean): Promise<string[]> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const warnings: string[] = [];
  const { warn } = console;
  console.warn = (text: string) => warnings.push(text);
  try {
    for (let i = 0; i < 50 && !done(); i++) {
      collect();
      await new Promise((resolve) => {
        setTimeout(resolve, 5);
      });
    }
  } finally {
    console.warn = warn;
  }
  return warnings;
}

test('tensors that nobody holds give their memory back, and are reported with the place where they were made', () =>
  withDevice(async (device) => {
    assert.match(device.leakReport(), /^No tensor was collected/);
    device.traceTensors = true;
    const lose = (): void => {
      for (let i = 0; i < 3; i++) tensor(device, uniform(66), { shape: [6, 11] });
    };
    lose();
    const kept = tensor(device, [1]);
    const warnings = await collectUntil(() => device.leakedTensors >= 3);
    assert.is(warnings.length, 1);
    assert.match(warnings[0], /Compute inside of scope\(\(\) => …\)/);
    const { leakedTensors, liveTensors, liveBytes } = device.memory();
    assert.equal([leakedTensors, liveTensors, liveBytes], [3, 1, 256]);
    assert.match(
      device.leakReport(),
      /^3 tensors were collected without dispose\(\); .*\n {2}3 × f32 \(6,11\), made at lose .*device\.test\.ts/,
    );
    kept.dispose();
  }));

test('sums and graphs without a scope take memory only until the collector runs; what is held stays right', () =>
  withDevice(async (device) => {
    const x = core.ones(device, [256, 1024]),
      w = core.full(device, [256, 1024], 2).requiresGrad_();
    const MB = 2 ** 20;
    const work = (): core.Tensor => {
      let y = x;
      for (let i = 0; i < 30; i++) y = y.add(1);
      // A graph that saves values, and one whose gradient was computed.
      w.mul(x).exp();
      w.mul(x).sum().backward();
      return y;
    };
    let y = work();
    assert.ok(device.memory().liveBytes > 30 * MB);
    await collectUntil(() => device.liveTensors <= 4);
    // x, w with its gradient, and y.
    assert.is(device.liveTensors, 4);
    assert.is(device.memory().liveBytes, 4 * MB);
    y = work();
    await collectUntil(() => device.liveTensors <= 4);
    assert.is(device.memory().liveBytes, 4 * MB);
    assert.ok(device.pool.created <= 80, `${device.pool.created} buffers`);
    assert.equal([(await y.data())[5], (await w.grad!.data())[5]], [31, 2]);
    for (const t of [x, w, y]) t.dispose();
    assert.is(device.memory().liveBytes, 0);
  }));

test('a process ends by itself when its work is done, whatever it leaves behind', () => {
  const core = fileURLToPath(new URL('../../../core/index.ts', import.meta.url));
  const cases: [last: string, status: number, output: RegExp][] = [
    ['', 0, /^\[2\. 3\.\]/],
    ['device.destroy();', 0, /^\[2\. 3\.\]/],
    ['t.data();', 0, /^\[2\. 3\.\]/],
    ['device.gpu.destroy();', 0, /^\[2\. 3\.\]/],
    ['throw new Error("at the end");', 1, /at the end/],
    ['process.exit(3);', 3, /^\[2\. 3\.\]/],
  ];
  for (const [last, status, output] of cases) {
    const program = `import { openDevice, tensor } from ${JSON.stringify(core)};
const device = await openDevice();
const t = tensor(device, [1, 2]).add(1);
console.log(await t.toText());
${last}`;
    const result = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.is(result.status, status, `${last}: ${result.signal ?? ''} ${result.stderr}`);
    assert.match(result.stdout + (status === 1 ? result.stderr : ''), output);
  }
});

test('a coarsened grid covers every item', () => {
  for (const [x, y] of [
    [1, 1],
    [16, 1],
    [17, 1],
    [65535, 1],
    [65535, 3],
    [40000, 2],
    [65535, 65535],
  ]) {
    const [items, nx, ny] = coarsenedGrid(x, y);
    assert.ok(
      items * nx * ny >= x * y && nx <= 65535 && ny <= 65535,
      `${x} × ${y} gave ${items} items an invocation of ${nx} × ${ny}`,
    );
    assert.ok(items * (nx * ny - ny) < x * y, `${x} × ${y}: ${nx} × ${ny} is more than a row too many`);
  }
  assert.equal(coarsenedGrid(0, 1).slice(1), [0, 1]);
});

test.run();
