// The public scan: arguments that are columns of one projection, gradients through the tape, both directions, f16, refusals.

import * as assert from 'uvu/assert';
import {
  DTypeError,
  grad,
  LimitError,
  noGrad,
  scope,
  ShapeError,
  tensor,
  zeros,
  type Device,
  type DType,
  type Tensor,
} from '../../core/index.ts';
import { selectiveScan, selectiveScanBidirectional, type ScanParameters } from '../../kernels/selective-scan/index.ts';
import { assertClose } from '../golden/support.ts';
import { scanReference } from '../reference/selectiveScan.ts';
import { gpuSuite, type GpuContext } from '../support.ts';
import { generator, randomCase, values, type ScanCase } from './scanCase.ts';

const test = gpuSuite('selectiveScan');

type Own = GpuContext['own'];

/** Parts (rows, widths[i]) side by side in one tensor (B, L, Σ widths), and the leaf views of it. */
function columns(
  device: Device,
  own: Own,
  { batch, length }: ScanCase,
  dtype: DType,
  parts: readonly Float32Array[],
): Tensor[] {
  const rows = batch * length;
  const widths = parts.map((part) => part.length / rows);
  const width = widths.reduce((a, b) => a + b, 0);
  const all = new Float32Array(rows * width);
  let start = 0;
  parts.forEach((part, i) => {
    for (let r = 0; r < rows; r++) all.set(part.subarray(r * widths[i], (r + 1) * widths[i]), r * width + start);
    start += widths[i];
  });
  return own(tensor(device, all, { shape: [batch, length, width], dtype }))
    .split(widths, 2)
    .map((t) => own(own(t).detach()).requiresGrad_());
}

interface OnDevice extends ScanParameters {
  z: Tensor;
  D: Tensor;
  deltaBias: Tensor;
}

function onDevice(device: Device, own: Own, c: ScanCase, dtype: DType = 'f32'): OnDevice {
  const { batch, length, channels, states } = c;
  const [u, z] = columns(device, own, c, dtype, [c.u, c.z!]);
  const [, B, C] = columns(device, own, c, dtype, [new Float32Array(batch * length * 3), c.B, c.C]);
  return {
    u,
    z,
    B,
    C,
    delta: own(tensor(device, c.delta, { shape: [batch, length, channels], dtype, requiresGrad: true })),
    A: own(tensor(device, c.A, { shape: [channels, states], requiresGrad: true })),
    D: own(tensor(device, c.D!, { requiresGrad: true })),
    deltaBias: own(tensor(device, c.deltaBias!, { requiresGrad: true })),
  };
}

const NAMES = ['u', 'delta', 'A', 'B', 'C', 'D', 'deltaBias', 'z'] as const;

/** The case as the device sees it after rounding to its type. */
async function seen(c: ScanCase, t: OnDevice): Promise<ScanCase> {
  const read = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;
  return {
    ...c,
    u: await read(t.u),
    delta: await read(t.delta),
    z: await read(t.z),
    B: await read(t.B),
    C: await read(t.C),
  };
}

for (const dtype of ['f32', 'f16'] as const) {
  test(
    `${dtype}: columns of a projection, all gradients`,
    { needs: dtype === 'f16' ? 'shader-f16' : undefined },
    async ({ device, own }) => {
      const c = randomCase(2, 9, 7, 16, { seed: 3 });
      const t = onDevice(device, own, c, dtype);
      const dout = own(tensor(device, values(c.u.length, generator(4)), { shape: [2, 9, 7], dtype }));
      const expected = scanReference(await seen(c, t), await dout.data());
      const { out, lastState } = selectiveScan({ ...t, deltaSoftplus: true, returnLastState: true });
      for (const t of [out, lastState]) own(t);
      assert.is(out.dtype, dtype);
      assert.not(lastState.requiresGrad);
      // f16 keeps 11 bits of each stored value; states and sums are f32.
      assertClose(await out.data(), expected.out, dtype === 'f16' ? 1e-3 : 2e-5, 'out');
      assertClose(await lastState.data(), expected.lastState, 2e-5, 'lastState');
      const gradients = grad(
        out,
        NAMES.map((name) => t[name]),
        { gradient: dout },
      ).map((g) => own(g!));
      for (const [i, name] of NAMES.entries())
        assertClose(
          await gradients[i].data(),
          expected.gradients[name],
          dtype === 'f16' ? 1e-3 : 5e-5,
          `gradient of ${name}`,
        );
    },
  );
}

test('both directions are the sum of two scans, and so are the gradients', async ({ device, own }) => {
  const c = randomCase(2, 9, 7, 16, { seed: 3 });
  const r: ScanCase = { ...randomCase(2, 9, 7, 16, { seed: 8, reverse: true }), z: c.z };
  const forward = onDevice(device, own, c);
  const reverse = onDevice(device, own, r);
  const upstream = values(c.u.length, generator(4));
  const dout = own(tensor(device, upstream, { shape: [2, 9, 7] }));
  const expected = [scanReference(c, upstream), scanReference(r, upstream)];
  const out = own(selectiveScanBidirectional({ forward, reverse, z: forward.z, deltaSoftplus: true }));
  assertClose(
    await out.data(),
    expected[0].out.map((y, i) => y + expected[1].out[i]),
    2e-5,
    'out',
  );
  const each = NAMES.slice(0, -1);
  const gradients = grad(out, [...each.map((n) => forward[n]), ...each.map((n) => reverse[n]), forward.z], {
    gradient: dout,
  }).map((g) => own(g!));
  for (const [i, name] of each.entries()) {
    assertClose(await gradients[i].data(), expected[0].gradients[name], 5e-5, `forward gradient of ${name}`);
    assertClose(
      await gradients[each.length + i].data(),
      expected[1].gradients[name],
      5e-5,
      `reverse gradient of ${name}`,
    );
  }
  assertClose(
    await gradients.at(-1)!.data(),
    expected[0].gradients.z.map((g, i) => g + expected[1].gradients.z[i]),
    5e-5,
    'gradient of z',
  );
});

test('gradients of a few arguments only, nothing left behind', async ({ device, own }) => {
  const c = randomCase(2, 9, 7, 16, { seed: 3 });
  const t = onDevice(device, own, c);
  const { A, ...rest } = t;
  const fixed = Object.fromEntries(
    Object.entries(rest).map(([name, x]) => [name, own((x as Tensor).detach())]),
  ) as Omit<OnDevice, 'A'>;
  const upstream = values(c.u.length, generator(4));
  const dout = own(tensor(device, upstream, { shape: [2, 9, 7] }));
  const before = device.memory();
  const gradient = scope(() => grad(selectiveScan({ ...fixed, A, deltaSoftplus: true }), [A], { gradient: dout })[0]!);
  assertClose(await gradient.data(), scanReference(c, upstream).gradients.A, 5e-5, 'gradient of A');
  gradient.dispose();
  noGrad(() => selectiveScan({ ...t, deltaSoftplus: true })).dispose();
  const after = device.memory();
  assert.is(after.liveTensors, before.liveTensors);
  assert.is(after.liveBytes, before.liveBytes);
});

test('gradients lie in one memory and stand alone: one can be written to, and others added to', async ({
  device,
  own,
}) => {
  const c = randomCase(2, 9, 7, 16, { seed: 3 });
  const t = onDevice(device, own, c);
  const upstream = values(c.u.length, generator(4));
  const gradient = own(tensor(device, upstream, { shape: [2, 9, 7] }));
  const expected = scanReference(c, upstream).gradients;
  const backward = (): void => scope(() => selectiveScan({ ...t, deltaSoftplus: true }).backward({ gradient }));
  backward();
  const { delta, ...others } = t;
  noGrad(() => scope(() => void delta.grad!.copy_(zeros(device, delta.shape))));
  for (const name of NAMES)
    if (name !== 'delta') assertClose(await others[name].grad!.data(), expected[name], 5e-5, `gradient of ${name}`);
  backward();
  assertClose(await delta.grad!.data(), expected.delta, 5e-5, 'gradient of delta, begun anew');
  assertClose(
    await t.u.grad!.data(),
    expected.u.map((g) => 2 * g),
    5e-5,
    'gradient of u, twice',
  );
  for (const name of NAMES) t[name].grad = null;
});

test('refuses what does not fit', ({ device }) =>
  scope(() => {
    const good = {
      u: zeros(device, [2, 3, 4]),
      delta: zeros(device, [2, 3, 4]),
      A: zeros(device, [4, 5]),
      B: zeros(device, [2, 3, 5]),
      C: zeros(device, [2, 3, 5]),
    };
    const refused = (
      change: Partial<Record<keyof OnDevice, Tensor>>,
      kind: new (...args: never[]) => Error,
      words: string,
    ): void => {
      assert.throws(
        () => selectiveScan({ ...good, ...change }),
        (e: Error) => e instanceof kind && e.message.startsWith('[selectiveScan] ') && e.message.includes(words),
      );
    };
    refused({ delta: zeros(device, [2, 3, 5]) }, ShapeError, 'delta has shape (2,3,5)');
    refused({ A: zeros(device, [5, 4]) }, ShapeError, 'A has shape (5,4)');
    refused({ B: zeros(device, [2, 3, 4]) }, ShapeError, 'B has shape (2,3,4)');
    refused({ D: zeros(device, [3]) }, ShapeError, 'D has shape (3,)');
    refused({ z: zeros(device, [2, 3, 4], 'i32') }, DTypeError, 'z is i32');
    refused({ A: zeros(device, [4, 129]) }, LimitError, '129 states');
  }));

test.run();
