// Whole steps of DiS models: forward, forward and backward, training, sampling.

import { backward, full, Generator, noGrad, scope, type Device, type Tensor } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig, disSamplingMemory, disTrainingMemory, type DisConfig, type DisName } from '../../models/dis/index.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { BenchCase, Prepared } from '../case.ts';
import { inSequence } from '../work.ts';
import { disWork, trainingWork } from './count.ts';
import { Inputs, type Float } from './shapes.ts';

interface Model {
  readonly name: DisName;
  /** Edge of the input, of 4 channels. */
  readonly imgSize: number;
  /** Batches with their priorities. */
  readonly batches: readonly (readonly [batch: number, priority: number])[];
}

const MODELS: readonly Model[] = [
  { name: 'DiS-N/2', imgSize: 16, batches: [[8, 0], [64, 1]] },
  { name: 'DiS-Ti/2', imgSize: 32, batches: [[8, 1], [64, 2]] },
  { name: 'DiS-XS/2', imgSize: 32, batches: [[8, 2], [64, 3]] },
  { name: 'DiS-S/2', imgSize: 32, batches: [[1, 1], [8, 0], [64, 0], [128, 0], [256, 0]] },
  { name: 'DiS-B/2', imgSize: 32, batches: [[1, 2], [8, 2], [64, 1], [128, 1], [256, 1]] },
];

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

function modelCases({ name, imgSize, batches }: Model): BenchCase[] {
  const config = disConfig(name, { imgSize, channels: 4, numClasses: 1000 });
  return batches.flatMap(([batch, priority]) => {
    const f32 = disWork(config, batch, 'f32');
    const common = { group: 'step' as const, size: `batch ${batch}`, images: batch, largest: 4 * Math.max(f32.forward.parts![1].bytes / 8, config.embedDim ** 2 * 4) };
    const count = f32.forward.parts!.length;
    const training = (precision: Float, capture: boolean): BenchCase => ({
      ...common, name: `${name} training${precision === 'f16' ? ' f16' : ''}${capture ? '' : ', not captured'}`, priority: priority + (capture ? 0 : 1) + (precision === 'f16' ? 1 : 0),
      work: trainingWork(config, batch, precision), live: disTrainingMemory(config, { batch, precision }).total, dispatches: 5 * count,
      ...(precision === 'f16' && { needs: 'shader-f16' as const }),
      prepare: (device) => trainingStep(device, config, batch, { precision, capture }),
    });
    return [
      { ...common, name: `${name} forward`, priority, work: f32.forward, live: disSamplingMemory(config, { batch, precision: 'f32' }).total, dispatches: 2 * count,
        prepare: (device) => withModel(device, config, (model, inputs) => {
          model.eval();
          const { x, t, labels } = batchOf(inputs, config, batch);
          return { step: () => noGrad(() => model.forward(x, t, labels)) };
        }) },
      { ...common, name: `${name} forward + backward`, priority, work: inSequence([...f32.forward.parts!, ...f32.backward.parts!]), live: disTrainingMemory(config, { batch, precision: 'f32' }).total, dispatches: 5 * count,
        prepare: (device) => withModel(device, config, (model, inputs) => {
          model.eval();
          const { x, t, labels } = batchOf(inputs, config, batch);
          return { step: () => {
            backward(model.forward(x, t, labels).square().mean());
            for (const parameter of model.parameters()) parameter.grad = null;
          } };
        }) },
      training('f32', true), training('f32', false), training('f16', true),
      { ...common, name: `${name} sampling step`, priority, work: f32.forward, live: disSamplingMemory(config, { batch, precision: 'f32' }).total, dispatches: 2 * count,
        prepare: (device) => withModel(device, config, (model, inputs) => {
          model.eval();
          const diffusion = inputs.keep(createDiffusion(device, { timestepRespacing: 'ddim50' }));
          const { x, labels } = batchOf(inputs, config, batch);
          const t = inputs.keep(full(device, [batch], 25, 'i32'));
          return { step: () => noGrad(() => diffusion.ddimSample((noisy, times) => model.forward(noisy, times, labels), x, t)) };
        }) },
    ];
  });
}

export function stepCases(): BenchCase[] {
  return MODELS.flatMap(modelCases);
}
