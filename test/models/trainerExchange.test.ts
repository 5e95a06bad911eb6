// Several trainers share a device and exchange their gradients in this process: what is said of ranks must hold whatever moves the bytes.

import * as assert from 'uvu/assert';
import type { Device } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../../models/data/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { LossSecondMomentResampler } from '../../models/diffusion/timestepSampler.ts';
import { Dis, disConfig } from '../../models/dis/index.ts';
import { localExchange } from '../../models/train/exchange.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { StepRecord, TrainerOptions, TrainerState } from '../../models/train/types.ts';
import { Generator, keep, scope } from '../../core/index.ts';
import { assertClose, gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('trainer: several ranks');

/** Every parameter, random decision and gradient of the flagship, at its smallest. */
const CONFIG = disConfig('DiS-N/4', {
  imgSize: 8,
  channels: 3,
  numClasses: 5,
  learnSigma: false,
  dropPathRate: 0.1,
  classDropoutProb: 0.1,
});

const dataset: Dataset = {
  length: 36,
  size: 8,
  channels: 3,
  numClasses: 5,
  classNames: ['a', 'b', 'c', 'd', 'e'],
  item: (i) => Promise.resolve({ pixels: Uint8Array.from(uniform(192, i + 1), (v) => (v + 1) * 127), label: i % 5 }),
};

interface Run {
  readonly records: StepRecord[];
  readonly state: TrainerState;
  readonly parameters: Map<string, Float32Array>;
}

const BATCH = 12;

/** Trains with so many ranks; gives what each of them has in the end. */
async function train(
  device: Device,
  ranks: number,
  steps: number,
  options: Partial<TrainerOptions> | (() => Partial<TrainerOptions>) = {},
  from?: TrainerState,
): Promise<Run[]> {
  const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false });
  const runs = await Promise.all(
    localExchange(ranks).map(async (exchange): Promise<Run> => {
      const generator = new Generator(device, 3);
      const model = scope(() => keepModule(new Dis(generator, CONFIG)));
      generator.dispose();
      const trainer = new Trainer({
        device,
        model,
        diffusion,
        batchSize: BATCH,
        lr: 1e-3,
        seed: 7,
        exchange,
        ...(typeof options === 'function' ? options() : options),
      });
      if (from) trainer.loadState(from);
      const loader = new DataLoader(dataset, {
        batchSize: BATCH,
        seed: 5,
        flip: true,
        cursor: trainer.cursor,
        part: { index: exchange.rank, of: ranks },
      });
      const records: StepRecord[] = [];
      for await (const record of trainer.run(loader, { steps })) records.push(record);
      const state = await trainer.state();
      const { model: values, ema, optimizer } = state;
      trainer.dispose();
      model.dispose();
      return {
        records,
        state,
        parameters: new Map(
          Object.entries({ values, ema, optimizer }).flatMap(([kind, tensors]) =>
            Array.from(tensors, ([name, { data }]): [string, Float32Array] => [
              `${kind}.${name}`,
              data as Float32Array,
            ]),
          ),
        ),
      };
    }),
  );
  diffusion.dispose();
  return runs;
}

/** The parameters of two ranks that have not met yet. */
async function trainApart(device: Device, steps: number): Promise<Map<string, Float32Array>[]> {
  const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false });
  const apart = await Promise.all(
    localExchange(2).map(async (exchange) => {
      const generator = new Generator(device, 3);
      const model = scope(() => keepModule(new Dis(generator, CONFIG)));
      const localSteps = { every: steps + 1 };
      const options = { device, model, diffusion, batchSize: BATCH, lr: 1e-3, seed: 7, exchange, localSteps };
      const trainer = new Trainer(options);
      const part = { index: exchange.rank, of: 2 };
      const loader = new DataLoader(dataset, { batchSize: BATCH, seed: 5, flip: true, part });
      for await (const _ of trainer.run(loader, { steps }));
      const values = await trainer.optimizer.params.read();
      let refused = '';
      await trainer.state().catch((error: unknown) => (refused = String(error)));
      assert.match(refused, /Step 3 is between two exchanges, expected a multiple of the 4 local steps/);
      for (const resource of [generator, trainer, model]) resource.dispose();
      return new Map(Array.from(values, ([name, { data }]) => [name, data]));
    }),
  );
  diffusion.dispose();
  return apart;
}

function keepModule<T extends Dis>(module: T): T {
  for (const [, parameter] of module.namedParameters()) keep(parameter);
  return module;
}

const numbers = (records: readonly StepRecord[]): unknown[] =>
  records.map(({ imagesPerSecond: _, exchange: __, ...rest }) => rest);

function assertSame(a: Run, b: Run): void {
  assert.equal(numbers(a.records), numbers(b.records));
  assertSameState(a, b);
}

function assertSameState(a: Run, b: Run): void {
  for (const [name, values] of a.parameters) assert.equal(b.parameters.get(name), values, name);
}

function assertNear(run: Run, alone: Run, limit: number): void {
  for (const [i, { loss, gradNorm }] of run.records.entries()) {
    const expected = alone.records[i];
    assert.ok(Math.abs(loss / expected.loss - 1) < limit, `step ${i + 1}: loss ${loss}, alone ${expected.loss}`);
    assert.ok(
      Math.abs(gradNorm / expected.gradNorm - 1) < 10 * limit,
      `step ${i + 1}: norm ${gradNorm}, alone ${expected.gradNorm}`,
    );
  }
}

test('2, 3 and 4 ranks train as one does, and all have the same bits', async ({ device }) => {
  const [alone] = await train(device, 1, 6);
  for (const ranks of [2, 3, 4]) {
    const [first, ...others] = await train(device, ranks, 6);
    for (const other of others) assertSame(first, other);
    assertNear(first, alone, 1e-5);
    assert.ok(first.records.every(({ exchange }) => exchange && exchange.span >= exchange.exposed));
  }
});

test('micro-batches see the numbers of the whole batch, and two runs are the same', async ({ device }) => {
  const [alone] = await train(device, 1, 4);
  const [parts] = await train(device, 1, 4, { microBatches: 3 });
  assertNear(parts, alone, 1e-5);
  const [first, second] = await train(device, 2, 4, { microBatches: 3 });
  assertSame(first, second);
  assertNear(first, alone, 1e-5);
  assertSame(first, (await train(device, 2, 4, { microBatches: 3 }))[0]);
});

test('steps that are not captured are the same, bit for bit', async ({ device }) => {
  const [captured] = await train(device, 2, 3);
  const eager = await train(device, 2, 3, { capture: false });
  for (const run of eager) assertSame(run, captured);
});

test('f16 travels as f16; an overflow of one rank is one of all', { needs: 'shader-f16' }, async ({ device }) => {
  const [alone] = await train(device, 1, 4, { precision: 'f16' });
  for (const ranks of [2, 4]) {
    const [first, ...others] = await train(device, ranks, 4, { precision: 'f16' });
    for (const other of others) assertSame(first, other);
    assertNear(first, alone, 5e-3);
  }
});

test('loss-aware timesteps learn from the losses of all ranks', async ({ device }) => {
  const options = (): Partial<TrainerOptions> => ({
    timestepSampler: new LossSecondMomentResampler(1000, { historyPerTerm: 1 }),
  });
  const [alone] = await train(device, 1, 4, options);
  const [first, second] = await train(device, 2, 4, options);
  assertSame(first, second);
  assertNear(first, alone, 1e-5);
});

/** Losses of two runs whose ranks have gradient norms of their own. */
const lossesOf = ({ records }: Run): number[] => records.map(({ loss }) => loss);

test('local steps: where ranks meet all have the same bits, and a run goes on from there bit for bit', async ({
  device,
}) => {
  for (const precision of device.has('shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const))
    for (const ranks of [1, 2, 3]) {
      const options = { localSteps: { every: 2 }, microBatches: 2, precision };
      const [first, ...others] = await train(device, ranks, 6, options);
      for (const other of others) {
        assertSameState(first, other);
        assert.equal(lossesOf(first), lossesOf(other));
      }
      const [half] = await train(device, ranks, 2, options);
      const [second] = await train(device, ranks, 6, options, half.state);
      assertSameState(first, second);
      assert.equal(lossesOf(second), lossesOf(first).slice(2));
      const [eager] = await train(device, ranks, 6, { ...options, capture: false });
      assertSameState(first, eager);
    }
});

test('local steps: with rate 1 and no momentum ranks become the mean of what each has trained by itself', async ({
  device,
}) => {
  const outer = { outerLr: 1, outerMomentum: 0 };
  const [met] = await train(device, 2, 3, { localSteps: { every: 3, ...outer } });
  const apart = await trainApart(device, 3);
  for (const [name, values] of met.parameters) {
    if (!name.startsWith('values.')) continue;
    const mean = values.map((_, i) => (apart[0].get(name.slice(7))![i] + apart[1].get(name.slice(7))![i]) / 2);
    assertClose(values, mean, 1e-6, name);
  }
});

test('a batch that ranks cannot share is refused', ({ device }) => {
  const generator = new Generator(device, 3);
  const model = scope(() => keepModule(new Dis(generator, CONFIG)));
  const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false });
  const make = (options: Partial<TrainerOptions>): Trainer =>
    new Trainer({ device, model, diffusion, batchSize: BATCH, exchange: localExchange(5)[1], ...options });
  assert.throws(() => make({}), /batchSize is 12, expected a multiple of the 5 ranks/);
  assert.throws(() => make({ batchSize: 15, localSteps: { every: 0 } }), /every is 0, expected a positive integer/);
  assert.throws(
    () => make({ batchSize: 15, microBatches: 2 }),
    /microBatches is 2, expected a divisor of the batch of 3/,
  );
  for (const resource of [generator, model, diffusion]) resource.dispose();
});

test.run();
