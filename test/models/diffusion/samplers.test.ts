// Samplers as objects: DPM-Solver++(2M) against float64 and by its order, one that is written here, and what a loop offers all of them.

import * as assert from 'uvu/assert';
import { concat, Generator, tensor, type Device, type Tensor } from '../../../core/index.ts';
import {
  createDiffusion,
  ddim,
  dpmSolverPlusPlus,
  GaussianDiffusion,
  SAMPLERS,
  settingsOfBetas,
  type Sampler,
} from '../../../models/diffusion/index.ts';
import { dpmSolver2M } from '../../reference/diffusion.ts';
import { assertClose, gpuSuite } from '../../support.ts';
import { random, read } from './process.ts';

const test = gpuSuite('samplers');

const SHAPE = [2, 1, 5, 5];

test('DPM-Solver++(2M) is the algorithm of the paper', async ({ device }) => {
  for (const noiseSchedule of ['linear', 'squaredcos_cap_v2'] as const) {
    const diffusion = createDiffusion(device, {
      noiseSchedule,
      predictXstart: true,
      learnSigma: false,
      timestepRespacing: '9',
    });
    const noise = random(device, SHAPE, 1);
    for (const { clipDenoised, from } of [
      { clipDenoised: false, from: 8 },
      { clipDenoised: true, from: 8 },
      { clipDenoised: false, from: 5 },
    ]) {
      const expected = dpmSolver2M(
        diffusion.settings,
        (x, t) => {
          const x0 = x.map((v) => Math.tanh(1.7 * v + diffusion.settings.timestepMap[t] * 0.001) * 1.3);
          return clipDenoised ? x0.map((v) => Math.min(1, Math.max(-1, v))) : x0;
        },
        await noise.data(),
        from,
      );
      for (const capture of [true, false]) {
        let step = 0;
        for await (const { sample } of diffusion.sampleProgressive(
          (x, t) =>
            x
              .mul(1.7)
              .add(t.cast('f32').mul(0.001).reshape(-1, 1, 1, 1))
              .tanh()
              .mul(1.3),
          SHAPE,
          { sampler: dpmSolverPlusPlus(), noise, clipDenoised, from, capture },
        )) {
          assertClose(await sample.data(), expected[step], 5e-6, `${noiseSchedule}, from ${from}, step ${step}`);
          step++;
        }
        assert.is(step, from + 1);
      }
    }
    noise.dispose();
    diffusion.dispose();
  }
});

/** Largest error at timestep 0 of a sampler with `steps` steps there, where the data are normal and the ODE has a closed solution. */
async function errorOn(device: Device, sampler: Sampler, steps: number): Promise<number> {
  const [mean, std, base] = [0.3, 0.5, 320];
  // λ from 4 at timestep 0 to -3, evenly.
  const alphaBar = Float64Array.from({ length: base + 1 }, (_, t) => 1 / (1 + Math.exp(-2 * (4 - (7 * t) / base))));
  const betas = alphaBar.map((alpha, t) => 1 - alpha / (t === 0 ? 1 : alphaBar[t - 1]));
  const keep = Array.from({ length: steps + 1 }, (_, i) => (i * base) / steps);
  const diffusion = new GaussianDiffusion(
    device,
    settingsOfBetas(betas, { modelMeanType: 'xStart', modelVarType: 'fixedSmall', lossType: 'mse', keep }),
  );
  // E[x_0 | x_t] = mean + std² α (x - α mean) / (α² std² + σ²).
  const gain = alphaBar.map((a) => (std ** 2 * Math.sqrt(a)) / (a * std ** 2 + 1 - a));
  const slope = tensor(device, Float32Array.from(gain));
  const offset = tensor(
    device,
    Float32Array.from(gain, (g, t) => mean * (1 - g * Math.sqrt(alphaBar[t]))),
  );
  const noise = random(device, SHAPE, 2, 2);
  const at = (table: Tensor, t: Tensor): Tensor => table.indexSelect(0, t).reshape(-1, 1, 1, 1);
  let found: ArrayLike<number> = [];
  for await (const { sample, t } of diffusion.sampleProgressive(
    (x, t) => x.mul(at(slope, t)).add(at(offset, t)),
    SHAPE,
    { sampler, noise, clipDenoised: false },
  )) {
    // Behind timestep 1 that is x at timestep 0.
    if (t === 1) found = await sample.data();
  }
  // (x - α mean) / √(α² std² + σ²) does not change along the ODE.
  const spread = (a: number): number => Math.sqrt(a * std ** 2 + 1 - a);
  const from = alphaBar[base],
    to = alphaBar[0];
  const expected = Array.from(
    await noise.data(),
    (x) => Math.sqrt(to) * mean + ((x - Math.sqrt(from) * mean) / spread(from)) * spread(to),
  );
  for (const item of [slope, offset, noise, diffusion]) item.dispose();
  return Math.max(...expected.map((v, i) => Math.abs(v - found[i])));
}

test('DPM-Solver++(2M) converges with second order, DDIM with first', async ({ device }) => {
  for (const [sampler, order] of [
    [dpmSolverPlusPlus(), 2],
    [ddim(), 1],
  ] as const) {
    const errors: number[] = [];
    for (const steps of [10, 20, 40, 80]) errors.push(await errorOn(device, sampler, steps));
    const orders = errors.slice(1).map((error, i) => Math.log2(errors[i] / error));
    const told = `${sampler.name}: errors ${errors.map((e) => e.toExponential(2)).join(', ')}, orders ${orders.map((o) => o.toFixed(2)).join(', ')}`;
    assert.ok(Math.abs(orders[2] - order) < 0.25, told);
  }
});

test('a sampler of somebody else: its numbers, its memory and its steps', async ({ device }) => {
  const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false, timestepRespacing: '6' });
  // Moves a share of the way to the mean of all predictions so far.
  const averaging: Sampler<'share' | 'newest', 'mean'> = {
    name: 'averaging',
    noisy: false,
    guidance: 'score',
    memory: ['mean'],
    coefficients: ({ numTimesteps }, first) => ({
      share: Float64Array.from({ length: numTimesteps }, (_, t) => 1 / (t + 1)),
      newest: Float64Array.from({ length: numTimesteps }, (_, t) => 1 / (first - t + 1)),
    }),
    step({ x, p, k, memory }) {
      const mean = memory.mean.add(p.predXstart.sub(memory.mean).mul(k('newest')));
      return { sample: x.add(mean.sub(x).mul(k('share'))), memory: { mean } };
    },
  };
  const noise = random(device, SHAPE, 3);
  const model = (x: Tensor): Tensor => x.mul(0.5);
  const started: number[] = [];
  for (const from of [5, 3]) {
    let x = Array.from(await noise.data());
    let mean = x.map(() => 0);
    for (let t = from; t >= 0; t--) {
      mean = mean.map((m, i) => m + (0.5 * x[i] - m) / (from - t + 1));
      x = x.map((v, i) => v + (mean[i] - v) / (t + 1) + 0.25);
    }
    const [found] = await read(
      await diffusion.sample(model, SHAPE, {
        sampler: averaging,
        noise,
        from,
        clipDenoised: false,
        afterStep: (sample) => sample.add(0.25),
        generator: { normal: () => noise, beginStep: (index) => void started.push(index) },
      }),
    );
    assertClose(found, x, 1e-5, `from ${from}`);
  }
  assert.equal(started, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]);
  for (const from of [6, -1, 1.5])
    assert.throws(
      () => diffusion.sampleProgressive(model, SHAPE, { sampler: averaging, noise, from }),
      /\[sampleLoop\] from is .*expected a timestep from 0 to 5/,
    );
  noise.dispose();
  diffusion.dispose();
});

test('every sampler of the index draws pictures', async ({ device }) => {
  const diffusion = createDiffusion(device, { timestepRespacing: '5' });
  const generator = new Generator(device, 3);
  for (const [name, { create }] of Object.entries(SAMPLERS)) {
    const sampler = create({ eta: 0.5 });
    const [found] = await read(
      await diffusion.sample((x) => concat([x, x], 1).tanh(), SHAPE, { sampler, generator, condFn: (x) => x.neg() }),
    );
    assert.ok(found.every(Number.isFinite) && new Set(found).size > 10, name);
  }
  generator.dispose();
  diffusion.dispose();
});

test.run();
