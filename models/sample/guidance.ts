// A model with its labels: what a sampler is given. Classifier-free guidance is here (Ho & Salimans 2022, arXiv
// 2207.12598).

import { concat, keep, scope, tensor, type Device, type Tensor } from '../../core/index.ts';
import type { DiffusionModel } from '../diffusion/process.ts';

/** A model that can be sampled: `Dis`, or anything of this form. */
export interface LabelledModel {
  readonly config: {
    readonly imgSize: number;
    readonly channels: number;
    /** 0 for a model without labels; the label of this number means no class. */
    readonly numClasses: number;
    /** How often training left labels out; guidance needs more than 0. */
    readonly classDropoutProb: number;
  };
  forward(x: Tensor, timesteps: Tensor, labels?: Tensor | null): Tensor;
}

/** How far samples are moved towards their class. */
export interface ClassifierFreeGuidance {
  /** 1 is no guidance, 0 leaves the class out, more than 1 goes beyond it. */
  readonly scale: number;
  /** How many channels are guided: all by default; the official code guides 3 even where a latent has 4. */
  readonly channels?: number;
}

/**
 * e_none + scale (e_class - e_none) of the first channels of a model's output.
 *
 * @param output (2n, channels, …): n images with their class, and the same n with none
 * @returns (n, channels, …)
 */
export function guide(output: Tensor, { scale, channels = output.shape[1] }: ClassifierFreeGuidance): Tensor {
  return scope(() => {
    const [conditional, none] = output.slice(1, 0, channels).chunk(2);
    return none.add(conditional.sub(none).mul(scale));
  });
}

/**
 * A model with a label for each image, guided where the scale is not 1. Variance values, and channels that are not
 * guided, are those of the model with the class. `dispose()` frees the labels.
 *
 * @param labels one for each image of the batch; undefined for a model without classes
 */
export function withLabels(
  device: Device,
  model: LabelledModel,
  labels: Int32Array | undefined,
  { scale, channels = model.config.channels }: ClassifierFreeGuidance,
): { readonly model: DiffusionModel; dispose(): void } {
  if (!labels) return { model: (x, t) => model.forward(x, t), dispose: () => {} };
  const count = labels.length;
  const guided = scale !== 1;
  const none = guided ? new Int32Array(count).fill(model.config.numClasses) : [];
  const y = keep(tensor(device, Int32Array.of(...labels, ...none)));
  const withGuidance: DiffusionModel = (x, t) =>
    scope(() => {
      const output = model.forward(concat([x, x]), concat([t, t]), y);
      const part = guide(output, { scale, channels });
      return channels === output.shape[1] ? part : concat([part, output.slice(0, 0, count).slice(1, channels)], 1);
    });
  return { model: guided ? withGuidance : (x, t) => model.forward(x, t, y), dispose: () => y.dispose() };
}
