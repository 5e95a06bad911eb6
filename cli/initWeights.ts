// `--init-from`: a new run that begins with weights there are. Its model is theirs, but for flags that say otherwise;
// classes of its own get new rows in the label table.

import { resolve } from 'node:path';
import { FormatError } from '../core/errors.ts';
import { sameShape, show } from '../core/index.ts';
import type { Trainer } from '../models/train/index.ts';
import { UsageError } from './errors.ts';
import { kindNamed } from './modelKinds/index.ts';
import type { RunConfig } from './runConfig.ts';
import type { Given, TrainOptions } from './trainOptions.ts';
import type { TrainSettings } from './trainSettings.ts';
import { openWeightSource } from './weightSource.ts';

/** Settings that weights bring with them. The first names the others' defaults. */
const SIZE = ['model', 'embedDim', 'depth', 'patchSize'] as const;
const OTHERS = [
  ...['imageSize', 'channels', 'dState', 'learnSigma', 'skip', 'mlpTimeEmbed', 'norm'],
  ...['diffusionSteps', 'noiseSchedule', 'predict'],
] as (keyof TrainSettings)[];

/** The table of labels: the one parameter that depends on which classes there are. */
const LABELS = 'label_emb.embedding_table.weight';

/** What a new run takes from weights before it has data. */
export interface Init {
  /** Settings in place of those that aren't given. */
  settings(given: Given): Partial<TrainSettings>;
  /**
   * Compares the weights with the run's model.
   * @returns what is not taken, as a sentence
   * @throws UsageError naming what differs
   */
  compare(config: RunConfig): string | undefined;
}

/** @throws FileError, FormatError, UsageError where there are no such weights */
export async function describeInit(name: string, defaults: TrainOptions): Promise<Init> {
  const source = await openWeightSource(name, { ...defaults, initFrom: undefined });
  try {
    await source.check('ema');
  } finally {
    await source.close();
  }
  const theirs = source.config;
  return {
    settings(given) {
      const names = [...(given('model') ? [] : SIZE), ...OTHERS].filter((each) => !given(each));
      return {
        ...Object.fromEntries(names.map((each) => [each, theirs.settings[each]])),
        initFrom: /^hf:/.test(name) ? name : resolve(name),
      };
    },
    compare: ({ kind, model }) => compare(name, new Map(shapesOf(theirs)), kindNamed(kind).shapes(model)),
  };
}

const shapesOf = ({ kind, model }: RunConfig): ReturnType<ReturnType<typeof kindNamed>['shapes']> =>
  kindNamed(kind).shapes(model);

function compare(
  name: string,
  theirs: ReadonlyMap<string, readonly number[]>,
  own: ReturnType<typeof shapesOf>,
): string | undefined {
  const rest = new Set(theirs.keys());
  let note: string | undefined;
  for (const [tensor, shape] of own) {
    const found = theirs.get(tensor);
    rest.delete(tensor);
    if (found && sameShape(found, shape)) continue;
    if (found && tensor === LABELS) {
      note = `${name} has ${found[0]} rows of labels and this run ${shape[0]}: its classes begin without them.`;
      continue;
    }
    throw another(
      name,
      found ? `${tensor} has shape ${show(found)}, and the run's ${show(shape)}` : `it has no ${tensor}`,
    );
  }
  for (const tensor of rest) throw another(name, `it also has ${tensor}`);
  return note;
}

function another(name: string, what: string): UsageError {
  return new UsageError(
    `The weights of ${name} are not of this model: ${what}; leave the model's flags out, or give other weights.`,
  );
}

/** Gives a trainer that has taken no step its run's first weights, and their copy as the average. */
export async function initialise(trainer: Trainer, config: RunConfig): Promise<void> {
  const source = await openWeightSource(config.settings.initFrom!, {
    ...config.settings,
    ...config.plan,
  } as TrainOptions);
  try {
    const entries = await source.read('ema');
    const own = await trainer.state();
    const model = new Map(
      Array.from(own.model, ([name, value]) => {
        const entry = entries.get(name);
        if (entry && sameShape(entry.shape, value.shape)) return [name, entry] as const;
        if (name === LABELS) return [name, value] as const;
        throw new FormatError(
          'initialise',
          `${config.settings.initFrom} has another ${name} than when the run was begun`,
          {
            remedy: 'begin the run again',
          },
        );
      }),
    );
    trainer.loadState({ ...own, model, ema: model });
  } finally {
    await source.close();
  }
}
