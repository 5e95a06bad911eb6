// What fails is told to whoever made or reads it, and everything else goes on.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { capture, captureAhead, defineKernel, openDevice, scope, tensor, type Device } from '../../../core/index.ts';

const test = suite<{ device: Device; other: Device }>('faults');
test.before(async (context) => {
  context.device = await openDevice();
  context.other = await openDevice();
});
test.after(({ device, other }) => {
  device.destroy();
  other.destroy();
});

/** Adds a number to every element, or doesn't compile. */
const addKernel = defineKernel<{ body: string; declarations?: string }>('addTo', ({ body, declarations }) => ({
  bindings: [
    { name: 'x', type: 'array<f32>', access: 'read' },
    { name: 'y', type: 'array<f32>', access: 'write' },
  ],
  workgroupSize: [1],
  ...(declarations !== undefined && { declarations }),
  body,
}));
const RIGHT = { body: 'y[gid.x] = x[gid.x] + 1.0;' };
const WRONG = { body: '  let a = 1.0;\n  y[gid.x] = x[gid.x] + nonsense;' };

async function failure(work: Promise<unknown>): Promise<core.EngineError> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, core.EngineError);
    return error as core.EngineError;
  }
  return assert.unreachable('nothing failed') as never;
}

const values = async (t: core.Tensor): Promise<number[]> => Array.from(await t.data());

test('WGSL that does not compile fails what it should have written, in the lines of its author', async ({ device }) => {
  const x = tensor(device, [1, 2]),
    y = core.zeros(device, [2]),
    bystander = x.mul(3);
  device.run(addKernel, WRONG, [x, y], [], [2]);
  const derived = y.add(1).mul(2),
    after = x.add(5);
  const error = await failure(y.data());
  assert.instance(error, core.CompileError);
  assert.match(
    error.what,
    /^Line 2, column \d+ of the body \("y\[gid\.x\] = x\[gid\.x\] \+ nonsense;"\): unresolved value 'nonsense'$/,
  );
  assert.match(error.message, /^\[addTo\] Line 2[^]*\n +\d+ {2} {2}y\[gid\.x\] = x\[gid\.x\] \+ nonsense;/);
  // What was computed from it has no values either; everything else has.
  assert.is(await failure(derived.data()), error);
  assert.equal(
    [await values(bystander), await values(after)],
    [
      [3, 6],
      [6, 7],
    ],
  );
  // The kernel is known to be wrong now, and so is its result.
  assert.throws(
    () => device.run(addKernel, WRONG, [x, y], [], [2]),
    (e: unknown) => e === error,
  );
  assert.throws(
    () => y.add(1),
    (e: unknown) => e === error,
  );
  await device.synchronize();
  // The same memory, written by a kernel that is right.
  device.run(addKernel, RIGHT, [x, y], [], [2]);
  assert.equal(await values(y), [2, 3]);
  for (const t of [x, y, bystander, derived, after]) t.dispose();
});

test('a mistake in the declarations is told in their lines, and several at once', async ({ device }) => {
  const y = core.zeros(device, [1]),
    x = core.zeros(device, [1]);
  device.run(
    addKernel,
    { declarations: '// adds\nfn f(a: f32) -> f32 { return a + b; }', body: 'y[0] = f(x[0]);' },
    [x, y],
    [],
    [1],
  );
  const error = await failure(y.data());
  assert.match(error.what, /^Line 2, column \d+ of the declarations \("fn f\(a: f32\) .*unresolved value 'b'/);
  const twice = defineKernel<object>('module', () => ({
    bindings: [{ name: 'y', type: 'array<nothing>', access: 'write' }],
    workgroupSize: [1],
    body: '  y[0] = 1.0;',
  }));
  device.run(twice, {}, [y], [], [1]);
  assert.match(
    (await failure(y.data())).what,
    /^Line 1, column \d+ of the module \("@group\(0\).*unresolved type 'nothing'/,
  );
  x.dispose();
  y.dispose();
});

test('a synchronize tells of failed work that nobody read, once', async ({ device }) => {
  const x = tensor(device, [1]),
    y = core.zeros(device, [1]);
  device.run(addKernel, { body: 'y[0] = unread;' }, [x, y], [], [1]);
  assert.match((await failure(device.synchronize())).message, /unresolved value 'unread'/);
  await device.synchronize();
  x.dispose();
  y.dispose();
});

test('a batch that WebGPU refuses fails with all that it wrote, and the next one runs', async ({ device }) => {
  const x = tensor(device, [1, 2]),
    y = core.zeros(device, [2]);
  await device.synchronize();
  // Three elements of 16 bytes are needed, there are 8 bytes: WebGPU notices when the commands are submitted.
  const wide = defineKernel<object>('wide', () => ({
    bindings: [{ name: 'y', type: 'array<vec4f, 3>', access: 'write' }],
    workgroupSize: [1],
    body: 'y[0] = vec4f(1.0);',
  }));
  device.run(wide, {}, [y], [], [1]);
  const error = await failure(y.data());
  assert.instance(error, core.GpuError);
  assert.match(error.what, /wide|binding|size/i);
  const sum = x.add(1);
  assert.equal(await values(sum), [2, 3]);
  for (const t of [x, y, sum]) t.dispose();
});

test('an error that belongs to no work is told to the next who waits, once', async ({ device }) => {
  const x = tensor(device, [1, 2]);
  device.gpu.createBuffer({ size: 16, usage: 0x1 | 0x40 }); // MAP_READ with UNIFORM is invalid
  const error = await failure(x.data());
  assert.instance(error, core.GpuError);
  assert.match(error.message, /^\[device\] .*usage/i);
  const y = x.add(1);
  assert.equal(
    [await values(x), await values(y)],
    [
      [1, 2],
      [2, 3],
    ],
  );
  x.dispose();
  y.dispose();
});

test('a captured step with a kernel that does not compile says so, also when it is compiled ahead', async ({
  device,
}) => {
  const x = tensor(device, [1]),
    y = core.zeros(device, [1]);
  const broken = (name: string): (() => void) => {
    const body = `y[0] = ${name};`;
    return () => device.run(addKernel, { body }, [x, y], [], [1]);
  };
  const step = capture(device, broken('now'));
  assert.match((await failure(y.data())).message, /unresolved value 'now'/);
  assert.throws(() => step.replay(), /unresolved value 'now'/);
  step.dispose();
  assert.match((await failure(captureAhead(device, broken('ahead')))).message, /unresolved value 'ahead'/);
  const good = capture(device, () => device.run(addKernel, RIGHT, [x, y], [], [1]));
  good.replay();
  assert.equal(await values(y), [2]);
  good.dispose();
  x.dispose();
  y.dispose();
});

test('tensors of two devices are refused by name before anything runs', async ({ device, other }) => {
  const x = tensor(device, [1, 2]),
    foreign = tensor(other, [3, 4]),
    matrix = tensor(other, [[1], [1]]);
  const before = [device.stream.dispatches, other.stream.dispatches, device.liveTensors, other.liveTensors];
  const cases: [string, () => unknown][] = [
    ['add', () => x.add(foreign)],
    ['matmul', () => x.matmul(matrix)],
    ['concat', () => core.concat([x, foreign])],
    ['where', () => core.where(x.gt(1), x, foreign)],
    ['fuse', () => core.fuse((a, b) => a.mul(b))(x, foreign)],
    ['gather', () => x.indexSelect(0, foreign.cast('i32'))],
  ];
  for (const [op, run] of cases)
    scope(() =>
      assert.throws(
        run,
        (e: core.EngineError) => e instanceof core.ValueError && e.operation === op && /another device/.test(e.message),
        op,
      ),
    );
  assert.throws(() => x.setData(foreign), /^\[setData\] The other tensor lies on another device/);
  assert.throws(
    () => device.run(addKernel, RIGHT, [x, foreign], [], [1]),
    /^\[addTo\] Operand y lies on another device, expected memory of the device that runs the kernel; copy it/,
  );
  assert.equal([device.liveTensors, other.liveTensors], before.slice(2));
  assert.equal(
    [await values(x), await values(foreign)],
    [
      [1, 2],
      [3, 4],
    ],
  );
  for (const t of [x, foreign, matrix]) t.dispose();
});

test('an operand that a kernel would misread is refused by name, and dense() makes one that it reads', async ({
  device,
}) => {
  const x = tensor(device, [
    [1, 2],
    [3, 4],
  ]);
  const turned = x.T,
    row = x.slice(0, 1, 2),
    y = core.zeros(device, [4]);
  const { dispatches } = device.stream;
  assert.throws(
    () => device.run(addKernel, RIGHT, [turned, y], [], [4]),
    /^\[addTo\] Operand x is a view of shape \(2,2\) with strides \(1,2\), expected elements in row-major order; pass dense\(x\)/,
  );
  const alignment = device.limits.minStorageBufferOffsetAlignment;
  assert.throws(
    () => device.run(addKernel, RIGHT, [row, y], [], [2]),
    new RegExp(`^\\[addTo\\] Operand x begins at byte 8, expected a multiple of ${alignment}, .*; pass dense\\(x\\)`),
  );
  assert.throws(
    () => device.run(addKernel, RIGHT, [{ storage: x.storage, byteOffset: 16 * alignment }, y], [], [2]),
    /expected a place in its storage of 16 bytes/,
  );
  assert.is(device.stream.dispatches, dispatches);
  scope(() => device.run(addKernel, RIGHT, [core.dense(turned), y], [], [4]));
  assert.equal(await values(y), [2, 4, 3, 5]);
  scope(() => device.run(addKernel, RIGHT, [core.dense(row), y], [], [2]));
  assert.equal(await values(y), [4, 5, 3, 5]);
  // A kernel that takes strides says so.
  device.run(addKernel, RIGHT, [{ storage: turned.storage, byteOffset: 0 }, y], [], [4]);
  assert.equal(await values(y), [2, 3, 4, 5]);
  for (const t of [x, turned, row, y]) t.dispose();
});

test.run();
