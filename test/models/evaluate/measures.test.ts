import * as assert from 'uvu/assert';
import { ShapeError, ValueError } from '../../../core/errors.ts';
import {
  featureStatistics,
  frechetDistance,
  inceptionScore,
  kernelDistance,
  kidSubset,
  kidSubsetSize,
  precisionRecall,
  type FeatureSet,
} from '../../../models/evaluate/index.ts';
import { inceptionScoreOf, polynomialMmd, shareWithin, statistics } from '../../reference/distances.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('measures of evaluation');

/** Rows around a centre that differs from feature to feature. */
function cloud(count: number, dim: number, seed: number, centre = 0, width = 1): FeatureSet {
  const data = uniform(count * dim, seed).map((value, i) => centre * (1 + (i % dim)) + width * value);
  return { count, dim, data };
}

async function failure(run: () => Promise<unknown>): Promise<Error> {
  try {
    await run();
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}

test('statistics over blocks are those of float64, far from zero too', async ({ device }) => {
  for (const [count, dim, centre] of [
    [1111, 13, 0],
    [600, 37, 20],
    [2, 3, -5],
  ]) {
    const set = cloud(count, dim, count, centre);
    const found = await featureStatistics(device, set);
    const expected = statistics(set);
    assert.is(found.count, count);
    assertClose(found.mean, expected.mean, 1e-6, `mean of ${count}`);
    assertClose(found.covariance, expected.covariance, 1e-6, `covariance of ${count}`);
  }
  assert.instance(await failure(() => featureStatistics(device, cloud(1, 4, 1))), ValueError);
});

test('the distance of a set to itself is zero, to a shifted one the square of the shift', async ({ device }) => {
  const a = cloud(300, 9, 3),
    b = { ...a, data: a.data.map((value) => value + 0.5) };
  const [first, second] = [await featureStatistics(device, a), await featureStatistics(device, b)];
  assert.ok((await frechetDistance(first, first)) < 1e-9);
  assertClose([await frechetDistance(first, second)], [9 * 0.25], 1e-5, 'shifted');
  assert.instance(
    await failure(async () => frechetDistance(first, await featureStatistics(device, cloud(10, 8, 1)))),
    ShapeError,
  );
});

test('KID is the mean over subsets of the discrepancy in float64', async ({ device }) => {
  const a = cloud(57, 21, 5),
    b = cloud(43, 21, 6, 0.02);
  const [subsets, subsetSize, seed] = [7, 31, 11];
  const each = Array.from({ length: subsets }, (_, i) =>
    polynomialMmd(a, b, kidSubset(57, subsetSize, seed, i, 0), kidSubset(43, subsetSize, seed, i, 1)),
  );
  const mean = each.reduce((sum, value) => sum + value, 0) / subsets;
  const found = await kernelDistance(device, a, b, { subsets, subsetSize, seed });
  assertClose([found.mean], [mean], 2e-5, 'mean');
  const deviation = Math.sqrt(each.reduce((sum, value) => sum + (value - mean) ** 2, 0) / subsets);
  assertClose([found.deviation], [deviation], 1e-4, 'deviation');
});

test('one subset of everything is the whole estimate; defaults follow the smaller set', async ({ device }) => {
  const a = cloud(24, 6, 8, 0.1),
    b = cloud(24, 6, 9);
  const all = Array.from({ length: 24 }, (_, i) => i);
  const found = await kernelDistance(device, a, b, { subsets: 1, subsetSize: 24 });
  assertClose([found.mean], [polynomialMmd(a, b, all, all)], 2e-5, 'whole');
  assert.is(found.deviation, 0);
  assert.equal(
    [kidSubsetSize(50_000), kidSubsetSize(1001), kidSubsetSize(1000), kidSubsetSize(3)],
    [1000, 1000, 500, 2],
  );
  assert.equal(
    [...kidSubset(24, 24, 0, 0, 0)].sort((p, q) => p - q),
    all,
  );
  const error = await failure(() => kernelDistance(device, a, b, { subsetSize: 25 }));
  assert.match(error.message, 'from 2 to 24');
});

test('precision and recall are those of float64, also over several blocks', async ({ device }) => {
  for (const [n, m, dim, centre, k] of [
    [61, 47, 5, 0.05, 3],
    [40, 90, 2, 0.3, 1],
    [2100, 2060, 3, 0.01, 3],
  ]) {
    const samples = cloud(n, dim, n, centre, 0.9),
      data = cloud(m, dim, m);
    const found = await precisionRecall(device, samples, data, { neighbours: k });
    // Distances are f32: a picture on the edge may fall either way.
    assert.ok(Math.abs(found.precision - shareWithin(samples, data, k)) <= 1 / n, `precision of ${n}`);
    assert.ok(Math.abs(found.recall - shareWithin(data, samples, k)) <= 1 / m, `recall of ${m}`);
  }
});

test('samples far from the data have no precision, few of them little recall', async ({ device }) => {
  const data = cloud(80, 4, 1);
  assert.equal(await precisionRecall(device, cloud(80, 4, 2, 100), data), { precision: 0, recall: 0 });
  assert.is((await precisionRecall(device, data, data)).precision, 1);
  assert.match((await failure(() => precisionRecall(device, cloud(3, 4, 1), data))).message, 'at least 4');
});

test('the Inception score of each split is that of float64', () => {
  const [count, classes, splits] = [43, 7, 4];
  const raw = uniform(count * classes, 4).map((value) => Math.exp(4 * value));
  const rows = Array.from({ length: count }, (_, i) => {
    const row = Array.from(raw.subarray(i * classes, (i + 1) * classes));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((value) => Math.fround(value / sum));
  });
  const each = [0, 1, 2, 3].map((s) =>
    inceptionScoreOf(rows.slice(Math.floor((s * count) / splits), Math.floor(((s + 1) * count) / splits))),
  );
  const found = inceptionScore({ count, classes, data: Float32Array.from(rows.flat()) }, { splits });
  const mean = each.reduce((a, b) => a + b, 0) / splits;
  assertClose([found.mean], [mean], 1e-12, 'mean');
  assertClose(
    [found.deviation],
    [Math.sqrt(each.reduce((sum, value) => sum + (value - mean) ** 2, 0) / splits)],
    1e-10,
    'deviation',
  );
  const sure = Float32Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]);
  assertClose([inceptionScore({ count: 3, classes: 3, data: sure }, { splits: 1 }).mean], [3], 1e-12, 'sure');
  assert.throws(() => inceptionScore({ count: 3, classes: 3, data: sure }), /splits is 10, expected .* from 1 to 3/);
});

test('long work on the host ends when it is asked to', async () => {
  const size = 400;
  const data = Float64Array.from(uniform(size * size, 2));
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < i; j++) data[i * size + j] = data[j * size + i];
    data[i * size + i] += size;
  }
  const set = { count: 1000, mean: new Float64Array(size), covariance: data };
  const error = await failure(() => frechetDistance(set, set, { signal: AbortSignal.abort(new Error('enough')) }));
  assert.is(error.message, 'enough');
});

test.run();
