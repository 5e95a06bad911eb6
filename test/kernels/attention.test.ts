// Scaled dot-product attention against its definition in float64: sizes around the tiles, masks that broadcast in every way, causal
// attention, views, f16, the same bits every time, and what it refuses.

import * as assert from 'uvu/assert';
import {
  DTypeError,
  grad,
  GradError,
  scope,
  ShapeError,
  tensor,
  ValueError,
  zeros,
  type Device,
  type Tensor,
} from '../../core/index.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { scaledDotProductAttention } from '../../kernels/attention/index.ts';
import { attentionReference } from '../reference/attention.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('attention');

interface Case {
  lead: number[];
  queries: number;
  keys: number;
  inner: number;
  width: number;
  causal?: boolean;
  /** Whether f16 is tried too: each kind of kernel takes seconds to compile on a CPU. */
  half?: boolean;
  scale?: number;
  /** Shape of a mask, and its kind: bool masks hide about a third. */
  mask?: { shape: number[]; kind: 'bool' | 'f32' };
}

const CASES: Case[] = [
  { lead: [1], queries: 1, keys: 1, inner: 1, width: 1 },
  { lead: [2, 3], queries: 33, keys: 31, inner: 7, width: 5, half: true },
  { lead: [2], queries: 5, keys: 67, inner: 37, width: 3, scale: 0.3, half: true },
  { lead: [], queries: 34, keys: 35, inner: 8, width: 300 },
  { lead: [3], queries: 70, keys: 45, inner: 8, width: 4, causal: true },
  { lead: [1, 2], queries: 45, keys: 70, inner: 4, width: 8, causal: true },
  { lead: [2, 2], queries: 33, keys: 34, inner: 4, width: 4, mask: { shape: [33, 34], kind: 'bool' } },
  { lead: [2, 1, 3], queries: 6, keys: 5, inner: 4, width: 4, mask: { shape: [2, 1, 3, 6, 5], kind: 'bool' } },
  { lead: [2, 3, 2], queries: 6, keys: 5, inner: 4, width: 4, mask: { shape: [3, 1, 6, 5], kind: 'bool' } },
  { lead: [2, 2], queries: 9, keys: 10, inner: 4, width: 4, mask: { shape: [2, 1, 1, 10], kind: 'f32' } },
  { lead: [2, 3], queries: 9, keys: 10, inner: 4, width: 4, mask: { shape: [3, 9, 1], kind: 'f32' } },
];

const count = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** The element of a tensor of `shape` that stands for an index into the shape that it broadcasts to. */
function broadcastIndex(index: number[], shape: readonly number[]): number {
  const own = index.slice(index.length - shape.length);
  return shape.reduce((at, size, axis) => at * size + (size === 1 ? 0 : own[axis]), 0);
}

/** The places of a flat index among leading axes. */
function unravel(flat: number, shape: readonly number[]): number[] {
  const places: number[] = [];
  for (const size of [...shape].reverse()) {
    places.unshift(flat % size);
    flat = Math.floor(flat / size);
  }
  return places;
}

function make(device: Device, values: Float32Array, shape: number[], dtype: 'f32' | 'f16'): Tensor {
  return tensor(device, values, { shape, dtype, requiresGrad: true });
}

for (const form of ['fused', 'composed'] as const)
  for (const dtype of ['f32', 'f16'] as const)
    for (const { lead, queries, keys, inner, width, causal = false, scale, mask, half } of CASES) {
      if (dtype === 'f16' && !half) continue;
      const title = `${form}, ${dtype}, (${[...lead, queries, inner].join()}) × (${[keys, width].join()})${causal ? ', causal' : ''}${
        mask ? `, ${mask.kind} mask (${mask.shape.join()})` : ''
      }`;
      test(title, { needs: dtype === 'f16' ? 'shader-f16' : undefined }, async ({ device, own }) => {
        const batch = count(lead);
        const q = own(make(device, uniform(batch * queries * inner, 1), [...lead, queries, inner], dtype));
        const k = own(make(device, uniform(batch * keys * inner, 2), [...lead, keys, inner], dtype));
        const v = own(make(device, uniform(batch * keys * width, 3), [...lead, keys, width], dtype));
        const dout = own(
          tensor(device, uniform(batch * queries * width, 4), { shape: [...lead, queries, width], dtype }),
        );
        const numbers = mask && uniform(count(mask.shape), 5).map((x) => (mask.kind === 'bool' ? Number(x > -0.3) : x));
        const attnMask = mask && own(tensor(device, numbers!, { shape: mask.shape, dtype: mask.kind }));
        const seen = attnMask && (await attnMask.data());
        const expected = attentionReference(
          {
            batch,
            queries,
            keys,
            inner,
            width,
            q: await q.data(),
            k: await k.data(),
            v: await v.data(),
            scale: scale ?? 1 / Math.sqrt(inner),
            added(b, i, j) {
              if (causal && j > i) return -Infinity;
              if (!mask) return 0;
              const value = seen![broadcastIndex([...unravel(b, lead), i, j], mask.shape)];
              return mask.kind === 'bool' ? (value ? 0 : -Infinity) : value;
            },
          },
          await dout.data(),
        );
        const out = own(
          attention(
            q,
            k,
            v,
            { isCausal: causal, ...(scale !== undefined && { scale }), ...(attnMask && { attnMask }) },
            form,
          ),
        );
        assert.equal(out.shape, [...lead, queries, width]);
        const limit = dtype === 'f16' ? 2e-3 : 5e-6;
        assertClose(await out.data(), expected.out, limit, 'out');
        const gradients = grad(out, [q, k, v], { gradient: dout, retainGraph: true }).map((g) => own(g!));
        for (const [i, name] of (['q', 'k', 'v'] as const).entries())
          assertClose(await gradients[i].data(), expected.gradients[name], 2 * limit, `gradient of ${name}`);
        const again = grad(out, [q, k, v], { gradient: dout }).map((g) => own(g!));
        for (const [i, g] of again.entries()) assert.equal(await g.data(), await gradients[i].data(), 'the same bits');
      });
    }

test('a gradient of one argument alone is what it is beside the others', async ({ device, own }) => {
  const q = own(tensor(device, uniform(40), { shape: [1, 8, 5] }));
  const k = own(tensor(device, uniform(30, 2), { shape: [1, 6, 5] }));
  const v = own(tensor(device, uniform(18, 3), { shape: [1, 6, 3] }));
  const all = [q, k, v].map((t) => own(t.detach()).requiresGrad_());
  const whole = own(attention(all[0], all[1], all[2], {}, 'fused'));
  const together = grad(own(scope(() => whole.square().sum())), all).map((g) => own(g!));
  for (const i of [0, 1, 2]) {
    const given = [q, k, v];
    given[i] = all[i];
    const out = own(attention(given[0], given[1], given[2], {}, 'fused'));
    const [alone] = grad(own(scope(() => out.square().sum())), [all[i]]).map((g) => own(g!));
    assert.equal(await alone.data(), await together[i].data());
  }
});

for (const form of ['fused', 'composed'] as const)
  test(`${form}: a query that may see no key gives 0, and scores that are large do not overflow`, async ({
    device,
    own,
  }) => {
    const q = own(tensor(device, [[[1000], [-1000]]], { requiresGrad: true }));
    const k = own(tensor(device, [[[1000], [-1000]]], { requiresGrad: true }));
    const v = own(tensor(device, [[[3], [5]]], { requiresGrad: true }));
    const sharp = own(attention(q, k, v, {}, form));
    assert.equal(await sharp.tolist(), [[[3], [5]]]);
    const attnMask = own(tensor(device, [[1, 1], [0, 0]], { dtype: 'bool' })); // prettier-ignore
    const hidden = own(attention(q, k, v, { attnMask }, form));
    assert.equal(await hidden.tolist(), [[[3], [0]]]);
    for (const g of grad(own(hidden.sum()), [q, k, v])) {
      assert.ok([...(await g!.data())].every(Number.isFinite));
      g!.dispose();
    }
    const minus = own(tensor(device, [[0, -Infinity], [-Infinity, -Infinity]])); // prettier-ignore
    const added = own(attention(q, k, v, { attnMask: minus }, form));
    assert.equal(await added.tolist(), [[[3], [0]]]);
  });

test('takes views, and what is empty', async ({ device, own }) => {
  const wide = own(tensor(device, uniform(2 * 6 * 24), { shape: [2, 6, 24] }));
  const views = scope(() =>
    wide
      .reshape(2, 6, 3, 8)
      .transpose(1, 2)
      .split([4, 2, 2], -1)
      .map((t) => t.alias()),
  ).map(own);
  const [q, , v] = views;
  const k = own(q.mul(0.5));
  const copies = [q, k, v].map((t) => own(t.clone()));
  const fromViews = own(attention(q, k, v, {}, 'fused'));
  const fromCopies = own(attention(copies[0], copies[1], copies[2], {}, 'fused'));
  assert.equal(await fromViews.data(), await fromCopies.data());
  const none = own(scaledDotProductAttention(q, own(zeros(device, [2, 3, 0, 4])), own(zeros(device, [2, 3, 0, 2]))));
  assert.equal(none.shape, [2, 3, 6, 2]);
  assert.ok((await none.data()).every((x) => x === 0));
});

test('refuses what does not fit', ({ device }) =>
  scope(() => {
    const q = zeros(device, [2, 3, 4]);
    const attend =
      (k = q, v = q, options = {}): (() => Tensor) =>
      () =>
        scaledDotProductAttention(q, k, v, options);
    const says = (type: typeof ShapeError | typeof DTypeError | typeof ValueError, text: string) => (e: Error) =>
      e instanceof type && e.message.includes(text);
    assert.throws(attend(zeros(device, [2, 3, 5])), says(ShapeError, '(2,3,5)'));
    assert.throws(attend(q, zeros(device, [2, 4, 4])), says(ShapeError, '(2,4,4)'));
    assert.throws(attend(zeros(device, [1, 3, 4]), zeros(device, [1, 3, 4])), says(ShapeError, 'leading axes'));
    assert.throws(attend(q, q.cast('i32')), says(DTypeError, 'f32, f32, i32'));
    assert.throws(attend(q, q, { scale: NaN }), says(ValueError, 'scale is NaN'));
    const mask = zeros(device, [3, 3]);
    assert.throws(attend(q, q, { attnMask: mask, isCausal: true }), says(ValueError, 'isCausal'));
    assert.throws(attend(q, q, { attnMask: zeros(device, [3, 2]) }), says(ShapeError, '(3,2)'));
    assert.throws(attend(q, q, { attnMask: zeros(device, [1, 2, 3, 3]) }), says(ShapeError, '(1,2,3,3)'));
    assert.throws(attend(q, q, { attnMask: zeros(device, [3, 3], 'i32') }), says(DTypeError, 'i32'));
    assert.throws(attend(q, q, { attnMask: zeros(device, [3, 3]).requiresGrad_() }), says(ValueError, 'gradient'));
    const x = zeros(device, [1, 2, 3]).requiresGrad_();
    assert.throws(
      () => grad(grad(attention(x, x, x, {}, 'fused').sum(), [x], { createGraph: true })[0]!.sum(), [x]),
      (e: Error) => e instanceof GradError && e.message.includes('scaledDotProductAttention'),
    );
  }));

test.run();
