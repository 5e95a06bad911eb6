import * as assert from 'uvu/assert';
import { gradcheck, scope, tensor, zeros, type Tensor } from '../../core/index.ts';
import {
  binaryCrossEntropyWithLogits,
  crossEntropy,
  huberLoss,
  l1Loss,
  mseLoss,
  nllLoss,
  smoothL1Loss,
  type Reduction,
} from '../../nn/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('losses');
const REDUCTIONS: readonly Reduction[] = ['none', 'sum', 'mean'];

function reduced(losses: number[], reduction: Reduction, over = losses.length): number[] {
  const sum = losses.reduce((s, v) => s + v, 0);
  return reduction === 'none' ? losses : [reduction === 'sum' ? sum : sum / over];
}

/** Checks a loss in each reduction, and its gradient. */
async function check(
  name: string,
  loss: (input: Tensor, reduction: Reduction) => Tensor,
  input: Tensor,
  losses: number[],
  over?: number,
): Promise<void> {
  for (const reduction of REDUCTIONS) {
    const value = scope(() => loss(input, reduction));
    assertClose(await value.data(), reduced(losses, reduction, over), 3e-6, `${name}, ${reduction}`);
    value.dispose();
  }
  await gradcheck((x) => loss(x, 'mean'), [input], { samples: 8, eps: 1e-3 });
  await gradcheck((x) => loss(x, 'none'), [input], { samples: 5, eps: 1e-3 });
}

const distances: Record<
  string,
  [loss: (x: Tensor, y: Tensor, reduction: Reduction) => Tensor, reference: (d: number) => number]
> = {
  mseLoss: [(x, y, reduction) => mseLoss(x, y, { reduction }), (d) => d * d],
  l1Loss: [(x, y, reduction) => l1Loss(x, y, { reduction }), Math.abs],
  smoothL1Loss: [
    (x, y, reduction) => smoothL1Loss(x, y, { reduction }),
    (d) => (Math.abs(d) < 1 ? 0.5 * d * d : Math.abs(d) - 0.5),
  ],
  'smoothL1Loss with beta': [
    (x, y, reduction) => smoothL1Loss(x, y, { beta: 0.3, reduction }),
    (d) => (Math.abs(d) < 0.3 ? (0.5 * d * d) / 0.3 : Math.abs(d) - 0.15),
  ],
  'smoothL1Loss with beta 0': [(x, y, reduction) => smoothL1Loss(x, y, { beta: 0, reduction }), Math.abs],
  huberLoss: [
    (x, y, reduction) => huberLoss(x, y, { delta: 0.5, reduction }),
    (d) => (Math.abs(d) < 0.5 ? 0.5 * d * d : 0.5 * (Math.abs(d) - 0.25)),
  ],
};

test('distances', async ({ device }) => {
  const host = [uniform(35, 1), uniform(35, 9).reverse()];
  const [x, y] = host.map((data) => tensor(device, data, { shape: [5, 7] }));
  for (const [name, [loss, reference]] of Object.entries(distances)) {
    await check(
      name,
      (t, reduction) => loss(t, y, reduction),
      x,
      Array.from(host[0], (v, i) => reference(v - host[1][i])),
    );
  }
  scope(() =>
    assert.throws(
      () => mseLoss(x, zeros(device, [5, 1])),
      "[mseLoss] The target has shape (5,1), expected the input's (5,7).",
    ),
  );
  assert.throws(() => huberLoss(x, y, { delta: 0 }), /delta is 0, expected more than 0/);
  x.dispose();
  y.dispose();
});

test('binary cross entropy with logits, without overflow', async ({ device }) => {
  const logits = uniform(12, 3).map((v) => 5 * v),
    targets = uniform(12, 4).map((v) => 0.5 + 0.5 * v);
  const weights = [0.5, 1, 2, 0.25],
    positive = [3, 1, 0.5, 2];
  const [x, t] = [logits, targets].map((data) => tensor(device, data, { shape: [3, 4] }));
  const [weight, posWeight] = [weights, positive].map((data) => tensor(device, data));
  const reference = (x: number, t: number, pw: number): number => {
    const p = 1 / (1 + Math.exp(-x));
    return -(pw * t * Math.log(p) + (1 - t) * Math.log(1 - p));
  };
  await check(
    'plain',
    (v, reduction) => binaryCrossEntropyWithLogits(v, t, { reduction }),
    x,
    Array.from(logits, (v, i) => reference(v, targets[i], 1)),
  );
  await check(
    'weighted',
    (v, reduction) => binaryCrossEntropyWithLogits(v, t, { weight, posWeight, reduction }),
    x,
    Array.from(logits, (v, i) => weights[i % 4] * reference(v, targets[i], positive[i % 4])),
  );
  const far = scope(() =>
    binaryCrossEntropyWithLogits(tensor(device, [-200, 200, -200, 200]), tensor(device, [0, 0, 1, 1]), {
      reduction: 'none',
    }),
  );
  assertClose(await far.data(), [0, 200, 200, 0], 1e-6);
  for (const v of [x, t, weight, posWeight, far]) v.dispose();
});

/** log softmax over axis 1 of (N, C, L), float64. */
function logSoftmax(x: ArrayLike<number>, N: number, C: number, L: number): Float64Array {
  const out = new Float64Array(N * C * L);
  for (let n = 0; n < N; n++)
    for (let l = 0; l < L; l++) {
      const at = (c: number): number => (n * C + c) * L + l;
      let sum = 0;
      for (let c = 0; c < C; c++) sum += Math.exp(x[at(c)]);
      for (let c = 0; c < C; c++) out[at(c)] = x[at(c)] - Math.log(sum);
    }
  return out;
}

test('cross entropy of class indices: weights, smoothing, indices that count for nothing, places', async ({
  device,
}) => {
  const [N, C, L] = [3, 5, 4];
  const logits = uniform(N * C * L, 5).map((v) => 4 * v),
    logp = logSoftmax(logits, N, C, L);
  const classes = Int32Array.from({ length: N * L }, (_, i) => (i === 4 ? 2 : (7 * i) % C)),
    factors = [1, 0.5, 2, 1.5, 0.25];
  const x = tensor(device, logits, { shape: [N, C, L] }),
    target = tensor(device, classes, { shape: [N, L] }),
    weight = tensor(device, factors);
  for (const [weighted, smoothing, ignored] of [
    [false, 0, -100],
    [true, 0, -100],
    [false, 0.1, -100],
    [true, 0.3, 2],
    [false, 0, 3],
  ] as const) {
    const w = (c: number): number => (weighted ? factors[c] : 1);
    let over = 0;
    const losses = Array.from({ length: N * L }, (_, i) => {
      const [n, l, y] = [Math.floor(i / L), i % L, classes[i]];
      if (y === ignored) return 0;
      over += w(y);
      const term = (c: number): number => -w(c) * logp[(n * C + c) * L + l];
      return (1 - smoothing) * term(y) + (smoothing / C) * [0, 1, 2, 3, 4].reduce((s, c) => s + term(c), 0);
    });
    const options = { weight: weighted ? weight : undefined, labelSmoothing: smoothing, ignoreIndex: ignored };
    await check(
      `weighted ${weighted}, smoothing ${smoothing}, ignored ${ignored}`,
      (t, reduction) => crossEntropy(t, target, { ...options, reduction }),
      x,
      losses,
      over,
    );
    if (!smoothing) {
      const value = scope(() => nllLoss(x.logSoftmax(1), target, options));
      assertClose(await value.data(), reduced(losses, 'mean', over), 3e-6, 'nllLoss');
      value.dispose();
    }
  }
  for (const t of [x, target, weight]) t.dispose();
});

test("cross entropy of probabilities and of a single sample; large logits don't overflow", async ({ device }) => {
  const logits = uniform(12, 6),
    logp = logSoftmax(logits, 3, 4, 1);
  const host = uniform(12, 7).map(Math.abs);
  const x = tensor(device, logits, { shape: [3, 4] }),
    shares = tensor(device, host, { shape: [3, 4] });
  const losses = [0, 1, 2].map((n) =>
    [0, 1, 2, 3].reduce((s, c) => s - (0.8 * host[4 * n + c] + 0.2 / 4) * logp[4 * n + c], 0),
  );
  await check(
    'probabilities',
    (t, reduction) => crossEntropy(t, shares, { labelSmoothing: 0.2, reduction }),
    x,
    losses,
  );
  const [single, far] = scope(() => [
    crossEntropy(x.select(0, 1), tensor(device, Int32Array.of(2)).reshape()),
    crossEntropy(tensor(device, [[1000, -1000]]), tensor(device, Int32Array.of(1))),
  ]);
  assertClose(await single.data(), [-logp[6]], 2e-6);
  assertClose(await far.data(), [2000], 1e-6);
  scope(() => {
    assert.throws(
      () => crossEntropy(x, tensor(device, Int32Array.of(1, 2))),
      /The target has shape \(2,\), expected class indices of shape \(3,\)/,
    );
    assert.throws(() => crossEntropy(x, shares, { labelSmoothing: 2 }), /labelSmoothing is 2/);
    assert.throws(
      () => nllLoss(x, tensor(device, Int32Array.of(1, 2, 3)), { weight: tensor(device, [1, 2]) }),
      /The weight has shape \(2,\), expected \(4,\)/,
    );
  });
  for (const t of [x, shares, single, far]) t.dispose();
});

test.run();
