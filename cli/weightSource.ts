// Where weights come from, by what a person names: the folder of a run or of a checkpoint, a .pt or .safetensors file, or
// a repository on the Hugging Face Hub as hf:OWNER/NAME.

import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Device } from '../core/index.ts';
import { Generator } from '../core/index.ts';
import type { SafetensorsEntry } from '../nn/index.ts';
import { checkWeights, readRunConfig, readWeights, type Weights } from './checkpoint.ts';
import { kindNamed, type BuiltModel } from './modelKinds/index.ts';
import { officialConfig } from './officialConfig.ts';
import type { RunConfig } from './runConfig.ts';
import { interruptible } from './interrupt.ts';
import { defaultStyle } from './progress.ts';
import { locateCheckpoint } from './runFolder.ts';
import { tuningFolder } from './tuningCache.ts';
import type { TrainOptions } from './trainOptions.ts';
import { openWeightFile } from './weightFile.ts';

/** Weights that can be read, and the configuration that they are of. */
export interface WeightSource {
  /** A few words on what it is. */
  readonly title: string;
  readonly config: RunConfig;
  /** Steps that they were trained for; undefined where nothing tells. */
  readonly step: number | undefined;
  /** Compares names and shapes with the model's; no weights are read. */
  check(weights: Weights): Promise<void>;
  /** @throws FormatError where they are damaged or not finite */
  read(weights: Weights): Promise<Map<string, SafetensorsEntry>>;
  close(): Promise<void>;
}

/** Whether a path names a file and not a folder. */
export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/**
 * Opens what a person named; the caller closes it.
 * @param defaults what `dis-cli train` takes where nothing is given, for files that don't tell
 * @throws FileError, FormatError, UsageError with one sentence on what is wrong
 */
export async function openWeightSource(name: string, defaults: TrainOptions): Promise<WeightSource> {
  if (/^hf:/.test(name)) return fromFolder(await pulled(name));
  return (await isFile(name)) ? fromFile(name, defaults) : fromFolder(name);
}

/** A repository of the Hub in the cache; what is there already isn't brought again. */
async function pulled(name: string): Promise<string> {
  const { openHub, repoName } = await import('./hub/client.ts');
  const { pull } = await import('./hub/pull.ts');
  const repository = repoName(name);
  const folder = join(tuningFolder(), 'hub', repository.replace('/', '--'));
  const access = await openHub();
  await interruptible((signal) => pull(access, repository, folder, { style: defaultStyle('lines'), signal }));
  return folder;
}

async function fromFile(path: string, defaults: TrainOptions): Promise<WeightSource> {
  const file = await openWeightFile(path);
  try {
    const config = officialConfig(file, path, defaults);
    return {
      title: basename(path),
      config,
      step: file.optimizer?.step,
      check: () => Promise.resolve(), // the configuration was made of the shapes
      read: async (weights) => {
        const entries = new Map<string, SafetensorsEntry>();
        for (const [tensor, { read }] of file[weights]) entries.set(tensor, await read());
        return entries;
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function fromFolder(path: string): Promise<WeightSource> {
  const { checkpoint } = await locateCheckpoint(path);
  const config = await readRunConfig(checkpoint.path);
  return {
    title: config.settings.model,
    config,
    step: checkpoint.step,
    check: (weights) => checkWeights(checkpoint.path, config, weights),
    read: (weights) => readWeights(checkpoint.path, config, weights),
    close: () => Promise.resolve(),
  };
}

/** The model of weights in evaluation mode; the caller disposes of it. */
export async function modelOfSource(device: Device, source: WeightSource, weights: Weights): Promise<BuiltModel> {
  const entries = await source.read(weights);
  const generator = new Generator(device);
  const model = kindNamed(source.config.kind).build(generator, source.config.model);
  generator.dispose();
  model.loadStateDict(entries);
  return model.eval();
}
