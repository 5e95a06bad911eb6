// Whole steps of DiS models: forward, forward and backward, training, sampling.

import { backward, full, Generator, noGrad, scope, type Device, type Tensor } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig, disDimensions, disSamplingMemory, disTrainingMemory, type DisConfig, type DisName } from '../../models/dis/index.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { BenchCase, Prepared } from '../case.ts';
import { inSequence } from '../work.ts';
import { disWork, trainingWork } from './count.ts';
import { Inputs, type Float } from './shapes.ts';

type Kind = 'forward' | 'backward' | 'training' | 'trainingHalf' | 'uncaptured' | 'sampling';

interface Setting {
  readonly name: DisName;
  /** Edge of the input, of 4 channels. */
  readonly imgSize: number;
  readonly batch: number;
  readonly priority: number;
  /** What is measured of it. What stands behind the first three is less telling. */
  readonly kinds: readonly Kind[];
}

const ALL: readonly Kind[] = ['forward', 'training', 'trainingHalf', 'sampling', 'backward', 'uncaptured'];
const FEW: readonly Kind[] = ['forward', 'training'];

function settings(): Setting[] {
  const of = (name: DisName, imgSize: number, batches: readonly number[], priority: number, kinds: readonly Kind[]): Setting[] => batches.map((batch) => ({ name, imgSize, batch, priority, kinds }));
  return [
    ...of('DiS-N/2', 16, [8], 0, ALL),
    // How a step grows with the batch, and with the tokens from 66 to 4,098.
    ...of('DiS-N/2', 16, [1, 2, 4, 16, 32, 64], 1, FEW),
    ...[32, 64, 128].flatMap((imgSize) => of('DiS-N/2', imgSize, [1], 1, FEW)),
    ...of('DiS-Ti/2', 32, [8], 1, ALL), ...of('DiS-XS/2', 32, [8], 2, ALL),
    ...of('DiS-S/2', 32, [1], 1, ['forward', 'sampling']), ...of('DiS-S/2', 32, [8], 0, ALL), ...of('DiS-S/2', 32, [64, 128, 256], 0, ALL),
    ...of('DiS-B/2', 32, [1], 1, ['forward', 'sampling']), ...of('DiS-B/2', 32, [8], 1, ALL), ...of('DiS-B/2', 32, [64, 128, 256], 0, ALL),
  ];
}

/** Noisy images, timesteps and labels of a batch. */
function batchOf(inputs: Inputs, { channels, imgSize, numClasses }: DisConfig, batch: number): { x: Tensor; t: Tensor; labels: Tensor } {
  const generator = inputs.keep(new Generator(inputs.device, 4));
  return {
    x: inputs.random([batch, channels, imgSize, imgSize]),
    t: inputs.keep(generator.randint([batch], 0, 1000)),
    labels: inputs.keep(generator.randint([batch], 0, numClasses)),
  };
}

/** Prepares a step of a model; `make` gets the model with everything disposed of at the end. */
function withModel(device: Device, config: DisConfig, make: (model: Dis, inputs: Inputs) => Omit<Prepared, 'dispose'>): Prepared {
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

function trainingStep(device: Device, config: DisConfig, batch: number, options: { precision: Float; capture: boolean }): Prepared {
  return withModel(device, config, (model, inputs) => {
    const diffusion = inputs.keep(createDiffusion(device));
    const trainer = inputs.keep(new Trainer({ device, model, diffusion, batchSize: batch, ...options }));
    const { channels, imgSize, numClasses } = config;
    const images = Float32Array.from({ length: batch * channels * imgSize ** 2 }, (_, i) => ((i * 7919) % 2001) / 1000 - 1);
    const labels = Int32Array.from({ length: batch }, (_, i) => i % numClasses);
    const data = { images, labels, shape: [batch, channels, imgSize, imgSize] as const, epoch: 0 };
    return {
      capture: 'none',
      plan: () => [...trainer.plans.values()][0] ?? null,
      step: () => {
        // Whatever goes wrong is the device's failure, and thrown by the wait that follows.
        trainer.trainBatch(data).catch(() => {});
      },
    };
  });
}

function settingCases({ name, imgSize, batch, priority, kinds }: Setting): BenchCase[] {
  const config = disConfig(name, { imgSize, channels: 4, numClasses: 1000 });
  const { tokens, dInner } = disDimensions(config);
  const { forward, backward: gradients } = disWork(config, batch, 'f32');
  const count = forward.parts!.length;
  const training = disTrainingMemory(config, { batch }).total, sampling = disSamplingMemory(config, { batch }).total;

  const make = (kind: Kind, title: string, rest: Pick<BenchCase, 'work' | 'live' | 'prepare'> & Partial<BenchCase>): BenchCase => ({
    group: 'step', name: `${name} ${title}`, size: `${batch}×${tokens}`, images: batch, largest: 4 * batch * tokens * 2 * dInner,
    dispatches: (kind === 'forward' || kind === 'sampling' ? 2 : 5) * count, priority: priority + (kinds.indexOf(kind) < 3 ? 0 : 1), ...rest,
  });
  const trained = (kind: Kind, title: string, precision: Float, capture: boolean): BenchCase => make(kind, title, {
    work: trainingWork(config, batch, precision), live: disTrainingMemory(config, { batch, precision }).total,
    ...(precision === 'f16' && { needs: 'shader-f16' as const }), prepare: (device) => trainingStep(device, config, batch, { precision, capture }),
  });
  const cases: Record<Kind, () => BenchCase> = {
    forward: () => make('forward', 'forward', {
      work: forward, live: sampling, prepare: (device) => withModel(device, config, (model, inputs) => {
        model.eval();
        const { x, t, labels } = batchOf(inputs, config, batch);
        return { step: () => noGrad(() => model.forward(x, t, labels)) };
      }),
    }),
    backward: () => make('backward', 'forward + backward', {
      work: inSequence([...forward.parts!, ...gradients.parts!]), live: training, prepare: (device) => withModel(device, config, (model, inputs) => {
        model.eval();
        const { x, t, labels } = batchOf(inputs, config, batch);
        return { step: () => {
          backward(model.forward(x, t, labels).square().mean());
          for (const parameter of model.parameters()) parameter.grad = null;
        } };
      }),
    }),
    training: () => trained('training', 'training', 'f32', true),
    trainingHalf: () => trained('trainingHalf', 'training f16', 'f16', true),
    uncaptured: () => trained('uncaptured', 'training, not captured', 'f32', false),
    sampling: () => make('sampling', 'sampling step', {
      work: forward, live: sampling, prepare: (device) => withModel(device, config, (model, inputs) => {
        model.eval();
        const diffusion = inputs.keep(createDiffusion(device, { timestepRespacing: 'ddim50' }));
        const { x, labels } = batchOf(inputs, config, batch);
        const t = inputs.keep(full(device, [batch], 25, 'i32'));
        return { step: () => noGrad(() => diffusion.ddimSample((noisy, times) => model.forward(noisy, times, labels), x, t)) };
      }),
    }),
  };
  return kinds.map((kind) => cases[kind]());
}

export function stepCases(): BenchCase[] {
  return settings().flatMap(settingCases);
}
