// A trainer's state as the files of a checkpoint folder:
//
//   config.json            the run's, so that the folder stands by itself
//   model.safetensors      parameters, under the official names
//   ema.safetensors        their moving averages, likewise
//   optimizer.safetensors  first and second moments: m.NAME, v.NAME
//   state.json             step, random position, data cursor, optimizer scalars

import { join } from 'node:path';
import { EngineError, FormatError } from '../core/errors.ts';
import { Generator, type Device } from '../core/index.ts';
import { Dis } from '../models/dis/dis.ts';
import type { TrainerState } from '../models/train/trainer.ts';
import type { HostTensor, SafetensorsEntry } from '../nn/index.ts';
import type { FileData } from './files.ts';
import type { RunConfig } from './runConfig.ts';
import { parseRunConfig } from './runConfig.ts';
import { readJson } from './runFolder.ts';
import { hostEntry, readSafetensorsFile, safetensorsPieces } from './safetensorsFile.ts';

/** Which weights of a checkpoint. */
export type Weights = 'ema' | 'model';

const PARTS = ['model', 'ema', 'optimizer'] as const;

/** Names and contents of the files, state.json last. */
export function checkpointFiles(config: RunConfig, { tensors, json }: TrainerState): [name: string, data: FileData][] {
  const parts = new Map<string, Map<string, SafetensorsEntry>>(PARTS.map((part) => [part, new Map()]));
  for (const [name, value] of tensors) {
    const dot = name.indexOf('.');
    const part = parts.get(name.slice(0, dot));
    if (!part)
      throw new EngineError('checkpointFiles', `${name} belongs to none of ${PARTS.join(', ')}`, {
        remedy: 'this is a defect of dis-cli',
      });
    part.set(name.slice(dot + 1), hostEntry(value));
  }
  return [
    ['config.json', `${JSON.stringify(config, null, 2)}\n`],
    ...Array.from(parts, ([part, entries]): [string, FileData] => [
      `${part}.safetensors`,
      safetensorsPieces(entries, { format: 'pt', step: String(json.step) }),
    ]),
    ['state.json', `${JSON.stringify(json)}\n`],
  ];
}

/**
 * Reads everything a trainer goes on from.
 * @throws {FileError | FormatError} naming the file that is missing or damaged
 */
export async function readCheckpoint(folder: string): Promise<TrainerState> {
  const json = (await readJson(join(folder, 'state.json'))) as unknown as TrainerState['json'];
  if (!Number.isSafeInteger(json.step) || typeof json.cursor !== 'object') {
    throw new FormatError('readCheckpoint', `${join(folder, 'state.json')} has no step or data cursor`, {
      remedy: 'it is damaged, use another checkpoint',
    });
  }
  const tensors = new Map<string, HostTensor | SafetensorsEntry>();
  for (const part of PARTS) {
    for (const [name, entry] of await readSafetensorsFile(join(folder, `${part}.safetensors`)))
      tensors.set(`${part}.${name}`, entry);
  }
  return { tensors, json };
}

/**
 * The model of a checkpoint in evaluation mode; the caller disposes of it.
 * @throws {FileError | FormatError} naming the file that is missing or damaged; ShapeError where it is another model's
 */
export async function loadModel(device: Device, folder: string, config: RunConfig, weights: Weights): Promise<Dis> {
  const entries = await readSafetensorsFile(join(folder, `${weights}.safetensors`));
  const generator = new Generator(device);
  const model = new Dis(generator, config.model);
  generator.dispose();
  model.loadStateDict(entries);
  return model.eval() as Dis;
}

/** The configuration that a checkpoint or a run was made with. */
export async function readRunConfig(folder: string): Promise<RunConfig> {
  const path = join(folder, 'config.json');
  return parseRunConfig(await readJson(path), path);
}
