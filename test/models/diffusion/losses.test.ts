// Losses and their gradients against float64, in every combination of types, and the whole variational bound.

import * as assert from 'uvu/assert';
import { capture, concat, grad, noGrad, scope, tensor, type Tensor } from '../../../core/index.ts';
import type { GaussianDiffusion, LossType } from '../../../models/diffusion/index.ts';
import { discretizedGaussianLogLikelihood, normalKl, standardNormalKl } from '../../../models/diffusion/index.ts';
import * as reference from '../../reference/diffusion.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';
import { MEAN_TYPES, processOf, random, read, VAR_TYPES } from './process.ts';

const test = gpuSuite('diffusion losses');

const STEPS = [0, 1, 22, 39];
const LOSS_TYPES: readonly LossType[] = ['mse', 'rescaledMse', 'kl', 'rescaledKl'];

/** A batch whose output is near what it should be, as in training. */
function batch(
  diffusion: GaussianDiffusion,
  inner: readonly number[],
): { xStart: Tensor; noise: Tensor; t: Tensor; output: Tensor } {
  const { device } = diffusion;
  const shape = [STEPS.length, ...inner];
  const t = tensor(device, Int32Array.from(STEPS));
  const [xStart, noise] = [random(device, shape, 1, 1.02), random(device, shape, 2, 1.7)];
  const output = scope(() => {
    const x = diffusion.qSample(xStart, t, noise);
    const target = { epsilon: noise, xStart, previousX: diffusion.qPosteriorMeanVariance(xStart, x, t).mean }[
      diffusion.settings.modelMeanType
    ];
    const mean = target.add(random(device, shape, 3, 0.05));
    if (diffusion.outputParts === 1) return mean;
    // A learned variance is a logarithm, and one far off would drown everything else.
    const logVariance = diffusion.pMeanVariance(() => concat([mean, mean.zerosLike()], 1), x, t).logVariance;
    const range = random(device, shape, 4, 0.8);
    return concat(
      [
        mean,
        diffusion.settings.modelVarType === 'learned'
          ? diffusion.qPosteriorMeanVariance(xStart, x, t).logVarianceClipped.add(range).add(logVariance.mul(0))
          : range,
      ],
      1,
    );
  });
  return { xStart, noise, t, output };
}

for (const meanType of MEAN_TYPES) {
  for (const varType of VAR_TYPES) {
    test(`${meanType}, ${varType}: values and gradients`, async ({ device }) => {
      // Rescaling multiplies, whatever the prediction.
      for (const lossType of meanType === 'epsilon' ? LOSS_TYPES : (['rescaledMse', 'kl'] as const)) {
        const diffusion = processOf(device, meanType, varType, lossType);
        const { xStart, noise, t, output } = batch(diffusion, [1, 3, 3]);
        output.requiresGrad_();
        const terms = diffusion.trainingLosses(() => output, xStart, t, { noise });
        const weights = [1, -2, 3, 0.5];
        const [gradient] = scope(() => grad(terms.loss, [output], { gradient: tensor(device, weights) }));
        const [hostX, hostNoise, out] = await Promise.all(
          [xStart, noise, output].map(async (v) => Float64Array.from(await v.data())),
        );
        const { settings } = diffusion;
        const expected = reference.trainingLosses(settings, hostX, hostNoise, STEPS, out);
        for (const term of ['loss', 'mse', 'vb'] as const) {
          assert.is(terms[term] === undefined, expected[term] === undefined, term);
          if (expected[term])
            (await terms[term]!.data()).forEach((v, b) =>
              assert.ok(
                Math.abs(v - expected[term]![b]) <= 2e-4 * Math.abs(expected[term]![b]) + 1e-6,
                `${lossType} ${term}[${b}]: ${v}, expected ${expected[term]![b]}`,
              ),
            );
        }
        const [actual] = await read(gradient!);
        const size = out.length / STEPS.length;
        const numeric = out.map((_, i) => {
          const b = Math.floor(i / size);
          const at = (delta: number): number =>
            reference.trainingLosses(
              settings,
              hostX,
              hostNoise,
              STEPS,
              out.map((v, j) => (j === i ? v + delta : v)),
              out,
            ).loss[b];
          return (weights[b] * (at(1e-4) - at(-1e-4))) / 2e-4;
        });
        // Each timestep has a gradient of its own size.
        STEPS.forEach((step, b) =>
          assertClose(
            actual.slice(b * size, (b + 1) * size),
            numeric.slice(b * size, (b + 1) * size),
            1e-3,
            `${lossType} gradient at t = ${step}`,
          ),
        );
        for (const v of [...new Set(Object.values(terms) as Tensor[]), xStart, noise, t, output]) v.dispose();
        diffusion.dispose();
      }
    });
  }
}

test('large samples are summed in pieces; the terms have gradients of their own', async ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'learnedRange', 'mse');
  for (const inner of [
    [3, 37, 37],
    [2, 52, 52],
  ]) {
    const { xStart, noise, t, output } = batch(diffusion, inner);
    output.requiresGrad_();
    const terms = diffusion.trainingLosses(() => output, xStart, t, { noise });
    const [whole] = scope(() =>
      grad(terms.loss, [output], { gradient: tensor(device, [1, 1, 1, 1]), retainGraph: true }),
    );
    const [parts] = scope(() =>
      grad([terms.loss, terms.mse!, terms.vb!], [output], {
        gradient: [1, 0.5, 0.5].map((v) => tensor(device, [v, v, v, v])),
      }),
    );
    const values = await Promise.all([xStart, noise, output].map((v) => v.data()));
    const expected = reference.trainingLosses(diffusion.settings, values[0], values[1], STEPS, values[2]);
    const [loss, mse, vb, g, h] = await read(terms.loss, terms.mse!, terms.vb!, whole!, parts!);
    assertClose(loss, expected.loss, 1e-4, 'loss');
    assertClose(mse, expected.mse!, 1e-5, 'mse');
    assertClose(vb, expected.vb!, 1e-4, 'vb');
    assertClose(
      h,
      g.map((v) => v * 1.5),
      1e-6,
      'loss = mse + vb',
    );
    for (const v of [xStart, noise, t, output]) v.dispose();
  }
  diffusion.dispose();
});

test('an f16 output has an f16 gradient and the losses of its values', { needs: 'shader-f16' }, async ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'learnedRange');
  const { xStart, noise, t, output } = batch(diffusion, [1, 3, 3]);
  const half = output.cast('f16').requiresGrad_();
  const same = scope(() => half.detach().cast('f32')).requiresGrad_();
  const [first, second] = [half, same].map((out) => diffusion.trainingLosses(() => out, xStart, t, { noise }));
  const gradients = [first, second].map((terms, i) => scope(() => grad(terms.loss.sum(), [[half, same][i]])[0]!));
  assert.is(gradients[0].dtype, 'f16');
  const [a, b, g, h] = await read(first.loss, second.loss, ...gradients);
  assert.equal(a, b);
  assertClose(g, h, 1e-3, 'gradient');
  for (const v of [first.mse!, first.vb!, second.mse!, second.vb!, xStart, noise, t, output, half, same]) v.dispose();
  diffusion.dispose();
});

test('a captured training step reads timesteps anew', async ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'learnedRange');
  const { xStart, noise, t, output } = batch(diffusion, [1, 3, 3]);
  const step = capture(device, () =>
    scope(() => noGrad(() => diffusion.trainingLosses(() => output, xStart, t, { noise }).loss)),
  );
  for (const steps of [
    [3, 2, 1, 0],
    [39, 0, 5, 5],
  ]) {
    t.write(Int32Array.from(steps));
    step.replay();
    const eager = diffusion.trainingLosses(() => output, xStart, t, { noise });
    assert.equal(await step.result.data(), await eager.loss.data());
    for (const v of Object.values(eager) as Tensor[]) v.dispose();
  }
  step.dispose();
  for (const v of [step.result, xStart, noise, t, output]) v.dispose();
  diffusion.dispose();
});

test('x_0 and noise are data', ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'fixedSmall');
  const { xStart, noise, t, output } = batch(diffusion, [1, 3, 3]);
  xStart.requiresGrad_();
  assert.throws(
    () => diffusion.trainingLosses(() => output, xStart, t, { noise }),
    /\[trainingLosses\] xStart requires a gradient, expected data/,
  );
  for (const v of [xStart, noise, t, output]) v.dispose();
  diffusion.dispose();
});

for (const [meanType, varType] of [
  ['epsilon', 'learnedRange'],
  ['previousX', 'fixedLarge'],
  ['xStart', 'learned'],
] as const) {
  test(`the whole bound, ${meanType} and ${varType}`, async ({ device }) => {
    const lossType: LossType = 'kl';
    const diffusion = processOf(device, meanType, varType, lossType, [0, 1, 7, 20, 39]);
    const { settings, numTimesteps } = diffusion;
    const xStart = random(device, [2, 1, 3, 3], 1);
    const stepNoise = random(device, [numTimesteps, 2, 1, 3, 3], 2);
    const model = (x: Tensor, t: Tensor): Tensor => {
      const mean = x.mul(0.8).add(t.cast('f32').mul(0.001).reshape(-1, 1, 1, 1));
      return diffusion.outputParts === 2 ? concat([mean, x.mul(0.05).sub(varType === 'learned' ? 3 : 0)], 1) : mean;
    };
    const [host, z] = await Promise.all([xStart, stepNoise].map((v) => v.data()));
    const size = xStart.numel;
    for (const clipDenoised of [true, false]) {
      const runs: Float64Array[][] = [];
      for (const captured of [true, false]) {
        const { totalBpd, priorBpd, vb, xstartMse, mse } = await diffusion.calcBpdLoop(model, xStart, {
          clipDenoised,
          stepNoise,
          capture: captured,
        });
        runs.push(await read(totalBpd, priorBpd, vb, xstartMse, mse));
      }
      assert.equal(runs[0], runs[1], 'captured and not');
      const [total, prior, vb, xstartMse, mse] = runs[0];
      for (let i = 0; i < numTimesteps; i++) {
        const step = numTimesteps - 1 - i;
        const t = [step, step];
        const noise = z.slice(i * size, (i + 1) * size);
        const x = reference.qSample(settings, host, t, noise);
        const xTensor = tensor(device, x, { shape: xStart.shape });
        const tTensor = tensor(device, Int32Array.of(settings.timestepMap[step], settings.timestepMap[step]));
        const [modelOutput] = await read(scope(() => model(xTensor, tTensor)));
        xTensor.dispose();
        tTensor.dispose();
        const expected = reference.vbTermsBpd(settings, host, { x, t, modelOutput }, clipDenoised);
        const { predXstart } = reference.pMeanVariance(settings, { x, t, modelOutput }, clipDenoised);
        for (const b of [0, 1]) {
          const mean = (fn: (i: number) => number): number =>
            Array.from({ length: 9 }, (_, j) => fn(9 * b + j)).reduce((s, v) => s + v / 9, 0);
          const near = (actual: number, value: number, what: string): void =>
            assert.ok(
              Math.abs(actual - value) <= 2e-4 * Math.abs(value) + 1e-6,
              `${what} of sample ${b} at t = ${step}: ${actual}, expected ${value}`,
            );
          near(vb[b * numTimesteps + i], expected[b], 'vb');
          near(
            xstartMse[b * numTimesteps + i],
            mean((j) => (predXstart[j] - host[j]) ** 2),
            'xstartMse',
          );
          const k = settings.tables;
          near(
            mse[b * numTimesteps + i],
            mean(
              (j) =>
                ((k.sqrtRecipAlphasCumprod[step] * x[j] - predXstart[j]) / k.sqrtRecipm1AlphasCumprod[step] -
                  noise[j]) **
                2,
            ),
            'mse',
          );
        }
      }
      for (const b of [0, 1]) {
        const sum = vb.slice(b * numTimesteps, (b + 1) * numTimesteps).reduce((s, v) => s + v, 0);
        assert.ok(Math.abs(total[b] - sum - prior[b]) <= 1e-5 * total[b]);
        const last = numTimesteps - 1;
        const bits = Array.from(
          host.slice(9 * b, 9 * b + 9),
          (v) =>
            reference.normalKl(
              settings.tables.sqrtAlphasCumprod[last] * v,
              settings.tables.logOneMinusAlphasCumprod[last],
              0,
              0,
            ) /
            Math.LN2 /
            9,
        ).reduce((s, v) => s + v, 0);
        assert.ok(Math.abs(prior[b] - bits) <= 1e-5 * bits, `prior ${prior[b]}, expected ${bits}`);
      }
    }
    for (const v of [xStart, stepNoise]) v.dispose();
    diffusion.dispose();
  });
}

test('divergences and likelihoods as operations on tensors', async ({ device }) => {
  const hosts = [1, 2, 3, 4].map((seed) => uniform(33, seed));
  const [m1, l1, m2, l2] = hosts.map((h) => tensor(device, h));
  const [kl, standard, likelihood] = await read(
    scope(() => normalKl(m1, l1, m2, l2)),
    scope(() => standardNormalKl(m1, l1)),
    scope(() => discretizedGaussianLogLikelihood(m1, m2, l2)),
  );
  const at = (fn: (a: number, b: number, c: number, d: number) => number): Float64Array =>
    Float64Array.from(hosts[0], (a, i) => fn(a, hosts[1][i], hosts[2][i], hosts[3][i]));
  assertClose(kl, at(reference.normalKl), 1e-5);
  assertClose(
    standard,
    at((a, b) => reference.normalKl(a, b, 0, 0)),
    1e-5,
  );
  assertClose(
    likelihood,
    at((a, _b, c, d) => reference.discretizedGaussianLogLikelihood(a, c, d)),
    1e-5,
  );
  for (const v of [m1, l1, m2, l2]) v.dispose();
});

test.run();
