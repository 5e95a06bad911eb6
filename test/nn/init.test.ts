import * as assert from 'uvu/assert';
import { empty, Generator, scope, zeros, type Tensor } from '../../core/index.ts';
import { init, parameter } from '../../nn/index.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('init');

/** (out, in, kH, kW): fan-in 8·15, fan-out 24·15. */
const SHAPE = [24, 8, 3, 5];
const COUNT = 2880,
  FAN_IN = 120,
  FAN_OUT = 360;

interface Moments {
  mean: number;
  std: number;
  low: number;
  high: number;
}

async function moments(t: Tensor): Promise<Moments> {
  const values = Array.from(await t.data());
  const mean = values.reduce((s, v) => s + v, 0) / values.length;
  return {
    mean,
    std: Math.sqrt(values.reduce((s, v) => s + (v - mean) ** 2, 0) / values.length),
    low: Math.min(...values),
    high: Math.max(...values),
  };
}

type Fill = (t: Tensor, g: Generator) => Tensor;

const uniforms: Record<string, [bound: number, fill: Fill]> = {
  xavierUniform: [Math.sqrt(6 / (FAN_IN + FAN_OUT)), (t, g) => init.xavierUniform(t, g)],
  'xavierUniform with a gain': [
    (5 / 3) * Math.sqrt(6 / (FAN_IN + FAN_OUT)),
    (t, g) => init.xavierUniform(t, g, { gain: init.gain('tanh') }),
  ],
  kaimingUniform: [Math.sqrt(6 / FAN_IN), (t, g) => init.kaimingUniform(t, g)],
  'kaimingUniform as in Linear': [1 / Math.sqrt(FAN_IN), (t, g) => init.kaimingUniform(t, g, { a: Math.sqrt(5) })],
  'kaimingUniform by fan-out': [
    Math.sqrt(3 / FAN_OUT),
    (t, g) => init.kaimingUniform(t, g, { mode: 'fanOut', nonlinearity: 'linear' }),
  ],
};

test('uniform ones fill their range', async ({ device }) => {
  const g = new Generator(device, 21);
  const t = empty(device, SHAPE);
  for (const [name, [bound, fill]] of Object.entries(uniforms)) {
    assert.is(fill(t, g), t);
    const { mean, std, low, high } = await moments(t);
    assert.ok(
      -bound <= low && low < -0.99 * bound && 0.99 * bound < high && high <= bound,
      `${name}: ${low} to ${high}, bound ${bound}`,
    );
    assert.ok(
      Math.abs(mean) < (5 * bound) / Math.sqrt(3 * COUNT) && Math.abs(std / (bound / Math.sqrt(3)) - 1) < 0.05,
      name,
    );
  }
  init.uniform(t, g, { low: 2, high: 3 });
  const { low, high } = await moments(t);
  assert.ok(low >= 2 && high <= 3);
  t.dispose();
  g.dispose();
});

const normals: Record<string, [std: number, fill: Fill]> = {
  normal: [0.5, (t, g) => init.normal(t, g, { std: 0.5 })],
  xavierNormal: [Math.sqrt(2 / (FAN_IN + FAN_OUT)), (t, g) => init.xavierNormal(t, g)],
  kaimingNormal: [Math.sqrt(2 / FAN_IN), (t, g) => init.kaimingNormal(t, g, { nonlinearity: 'relu' })],
  'kaimingNormal by fan-out': [Math.sqrt(2 / FAN_OUT), (t, g) => init.kaimingNormal(t, g, { mode: 'fanOut' })],
};

test('normal ones have their standard deviation, and reach beyond three of them', async ({ device }) => {
  const g = new Generator(device, 22);
  const t = empty(device, SHAPE);
  for (const [name, [expected, fill]] of Object.entries(normals)) {
    fill(t, g);
    const { mean, std, low, high } = await moments(t);
    assert.ok(
      Math.abs(mean) < (5 * expected) / Math.sqrt(COUNT) && Math.abs(std / expected - 1) < 0.07,
      `${name}: ${mean} ± ${std}, expected ± ${expected}`,
    );
    assert.ok(low < -2.8 * expected && high > 2.8 * expected, name);
  }
  t.dispose();
  g.dispose();
});

test('truncNormal has the truncated distribution', async ({ device }) => {
  const g = new Generator(device, 23);
  const t = empty(device, [40000]);
  // Share of a normal distribution below -1, -0.5, 0.25, 1.5, from tables.
  const phi: [number, number][] = [
    [-1, 0.158655],
    [-0.5, 0.308538],
    [0.25, 0.598706],
    [1.5, 0.933193],
  ];
  const [toLow, toHigh] = [0.02275, 0.97725];
  init.truncNormal(t, g, { mean: 0.1, std: 0.02, a: 0.06, b: 0.14 });
  const values = Array.from(await t.data(), (v) => (v - 0.1) / 0.02);
  assert.ok(values.every((v) => Math.abs(v) <= 2 + 1e-5));
  for (const [z, share] of phi) {
    const expected = (share - toLow) / (toHigh - toLow);
    const found = values.filter((v) => v < z).length / values.length;
    assert.ok(
      Math.abs(found - expected) < 5 * Math.sqrt((expected * (1 - expected)) / values.length),
      `below ${z}: ${found}, expected ${expected}`,
    );
  }
  // Without bounds that bind it is the normal distribution itself, tails included.
  init.truncNormal(t, g, { a: -9, b: 9 });
  const { mean, std, low, high } = await moments(t);
  assert.ok(
    Math.abs(mean) < 0.025 && Math.abs(std - 1) < 0.02 && low < -3.5 && high > 3.5 && low > -6 && high < 6,
    `${mean} ± ${std}, ${low} to ${high}`,
  );
  assert.throws(() => init.truncNormal(t, g, { a: 1, b: 1 }), /expected a < b and std > 0/);
  t.dispose();
  g.dispose();
});

test('constants; a parameter stays one; vectors have no fans', async ({ device }) => {
  const g = new Generator(device, 24);
  const p = scope(() => parameter(zeros(device, [2, 3])));
  assert.equal(Array.from(await init.ones(p).data()), [1, 1, 1, 1, 1, 1]);
  assert.equal(Array.from(await init.constant(p, -2.5).data()), [-2.5, -2.5, -2.5, -2.5, -2.5, -2.5]);
  assert.equal(Array.from(await init.zeros(p).data()), [0, 0, 0, 0, 0, 0]);
  assert.ok(p.requiresGrad);
  assert.equal(init.fans(SHAPE), { fanIn: FAN_IN, fanOut: FAN_OUT });
  assert.throws(
    () => init.fans([7]),
    '[init] A tensor of shape (7,) has no fan-in and fan-out, expected at least two dimensions.',
  );
  p.dispose();
  g.dispose();
});

test.run();
