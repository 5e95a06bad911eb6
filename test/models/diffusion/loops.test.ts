// Sampling loops: captured like eager, stoppable, and without leaks.

import * as assert from 'uvu/assert';
import { Generator, scope, type Tensor } from '../../../core/index.ts';
import { betaSchedule, createDiffusion, GaussianDiffusion, settingsOfBetas } from '../../../models/diffusion/index.ts';
import { assertClose, gpuSuite } from '../../support.ts';
import { random, read } from './process.ts';

const test = gpuSuite('diffusion loops');

const SHAPE = [2, 1, 5, 5];
const model = (x: Tensor, t: Tensor): Tensor =>
  x
    .mul(0.7)
    .add(t.cast('f32').mul(0.0005).reshape(-1, 1, 1, 1))
    .tanh();
const options = { diffusionSteps: 100, learnSigma: false, timestepRespacing: '8' } as const;

test('captured and eager loops give the same, bit for bit, with noise from a generator', async ({ device }) => {
  const diffusion = createDiffusion(device, options);
  const generator = new Generator(device, 7);
  for (const sample of [
    (capture: boolean) => diffusion.pSampleLoop(model, SHAPE, { generator, capture }),
    (capture: boolean) =>
      diffusion.ddimSampleLoop(model, SHAPE, { generator, capture, eta: 0.3, condFn: (x) => x.neg() }),
    (capture: boolean) => diffusion.ddimSampleLoop(model, SHAPE, { generator, capture, denoisedFn: (x) => x.mul(0.9) }),
  ]) {
    const results: Float64Array[] = [];
    const positions: number[] = [];
    for (const capture of [true, false]) {
      generator.manualSeed(11);
      results.push(...(await read(await sample(capture))));
      positions.push(generator.position);
    }
    assert.equal(results[0], results[1]);
    assert.is(positions[0], positions[1]);
    assert.ok(results[0].every(Number.isFinite) && new Set(results[0]).size > 10);
  }
  generator.dispose();
  diffusion.dispose();
});

test('loops of one, two and three steps', async ({ device }) => {
  for (const timestepRespacing of ['1', '2', '3']) {
    const diffusion = createDiffusion(device, { ...options, timestepRespacing });
    const noise = random(device, SHAPE, 1);
    const seen: number[][] = [];
    for await (const { t, index, count } of diffusion.ddimSampleLoopProgressive(model, SHAPE, { noise }))
      seen.push([t, index, count]);
    const count = Number(timestepRespacing);
    assert.equal(
      seen,
      Array.from({ length: count }, (_, i) => [count - 1 - i, i, count]),
    );
    noise.dispose();
    diffusion.dispose();
  }
});

test('a perfect model gives x_0 back, in DDPM and DDIM', async ({ device }) => {
  const betas = betaSchedule('linear', 20);
  const diffusion = new GaussianDiffusion(
    device,
    settingsOfBetas(betas, { modelMeanType: 'xStart', modelVarType: 'fixedSmall', lossType: 'mse' }),
  );
  const generator = new Generator(device, 1);
  const xStart = random(device, SHAPE, 3);
  const expected = await xStart.data();
  for (const loop of [
    diffusion.pSampleLoop(() => xStart, SHAPE, { generator }),
    diffusion.ddimSampleLoop(() => xStart, SHAPE, { generator }),
  ]) {
    const [actual] = await read(await loop);
    assertClose(actual, expected, 1e-6);
  }
  for (const v of [generator, xStart, diffusion]) v.dispose();
});

test('DDIM forth and back returns to the image', async ({ device }) => {
  // A model of ε that varies slowly with t, so that the two directions see nearly the same.
  const smooth = (x: Tensor): Tensor => x.mul(0.2);
  const diffusion = createDiffusion(device, { diffusionSteps: 200, learnSigma: false });
  const xStart = random(device, SHAPE, 5);
  const noise = await diffusion.ddimReverseSampleLoop(smooth, xStart, { clipDenoised: false });
  const [back] = await read(await diffusion.ddimSampleLoop(smooth, SHAPE, { noise, clipDenoised: false }));
  assertClose(back, await xStart.data(), 0.05);
  for (const v of [noise, xStart, diffusion]) v.dispose();
});

test('a loop can be aborted, and left', async ({ device }) => {
  const diffusion = createDiffusion(device, options);
  const generator = new Generator(device, 3);
  const controller = new AbortController();
  let steps = 0;
  try {
    for await (const { index } of diffusion.pSampleLoopProgressive(model, SHAPE, {
      generator,
      signal: controller.signal,
    })) {
      steps++;
      if (index === 3) controller.abort(new Error('enough'));
    }
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'enough');
  }
  assert.is(steps, 4);
  for await (const { index } of diffusion.pSampleLoopProgressive(model, SHAPE, { generator })) if (index === 5) break;
  await diffusion
    .pSampleLoop(
      () => {
        throw new Error('broken');
      },
      SHAPE,
      { generator },
    )
    .then(
      () => assert.unreachable(),
      (error: Error) => assert.is(error.message, 'broken'),
    );
  generator.dispose();
  diffusion.dispose();
});

test('an abandoned model call inside of the captured step leaves nothing behind', async ({ device }) => {
  const diffusion = createDiffusion(device, options);
  const generator = new Generator(device, 3);
  let calls = 0;
  const failing = (x: Tensor, t: Tensor): Tensor => {
    if (++calls === 2) throw new Error('second');
    return model(x, t);
  };
  await diffusion.pSampleLoop(failing, SHAPE, { generator }).then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'second'),
  );
  generator.dispose();
  diffusion.dispose();
});

test('what does not fit is told', async ({ device }) => {
  const diffusion = createDiffusion(device, options);
  const noise = scope(() => random(device, [2, 1, 5, 4], 1));
  const message = (loop: Promise<Tensor>): Promise<string> =>
    loop.then(
      () => 'nothing',
      (error: Error) => error.message,
    );
  assert.match(
    await message(diffusion.pSampleLoop(model, SHAPE, { noise })),
    /\[sampleLoop\] noise has shape \(2,1,5,4\), expected \(2,1,5,5\)/,
  );
  assert.match(
    await message(diffusion.pSampleLoop(model, SHAPE, { stepNoise: noise })),
    /\[sampleLoop\] stepNoise has shape \(2,1,5,4\), expected \(8,2,1,5,5\)/,
  );
  assert.match(
    await message(diffusion.ddimSampleLoop(model, SHAPE, {})),
    /\[sampleLoop\] Neither noise nor a generator/,
  );
  noise.dispose();
  diffusion.dispose();
});

test.run();
