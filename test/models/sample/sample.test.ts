// Sampling as the library, the command line and the page do it: labels, guidance, batches, seeds, and images that begin with images.

import * as assert from 'uvu/assert';
import { concat, Generator, noGrad, scope, type Tensor } from '../../../core/index.ts';
import { ddim, ddpm, dpmSolverPlusPlus } from '../../../models/diffusion/index.ts';
import { Dis, disConfig } from '../../../models/dis/index.ts';
import {
  guide,
  imageToImage,
  inpaint,
  sampleImages,
  sampleProgressive,
  type LabelledModel,
  type SampleOptions,
} from '../../../models/sample/index.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';
import { random } from '../diffusion/process.ts';

const test = gpuSuite('sample');

/** A model that is the same function of each image, with a size that fills no block of random numbers. */
const model: LabelledModel = {
  config: { imgSize: 5, channels: 1, numClasses: 3, classDropoutProb: 0.1 },
  forward(x, t, labels) {
    const of = (v: Tensor): Tensor => v.cast('f32').reshape(-1, 1, 1, 1);
    return x.mul(0.7).add(of(t).mul(0.0005)).add(of(labels!).mul(0.2)).tanh();
  },
};
const diffusion = { learnSigma: false, diffusionSteps: 100 };
const SIZE = 25;

const image = (data: Float32Array, i: number, size = SIZE): number[] => [...data.subarray(i * size, (i + 1) * size)];

test('an image depends on the seed, its number and its label, and not on the batch', async ({ device }) => {
  const labels = [0, 1, 2, 1, 0, 2, 1];
  for (const sampler of [ddpm(), ddim(), ddim({ eta: 0.5 }), dpmSolverPlusPlus()]) {
    const draw = async (options: Partial<SampleOptions>): Promise<Float32Array> =>
      (await sampleImages({ device, model, diffusion, labels, guidance: 2, sampler, steps: 6, seed: 5, ...options }))
        .images.data;
    const all = await draw({ batch: 7 });
    assert.ok(new Set(all).size > SIZE, 'images differ');
    for (const batch of [1, 3, 4]) assert.equal(await draw({ batch }), all, `${sampler.name}, batch ${batch}`);
    const last = await draw({ labels: labels.slice(4), first: 4 });
    assert.equal([...last], [...all.subarray(4 * SIZE)], `${sampler.name}, from the fifth on`);
    assert.not.equal(await draw({ seed: 6 }), all);
  }
});

test('guidance is what the formula says, for all channels or the first ones', async ({ device }) => {
  const [n, channels] = [2, 4];
  const output = random(device, [2 * n, 2 * channels, 3, 3], 1);
  const values = await output.data();
  for (const guided of [channels, 3]) {
    const expected: number[] = [];
    for (let i = 0; i < n; i++)
      for (let k = 0; k < guided * 9; k++) {
        const [conditional, none] = [values[i * channels * 18 + k], values[(i + n) * channels * 18 + k]];
        expected.push(none + 2.5 * (conditional - none));
      }
    const found = guide(output, { scale: 2.5, channels: guided });
    assertClose(await found.data(), expected, 1e-6, `${guided} channels`);
    found.dispose();
  }
  output.dispose();
});

test('a DiS is guided as its own forwardWithCfg does it', async ({ device }) => {
  const config = disConfig({ imgSize: 4, channels: 4, patchSize: 2, embedDim: 16, depth: 2, numClasses: 3 });
  using generator = new Generator(device, 1);
  const dis = scope(() => new Dis(generator, config)).eval();
  // At initialisation the model gives zeros.
  const { weight } = dis.final_layer.linear;
  noGrad(() => scope(() => weight.copy_(generator.normal(weight.shape))));
  for (const channels of [undefined, 3]) {
    const { images } = await sampleImages({
      device,
      model: dis,
      diffusion: {},
      clipDenoised: false,
      labels: [1, 2],
      guidance: { scale: 3, channels },
      steps: 1,
      seed: 2,
    });
    const noise = generator.manualSeed(2).normal([2, 4, 4, 4]);
    const expected = scope(() => {
      const t = generator.normal([4]).mul(0).cast('i32');
      const labels = t.add(0).cast('i32');
      labels.write(Int32Array.of(1, 2, 3, 3));
      const output = dis.forwardWithCfg(concat([noise, noise]), t, labels, 3, { channels });
      // One step from t = 0: the predicted x_0.
      const alpha = 1 - 1e-4;
      const eps = output.slice(0, 0, 2).slice(1, 0, 4);
      return noise.mul(1 / Math.sqrt(alpha)).sub(eps.mul(Math.sqrt(1 / alpha - 1)));
    });
    assertClose(images.data, await expected.data(), 3e-6, `channels ${channels}`);
    for (const item of [noise, expected]) item.dispose();
  }
  dis.dispose();
});

test('steps, frames and an abort', async ({ device }) => {
  const options = { device, model, diffusion, labels: [0, 1, 2], steps: 6, batch: 2 };
  const seen: number[][] = [];
  const { images, frames } = await sampleImages({
    ...options,
    frames: 3,
    onStep: (done, total) => void seen.push([done, total]),
  });
  assert.equal(
    seen,
    Array.from({ length: 12 }, (_, i) => [i + 1, 12]),
  );
  assert.is(frames.length, 3);
  assert.equal(frames[2].data, images.data);
  const begun: number[][] = [];
  for await (const { begin, images: count, index, sample } of sampleProgressive(options)) {
    if (index === 1) {
      begun.push([begin, count]);
      // Every second step is shown, the second first.
      const values = (await sample.data()).subarray(0, count * SIZE);
      assert.equal([...values], [...frames[0].data.subarray(begin * SIZE, (begin + count) * SIZE)]);
    }
  }
  assert.equal(begun, [
    [0, 2],
    [2, 1],
  ]);
  const controller = new AbortController();
  try {
    await sampleImages({
      ...options,
      signal: controller.signal,
      onStep: (done) => done === 7 && controller.abort(new Error('enough')),
    });
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'enough');
  }
});

test('an image changed: from hardly at all to not known any more', async ({ device }) => {
  const given = { data: uniform(2 * SIZE, 4), shape: [2, 1, 5, 5] as const };
  const options = {
    device,
    model,
    diffusion: { ...diffusion, predictXstart: true },
    labels: [0, 1],
    steps: 10,
    seed: 3,
  };
  const away: number[] = [];
  for (const strength of [0, 0.5, 1]) {
    const { images } = await imageToImage({ ...options, image: given, strength });
    away.push(Math.sqrt(images.data.reduce((sum, v, i) => sum + (v - given.data[i]) ** 2, 0) / given.data.length));
    if (strength === 1) assert.equal(images.data, (await sampleImages(options)).images.data, 'all noise');
    // The same, one by one.
    assert.equal(images.data, (await imageToImage({ ...options, image: given, strength, batch: 1 })).images.data);
  }
  assert.ok(away[0] < away[1] && away[1] < away[2], String(away));
});

test('a part of an image drawn anew, the rest as it was', async ({ device }) => {
  const given = { data: uniform(SIZE, 4), shape: [1, 1, 5, 5] as const };
  const mask = { data: Float32Array.from({ length: SIZE }, (_, i) => (i < 10 ? 1 : 0)), shape: [1, 1, 5, 5] as const };
  for (const sampler of [ddpm(), ddim(), dpmSolverPlusPlus()]) {
    const options = { device, model, diffusion, labels: [0, 1, 2], steps: 10, seed: 3, sampler };
    const { images, frames } = await inpaint({ ...options, image: given, mask, batch: 2, frames: 10 });
    const free = (await sampleImages(options)).images;
    for (let i = 0; i < 3; i++) {
      assertClose(image(images.data, i).slice(10), [...given.data.subarray(10)], 1e-6, 'what stays');
      assert.not.equal(image(images.data, i).slice(0, 10), [...given.data.subarray(0, 10)]);
    }
    // This model looks at each pixel alone, so that the part drawn anew is as if all were.
    for (let i = 0; i < 3; i++)
      assertClose(image(images.data, i).slice(0, 10), image(free.data, i).slice(0, 10), 1e-5, 'what is drawn');
    // On the way the known part has its timestep's noise.
    assert.ok(frames[4].data.some((v, i) => i % SIZE >= 10 && Math.abs(v - given.data[i % SIZE]) > 0.05));
  }
});

test('what cannot be asked for is told', async ({ device }) => {
  const options = { device, model, diffusion, labels: [0], steps: 5 };
  const given = { data: new Float32Array(SIZE), shape: [1, 1, 5, 5] as const };
  const message = (promise: Promise<unknown>): Promise<string> =>
    promise.then(
      () => 'nothing',
      (error: Error) => error.message,
    );
  const { labels: _, ...unlabelled } = options;
  for (const [promise, expected] of [
    [sampleImages({ ...options, steps: 101 }), /steps is 101, expected at most the 100/],
    [sampleImages({ ...options, steps: 0 }), /steps is 0, expected a positive integer/],
    [sampleImages({ ...options, batch: 0 }), /batch is 0/],
    [sampleImages(unlabelled), /3 classes, expected a label/],
    [sampleImages({ ...options, labels: [4] }), /label is 4, expected 0 to 3/],
    [sampleImages({ ...options, labels: [] }), /count is 0, expected at least one image/],
    [sampleImages({ ...options, guidance: NaN }), /guidance is NaN/],
    [
      sampleImages({ ...options, guidance: 2, model: { ...model, config: { ...model.config, classDropoutProb: 0 } } }),
      /guidance is 2, expected 1 for a model that was trained without label dropout/,
    ],
    [
      sampleImages({ ...options, model: { ...model, config: { ...model.config, numClasses: 0 } } }),
      /labels are given to a model without classes/,
    ],
    [imageToImage({ ...options, image: given, strength: 2 }), /\[imageToImage\] strength is 2, expected 0 to 1/],
    [
      imageToImage({ ...options, image: { ...given, shape: [1, 1, 5, 4] }, strength: 1 }),
      /\[imageToImage\] image has shape \(1,1,5,4\)/,
    ],
    [
      inpaint({ ...options, image: given, mask: { ...given, shape: [2, 1, 5, 5] } }),
      /\[inpaint\] mask has shape \(2,1,5,5\)/,
    ],
  ] as const)
    assert.match(await message(promise), expected);
});

test.run();
