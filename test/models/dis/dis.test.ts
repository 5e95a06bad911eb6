import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  Generator,
  grad,
  noGrad,
  scope,
  tensor,
  zeros,
  type Device,
  type Tensor,
} from '../../../core/index.ts';
import { disConfig, type DisOptions } from '../../../models/dis/config.ts';
import { disTrainingMemory } from '../../../models/dis/cost.ts';
import { Dis } from '../../../models/dis/dis.ts';
import { disParameterShapes } from '../../../models/dis/shapes.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('Dis');

const SMALL: DisOptions = { imgSize: 8, patchSize: 2, embedDim: 24, depth: 2, channels: 3, numClasses: 5 };

/** A model and the generator that made it. */
function make(device: Device, options: DisOptions = {}): { model: Dis; generator: Generator; release: () => void } {
  const generator = new Generator(device, 3);
  const model = scope(() => new Dis(generator, disConfig({ ...SMALL, ...options })));
  return {
    model,
    generator,
    release: () => {
      model.dispose();
      generator.dispose();
    },
  };
}

function batch(device: Device, size: number, options: DisOptions = {}): { x: Tensor; t: Tensor; labels: Tensor } {
  const { imgSize = 0, channels = 0 } = { ...SMALL, ...options };
  return {
    x: tensor(device, uniform(size * channels * imgSize ** 2), { shape: [size, channels, imgSize, imgSize] }),
    t: tensor(
      device,
      Int32Array.from({ length: size }, (_, i) => (i * 331) % 1000),
    ),
    labels: tensor(
      device,
      Int32Array.from({ length: size }, (_, i) => i % 6),
    ),
  };
}

test('parameters are those that shapes.ts tells, for every option', ({ device }) => {
  for (const options of [
    {},
    { numClasses: 0 },
    { classDropoutProb: 0 },
    { rmsNorm: false, skip: false },
    { mlpTimeEmbed: false, depth: 3 },
    { ssm: { bias: true, convBias: false, dState: 5, dConv: 3, expand: 1.5, dtRank: 2, dtInit: 'constant' } },
  ] as DisOptions[]) {
    const { model, release } = make(device, options);
    assert.equal(
      Array.from(model.stateDict(), ([name, { shape }]) => [name, [...shape]]),
      disParameterShapes(model.config).map(([name, shape]) => [name, [...shape]]),
    );
    release();
  }
});

test('recomputed mixers give the same bits', async ({ device }) => {
  const { model, generator, release } = make(device, { dropPathRate: 0.5 });
  const results: number[][] = [];
  for (const recompute of [false, true]) {
    model.checkpointBlocks = recompute;
    generator.manualSeed(11);
    const tensors = scope(() => {
      const { x, t, labels } = batch(device, 3);
      const y = model.forward(x, t, labels, { generator });
      return [y, ...grad(y.square().mean(), model.parameters())];
    });
    const values = await Promise.all(tensors.map((v) => v!.data()));
    results.push(values.flatMap((v) => Array.from(v)));
    for (const v of tensors) v!.dispose();
  }
  assert.equal(results[1], results[0]);
  release();
});

test('a captured training step draws and computes what one that is not captured does', async ({ device }) => {
  const { model, generator, release } = make(device, { dropPathRate: 0.5, classDropoutProb: 0.5 });
  const { x, t, labels } = batch(device, 4);
  const { weight } = model.mid_block.mixer.in_proj;
  const body = (): void =>
    scope(() => {
      model.zeroGrad();
      backward(model.forward(x, t, labels, { generator }).square().mean());
      noGrad(() => weight.copy_(weight.sub(weight.grad!)));
      model.zeroGrad();
    });
  const start = model.stateDict().get('mid_block.mixer.in_proj.weight')!.clone();
  const run = async (captured: boolean): Promise<number[]> => {
    noGrad(() => weight.copy_(start));
    generator.manualSeed(5);
    const step = captured ? capture(device, body) : null;
    if (!step) body();
    for (let i = 0; i < 2; i++)
      if (step) step.replay();
      else body();
    step?.dispose();
    return Array.from(await weight.data());
  };
  assert.equal(await run(true), await run(false));
  for (const v of [x, t, labels, start]) v.dispose();
  release();
});

test('the memory that a configuration is said to take is that of a captured step', async ({ open, own }) => {
  // A device that computes nothing: memory is planned all the same.
  const planner = await open({ backend: 'null' });
  const config = disConfig('DiS-Ti/2', { imgSize: 32, channels: 4, numClasses: 10 });
  const generator = own(new Generator(planner));
  const model = own(scope(() => new Dis(generator, config)));
  const { x, t, labels } = batch(planner, 8, config);
  for (const input of [x, t, labels]) own(input);
  for (const recompute of [false, true]) {
    model.checkpointBlocks = recompute;
    const step = capture(planner, () =>
      scope(() => {
        backward(model.forward(x, t, labels, { generator }).square().mean(), { accumulate: () => {} });
      }),
    );
    const said = disTrainingMemory(config, { batch: 8, recompute }).activations;
    assert.ok(
      Math.abs(step.plan.planned / said - 1) < 0.2,
      `${recompute ? 'recomputed: ' : ''}planned ${step.plan.planned}, said ${said}`,
    );
    step.dispose();
  }
});

test('decisions are drawn with the probabilities of the configuration', async ({ device }) => {
  const { model, generator, release } = make(device, { dropPathRate: 0.5 });
  const { keep, labels } = model.draw(generator, 4000);
  assert.equal([keep!.shape, labels!.shape], [[2, 4000], [4000]]); // the last block's branch and the one before the last norm
  const values = Array.from(await keep!.data());
  for (const row of [0, 1]) {
    const rate = values.slice(row * 4000, (row + 1) * 4000).reduce((a, b) => a + b) / 4000;
    assert.ok(Math.abs(rate - 0.5) < 0.05, `row ${row} kept at ${rate}`);
  }
  keep!.dispose();
  labels!.dispose();
  release();
});

test('guidance guides all channels, or the first ones', async ({ device }) => {
  const { model, release } = make(device, { channels: 4 });
  model.eval();
  const [all, three, plain] = noGrad(() =>
    scope(() => {
      const { x, t, labels } = batch(device, 4, { channels: 4 });
      const half = x.slice(0, 0, 2);
      const twice = zeros(device, x.shape);
      twice.slice(0, 0, 2).copy_(half);
      twice.slice(0, 2).copy_(half);
      return [
        model.forwardWithCfg(x, t, labels, 3),
        model.forwardWithCfg(x, t, labels, 3, { channels: 3 }),
        model.forward(twice, t, labels),
      ];
    }),
  );
  const own = await plain.data();
  const expected = (channels: number): Float32Array =>
    Float32Array.from(own, (v, i) => {
      const size = own.length / 2,
        channel = Math.floor(i / 64) % 8;
      const [conditional, none] = [own[i % size], own[(i % size) + size]];
      return channel < channels ? none + 3 * (conditional - none) : v;
    });
  assertClose(await all.data(), expected(4), 1e-5, 'all channels');
  assertClose(await three.data(), expected(3), 1e-5, 'three channels');
  for (const v of [all, three, plain]) v.dispose();
  release();
});

test('conversion to f16 leaves what needs accuracy in f32', { needs: 'shader-f16' }, ({ device }) => {
  const { model, release } = make(device);
  model.to('f16');
  const halves = Array.from(model.namedParameters())
    .filter(([, p]) => p.dtype === 'f16')
    .map(([name]) => name);
  assert.ok(
    halves.length > 0 &&
      halves.every((name) => /(in_proj|x_proj|x_proj_b|dt_proj|dt_proj_b|out_proj|skip_linear)\.weight$/.test(name)),
    halves.join(),
  );
  model.to('f32');
  assert.ok(model.parameters().every((p) => p.dtype === 'f32'));
  release();
});

test('weight decay leaves positions and state-space parameters alone', ({ device }) => {
  const { model, release } = make(device);
  assert.equal([...model.noWeightDecay()].slice(0, 5), [
    'pos_embed',
    ...['A_log', 'D', 'A_b_log', 'D_b'].map((name) => `in_blocks.0.mixer.${name}`),
  ]);
  assert.is(model.noWeightDecay().size, 1 + 3 * 4);
  release();
});

test('wrong arguments are named', ({ device }) => {
  const { model, release } = make(device);
  const free = make(device, { numClasses: 0 });
  scope(() => {
    const { x, t, labels } = batch(device, 2);
    const fails = (run: () => unknown, message: string): void =>
      assert.throws(run, (error: Error) => error.message === message);
    fails(
      () => model.forward(x.slice(2, 2), t, labels),
      '[Dis] x has shape (2,3,6,8), expected (batch, 3, 8, 8) as in the configuration.',
    );
    fails(
      () => model.forward(x, t.slice(0, 1), labels),
      '[Dis] timesteps have shape (1,), expected (2,), one for each sample.',
    );
    fails(
      () => model.forward(x, t),
      '[Dis] labels are missing, expected (2,) for a model of 5 classes; give label 5 where there is no class.',
    );
    fails(
      () => model.forward(x, t, labels.slice(0, 1)),
      '[Dis] labels have shape (1,), expected (2,), one for each sample.',
    );
    fails(() => model.forward(x, t, t.cast('f32')), '[Dis] labels are f32, expected i32; cast them.');
    fails(() => free.model.forward(x, t, labels), '[Dis] labels are given to a model without classes; leave them out.');
    fails(
      () => model.forward(x, t, labels),
      '[Dis] In training mode branches and labels are dropped at random; pass a generator or draws, or call eval().',
    );
    fails(
      () => model.forward(x, t, labels, { draws: { keep: null, labels: zeros(device, [2]) } }),
      '[Dis] draws.keep is null, expected shape (2,2).',
    );
    fails(
      () => model.forward(x, t, labels, { draws: { keep: zeros(device, [3, 2]), labels: zeros(device, [2]) } }),
      '[Dis] draws.keep has shape (3,2), expected (2,2).',
    );
    fails(
      () => model.forwardWithCfg(x.slice(0, 1), t, labels, 2),
      '[Dis] x has shape (1,3,8,8), expected an even batch for guidance: the second half of labels is for no class.',
    );
    fails(
      () => model.forwardWithCfg(x, t, labels, 2, { channels: 9 }),
      '[Dis] 9 channels are to be guided, expected 0 to 6.',
    );
  });
  release();
  free.release();
});

test.run();
