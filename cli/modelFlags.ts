// Flags that describe a model, shared by `train`, `info` and `tune`.

import type { Command } from 'commander';
import { MODEL_KINDS, kindOfModel, type ModelConfig, type ModelFlags } from './modelKinds/index.ts';
import { choice, flag, integer, probability } from './options.ts';

export type { ModelFlags } from './modelKinds/index.ts';

/** What `train` takes for the drawn shapes where the flags are not given. */
export const SHAPES_DEFAULTS = { model: 'DiS-N/4', imageSize: 16 } as const;

/** Adds the flags that describe a model. */
export function addModelFlags(command: Command): void {
  const options = [
    flag(
      '--model <name>',
      MODEL_KINDS.map(({ about }) => about).join('; '),
      choice(MODEL_KINDS.flatMap(({ names }) => names)),
      'DiS-S/2',
    ),
    flag('--image-size <pixels>', 'side of the square images', integer({ min: 1 }), 32),
    flag(
      '--label-dropout <p>',
      'how often a label is left out in training, which guidance needs',
      probability({ closed: true }),
      0.1,
    ),
    ...MODEL_KINDS.flatMap((kind) => kind.flags()),
  ];
  for (const option of options) command.addOption(option);
  command.option('--no-learn-sigma', 'a fixed variance instead of a learned one');
}

/** A model as flags describe it: its kind, by name, and its configuration. */
export interface DescribedModel {
  readonly kind: string;
  readonly model: ModelConfig;
}

/**
 * The model that the flags describe, for inputs of `channels` and `numClasses`.
 * @throws ValueError where they make no model, whose option is the API's name of a flag
 */
export function modelOfFlags(
  flags: ModelFlags,
  data: { readonly channels: number; readonly numClasses: number },
): DescribedModel {
  const kind = kindOfModel(flags.model);
  return { kind: kind.name, model: kind.fromFlags(flags, data) };
}

/** The shapes are there to try things out: what isn't given is as the quick start has it, small enough for a CPU. */
export function withShapesDefaults<T extends object>(options: T, given: (flag: string) => boolean): T {
  return {
    ...options,
    ...(!given('model') && { model: SHAPES_DEFAULTS.model }),
    ...(!given('imageSize') && { imageSize: SHAPES_DEFAULTS.imageSize }),
  };
}
