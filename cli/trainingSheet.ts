// The sheet of samples that a run writes now and then: of the moving averages, at every time from the same noise, so that
// sheets can be compared.

import { hash32 } from '../models/data/hash.ts';
import { sampleImages } from '../models/sample/index.ts';
import type { Trainer } from '../models/train/trainer.ts';
import { openDecoder } from './decodeLatents.ts';
import type { BuiltModel } from './modelKinds/index.ts';
import type { RunFolder } from './runFolder.ts';
import { labelsOfRows, writeSamples } from './sampleSheet.ts';
import { SHEET_KEY, type TrainingParts } from './training.ts';

export interface SheetOptions extends Pick<TrainingParts, 'device' | 'config'> {
  readonly folder: RunFolder;
  readonly signal?: AbortSignal;
}

/** @throws FileError where it can't be written; what the signal was aborted with */
export function writeTrainingSheet(
  { device, folder, config, signal }: SheetOptions,
  trainer: Trainer,
  model: BuiltModel,
): Promise<void> {
  const { numClasses, classDropoutProb } = config.model;
  const classes = numClasses > 0 ? Array.from({ length: Math.min(numClasses, 10) }, (_, label) => label) : undefined;
  return trainer.withEma(async () => {
    const { images } = await sampleImages({
      device,
      model,
      diffusion: config.diffusion,
      labels: labelsOfRows(classes, 4),
      count: 16,
      guidance: classDropoutProb > 0 ? config.plan.guidance : 1,
      steps: Math.min(config.plan.sampleSteps, config.settings.diffusionSteps),
      seed: hash32(config.settings.seed, SHEET_KEY),
      batch: 16,
      signal,
    });
    const { vae } = config.settings;
    const decoder = vae && (await openDecoder(device, vae));
    const pictures = (await decoder?.decode(images).finally(() => decoder.dispose())) ?? images;
    await writeSamples(folder.sheetPath(trainer.step), pictures, { classes, classNames: config.classNames });
  });
}
