// An official checkpoint as the state of a trainer, so that a run of the Python code is continued here.

import { FormatError } from '../../core/errors.ts';
import { adamWState } from '../../kernels/index.ts';
import type { LazyTensors, SafetensorsEntry } from '../../nn/index.ts';
import type { OfficialCheckpoint } from '../dis/officialCheckpoint.ts';
import type { TrainerState } from './types.ts';

/** What an official checkpoint does not say. */
export interface OfficialStateOptions {
  /** Of timesteps, noise and dropout from here on: PyTorch's own are not to be had without PyTorch. Default 0. */
  readonly seed?: number;
  /** Where the data go on; default at the begin of a pass. */
  readonly cursor?: TrainerState['json']['cursor'];
}

/**
 * What of the state is no tensor.
 *
 * @throws FormatError where the checkpoint has no optimizer
 */
export function officialStateJson(
  { optimizer }: OfficialCheckpoint,
  { seed = 0, cursor = { epoch: 0, index: 0 } }: OfficialStateOptions = {},
): TrainerState['json'] {
  if (!optimizer)
    throw new FormatError(
      'officialState',
      'the checkpoint has no state of an optimizer, so that its run cannot go on',
      {
        remedy: 'begin a new run from its weights',
      },
    );
  const { step, betas, eps, weightDecay } = optimizer;
  // The trainer's own settings replace those in front of the counters.
  const words = adamWState({ lr: 0, betas, eps, weightDecay, maxNorm: 0 }, { step, lossScale: 1 });
  return { step, generator: { seed, position: 0 }, cursor, optimizer: [...words] };
}

/**
 * Everything that a `Trainer` of the same configuration goes on from; all of it is read into memory.
 *
 * @throws FormatError where the checkpoint has no optimizer, or a record of the file is damaged
 */
export async function officialTrainerState(
  checkpoint: OfficialCheckpoint,
  options?: OfficialStateOptions,
): Promise<TrainerState> {
  const json = officialStateJson(checkpoint, options);
  const { model, ema, optimizer } = checkpoint;
  return {
    model: await readAll(model),
    ema: await readAll(ema),
    optimizer: await readAll(optimizer!.moments),
    json,
  };
}

async function readAll(tensors: LazyTensors): Promise<Map<string, SafetensorsEntry>> {
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, tensor] of tensors) entries.set(name, await tensor.read());
  return entries;
}
