import * as assert from 'uvu/assert';
import { Generator, ones, scope, tensor } from '../../core/index.ts';
import { Dropout, DropPath } from '../../nn/index.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('dropout');

/** Within five standard deviations of a binomial. */
const near = (count: number, n: number, p: number): boolean => Math.abs(count - n * p) < 5 * Math.sqrt(n * p * (1 - p));

test('Dropout leaves out a share p, scales the rest, and does so in the gradient', async ({ device }) => {
  const g = new Generator(device, 11);
  const x = tensor(
    device,
    uniform(4096).map((v) => v + 2),
    { shape: [64, 64], requiresGrad: true },
  );
  const host = await x.data();
  for (const p of [0.1, 0.5, 0.9]) {
    const layer = new Dropout(g, p);
    const y = scope(() => layer.forward(x));
    scope(() => y.sum().backward());
    const [out, gradient] = [await y.data(), await x.grad!.data()];
    const kept = Array.from(out).filter((v) => v !== 0).length;
    assert.ok(near(kept, 4096, 1 - p), `${kept} of 4096 kept at p = ${p}`);
    out.forEach((v, i) => {
      assert.ok(v === 0 || Math.abs(v - host[i] / (1 - p)) < 1e-5 * Math.abs(v), 'scaled');
      assert.ok(v === 0 ? gradient[i] === 0 : Math.abs(gradient[i] * (1 - p) - 1) < 1e-6, 'gradient');
    });
    x.grad = null;
    y.dispose();
  }
  x.dispose();
  g.dispose();
});

test('in evaluation, and at p = 0, x passes; at p = 1 nothing does; draws differ and can be repeated', async ({
  device,
}) => {
  const g = new Generator(device, 12);
  const x = ones(device, [256]);
  const layer = new Dropout(g);
  assert.is(layer.p, 0.5);
  assert.is(layer.eval().forward(x), x);
  assert.is(new Dropout(g, 0).forward(x), x);
  assert.is(new DropPath(g).forward(x), x);
  layer.train();
  const draws = scope(() => {
    const state = g.getState();
    const first = layer.forward(x),
      second = layer.forward(x);
    g.setState(state);
    return [first, second, layer.forward(x), new Dropout(g, 1).forward(x)];
  });
  const [first, second, again, none] = await Promise.all(draws.map((t) => t.data()));
  assert.not.equal(second, first);
  assert.equal(again, first);
  assert.ok(none.every((v) => v === 0));
  assert.throws(() => new Dropout(g, 1.5), /\[Dropout\] The probability is 1\.5, expected 0 to 1/);
  for (const t of [x, g, ...draws]) t.dispose();
});

test('DropPath leaves out whole samples', async ({ device }) => {
  const g = new Generator(device, 13);
  const x = ones(device, [512, 2, 3]);
  for (const [scaleByKeep, value] of [
    [true, 1 / 0.7],
    [false, 1],
  ] as const) {
    const y = scope(() => new DropPath(g, 0.3, { scaleByKeep }).forward(x));
    const out = Array.from(await y.data());
    const samples = Array.from({ length: 512 }, (_, i) => out.slice(6 * i, 6 * i + 6));
    assert.ok(samples.every((s) => s.every((v) => v === s[0]) && (s[0] === 0 || Math.abs(s[0] - value) < 1e-6)));
    assert.ok(near(samples.filter((s) => s[0] !== 0).length, 512, 0.7));
    y.dispose();
  }
  x.dispose();
  g.dispose();
});

test.run();
