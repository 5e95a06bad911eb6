// Sampling loops: one step after the other, each with what the last one left.

import { ShapeError, ValueError } from '../../../core/errors.ts';
import {
  empty,
  full,
  keep,
  noGrad,
  sameShape,
  scope,
  show,
  type Device,
  type Generator,
  type Shape,
  type Tensor,
} from '../../../core/index.ts';
import { drawNoise } from '../noise.ts';
import { RepeatedStep } from '../repeatedStep.ts';

/** What one step gives. */
export interface SampleStep {
  /** x_{t-1}; x_{t+1} in the reverse direction. */
  readonly sample: Tensor;
  /** The predicted x_0. */
  readonly predXstart: Tensor;
}

/** A step of a loop. Its tensors hold these values until the next step is asked for: read them, or clone() them, before. */
export interface LoopStep extends SampleStep {
  /** The timestep that was left. */
  readonly t: number;
  /** How many steps were made before this one. */
  readonly index: number;
  /** How many steps the loop has. */
  readonly count: number;
}

export interface LoopOptions {
  /** x to begin with, of the loop's shape; drawn by `generator` where it isn't given. */
  readonly noise?: Tensor;
  /** Noise of each step in the order of the steps, (steps, …shape); drawn by `generator` where it isn't given. */
  readonly stepNoise?: Tensor;
  readonly generator?: Generator;
  /** Checked before each step; the loop throws its reason. */
  readonly signal?: AbortSignal;
  /**
   * Record a step once and replay it (default). The model and all other functions given must then only dispatch: no read-back, and
   * nothing in JavaScript that changes from step to step. With false every step runs them anew.
   */
  readonly capture?: boolean;
}

/**
 * Makes steps at `timesteps`, in their order.
 *
 * @param step from x_t, t (batch) and the noise given for this step, to its result
 * @throws what `signal` was aborted with
 */
export async function* sampleLoop(
  name: string,
  device: Device,
  shape: Shape,
  timesteps: readonly number[],
  step: (x: Tensor, t: Tensor, noise: Tensor | undefined) => SampleStep,
  options: LoopOptions,
): AsyncGenerator<LoopStep, void, undefined> {
  const { stepNoise, signal, capture = true } = options;
  const count = timesteps.length;
  if (stepNoise && !sameShape(stepNoise.shape, [count, ...shape]))
    throw new ShapeError(name, `stepNoise has shape ${show(stepNoise.shape)}`, {
      expected: `${show([count, ...shape])}, noise for each of the ${count} steps`,
    });
  const x = keep(scope(() => begin(name, shape, options)));
  const t = keep(full(device, [shape[0]], timesteps[0], 'i32'));
  const noise = stepNoise && keep(empty(device, shape));
  const repeated = new RepeatedStep(
    device,
    () =>
      scope(() =>
        noGrad(() => {
          const { sample, predXstart } = step(x, t, noise);
          x.copy_(sample);
          return predXstart;
        }),
      ),
    count,
    capture,
  );
  try {
    for (let index = 0; index < count; index++) {
      signal?.throwIfAborted();
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
    for (const tensor of [x, t, noise]) tensor?.dispose();
  }
}

function begin(name: string, shape: Shape, { noise, generator }: LoopOptions): Tensor {
  if (shape.length < 2 || shape.some((size) => !Number.isInteger(size) || size < 1))
    throw new ValueError(name, `The shape is ${show(shape)}`, { expected: '(batch, channels, …)' });
  if (noise && !sameShape(noise.shape, shape))
    throw new ShapeError(name, `noise has shape ${show(noise.shape)}`, { expected: show(shape) });
  return noise ? noGrad(() => noise.cast('f32').clone()) : drawNoise(name, shape, { generator });
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
