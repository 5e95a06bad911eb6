// The sampling loop: one step after the other, each with what the ones before left. It knows no sampler's name.

import { ShapeError, ValueError } from '../../../core/errors.ts';
import {
  empty,
  full,
  keep,
  noGrad,
  sameShape,
  scope,
  show,
  zeros,
  type Shape,
  type Tensor,
} from '../../../core/index.ts';
import { drawNoise, type NoiseSource } from '../noise.ts';
import type { DiffusionModel, DiffusionProcess } from '../process.ts';
import { RepeatedStep } from '../repeatedStep.ts';
import type { DenoiseOptions, GuidanceOptions } from '../reverseProcess.ts';
import { samplerStep, type Sampler, type SampleStep } from './sampler.ts';

/**
 * A step of a loop. Its tensors hold these values until the next step is asked for: read them, or clone() them, before.
 */
export interface LoopStep extends SampleStep {
  /** The timestep that was left. */
  readonly t: number;
  /** How many steps were made before this one. */
  readonly index: number;
  /** How many steps the loop has. */
  readonly count: number;
}

/** Options of a sampling loop. */
export interface LoopOptions extends DenoiseOptions, GuidanceOptions {
  /** x to begin with, of the loop's shape; drawn by `generator` where it isn't given. */
  readonly noise?: Tensor;
  /** Noise of each step in the order of the steps, (steps, …shape); drawn by `generator` where it isn't given. */
  readonly stepNoise?: Tensor;
  readonly generator?: NoiseSource;
  /** Timestep to begin at; default the last of the process. For a beginning that isn't all noise. */
  readonly from?: number;
  /**
   * Applied to what each step gives, x_{t-1} (batch, channels, …), with t (batch): what is to be kept of an image, say.
   */
  readonly afterStep?: (sample: Tensor, t: Tensor) => Tensor;
  /** Checked before each step; the loop throws its reason. */
  readonly signal?: AbortSignal;
  /**
   * Record a step once and replay it (default). The model and all other functions given must then only dispatch: no
   * read-back, and nothing in JavaScript that changes from step to step. With false every step runs them anew.
   */
  readonly capture?: boolean;
}

/**
 * Samples of a shape by a sampler: from timestep `from` down to 0, one step after the other.
 *
 * @throws ValueError, ShapeError where something doesn't fit; what `signal` was aborted with
 */
export function sampleLoop(
  process: DiffusionProcess,
  sampler: Sampler,
  model: DiffusionModel,
  shape: Shape,
  options: LoopOptions,
): AsyncGenerator<LoopStep, void, undefined> {
  const { from = process.numTimesteps - 1 } = options;
  if (!(Number.isInteger(from) && from >= 0 && from < process.numTimesteps))
    throw new ValueError('sampleLoop', `is ${from}`, {
      option: 'from',
      expected: `a timestep from 0 to ${process.numTimesteps - 1} of the process`,
    });
  return loopOver(process, sampler, model, shape, descending(from + 1), options);
}

/** Steps of a sampler at `timesteps`, in their order. See `sampleLoop`. */
export async function* loopOver(
  process: DiffusionProcess,
  sampler: Sampler,
  model: DiffusionModel,
  shape: Shape,
  timesteps: readonly number[],
  options: LoopOptions,
): AsyncGenerator<LoopStep, void, undefined> {
  const { device } = process;
  const { stepNoise, generator, afterStep, signal, capture = true } = options;
  const count = timesteps.length;
  if (stepNoise && !sameShape(stepNoise.shape, [count, ...shape]))
    throw new ShapeError('sampleLoop', `stepNoise has shape ${show(stepNoise.shape)}`, {
      expected: `${show([count, ...shape])}, noise for each of the ${count} steps`,
    });
  const x = keep(scope(() => begin(shape, options)));
  const t = keep(full(device, [shape[0]], timesteps[0], 'i32'));
  const noise = stepNoise && keep(empty(device, shape));
  const memory = sampler.memory.map(() => keep(zeros(device, shape)));
  const step = (): Tensor => {
    const result = samplerStep(process, sampler, model, x, t, { ...options, noise, memory, first: timesteps[0] });
    memory.forEach((kept, i) => kept.copy_(result.memory[i]));
    x.copy_(afterStep ? afterStep(result.sample, t) : result.sample);
    return result.predXstart;
  };
  const repeated = new RepeatedStep(device, () => scope(() => noGrad(step)), count, capture);
  try {
    for (let index = 0; index < count; index++) {
      signal?.throwIfAborted();
      generator?.beginStep?.(index);
      t.write(new Int32Array(shape[0]).fill(timesteps[index]));
      if (noise)
        scope(() => {
          noise.copy_(stepNoise!.select(0, index));
        });
      const predXstart = await repeated.run();
      yield { sample: x, predXstart, t: timesteps[index], index, count };
    }
  } finally {
    repeated.dispose();
    for (const tensor of [x, t, noise, ...memory]) tensor?.dispose();
  }
}

function begin(shape: Shape, { noise, generator }: LoopOptions): Tensor {
  if (shape.length < 2 || shape.some((size) => !Number.isInteger(size) || size < 1))
    throw new ValueError('sampleLoop', `The shape is ${show(shape)}`, { expected: '(batch, channels, …)' });
  if (noise && !sameShape(noise.shape, shape))
    throw new ShapeError('sampleLoop', `noise has shape ${show(noise.shape)}`, { expected: show(shape) });
  return noise ? noGrad(() => noise.cast('f32').clone()) : drawNoise('sampleLoop', shape, { generator });
}

/** The last sample of a loop; the caller owns it. */
export async function lastSample(loop: AsyncGenerator<LoopStep>): Promise<Tensor> {
  let last: Tensor | undefined;
  for await (const { sample, index, count } of loop) if (index === count - 1) last = keep(sample.clone());
  return last!;
}

/** 0 … steps-1. */
export function ascending(steps: number): number[] {
  return Array.from({ length: steps }, (_, i) => i);
}

/** steps-1 … 0. */
export function descending(steps: number): number[] {
  return ascending(steps).reverse();
}
