// The tape: what is recorded, what is freed, where gradients go, and what is said when they can't.

import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import {
  backward,
  detectAnomaly,
  grad,
  gradcheck,
  noGrad,
  scope,
  tensor,
  valueAndGrad,
  type Tensor,
} from '../../../core/index.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('autograd');

const values = async (t: Tensor | null): Promise<number[]> => Array.from(await t!.data());

test('a value used in many places gets the sum of its gradients', async ({ device }) => {
  const x = tensor(device, [2], { requiresGrad: true });
  const g = scope(() => {
    let y: Tensor = x;
    for (let i = 0; i < 10; i++) y = y.add(y);
    return grad(y.add(x.mul(x)), [x])[0]!;
  });
  assert.equal(await values(g), [1028]);
  x.dispose();
  g.dispose();
});

test('gradients of intermediate values, of one of several outputs, and of what has no part in it', async ({
  device,
}) => {
  const x = tensor(device, [1, 2, 3, 4], { requiresGrad: true }),
    other = tensor(device, [1], { requiresGrad: true });
  const [gy, gx, none, first] = scope(() => {
    const y = x.square(),
      z = y.sum();
    const [a, b, c] = grad(z, [y, x, other], { allowUnused: true });
    return [a, b, c, grad(x.split(1)[2].sum(), [x])[0]];
  });
  assert.equal(
    [await values(gy), await values(gx), none, await values(first)],
    [[1, 1, 1, 1], [2, 4, 6, 8], null, [0, 0, 1, 0]],
  );
  for (const t of [x, other, gy!, gx!, first!]) t.dispose();
});

test('backward goes to every leaf; each gradient has memory of its own', async ({ device }) => {
  const [a, b] = [1, 2].map((v) => tensor(device, [v, v], { requiresGrad: true }));
  const given = tensor(device, [3, 4]);
  scope(() => backward([a.add(b), a.mul(1)], { gradient: [given, given] }));
  assert.equal(
    [await values(a.grad), await values(b.grad)],
    [
      [6, 8],
      [3, 4],
    ],
  );
  scope(() => b.sum().backward());
  assert.equal([await values(b.grad), b.grad!.isContiguous], [[4, 5], true]);
  b.grad!.copy_(given);
  assert.equal(
    [await values(a.grad), await values(given)],
    [
      [6, 8],
      [3, 4],
    ],
  );
  const expanded = tensor(device, [1, 1, 1], { requiresGrad: true });
  scope(() => expanded.sum().backward());
  assert.is(expanded.grad!.isContiguous, true);
  for (const t of [a, b, given, expanded]) t.dispose();
});

test('noGrad, detach and enableGrad decide what is recorded', ({ device }) => {
  const x = tensor(device, [1], { requiresGrad: true });
  scope(() => {
    assert.equal(
      [
        x.exp().requiresGrad,
        noGrad(() => x.exp().requiresGrad),
        noGrad(() => core.enableGrad(() => x.exp().requiresGrad)),
        x.detach().exp().requiresGrad,
        x.gt(0).requiresGrad,
      ],
      [true, false, true, false, false],
    );
    assert.throws(
      () =>
        noGrad(async () => {
          await Promise.resolve();
        }),
      /expected a synchronous function/,
    );
    assert.throws(
      () =>
        noGrad(() => {
          throw new Error('inside');
        }),
      /inside/,
    );
    assert.is(core.isGradEnabled(), true);
  });
  x.dispose();
});

test('valueAndGrad differentiates plain functions of tensors', async ({ device }) => {
  const x = tensor(device, [1, 2]),
    y = tensor(device, [3, 4]);
  const { value, grads } = valueAndGrad((u, v) => u.mul(v).sum())(x, y);
  assert.equal([await value.item(), ...(await Promise.all(grads.map(values)))], [11, [3, 4], [1, 2]]);
  assert.is(x.requiresGrad, false);
  const second = scope(() => {
    const leaf = x.detach().requiresGrad_();
    const {
      grads: [g],
    } = valueAndGrad((u: Tensor) => u.pow(3).sum(), { createGraph: true })(leaf);
    return grad(g.sum(), [leaf])[0]!;
  });
  assert.equal(await values(second), [6, 12]);
  for (const t of [x, y, value, ...grads, second]) t.dispose();
});

test('retainGraph allows a second pass; a third derivative exists', async ({ device }) => {
  const x = tensor(device, [0.5], { requiresGrad: true });
  const results = scope(() => {
    const y = x.pow(4);
    const first = grad(y, [x], { createGraph: true })[0]!;
    const again = grad(y, [x], { retainGraph: true })[0]!;
    const second = grad(first, [x], { createGraph: true })[0]!;
    return [first.detach(), again, second.detach(), grad(second, [x])[0]!];
  });
  assertClose((await Promise.all(results.map(values))).flat(), [0.5, 0.5, 3, 12], 1e-6);
  for (const t of [x, ...results]) t.dispose();
});

test('a custom operation, as a user writes one', async ({ device }) => {
  const both = core.defineOp({
    name: 'scaledAndSquared',
    forward: ({ x }: { x: Tensor }, { factor }: { factor: number }) => ({
      out: { scaled: x.mul(factor), squared: x.mul(x) },
      saved: { x, factor },
    }),
    backward: ({ scaled, squared }, { x, factor }) => ({
      x: core.add(scaled?.mul(factor) ?? 0, squared?.mul(x).mul(2) ?? x.zerosLike()),
    }),
  });
  const x = tensor(device, uniform(7));
  await gradcheck(
    (v) => {
      const { scaled, squared } = both({ x: v }, { factor: 3 });
      return scaled.mul(squared);
    },
    [x],
  );
  await gradcheck((v) => both({ x: v }, { factor: 3 }).squared, [x]);
  x.dispose();
});

test('tensors of an operation are named, also in arrays and objects, and only what is asked for is computed', async ({
  device,
}) => {
  let asked: unknown;
  const total = core.defineOp({
    name: 'total',
    forward: ({ parts }: { parts: readonly { readonly x: Tensor; readonly weight: Tensor | null }[] }, _, needs) => {
      asked = needs;
      return {
        out: parts.map(({ x, weight }) => (weight ? x.mul(weight) : x)).reduce((a, b) => a.add(b)),
        saved: { parts },
      };
    },
    backward: (g, { parts }, needs) => ({
      parts: parts.map(({ x, weight }, i) => ({
        x: needs.parts[i].x ? (weight ? g.mul(weight) : g) : null,
        weight: needs.parts[i].weight ? g.mul(x) : null,
      })),
    }),
  });
  const [x, y] = [1, 2].map((seed) => tensor(device, uniform(5, seed)));
  const weight = tensor(device, uniform(5, 3), { requiresGrad: true });
  const of = (a: Tensor, w: Tensor): Tensor =>
    total({
      parts: [
        { x: a, weight: w },
        { x: y, weight: null },
      ],
    });
  await gradcheck(of, [x, weight]);
  scope(() => {
    const g = grad(of(x, weight).sum(), [weight]);
    assert.is(g.length, 1);
  });
  assert.equal(asked, {
    parts: [
      { x: false, weight: true },
      { x: false, weight: null },
    ],
  });
  for (const t of [x, y, weight]) t.dispose();
});

test('grad of what the result does not depend on is an error, or null where that is allowed', ({ device }) => {
  const [x, y] = [1, 2].map((v) => tensor(device, [v], { requiresGrad: true }));
  scope(() => {
    const z = x.mul(2);
    assert.throws(() => grad(z, [x, y], { retainGraph: true }), /^\[grad\] The root doesn't depend on input 1/);
    assert.is(grad(z, [x, y], { allowUnused: true })[1], null);
  });
  for (const t of [x, y]) t.dispose();
});

test('what can not be differentiated says so by name', ({ device }) => {
  const once = core.defineOp({
    name: 'fusedThing',
    firstDerivativeOnly: true,
    forward: ({ x }: { x: Tensor }) => ({ out: x.mul(2), saved: null }),
    backward: (g) => ({ x: g.mul(2) }),
  });
  const wrong = core.defineOp({
    name: 'wrongShape',
    forward: ({ x }: { x: Tensor }) => ({ out: x.sum(), saved: null }),
    backward: (g) => ({ x: g }),
  });
  const cases: [fn: (x: Tensor) => unknown, pattern: RegExp][] = [
    [
      (x) => grad(once({ x }).sum(), [x], { createGraph: true }),
      /fusedThing is a fused kernel with a first derivative only/,
    ],
    [
      (x) => grad(wrong({ x }), [x]),
      /^\[wrongShape\] backward gave a gradient of shape \(\) for an input of shape \(2,\)/,
    ],
    [(x) => backward(x.exp()), /^\[backward\] A root of shape \(2,\) has more than one element; pass its gradient/],
    [
      (x) => backward(x.detach().sum()),
      /^\[backward\] A root of shape \(\) doesn't depend on any tensor with requiresGrad/,
    ],
    [(x) => grad(x.sum(), [x.detach()]), /^\[grad\] An input of shape \(2,\) doesn't require a gradient/],
    [
      (x) => backward(x.exp(), { gradient: tensor(device, [1]) }),
      /^\[backward\] The gradient has shape \(1,\), expected the root's \(2,\)/,
    ],
    [
      (x) => {
        const y = x.exp().sum();
        grad(y, [x]);
        grad(y, [x]);
      },
      /^\[grad\] The values saved by \w+ are gone after one backward pass; pass retainGraph/,
    ],
  ];
  const x = tensor(device, [1, 2], { requiresGrad: true });
  for (const [fn, pattern] of cases)
    scope(() =>
      assert.throws(
        () => fn(x),
        (e: Error) => e instanceof core.EngineError && pattern.test(e.message),
        String(pattern),
      ),
    );
  x.dispose();
});

test('a long chain is neither walked nor freed by recursion', async ({ device }) => {
  const x = tensor(device, [1], { requiresGrad: true });
  const y = scope(() => {
    let v: Tensor = x;
    for (let i = 0; i < 12000; i++) v = v.reshape(1);
    return v;
  });
  const [g] = grad(y, [x]);
  assert.equal(await values(g), [1]);
  for (const t of [x, y, g!]) t.dispose();
});

test('gradcheck finds a wrong derivative', async ({ device }) => {
  const wrong = core.defineOp({
    name: 'wrong',
    forward: ({ x }: { x: Tensor }) => ({ out: x.sin(), saved: null }),
    backward: (g) => ({ x: g.mul(0.9) }),
  });
  const x = tensor(device, uniform(7));
  try {
    await gradcheck((v) => wrong({ x: v }), [x]);
    assert.unreachable();
  } catch (error) {
    assert.match(
      (error as Error).message,
      /^\[gradcheck\] Input 0, entry \d: the derivative gives .*, differences give/,
    );
  }
  x.dispose();
});

test('detectAnomaly names the operation that makes NaN, forward and backward', async ({ device }) => {
  const x = tensor(device, [-1, 0, 4], { requiresGrad: true });
  const found = async (fn: () => unknown, options?: core.AnomalyOptions): Promise<string> => {
    try {
      await detectAnomaly(() => {
        scope(() => {
          fn();
        });
      }, options);
      return '';
    } catch (error) {
      assert.instance(error, core.AnomalyError);
      assert.match((error as Error).stack!, /autograd\.test\.ts/);
      return (error as Error).message;
    }
  };
  assert.is(await found(() => x.abs().sqrt().sum()), '');
  assert.is(
    await found(() => x.exp().sub(1).log().mul(2).softmax(0)),
    '[detectAnomaly] log gave NaN in 1 of 3 values of a result of shape (3,); its inputs had none.',
  );
  assert.is(
    await found(() => x.mul(NaN).add(1)),
    '[detectAnomaly] mul gave NaN in 3 of 3 values of a result of shape (3,); its inputs had none.',
  );
  assert.match(
    await found(() => {
      const bad = tensor(device, [NaN, 1, 2]);
      bad.add(x);
    }),
    /^\[detectAnomaly\] add gave NaN in 1 of 3 values .* its inputs had 1 already/,
  );
  assert.match(
    await found(() => grad(core.where(x.gt(0), x.sqrt(), 0).sum(), [x]), { infinities: true }),
    /gave NaN or infinity in/,
  );
  // The square root of 0 has an infinite slope, and 0 · ∞ is NaN: the forward pass is blameless.
  assert.match(
    await found(() => grad(core.where(x.gt(0), x.abs().sqrt(), 0).sum(), [x])),
    /in the backward pass of|The backward pass of sqrt/,
  );
  const result = await detectAnomaly(() => scope(() => x.mul(2).detach()));
  assert.equal(await values(result), [-2, 0, 8]);
  for (const t of [x, result]) t.dispose();
});

test.run();
