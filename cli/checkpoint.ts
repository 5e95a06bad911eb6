// A trainer's state as the files of a checkpoint folder:
//
//   config.json            the run's, so that the folder stands by itself
//   model.safetensors      parameters, under the official names
//   ema.safetensors        their moving averages, likewise
//   optimizer.safetensors  first and second moments: m.NAME, v.NAME; with --sync-every the outer momentum: outer.NAME
//   state.json             step, random position, data cursor, optimizer scalars

import { join } from 'node:path';
import { FormatError } from '../core/errors.ts';
import { Generator, type Device } from '../core/index.ts';
import type { TrainerState } from '../models/train/types.ts';
import type { SafetensorsEntry } from '../nn/index.ts';
import type { FileData } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { checked, readJson } from './jsonFile.ts';
import { kindNamed, type BuiltModel } from './modelKinds/index.ts';
import type { RunConfig } from './runConfig.ts';
import { parseRunConfig } from './runConfig.ts';
import type { CheckpointEntry } from './runFolder.ts';
import { checkSafetensorsFile, hostEntry, readSafetensorsFile, safetensorsPieces } from './safetensorsFile.ts';
import { stateSchema } from './schemas.ts';

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
 * Checks what a trainer would go on from, but for the weights themselves, of which only names and shapes are read.
 * @returns the state without them
 * @throws FileError, FormatError naming the file that is missing, damaged or another model's
 */
export async function checkCheckpoint(
  { path: folder, step }: CheckpointEntry,
  config: RunConfig,
): Promise<TrainerState['json']> {
  const statePath = join(folder, 'state.json');
  const json = checked(stateSchema, await readJson(statePath), statePath);
  const bad = (field: string, what: string | number, expected: string | number): FormatError =>
    new FormatError('readCheckpoint', `${statePath}: ${field} is ${what}`, {
      expected: `${expected}`,
      remedy: 'it is damaged, use another checkpoint',
    });
  if (json.step !== step) throw bad('step', json.step, `${step}, as the folder is called`);
  const { timestepSampler: wanted, diffusionSteps } = config.settings;
  const { timestepSampler: sampler } = json;
  if ((sampler?.kind ?? 'uniform') !== wanted)
    throw bad('timestepSampler.kind', sampler?.kind ?? 'missing', `${wanted}, as in config.json`);
  if (sampler && sampler.numTimesteps !== diffusionSteps)
    throw bad('timestepSampler.numTimesteps', sampler.numTimesteps, diffusionSteps);
  if (sampler?.kind === 'loss-second-moment' && sampler.history.length !== diffusionSteps)
    throw bad('timestepSampler.history', `a list of ${sampler.history.length}`, `${diffusionSteps} values`);

  const { syncEvery } = config.settings;
  if (syncEvery !== undefined && step % syncEvery !== 0)
    throw bad('step', step, `a multiple of ${syncEvery} local steps`);
  const moments = ['m', 'v', ...(syncEvery === undefined ? [] : ['outer'])].flatMap((key) =>
    shapesOf(config).map(([name, shape]) => [`${key}.${name}`, shape] as const),
  );
  await checkWeights(folder, config, 'model');
  await checkWeights(folder, config, 'ema');
  await checkSafetensorsFile(join(folder, 'optimizer.safetensors'), moments);
  return json;
}

/**
 * Reads everything a trainer goes on from.
 * @throws FileError, FormatError naming the file that is missing, damaged, another model's, or not finite
 */
export async function readCheckpoint(checkpoint: CheckpointEntry, config: RunConfig): Promise<TrainerState> {
  const json = await checkCheckpoint(checkpoint, config);
  const read = (part: (typeof PARTS)[number]): ReturnType<typeof readFinite> =>
    readFinite(join(checkpoint.path, `${part}.safetensors`));
  const model = await read('model'),
    ema = await read('ema'),
    optimizer = await read('optimizer');
  return { model, ema, optimizer, json };
}

/**
 * Compares the names and shapes of a checkpoint's weights with those of its model; no weights are read.
 * @throws FileError, FormatError naming the file that is missing, damaged or another model's
 */
export function checkWeights(folder: string, config: RunConfig, weights: Weights): Promise<void> {
  return checkSafetensorsFile(join(folder, `${weights}.safetensors`), shapesOf(config));
}

function shapesOf({ kind, model }: RunConfig): readonly (readonly [name: string, shape: readonly number[]])[] {
  return kindNamed(kind).shapes(model);
}

async function readFinite(path: string): Promise<Map<string, SafetensorsEntry>> {
  const entries = await readSafetensorsFile(path);
  const ruined = firstNotFinite(entries);
  if (ruined !== undefined)
    throw new FormatError('readCheckpoint', `${path} holds numbers that are not finite, in ${ruined}`, {
      remedy: 'the run had diverged; use an earlier checkpoint',
    });
  return entries;
}

/**
 * Reads the weights of a checkpoint.
 * @throws FileError, FormatError naming the file that is missing, damaged, another model's, or not finite
 */
export async function readWeights(
  folder: string,
  config: RunConfig,
  weights: Weights,
): Promise<Map<string, SafetensorsEntry>> {
  await checkWeights(folder, config, weights);
  return readFinite(join(folder, `${weights}.safetensors`));
}

/**
 * The model of a checkpoint in evaluation mode; the caller disposes of it.
 * @throws FileError, FormatError naming the file that is missing, damaged, another model's, or not finite
 */
export async function loadModel(
  device: Device,
  folder: string,
  config: RunConfig,
  weights: Weights,
): Promise<BuiltModel> {
  const entries = await readWeights(folder, config, weights);
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
