// A trainer's state as the files of a checkpoint folder:
//
//   config.json            the run's, so that the folder stands by itself
//   model.safetensors      parameters, under the official names
//   ema.safetensors        their moving averages, likewise
//   optimizer.safetensors  first and second moments: m.NAME, v.NAME
//   state.json             step, random position, data cursor, optimizer scalars

import { join } from 'node:path';
import { FormatError } from '../core/errors.ts';
import { Generator, type Device } from '../core/index.ts';
import type { TrainerState } from '../models/train/trainer.ts';
import type { FileData } from './files.ts';
import { kindNamed, type BuiltModel } from './modelKinds/index.ts';
import type { RunConfig } from './runConfig.ts';
import { parseRunConfig } from './runConfig.ts';
import { readJson } from './runFolder.ts';
import { hostEntry, readSafetensorsFile, safetensorsPieces } from './safetensorsFile.ts';

/** Which weights of a checkpoint. */
export type Weights = 'ema' | 'model';

const PARTS = ['model', 'ema', 'optimizer'] as const;

/** Names and contents of the files, state.json last. */
export function checkpointFiles(config: RunConfig, state: TrainerState): [name: string, data: FileData][] {
  const { json } = state;
  return [
    ['config.json', `${JSON.stringify(config, null, 2)}\n`],
    ...PARTS.map((part): [string, FileData] => [
      `${part}.safetensors`,
      safetensorsPieces(new Map(Array.from(state[part], ([name, value]) => [name, hostEntry(value)])), {
        format: 'pt',
        step: String(json.step),
      }),
    ]),
    ['state.json', `${JSON.stringify(json)}\n`],
  ];
}

/**
 * Reads everything a trainer goes on from.
 * @throws FileError, FormatError naming the file that is missing or damaged
 */
export async function readCheckpoint(folder: string): Promise<TrainerState> {
  const json = (await readJson(join(folder, 'state.json'))) as unknown as TrainerState['json'];
  if (!Number.isSafeInteger(json.step) || typeof json.cursor !== 'object') {
    throw new FormatError('readCheckpoint', `${join(folder, 'state.json')} has no step or data cursor`, {
      remedy: 'it is damaged, use another checkpoint',
    });
  }
  const read = (part: (typeof PARTS)[number]): ReturnType<typeof readSafetensorsFile> =>
    readSafetensorsFile(join(folder, `${part}.safetensors`));
  const model = await read('model'),
    ema = await read('ema'),
    optimizer = await read('optimizer');
  return { model, ema, optimizer, json };
}

/**
 * The model of a checkpoint in evaluation mode; the caller disposes of it.
 * @throws FileError, FormatError naming the file that is missing or damaged; ShapeError where it is another model's
 */
export async function loadModel(
  device: Device,
  folder: string,
  config: RunConfig,
  weights: Weights,
): Promise<BuiltModel> {
  const entries = await readSafetensorsFile(join(folder, `${weights}.safetensors`));
  const generator = new Generator(device);
  const model = kindNamed(config.kind).build(generator, config.model);
  generator.dispose();
  model.loadStateDict(entries);
  return model.eval();
}

/** The configuration that a checkpoint or a run was made with. */
export async function readRunConfig(folder: string): Promise<RunConfig> {
  const path = join(folder, 'config.json');
  return parseRunConfig(await readJson(path), path);
}
