// Whole steps of DiS models: forward, forward and backward, training, sampling.

import {
  backward,
  full,
  Generator,
  noGrad,
  scope,
  type Device,
  type Tensor,
  type FloatDType,
} from '../../core/index.ts';
import { createDiffusion, type DiffusionOptions } from '../../models/diffusion/index.ts';
import {
  Dis,
  disConfig,
  disDimensions,
  disSamplingMemory,
  disTrainingMemory,
  type DisConfig,
  type DisName,
  type DisOptions,
} from '../../models/dis/index.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { BenchCase, Prepared } from '../case.ts';
import { inSequence } from '../work.ts';
import { disWork, trainingWork } from './count.ts';
import { Inputs } from './shapes.ts';

type Kind =
  | 'forward'
  | 'backward'
  | 'training'
  | 'trainingHalf'
  | 'trainingParts'
  | 'trainingHalfParts'
  | 'uncaptured'
  | 'sampling';

interface Setting {
  readonly name: DisName;
  /** Edge of the input, of 4 channels. */
  readonly imgSize: number;
  readonly batch: number;
  readonly priority: number;
  /** What is measured of it. What stands behind the first three is less telling. */
  readonly kinds: readonly Kind[];
  /** A name of its own, with what sets it apart. */
  readonly as?: { readonly title: string; readonly model: DisOptions; readonly diffusion: DiffusionOptions };
}

/** What `dis-cli quickstart` trains: small, so that dispatching it is most of the work. */
const QUICKSTART: Setting = {
  name: 'DiS-N/4',
  imgSize: 16,
  batch: 16,
  priority: 0,
  kinds: ['training', 'uncaptured', 'trainingHalf', 'forward', 'sampling'],
  as: {
    title: 'quick start',
    model: { channels: 3, numClasses: 10, learnSigma: false, dropPathRate: 0, classDropoutProb: 0.1 },
    diffusion: { predictXstart: true, learnSigma: false },
  },
};

const ALL: readonly Kind[] = ['forward', 'training', 'trainingHalf', 'sampling', 'backward', 'uncaptured'];
const FEW: readonly Kind[] = ['forward', 'training'];

function settings(): Setting[] {
  const of = (
    name: DisName,
    imgSize: number,
    batches: readonly number[],
    priority: number,
    kinds: readonly Kind[],
  ): Setting[] => batches.map((batch) => ({ name, imgSize, batch, priority, kinds }));
  return [
    QUICKSTART,
    ...of('DiS-N/2', 16, [8], 0, ALL),
    // How a step grows with the batch, and with the tokens from 66 to 4,098.
    ...of('DiS-N/2', 16, [1, 2, 4, 16, 32, 64], 1, FEW),
    ...[32, 64, 128].flatMap((imgSize) => of('DiS-N/2', imgSize, [1], 1, FEW)),
    ...of('DiS-Ti/2', 32, [8], 1, ALL),
    ...of('DiS-XS/2', 32, [8], 2, ALL),
    ...of('DiS-S/2', 32, [1], 1, ['forward', 'sampling']),
    ...of('DiS-S/2', 32, [8], 0, ALL),
    ...of('DiS-S/2', 32, [64, 128, 256], 0, ALL),
    ...of('DiS-B/2', 32, [1], 1, ['forward', 'sampling']),
    ...of('DiS-B/2', 32, [8], 1, ALL),
    ...of('DiS-B/2', 32, [64, 128, 256], 0, ALL),
    // The largest batch in parts: as a whole it asks for more memory than a GPU of 80 GB has.
    ...of('DiS-B/2', 32, [256], 0, ['trainingParts', 'trainingHalfParts']),
  ];
}

/** Noisy images, timesteps and labels of a batch. */
function batchOf(
  inputs: Inputs,
  { channels, imgSize, numClasses }: DisConfig,
  batch: number,
): { x: Tensor; t: Tensor; labels: Tensor } {
  const generator = inputs.keep(new Generator(inputs.device, 4));
  return {
    x: inputs.random([batch, channels, imgSize, imgSize]),
    t: inputs.keep(generator.randint([batch], 0, 1000)),
    labels: inputs.keep(generator.randint([batch], 0, numClasses)),
  };
}

/** Prepares a step of a model; `make` gets the model with everything disposed of at the end. */
function withModel(
  device: Device,
  config: DisConfig,
  make: (model: Dis, inputs: Inputs) => Omit<Prepared, 'dispose'>,
): Prepared {
  const inputs = new Inputs(device);
  const generator = inputs.keep(new Generator(device, 3));
  const model = scope(() => new Dis(generator, config));
  const dispose = (): void => {
    inputs.dispose();
    model.dispose();
  };
  try {
    return { ...make(model, inputs), dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

interface TrainingOptions {
  readonly precision: FloatDType;
  readonly capture: boolean;
  readonly microBatches?: number;
}

/** A step is recorded without running it, as training does: memory is then taken as planned, and no more. */
async function trainingStep(
  device: Device,
  config: DisConfig,
  batch: number,
  process: DiffusionOptions,
  options: TrainingOptions,
): Promise<Prepared> {
  let trainer: Trainer | null = null;
  const prepared = withModel(device, config, (model, inputs) => {
    const diffusion = inputs.keep(createDiffusion(device, process));
    const training = (trainer = inputs.keep(new Trainer({ device, model, diffusion, batchSize: batch, ...options })));
    const { channels, imgSize, numClasses } = config;
    const images = Float32Array.from(
      { length: batch * channels * imgSize ** 2 },
      (_, i) => ((i * 7919) % 2001) / 1000 - 1,
    );
    const labels = Int32Array.from({ length: batch }, (_, i) => i % numClasses);
    const data = { images, labels, shape: [batch, channels, imgSize, imgSize] as const, epoch: 0 };
    return {
      capture: 'none',
      plan: () => [...training.plans.values()][0] ?? null,
      step: () => {
        // Whatever goes wrong is the device's failure, and thrown by the wait that follows.
        training.trainBatch(data).catch(() => {});
      },
    };
  });
  try {
    await trainer!.prepare();
    return prepared;
  } catch (error) {
    prepared.dispose();
    throw error;
  }
}

function settingCases({ name, imgSize, batch, priority, kinds, as }: Setting): BenchCase[] {
  const config = disConfig(name, { imgSize, channels: 4, numClasses: 1000, ...as?.model });
  const process = as?.diffusion ?? {};
  const { tokens, dInner } = disDimensions(config);
  const { forward, backward: gradients } = disWork(config, batch, 'f32');
  const count = forward.parts!.length;
  const training = disTrainingMemory(config, { batch }).total,
    sampling = disSamplingMemory(config, { batch }).total;

  const make = (
    kind: Kind,
    title: string,
    rest: Pick<BenchCase, 'work' | 'live' | 'prepare'> & Partial<BenchCase>,
  ): BenchCase => ({
    group: 'step',
    name: `${as?.title ?? name} ${title}`,
    size: `${batch}×${tokens}`,
    images: batch,
    largest: 4 * batch * tokens * 2 * dInner,
    dispatches: (kind === 'forward' || kind === 'sampling' ? 2 : 5) * count,
    priority: priority + (kinds.indexOf(kind) < 3 ? 0 : 1),
    ...rest,
  });
  const trained = (kind: Kind, title: string, options: TrainingOptions): BenchCase =>
    make(kind, title, {
      work: trainingWork(config, batch, options.precision),
      live: disTrainingMemory(config, { batch: batch / (options.microBatches ?? 1), precision: options.precision })
        .total,
      ...(options.precision === 'f16' && { needs: 'shader-f16' as const }),
      prepare: (device) => trainingStep(device, config, batch, process, options),
    });
  const cases: Record<Kind, () => BenchCase> = {
    forward: () =>
      make('forward', 'forward', {
        work: forward,
        live: sampling,
        prepare: (device) =>
          withModel(device, config, (model, inputs) => {
            model.eval();
            const { x, t, labels } = batchOf(inputs, config, batch);
            return { step: () => noGrad(() => model.forward(x, t, labels)) };
          }),
      }),
    backward: () =>
      make('backward', 'forward + backward', {
        work: inSequence([...forward.parts!, ...gradients.parts!]),
        live: training,
        prepare: (device) =>
          withModel(device, config, (model, inputs) => {
            model.eval();
            const { x, t, labels } = batchOf(inputs, config, batch);
            return {
              step: () => {
                backward(model.forward(x, t, labels).square().mean());
                for (const parameter of model.parameters()) parameter.grad = null;
              },
            };
          }),
      }),
    training: () => trained('training', 'training', { precision: 'f32', capture: true }),
    trainingHalf: () => trained('trainingHalf', 'training f16', { precision: 'f16', capture: true }),
    trainingParts: () =>
      trained('trainingParts', 'training in 4 parts', { precision: 'f32', capture: true, microBatches: 4 }),
    trainingHalfParts: () =>
      trained('trainingHalfParts', 'training f16 in 4 parts', { precision: 'f16', capture: true, microBatches: 4 }),
    uncaptured: () => trained('uncaptured', 'training, not captured', { precision: 'f32', capture: false }),
    sampling: () =>
      make('sampling', 'sampling step', {
        work: forward,
        live: sampling,
        prepare: (device) =>
          withModel(device, config, (model, inputs) => {
            model.eval();
            const diffusion = inputs.keep(createDiffusion(device, { ...process, timestepRespacing: 'ddim50' }));
            const { x, labels } = batchOf(inputs, config, batch);
            const t = inputs.keep(full(device, [batch], 25, 'i32'));
            return {
              step: () =>
                noGrad(() => diffusion.ddimSample((noisy, times) => model.forward(noisy, times, labels), x, t)),
            };
          }),
      }),
  };
  return kinds.map((kind) => cases[kind]());
}

export function stepCases(): BenchCase[] {
  return settings().flatMap(settingCases);
}
