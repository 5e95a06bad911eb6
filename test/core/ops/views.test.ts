// Chains of views, drawn at random, against index arithmetic on plain arrays: values, gradients, and that nothing is copied where
// strides can say it.

import * as assert from 'uvu/assert';
import { grad, gradcheck, numelOf, scope, tensor, type Tensor } from '../../../core/index.ts';
import { at, build, type NdArray } from '../../reference/array.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('views');

type Draw = (below: number) => number;

function draws(seed: number): Draw {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** One step: the same on both, or null where it doesn't apply. */
type Step = (
  draw: Draw,
  shape: readonly number[],
) => { name: string; onTensor: (x: Tensor) => Tensor; onArray: (x: NdArray) => NdArray } | null;

const steps: Step[] = [
  (draw, shape) => {
    const axes = shape.map((_, i) => i).sort(() => draw(3) - 1);
    return {
      name: `permute(${axes})`,
      onTensor: (x) => x.permute(...axes),
      onArray: (x) =>
        build(
          axes.map((a) => shape[a]),
          (i) =>
            at(
              x,
              axes.map((_, d) => i[axes.indexOf(d)]),
            ),
        ),
    };
  },
  (draw, shape) => {
    if (!shape.length) return null;
    const axis = draw(shape.length),
      begin = draw(shape[axis] + 1),
      end = begin + draw(shape[axis] - begin + 1),
      step = 1 + draw(3);
    const count = Math.ceil((end - begin) / step);
    return {
      name: `slice(${axis},${begin},${end},${step})`,
      onTensor: (x) => x.slice(axis, begin, end, step),
      onArray: (x) =>
        build(
          shape.map((s, d) => (d === axis ? count : s)),
          (i) =>
            at(
              x,
              i.map((v, d) => (d === axis ? begin + v * step : v)),
            ),
        ),
    };
  },
  (draw, shape) => {
    const axes = shape.map((_, i) => i).filter(() => draw(2) === 0);
    return {
      name: `flip(${axes})`,
      onTensor: (x) => x.flip(...axes),
      onArray: (x) =>
        build(shape, (i) =>
          at(
            x,
            i.map((v, d) => (axes.includes(d) ? shape[d] - 1 - v : v)),
          ),
        ),
    };
  },
  (draw, shape) => {
    const to = [
      ...Array.from({ length: draw(2) }, () => 1 + draw(3)),
      ...shape.map((s) => (s === 1 ? 1 + draw(3) : s)),
    ];
    return to.length > 5
      ? null
      : { name: `expand(${to})`, onTensor: (x) => x.expand(...to), onArray: (x) => build(to, (i) => at(x, i)) };
  },
  (draw, shape) => {
    // The same elements in another split of their number.
    let rest = numelOf(shape);
    const to: number[] = [];
    while (to.length < 4 && rest > 1) {
      const divisors = Array.from({ length: rest }, (_, i) => i + 1).filter((d) => rest % d === 0);
      const size = divisors[draw(divisors.length)];
      to.push(size);
      rest /= size;
    }
    to.push(rest);
    return { name: `reshape(${to})`, onTensor: (x) => x.reshape(...to), onArray: (x) => ({ shape: to, data: x.data }) };
  },
  (draw, shape) => {
    const axis = draw(shape.length + 1);
    return shape.length > 4
      ? null
      : {
          name: `unsqueeze(${axis})`,
          onTensor: (x) => x.unsqueeze(axis),
          onArray: (x) => ({ shape: [...shape.slice(0, axis), 1, ...shape.slice(axis)], data: x.data }),
        };
  },
  (_draw, shape) => ({
    name: 'squeeze()',
    onTensor: (x) => x.squeeze(),
    onArray: (x) => ({ shape: shape.filter((s) => s !== 1), data: x.data }),
  }),
  (draw, shape) => {
    if (shape.length < 2 || !numelOf(shape)) return null;
    const axis = draw(shape.length),
      index = draw(shape[axis]);
    return {
      name: `select(${axis},${index})`,
      onTensor: (x) => x.select(axis, index),
      onArray: (x) =>
        build(
          shape.filter((_, d) => d !== axis),
          (i) => at(x, [...i.slice(0, axis), index, ...i.slice(axis)]),
        ),
    };
  },
];

test('chains of views hold the right values, and give the right gradients', async ({ device }) => {
  for (let seed = 1; seed <= 120; seed++) {
    const draw = draws(seed);
    const shape = Array.from({ length: 1 + draw(4) }, () => [1, 2, 3, 5, 7, 4, 8][draw(7)]);
    // The array holds the places of the elements, so that it tells where a gradient goes, too.
    let array = build(shape, (i) => i.reduce((flat, v, d) => flat * shape[d] + v, 0));
    const names: string[] = [],
      chain: ((x: Tensor) => Tensor)[] = [];
    for (let k = 0; k < 6; k++) {
      const step = steps[draw(steps.length)](draw, array.shape);
      if (!step || numelOf(array.shape) > 2000) continue;
      names.push(step.name);
      chain.push(step.onTensor);
      array = step.onArray(array);
    }
    const label = `${seed}: (${shape}) ${names.join(' ')}`;
    const host = uniform(numelOf(shape), seed),
      weights = uniform(array.data.length, seed + 1);
    const expected = new Float64Array(host.length);
    array.data.forEach((place, i) => {
      expected[place] += weights[i];
    });
    const x = tensor(device, host, { shape, requiresGrad: true });
    const [y, doubled, g] = scope(() => {
      const view = chain.reduce((t, fn) => fn(t), x);
      const [gradient] = grad(view.mul(tensor(device, weights, { shape: array.shape })).sum(), [x], {
        retainGraph: true,
      });
      return [view.detach(), view.detach().add(1), gradient!];
    });
    assert.equal(y.shape, [...array.shape], label);
    const values = Float32Array.from(array.data, (place) => host[place]);
    assert.equal(await y.data(), values, label);
    assertClose(
      await doubled.data(),
      values.map((v) => v + 1),
      1e-6,
      label,
    );
    assertClose(await g.data(), expected, 1e-5, label);
    for (const t of [x, y, doubled, g]) t.dispose();
  }
});

test('views move no data', ({ device }) => {
  const x = tensor(device, uniform(2 * 3 * 4 * 5), { shape: [2, 3, 4, 5] });
  const dispatches = device.stream.dispatches,
    bytes = device.memory().liveBytes;
  scope(() => {
    const views = [
      x.permute(3, 1, 0, 2),
      x.T,
      x.slice(2, 1, 4, 2),
      x.flip(0, 3),
      x.reshape(6, 20),
      x.unsqueeze(1).expand(2, 7, 3, 4, 5),
      x.select(1, -1),
      ...x.split(3, 3),
      ...x.chunk(2, 2),
      x.flatten(1, 2),
      x.permute(2, 0, 1, 3).reshape(4, 6, 5),
      x.slice(3, 1, 3).reshape(24, 2),
      x.permute(2, 3, 0, 1).flatten(0, 1),
      x.flip(1).reshape(2, 3, 20),
      x.detach(),
      x.alias(),
      x.squeeze(),
      x.contiguous(),
    ];
    assert.is(
      views.every((v) => v.storage === x.storage),
      true,
    );
  });
  assert.is(device.stream.dispatches, dispatches);
  assert.is(device.memory().liveBytes, bytes);
  x.dispose();
});

test('a view keeps the memory of what it was made from', async ({ device }) => {
  const x = tensor(device, [
    [1, 2],
    [3, 4],
  ]);
  const row = x.select(0, 1);
  x.dispose();
  assert.equal(Array.from(await row.data()), [3, 4]);
  row.dispose();
});

test('empty tensors go through everything that moves or joins', async ({ device }) => {
  const shapes = scope(() => {
    const x = tensor(device, new Float32Array(0), { shape: [2, 0, 3] }),
      y = tensor(device, uniform(6), { shape: [2, 1, 3] });
    return [
      x.permute(2, 0, 1),
      x.reshape(0, 7),
      x.reshape(3, -1, 2),
      x.flip(1),
      x.expand(4, 2, 0, 3),
      x.slice(0, 1),
      x.add(1),
      x.mul(x).exp(),
      x.sum(0),
      x.clone(),
      x.pad([
        [0, 0],
        [1, 0],
        [0, 0],
      ]),
      x.matmul(x.transpose(1, 2)),
      x.transpose(1, 2).matmul(x),
      y.slice(1, 1),
      y.slice(0, 5, 9),
      x.softmax(2),
      x.cumsum(1),
      x.gather(1, tensor(device, new Int32Array(0), { shape: [2, 0, 3] })),
      x.split([0, 2])[0],
    ].map((t) => t.shape);
  });
  assert.equal(shapes, [
    [3, 2, 0],
    [0, 7],
    [3, 0, 2],
    [2, 0, 3],
    [4, 2, 0, 3],
    [1, 0, 3],
    [2, 0, 3],
    [2, 0, 3],
    [0, 3],
    [2, 0, 3],
    [2, 1, 3],
    [2, 0, 0],
    [2, 3, 3],
    [2, 0, 3],
    [0, 1, 3],
    [2, 0, 3],
    [2, 0, 3],
    [2, 0, 3],
    [0, 0, 3],
  ]);
  const joined = scope(() => {
    const x = tensor(device, new Float32Array(0), { shape: [0, 2] }),
      y = tensor(device, [[1, 2]]);
    return [y.detach(), x.T.matmul(x)];
  });
  assert.equal(await Promise.all(joined.map((t) => t.tolist())), [
    [[1, 2]],
    [
      [0, 0],
      [0, 0],
    ],
  ]);
  joined.forEach((t) => t.dispose());
  const empty = tensor(device, new Float32Array(0), { shape: [0, 2], requiresGrad: true }),
    w = tensor(device, uniform(6), { shape: [2, 3] });
  await gradcheck((v) => empty.matmul(v).sum().add(v.sum()), [w]);
  const g = scope(() => grad(empty.exp().sum(), [empty])[0]!);
  assert.equal(g.shape, [0, 2]);
  for (const t of [empty, w, g]) t.dispose();
});

test.run();
