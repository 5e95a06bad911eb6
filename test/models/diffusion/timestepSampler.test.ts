import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  createTimestepSampler,
  LossSecondMomentResampler,
  timestepSamplerFromState,
  UniformSampler,
} from '../../../models/diffusion/timestepSampler.ts';

/** Evenly spread numbers: the histogram of what is drawn with them is the distribution itself. */
function even(count: number): () => number {
  let i = 0;
  return () => (i++ + 0.5) / count;
}

test('uniform draws every timestep equally often with weight 1', () => {
  const { timesteps, weights } = new UniformSampler(4).sample(8, even(8));
  assert.equal([...timesteps], [0, 0, 1, 1, 2, 2, 3, 3]);
  assert.ok(weights.every((weight) => weight === 1));
});

test('loss-aware is uniform until every timestep has a full history', () => {
  const sampler = new LossSecondMomentResampler(3, { historyPerTerm: 2 });
  sampler.update([0, 0, 0, 1, 1, 2], [9, 9, 9, 1, 1, 1]);
  assert.equal([...sampler.weights()], [1, 1, 1]);
  sampler.update([2], [1]);
  assert.ok(sampler.weights()[0] > 0.8);
});

test('probability is the root of the mean square of the latest losses, mixed with uniform', () => {
  const sampler = new LossSecondMomentResampler(2, { historyPerTerm: 2, uniformProb: 0.1 });
  sampler.update([0, 0, 0, 1, 1], [100, 1, 7, 3, 4]);
  const moments = [Math.sqrt((1 + 49) / 2), Math.sqrt((9 + 16) / 2)];
  const total = moments[0] + moments[1];
  sampler.weights().forEach((weight, t) => assert.ok(Math.abs(weight - ((0.9 * moments[t]) / total + 0.05)) < 1e-15));
});

test('weights make the expected loss that of uniform sampling', () => {
  const losses = [1, 2, 3, 10];
  const sampler = new LossSecondMomentResampler(4, { historyPerTerm: 1 });
  sampler.update([0, 1, 2, 3], losses);
  const count = 100000;
  const { timesteps, weights } = sampler.sample(count, even(count));
  const mean = timesteps.reduce((sum, t, i) => sum + losses[t] * weights[i], 0) / count;
  assert.ok(Math.abs(mean - 4) < 1e-3, `${mean}`);
  assert.ok(timesteps.filter((t) => t === 3).length > 0.6 * count);
});

test('a sampler goes on from its state, through JSON', () => {
  const sampler = new LossSecondMomentResampler(3, { historyPerTerm: 2, uniformProb: 0.2 });
  sampler.update([0, 0, 1, 1, 2, 2, 0], [1, 2, 3, 4, 5, 6, 7]);
  const again = timestepSamplerFromState(JSON.parse(JSON.stringify(sampler.state())));
  assert.equal([...again.weights()], [...sampler.weights()]);
  sampler.update([1], [9]);
  again.update([1], [9]);
  assert.equal(again.state(), sampler.state());
  assert.equal(timestepSamplerFromState(new UniformSampler(5).state()).state(), { kind: 'uniform', numTimesteps: 5 });
});

test('refuses bad arguments', () => {
  assert.throws(() => new UniformSampler(0), /numTimesteps is 0/);
  assert.throws(() => new LossSecondMomentResampler(3, { uniformProb: 2 }), /uniformProb is 2/);
  assert.throws(() => createTimestepSampler('best' as never, 3), /unknown sampler best/);
  const sampler = createTimestepSampler('loss-second-moment', 3);
  assert.throws(() => sampler.update([3], [1]), /timestep 3 is outside 0 to 2/);
  assert.throws(() => sampler.update([0], [NaN]), /loss of timestep 0 is NaN/);
  assert.throws(() => sampler.update([0, 1], [1]), /2 timesteps and 1 losses/);
});

test.run();
