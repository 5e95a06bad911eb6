import * as assert from 'uvu/assert';
import { grad, linear, scope, tensor, zeros, type Device, type FloatDType, type Tensor } from '../../core/index.ts';
import { causalConv1d, mambaInner, selectiveScanBidirectional, type MambaDirection } from '../../kernels/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

interface Case {
  batch: number;
  length: number;
  inner: number;
  states: number;
  rank: number;
  taps: number;
  bias: boolean;
}

function argumentsOf(
  device: Device,
  c: Case,
  dtype: FloatDType,
): { xz: Tensor; forward: MambaDirection; reverse: MambaDirection; leaves: Tensor[] } {
  let seed = 1;
  const leaves: Tensor[] = [];
  const leaf = (shape: number[], scale: number, type: FloatDType = 'f32'): Tensor => {
    const data = uniform(
      shape.reduce((a, b) => a * b),
      seed++,
    ).map((v) => v * scale);
    leaves.push(tensor(device, data, { shape, dtype: type, requiresGrad: true }));
    return leaves.at(-1)!;
  };
  const xz = leaf([c.batch, c.length, 2 * c.inner], 1, dtype);
  const direction = (): MambaDirection => ({
    convWeight: leaf([c.inner, c.taps], 0.6),
    convBias: c.bias ? leaf([c.inner], 0.4) : null,
    xProj: leaf([c.rank + 2 * c.states, c.inner], 0.5, dtype),
    dtProj: leaf([c.inner, c.rank], 0.5, dtype),
    dtBias: leaf([c.inner], 1),
    aLog: leaf([c.inner, c.states], 1),
    D: leaf([c.inner], 1),
  });
  return { xz, forward: direction(), reverse: direction(), leaves };
}

/** The same by the operations that it is made of. */
function composed(xz: Tensor, directions: Record<'forward' | 'reverse', MambaDirection>): Tensor {
  const [x, z] = xz.split(xz.shape[2] / 2, 2);
  const scanned = (direction: 'forward' | 'reverse') => {
    const d = directions[direction];
    const rank = d.dtProj.shape[1],
      states = d.aLog.shape[1];
    const u = causalConv1d({ x, weight: d.convWeight, bias: d.convBias, activation: 'silu', direction });
    const [dt, B, C] = linear(u, d.xProj).split([rank, states, states], 2);
    return { u, delta: linear(dt, d.dtProj), A: d.aLog.exp().neg(), B, C, D: d.D, deltaBias: d.dtBias };
  };
  return selectiveScanBidirectional({
    forward: scanned('forward'),
    reverse: scanned('reverse'),
    z,
    deltaSoftplus: true,
  });
}

const CASES: Case[] = [
  { batch: 2, length: 37, inner: 24, states: 16, rank: 3, taps: 4, bias: true },
  { batch: 1, length: 1, inner: 5, states: 3, rank: 1, taps: 3, bias: false },
  { batch: 3, length: 16, inner: 65, states: 16, rank: 5, taps: 2, bias: true },
];

// With all features, and with the eight storage buffers a stage that every adapter has.
for (const [name, options] of [
  ['all features', {}],
  ['default limits', { defaultLimits: true }],
] as const) {
  const test = gpuSuite(`mambaInner, ${name}`, { device: options });
  for (const dtype of ['f32', 'f16'] as const) {
    // Drivers on the CPU take seconds to compile a scan: f16 and the limits are tested on one case.
    for (const c of dtype === 'f16' || name === 'default limits' ? CASES.slice(0, 1) : CASES) {
      test(`${dtype} is what it is made of, with all gradients: ${JSON.stringify(c)}`, async ({ device }) => {
        if (dtype === 'f16' && !device.has('shader-f16')) return;
        const results = scope(() => {
          const { xz, forward, reverse, leaves } = argumentsOf(device, c, dtype);
          const gradient = tensor(device, uniform(c.batch * c.length * c.inner, 99), {
            shape: [c.batch, c.length, c.inner],
            dtype,
          });
          return [mambaInner({ xz, forward, reverse }), composed(xz, { forward, reverse })].map((y) => [
            y,
            ...grad(y, leaves, { gradient }),
          ]);
        });
        for (const [i, actual] of results[0].entries()) {
          // In f16 the composition rounds more often.
          assertClose(await actual!.data(), await results[1][i]!.data(), dtype === 'f16' ? 1e-2 : 1e-5, `tensor ${i}`);
        }
        for (const t of results.flat()) t!.dispose();
      });
    }
  }

  if (name === 'default limits') {
    test.run();
    continue;
  }

  test('a batch whose gradients exceed the largest binding goes in parts', async ({ open }) => {
    const device = await open({ backend: 'null', defaultLimits: true });
    const [batch, length, inner, states, rank] = [30, 258, 736, 16, 23];
    assert.ok(6 * batch * length * inner * 4 > device.limits.maxStorageBufferBindingSize);
    scope(() => {
      const { xz, forward, reverse } = argumentsOf(
        device,
        { batch, length, inner, states, rank, taps: 4, bias: true },
        'f32',
      );
      const y = mambaInner({ xz, forward, reverse });
      assert.equal(y.shape, [batch, length, inner]);
      const [dx, dw] = grad(y, [xz, reverse.xProj], { gradient: y.onesLike() });
      assert.equal([dx!.shape, dw!.shape], [xz.shape, reverse.xProj.shape]);
    });
    await device.synchronize();
  });

  test('frozen weights get no gradient', ({ device }) => {
    scope(() => {
      const { xz, forward, reverse } = argumentsOf(device, CASES[1], 'f32');
      const frozen = { ...forward, xProj: forward.xProj.detach(), dtProj: forward.dtProj.detach() };
      const [dx, dA] = grad(mambaInner({ xz, forward: frozen, reverse }).sum(), [xz, forward.aLog]);
      assert.equal([dx!.shape, dA!.shape], [xz.shape, forward.aLog.shape]);
    });
  });

  test('wrong arguments are named', ({ device }) => {
    scope(() => {
      const { xz, forward, reverse } = argumentsOf(device, CASES[1], 'f32');
      const fails = (change: Partial<MambaDirection>, message: string): void =>
        assert.throws(() => mambaInner({ xz, forward, reverse: { ...reverse, ...change } }), message);
      fails(
        { D: zeros(device, [4]) },
        '[mambaInner] D of the reverse direction has shape (4,), expected (5,) with xz (1,1,10).',
      );
      fails(
        { convBias: zeros(device, [5]) },
        '[mambaInner] One direction has a convBias, expected one for both or for none.',
      );
      assert.throws(
        () => mambaInner({ xz: zeros(device, [1, 2, 3]), forward, reverse }),
        '[mambaInner] xz has shape (1,2,3), expected (batch, length, 2 · inner width), none of them 0.',
      );
    });
  });
  test.run();
}
