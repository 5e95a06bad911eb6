// p(x_{t-1} | x_t), single steps and guidance against float64, in every combination of types.

import * as assert from 'uvu/assert';
import { gradcheck, scope, tensor, type Tensor } from '../../../core/index.ts';
import { createDiffusion, GaussianDiffusion, settingsOfBetas, betaSchedule } from '../../../models/diffusion/index.ts';
import { pMeanVariance, type Prediction } from '../../reference/diffusion.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';
import { MEAN_TYPES, processOf, random, read, VAR_TYPES } from './process.ts';

const test = gpuSuite('diffusion process');

const STEPS = [0, 1, 17, 39];
const BATCH = STEPS.length;

for (const meanType of MEAN_TYPES) {
  for (const varType of VAR_TYPES) {
    test(`${meanType}, ${varType}: pMeanVariance, pSample and DDIM`, async ({ device }) => {
      const diffusion = processOf(device, meanType, varType);
      // 3 · 5 · 5 is no multiple of 4, 4 · 4 is.
      for (const inner of [
        [3, 5, 5],
        [1, 4, 4],
      ]) {
        const shape = [BATCH, ...inner];
        const x = random(device, shape, 1, 1.5);
        const noise = random(device, shape, 2);
        const t = tensor(device, Int32Array.from(STEPS));
        const output = random(device, [BATCH, inner[0] * diffusion.outputParts, ...inner.slice(1)], 3);
        const [hostX, z, modelOutput] = await Promise.all([x, noise, output].map((v) => v.data()));
        const prediction: Prediction = { x: hostX, t: STEPS, modelOutput };
        const { settings } = diffusion;
        for (const clipDenoised of [true, false]) {
          const expected = pMeanVariance(settings, prediction, clipDenoised);
          const p = diffusion.pMeanVariance(() => output, x, t, { clipDenoised });
          for (const key of ['mean', 'variance', 'logVariance', 'predXstart'] as const) {
            const [actual] = await read(p[key]);
            assertClose(actual, expected[key], 2e-5, `${key}, clip ${clipDenoised}`);
          }
          const size = x.numel / BATCH;
          const step = (i: number): number => STEPS[Math.floor(i / size)];
          const { sample, predXstart } = diffusion.pSample(() => output, x, t, { noise, clipDenoised });
          const [actual, x0] = await read(sample, predXstart);
          assertClose(
            actual,
            expected.mean.map((m, i) => m + (step(i) > 0 ? Math.exp(0.5 * expected.logVariance[i]) * z[i] : 0)),
            2e-5,
            'pSample',
          );
          assertClose(x0, expected.predXstart, 2e-5, 'predXstart');

          const k = settings.tables;
          const ddim = (eta: number): Float64Array =>
            expected.predXstart.map((start, i) => {
              const s = step(i);
              const sigma =
                eta *
                Math.sqrt(
                  ((1 - k.alphasCumprodPrev[s]) / (1 - k.alphasCumprod[s])) *
                    (1 - k.alphasCumprod[s] / k.alphasCumprodPrev[s]),
                );
              const epsilon = (k.sqrtRecipAlphasCumprod[s] * hostX[i] - start) / k.sqrtRecipm1AlphasCumprod[s];
              return (
                start * Math.sqrt(k.alphasCumprodPrev[s]) +
                Math.sqrt(Math.max(0, 1 - k.alphasCumprodPrev[s] - sigma ** 2)) * epsilon +
                (s > 0 ? sigma * z[i] : 0)
              );
            });
          for (const eta of [0, 0.4, 1]) {
            const result = diffusion.ddimSample(() => output, x, t, { eta, noise, clipDenoised });
            const [found] = await read(result.sample, result.predXstart);
            assertClose(found, ddim(eta), 2e-5, `ddimSample eta ${eta}`);
          }
        }
        for (const v of [x, noise, t, output]) v.dispose();
      }
      diffusion.dispose();
    });
  }
}

test('denoisedFn comes before clipping', async ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'fixedLarge');
  const [x, output, t] = [
    random(device, [4, 1, 3, 3], 1, 2),
    random(device, [4, 1, 3, 3], 2),
    tensor(device, Int32Array.from(STEPS)),
  ];
  const plain = diffusion.pMeanVariance(() => output, x, t, { clipDenoised: false });
  const changed = diffusion.pMeanVariance(() => output, x, t, { denoisedFn: (xStart) => xStart.mul(0.5).add(0.25) });
  const [x0, actual] = await read(plain.predXstart, changed.predXstart);
  assertClose(
    actual,
    x0.map((v) => Math.min(1, Math.max(-1, 0.5 * v + 0.25))),
    1e-6,
  );
  for (const v of [
    plain.mean,
    plain.variance,
    plain.logVariance,
    changed.mean,
    changed.variance,
    changed.logVariance,
    x,
    output,
    t,
  ])
    v.dispose();
  diffusion.dispose();
});

test('guidance moves the mean by σ²∇ in DDPM, and ε by -√(1-ᾱ)∇ in DDIM; it sees the timesteps of the model', async ({
  device,
}) => {
  const kept = [0, 3, 20, 39];
  const diffusion = processOf(device, 'epsilon', 'learnedRange', 'mse', kept);
  const k = diffusion.settings.tables;
  const shape = [4, 1, 3, 3];
  const x = random(device, shape, 1);
  const noise = random(device, shape, 2);
  const output = random(device, [4, 2, 3, 3], 3);
  const t = tensor(device, Int32Array.of(0, 1, 2, 3));
  const seen: Tensor[] = [];
  const condFn = (at: Tensor, timesteps: Tensor): Tensor => {
    seen.push(timesteps.clone());
    return at.mul(0.3).add(1);
  };
  const p = diffusion.pMeanVariance(() => output, x, t, { clipDenoised: false });
  const sampled = diffusion.pSample(() => output, x, t, { clipDenoised: false, noise, condFn });
  const ddim = diffusion.ddimSample(() => output, x, t, { clipDenoised: false, condFn });
  // What condFn kept was made in the operation's scope, and is gone with it.
  assert.ok(seen.length === 2 && seen.every((s) => s.disposed));
  const hostX = await x.data(),
    z = await noise.data();
  const [mean, variance, x0, first, second, guidedX0] = await read(
    p.mean,
    p.variance,
    p.predXstart,
    sampled.sample,
    ddim.sample,
    ddim.predXstart,
  );
  const row = (i: number): number => Math.floor(i / 9);
  const gradient = (i: number): number => 0.3 * hostX[i] + 1;
  assertClose(
    first,
    mean.map((m, i) => m + variance[i] * gradient(i) + (row(i) > 0 ? Math.sqrt(variance[i]) * z[i] : 0)),
    1e-5,
    'DDPM',
  );
  const epsilon = x0.map(
    (v, i) =>
      (k.sqrtRecipAlphasCumprod[row(i)] * hostX[i] - v) / k.sqrtRecipm1AlphasCumprod[row(i)] -
      Math.sqrt(1 - k.alphasCumprod[row(i)]) * gradient(i),
  );
  const start = epsilon.map(
    (e, i) => k.sqrtRecipAlphasCumprod[row(i)] * hostX[i] - k.sqrtRecipm1AlphasCumprod[row(i)] * e,
  );
  assertClose(guidedX0, start, 1e-5, 'x_0 of DDIM');
  assertClose(
    second,
    start.map(
      (v, i) => v * Math.sqrt(k.alphasCumprodPrev[row(i)]) + Math.sqrt(1 - k.alphasCumprodPrev[row(i)]) * epsilon[i],
    ),
    1e-5,
    'DDIM',
  );
  for (const v of [p.logVariance, sampled.predXstart, x, noise, output, t]) v.dispose();
  diffusion.dispose();
});

test('the model gets the timesteps that it was trained with, rescaled where asked', async ({ device }) => {
  const settings = settingsOfBetas(betaSchedule('linear', 40), {
    modelMeanType: 'epsilon',
    modelVarType: 'fixedSmall',
    lossType: 'mse',
    keep: [0, 13, 39],
  });
  const t = tensor(device, Int32Array.of(2, 0, 1));
  for (const [options, expected] of [
    [{}, [39, 0, 13]],
    [{ rescaleTimesteps: true }, [975, 0, 325]],
  ] as const) {
    const diffusion = new GaussianDiffusion(device, settings, options);
    const given = scope(() => diffusion.modelTimesteps(t));
    assert.equal([...(await given.data())], expected);
    given.dispose();
    diffusion.dispose();
  }
  t.dispose();
});

test('an f16 output counts like its values in f32', { needs: 'shader-f16' }, async ({ device }) => {
  const diffusion = processOf(device, 'epsilon', 'learnedRange');
  const [x, noise, t] = [
    random(device, [4, 3, 3, 3], 1),
    random(device, [4, 3, 3, 3], 2),
    tensor(device, Int32Array.from(STEPS)),
  ];
  const half = scope(() => random(device, [4, 6, 3, 3], 3).cast('f16'));
  const same = half.cast('f32');
  const [first, second] = await read(
    ...[half, same].map((output) => scope(() => diffusion.pSample(() => output, x, t, { noise }).sample)),
  );
  assert.equal(first, second);
  for (const v of [x, noise, t, half, same]) v.dispose();
  diffusion.dispose();
});

test('operations are on the tape', async ({ device }) => {
  for (const meanType of MEAN_TYPES) {
    const diffusion = processOf(device, meanType, 'learnedRange');
    const t = tensor(device, Int32Array.of(5, 30));
    const [x, noise, output] = [
      random(device, [2, 1, 3, 3], 1),
      random(device, [2, 1, 3, 3], 2),
      random(device, [2, 2, 3, 3], 3),
    ];
    await gradcheck((a, z) => diffusion.qSample(a, t, z), [x, noise]);
    await gradcheck(
      (a, z, out) => diffusion.pSample(() => out, a, t, { noise: z, clipDenoised: false }).sample,
      [x, noise, output],
    );
    // All four results at once: their gradients come in two portions.
    await gradcheck(
      (a, out) => {
        const p = diffusion.pMeanVariance(() => out, a, t, { clipDenoised: false });
        return p.mean.mul(2).add(p.variance.mul(3)).add(p.logVariance).sub(p.predXstart.mul(0.5));
      },
      [x, output],
    );
    for (const v of [t, x, noise, output]) v.dispose();
    diffusion.dispose();
  }
});

test('what does not fit is told', ({ device }) => {
  const diffusion = createDiffusion(device, { diffusionSteps: 40 });
  const [x, t] = [random(device, [2, 3, 4, 4], 1), tensor(device, Int32Array.of(1, 2))];
  const wrong = tensor(device, uniform(2));
  assert.throws(
    () => diffusion.pSample(() => x, x, t, { noise: x }),
    /\[ddpm\] The model gave shape \(2,3,4,4\), expected \(2,6,4,4\).*learned/,
  );
  assert.throws(() => diffusion.qSample(x, wrong, x), /\[qSample\] t is f32, expected i32/);
  assert.throws(() => diffusion.qSample(x, t, wrong), /\[qSample\] noise has shape \(2,?\), expected \(2,3,4,4\)/);
  assert.throws(() => diffusion.pSample(() => x, x, t, {}), /\[ddpm\] Neither noise nor a generator/);
  assert.throws(() => diffusion.ddimSample(() => x, x, t, { eta: 2 }), /\[ddim\] eta is 2, expected 0 to 1/);
  for (const v of [x, t, wrong]) v.dispose();
  diffusion.dispose();
});

test('every form compiles under the default limits, without features', async ({ open }) => {
  const device = await open({ backend: 'null', defaultLimits: true, without: ['subgroups', 'shader-f16'] });
  for (const meanType of MEAN_TYPES) {
    for (const varType of VAR_TYPES) {
      for (const [lossType, inner] of [
        ['rescaledMse', [1, 3, 3]],
        ['rescaledKl', [1, 4, 4]],
      ] as const) {
        const diffusion = processOf(device, meanType, varType, lossType);
        scope(() => {
          const [x, t] = [random(device, [2, ...inner], 1), tensor(device, Int32Array.of(0, 1))];
          const output = random(device, [2, inner[0] * diffusion.outputParts, ...inner.slice(1)], 2).requiresGrad_();
          const options = { denoisedFn: (v: Tensor) => v, condFn: (v: Tensor) => v, noise: x };
          diffusion
            .pMeanVariance(() => output, x, t, options)
            .mean.sum()
            .backward();
          diffusion.pSample(() => output, x, t, options);
          diffusion.ddimSample(() => output, x, t, { ...options, eta: 0.5 });
          diffusion.ddimReverseSample(() => output, x, t, options);
          diffusion
            .trainingLosses(() => output, x, t, { noise: x })
            .loss.sum()
            .backward();
        });
        diffusion.dispose();
      }
    }
  }
  await device.synchronize();
});

test.run();
