// Several trainers share a device and exchange their gradients in this process: what is said of ranks must hold whatever moves the bytes.

import * as assert from 'uvu/assert';
import type { Device } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../../models/data/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { LossSecondMomentResampler } from '../../models/diffusion/timestepSampler.ts';
import { Dis, disConfig } from '../../models/dis/index.ts';
import { localExchange } from '../../models/train/exchange.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { StepRecord, TrainerOptions } from '../../models/train/types.ts';
import { Generator, keep, scope } from '../../core/index.ts';
import { gpuSuite, uniform } from '../support.ts';

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
  readonly parameters: Map<string, Float32Array>;
}

const BATCH = 12;

/** Trains with so many ranks; gives what each of them has in the end. */
async function train(
  device: Device,
  ranks: number,
  steps: number,
  options: Partial<TrainerOptions> | (() => Partial<TrainerOptions>) = {},
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
      const loader = new DataLoader(dataset, {
        batchSize: BATCH,
        seed: 5,
        flip: true,
        part: { index: exchange.rank, of: ranks },
      });
      const records: StepRecord[] = [];
      for await (const record of trainer.run(loader, { steps })) records.push(record);
      const { model: values, ema, optimizer } = await trainer.state();
      trainer.dispose();
      model.dispose();
      return {
        records,
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

function keepModule<T extends Dis>(module: T): T {
  for (const [, parameter] of module.namedParameters()) keep(parameter);
  return module;
}

const numbers = (records: readonly StepRecord[]): unknown[] =>
  records.map(({ imagesPerSecond: _, exchange: __, ...rest }) => rest);

function assertSame(a: Run, b: Run): void {
  assert.equal(numbers(a.records), numbers(b.records));
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

test('a batch that ranks cannot share is refused', ({ device }) => {
  const generator = new Generator(device, 3);
  const model = scope(() => keepModule(new Dis(generator, CONFIG)));
  const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false });
  const make = (options: Partial<TrainerOptions>): Trainer =>
    new Trainer({ device, model, diffusion, batchSize: BATCH, exchange: localExchange(5)[1], ...options });
  assert.throws(() => make({}), /batchSize is 12, expected a multiple of the 5 ranks/);
  assert.throws(
    () => make({ batchSize: 15, microBatches: 2 }),
    /microBatches is 2, expected a divisor of the batch of 3/,
  );
  for (const resource of [generator, model, diffusion]) resource.dispose();
});

test.run();
