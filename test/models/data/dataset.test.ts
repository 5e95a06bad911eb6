import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ValueError } from '../../../core/errors.ts';
import type { Batch, DataLoaderOptions, Dataset } from '../../../models/data/dataset.ts';
import { DataLoader, epochFlip, epochOrder } from '../../../models/data/dataset.ts';

/** Item i is a grey 2x2 square whose left column is i and whose right column is 255 - i. */
function counting(length: number, extra: Partial<Dataset> = {}): Dataset {
  return {
    length,
    size: 2,
    channels: 1,
    numClasses: 3,
    classNames: ['a', 'b', 'c'],
    item: (i) => ({ pixels: Uint8Array.of(i, 255 - i, i, 255 - i), label: i % 3 }),
    ...extra,
  };
}

/** The item that row b of a batch shows, and whether it is mirrored. */
function shown({ images }: Batch, b: number): { index: number; mirrored: boolean } {
  const left = Math.round((images[b * 4] + 1) * 127.5);
  const mirrored = left > 127;
  return { index: mirrored ? 255 - left : left, mirrored };
}

async function take(loader: DataLoader, count: number): Promise<Batch[]> {
  const batches: Batch[] = [];
  while (batches.length < count) {
    const { value } = await loader.next();
    if (!value) break;
    batches.push(value);
  }
  return batches;
}

const indices = (batches: Batch[]): number[] =>
  batches.flatMap((batch) => [...batch.labels].map((_, b) => shown(batch, b).index));
const rejection = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (e: unknown) => e,
  );

test('epochOrder: a permutation, another one for each seed and epoch, every place equally likely', () => {
  const sorted = (order: Uint32Array): number[] => [...order].sort((a, b) => a - b);
  assert.equal(
    sorted(epochOrder(101, 3, 0)),
    Array.from({ length: 101 }, (_, i) => i),
  );
  assert.equal(epochOrder(101, 3, 0), epochOrder(101, 3, 0));
  assert.not.equal(epochOrder(101, 3, 0), epochOrder(101, 3, 1));
  assert.not.equal(epochOrder(101, 3, 0), epochOrder(101, 4, 0));
  assert.equal([epochOrder(0, 1, 1).length, [...epochOrder(1, 1, 1)]], [0, [0]]);
  const counts = new Map<string, number>();
  for (let epoch = 0; epoch < 2400; epoch++) {
    const order = epochOrder(4, 8, epoch).join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.is(counts.size, 24);
  // Chi-squared with 23 degrees of freedom: 49.7 is exceeded once in a thousand.
  assert.ok([...counts.values()].reduce((s, n) => s + (n - 100) ** 2 / 100, 0) < 49.7);
});

test('batches follow the epoch order, channels first, with their labels', async () => {
  const loader = new DataLoader(counting(10), { batchSize: 3, seed: 6 });
  assert.is(loader.batchesPerEpoch, 3);
  const batches = await take(loader, 7);
  const expected = [0, 1, 2].flatMap((epoch) => [...epochOrder(10, 6, epoch).subarray(0, 9)]).slice(0, 21);
  assert.equal(indices(batches), expected);
  assert.equal(
    batches.flatMap(({ labels }) => [...labels]),
    expected.map((i) => i % 3),
  );
  assert.equal(
    batches.map(({ epoch }) => epoch),
    [0, 0, 0, 1, 1, 1, 2],
  );
  assert.equal(batches[0].shape, [3, 1, 2, 2]);
});

test('without shuffling and dropping, each epoch has every item in order', async () => {
  const loader = new DataLoader(counting(7), { batchSize: 3, shuffle: false, dropLast: false, epochs: 2 });
  const batches: Batch[] = [];
  for await (const batch of loader) batches.push(batch);
  assert.equal(indices(batches), [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6]);
  assert.equal(
    batches.map(({ shape }) => shape[0]),
    [3, 3, 1, 3, 3, 1],
  );
  assert.equal(await loader.next(), { done: true, value: undefined });
});

test('a run resumed from any cursor sees the same batches, flips included', async () => {
  const options: DataLoaderOptions = { batchSize: 4, seed: 11, flip: true };
  const whole = new DataLoader(counting(13), options);
  const batches: Batch[] = [];
  const cursors = [whole.cursor];
  for (let i = 0; i < 8; i++) {
    batches.push(...(await take(whole, 1)));
    cursors.push(JSON.parse(JSON.stringify(whole.cursor)));
  }
  for (let from = 0; from < 8; from++) {
    const resumed = await take(new DataLoader(counting(13), { ...options, cursor: cursors[from] }), 8 - from);
    assert.equal(resumed, batches.slice(from), `from batch ${from}`);
  }
});

test('flips are chosen by seed, epoch and item, half of them', async () => {
  const loader = new DataLoader(counting(100), { batchSize: 50, seed: 2, flip: true });
  let mirroredItems = 0;
  for (const batch of await take(loader, 8)) {
    for (let b = 0; b < 50; b++) {
      const { index, mirrored } = shown(batch, b);
      assert.is(mirrored, epochFlip(index, 2, batch.epoch));
      mirroredItems += Number(mirrored);
    }
  }
  // 400 fair coins: standard deviation 10.
  assert.ok(Math.abs(mirroredItems - 200) < 50, String(mirroredItems));
});

test('one batch is prepared ahead, no more, and the cursor does not run ahead with it', async () => {
  let asked = 0;
  const data = counting(100, { item: (i) => (asked++, { pixels: new Uint8Array(4).fill(i), label: 0 }) });
  const loader = new DataLoader(data, { batchSize: 5 });
  await loader.next();
  assert.is(asked, 5);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(asked, 10);
  assert.equal(loader.cursor, { epoch: 0, index: 5 });
});

test('an item that cannot be had rejects next; the cursor stays and the batch can be asked for again', async () => {
  let broken = true;
  const good = counting(6);
  const data = counting(6, {
    item: (i) => (broken && i === 4 ? Promise.reject(new Error('disk gone')) : good.item(i)),
  });
  const loader = new DataLoader(data, { batchSize: 3, shuffle: false });
  await loader.next();
  assert.match(String(await rejection(loader.next())), /disk gone/);
  assert.equal(loader.cursor, { epoch: 0, index: 3 });
  broken = false;
  assert.equal(indices(await take(loader, 1)), [3, 4, 5]);
});

test('items that fail beside one that throws are not left without anybody who sees them', async () => {
  const unseen: unknown[] = [];
  const note = (reason: unknown): number => unseen.push(reason);
  process.on('unhandledRejection', note);
  try {
    const data = counting(6, {
      item: (i) => {
        if (i === 1) throw new Error('at once');
        return Promise.reject(new Error(`later ${i}`));
      },
    });
    const loader = new DataLoader(data, { batchSize: 3, shuffle: false });
    assert.match(String(await rejection(loader.next())), /later 0|at once/);
    await new Promise((done) => setTimeout(done, 5));
    assert.equal(unseen, []);
  } finally {
    process.off('unhandledRejection', note);
  }
});

test('abort: the pending and later calls reject with the reason', async () => {
  const abort = new AbortController();
  const slow = counting(6, {
    item: async () => (await new Promise((r) => setTimeout(r, 5)), { pixels: new Uint8Array(4), label: 0 }),
  });
  const loader = new DataLoader(slow, { batchSize: 3, signal: abort.signal });
  await loader.next();
  const pending = rejection(loader.next());
  const reason = new Error('stop');
  abort.abort(reason);
  assert.is(await pending, reason);
  assert.is(await rejection(loader.next()), reason);
});

test('leaving a for-await loop ends the loader cleanly', async () => {
  const loader = new DataLoader(counting(6), { batchSize: 3 });
  for await (const batch of loader) if (batch.epoch === 1) break;
  assert.equal(loader.cursor, { epoch: 1, index: 3 });
});

test('errors name the value and say what to do', () => {
  const fails = (data: Dataset, options: DataLoaderOptions, pattern: RegExp): void =>
    assert.throws(
      () => new DataLoader(data, options),
      (e: unknown) => e instanceof ValueError && pattern.test(e.message),
    );
  fails(counting(3), { batchSize: 4 }, /batchSize is 4, expected at most the 3 items .* lower the batch size/);
  fails(counting(3), { batchSize: 0 }, /batchSize is 0, expected a positive integer/);
  fails(counting(0), { batchSize: 1 }, /has 0 items, expected at least one/);
  fails(counting(9), { batchSize: 3, seed: 0.5 }, /seed is 0.5/);
  fails(counting(9), { batchSize: 3, epochs: -1 }, /epochs is -1/);
  fails(
    counting(9),
    { batchSize: 3, cursor: { epoch: 0, index: 2 } },
    /item 2 of epoch 0, expected a multiple of batchSize 3 below 9/,
  );
  fails(counting(9), { batchSize: 3, cursor: { epoch: 0, index: 9 } }, /item 9 of epoch 0/);
});

test.run();
