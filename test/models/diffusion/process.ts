// What tests of the process share: every combination of its types, and a batch for it.

import { tensor, type Device, type Tensor } from '../../../core/index.ts';
import {
  betaSchedule,
  GaussianDiffusion,
  settingsOfBetas,
  type LossType,
  type ModelMeanType,
  type ModelVarType,
} from '../../../models/diffusion/index.ts';
import { uniform } from '../../support.ts';

export const MEAN_TYPES: readonly ModelMeanType[] = ['epsilon', 'xStart', 'previousX'];
export const VAR_TYPES: readonly ModelVarType[] = ['fixedSmall', 'fixedLarge', 'learned', 'learnedRange'];

/** A process of `steps` steps out of 40. */
export function processOf(
  device: Device,
  modelMeanType: ModelMeanType,
  modelVarType: ModelVarType,
  lossType: LossType = 'mse',
  keep?: readonly number[],
): GaussianDiffusion {
  return new GaussianDiffusion(
    device,
    settingsOfBetas(betaSchedule('linear', 40), { modelMeanType, modelVarType, lossType, keep }),
  );
}

/** A tensor of numbers of about unit size. */
export function random(device: Device, shape: readonly number[], seed: number, scale = 1): Tensor {
  return tensor(
    device,
    uniform(
      shape.reduce((n, s) => n * s, 1),
      seed,
    ).map((v) => v * scale),
    { shape },
  );
}

/** Numbers of tensors that are then freed. */
export async function read(...tensors: Tensor[]): Promise<Float64Array[]> {
  const values = await Promise.all(tensors.map(async (t) => Float64Array.from(await t.data())));
  for (const t of new Set(tensors)) t.dispose();
  return values;
}
