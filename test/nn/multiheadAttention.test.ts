// The layer against its definition in float64: projections, heads, both masks, and the gradients of all parameters.

import * as assert from 'uvu/assert';
import { Generator, scope, tensor } from '../../core/index.ts';
import { MultiheadAttention } from '../../nn/index.ts';
import { attentionReference } from '../reference/attention.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';
import { checkGradients, values } from './support.ts';

const test = gpuSuite('multihead attention');
const [N, L, S, E, HEADS] = [2, 3, 5, 6, 2];

/** `x Wᵀ + b` for rows of width E, the part of W and b from row `first` on. */
function project(x: ArrayLike<number>, w: ArrayLike<number>, b: ArrayLike<number>, first: number): Float64Array {
  return Float64Array.from({ length: x.length }, (_, i) => {
    const [row, column] = [Math.floor(i / E), first + (i % E)];
    let sum = b[column];
    for (let k = 0; k < E; k++) sum += w[column * E + k] * x[row * E + k];
    return sum;
  });
}

/** (N, length, E) as (N · heads, length, E / heads), or back. */
function heads(x: ArrayLike<number>, length: number, back = false): Float64Array {
  const out = new Float64Array(x.length);
  const width = E / HEADS;
  for (let n = 0; n < N; n++)
    for (let h = 0; h < HEADS; h++)
      for (let i = 0; i < length; i++)
        for (let c = 0; c < width; c++) {
          const [plain, apart] = [(n * length + i) * E + h * width + c, ((n * HEADS + h) * length + i) * width + c];
          if (back) out[plain] = x[apart];
          else out[apart] = x[plain];
        }
  return out;
}

test("is PyTorch's layer, with its names and masks", async ({ device, own }) => {
  const layer = own(scope(() => new MultiheadAttention(own(new Generator(device, 2)), E, HEADS)));
  assert.equal(
    Array.from(layer.stateDict(), ([name, t]) => [name, t.shape]),
    [
      ['in_proj_weight', [3 * E, E]],
      ['in_proj_bias', [3 * E]],
      ['out_proj.weight', [E, E]],
      ['out_proj.bias', [E]],
    ],
  );
  assert.ok((await layer.in_proj_bias!.data()).every((x) => x === 0));
  layer.in_proj_bias!.write(uniform(3 * E, 7));
  layer.out_proj.bias!.write(uniform(E, 8));
  const query = own(tensor(device, uniform(N * L * E, 1), { shape: [N, L, E] }));
  const key = own(tensor(device, uniform(N * S * E, 2), { shape: [N, S, E] }));
  const value = own(tensor(device, uniform(N * S * E, 3), { shape: [N, S, E] }));
  const mask = Array.from({ length: L * S }, (_, i) => i % 4 === 1);
  const padding = Array.from({ length: N * S }, (_, i) => i >= N * S - 2);
  const attnMask = own(tensor(device, mask.map(Number), { shape: [L, S], dtype: 'bool' }));
  const keyPaddingMask = own(tensor(device, padding.map(Number), { shape: [N, S], dtype: 'bool' }));
  const added = own(tensor(device, mask.map((hide) => (hide ? -Infinity : 0)), { shape: [L, S] })); // prettier-ignore
  const out = own(layer.forward(query, key, value, { attnMask, keyPaddingMask }));
  const [w, b, wo, bo] = await Promise.all(layer.parameters().map((p) => p.data()));
  const [q, k, v] = await Promise.all([query, key, value].map((t) => t.data()));
  const { out: attended } = attentionReference(
    {
      batch: N * HEADS,
      queries: L,
      keys: S,
      inner: E / HEADS,
      width: E / HEADS,
      q: heads(project(q, w, b, 0), L),
      k: heads(project(k, w, b, E), S),
      v: heads(project(v, w, b, 2 * E), S),
      scale: 1 / Math.sqrt(E / HEADS),
      added: (head, i, j) => (mask[i * S + j] || padding[Math.floor(head / HEADS) * S + j] ? -Infinity : 0),
    },
    new Float64Array(N * L * E),
  );
  const expected = project(heads(attended, L, true), wo, bo, 0);
  assertClose(await out.data(), expected, 5e-6);
  const withAdded = own(layer.forward(query, key, value, { attnMask: added, keyPaddingMask }));
  assertClose(await withAdded.data(), expected, 5e-6);
});

test('self-attention has gradients of all parameters', async ({ device, own }) => {
  const layer = own(scope(() => new MultiheadAttention(own(new Generator(device, 2)), E, HEADS)));
  const bare = own(scope(() => new MultiheadAttention(own(new Generator(device, 2)), E, HEADS, { bias: false })));
  const x = own(tensor(device, uniform(N * L * E), { shape: [N, L, E] }));
  await checkGradients(layer, x);
  const { parameters, shape } = await values(bare, x);
  assert.equal([...parameters.keys()], ['in_proj_weight', 'out_proj.weight']);
  assert.equal(shape, [N, L, E]);
  const whole = own(layer.forward(x));
  const apart = own(layer.forward(x, own(x.clone())));
  assertClose(await apart.data(), await whole.data(), 2e-6);
});

test('refuses what does not fit', ({ device, own }) => {
  const generator = own(new Generator(device, 0));
  assert.throws(() => new MultiheadAttention(generator, 6, 4), /embedDim is 6, expected a multiple of the 4 heads/);
  const layer = own(scope(() => new MultiheadAttention(generator, E, HEADS)));
  const x = own(tensor(device, uniform(L * E), { shape: [L, E] }));
  assert.throws(() => layer.forward(x), /query has shape \(3,6\), expected \(N, length, 6\)/);
});

test.run();
