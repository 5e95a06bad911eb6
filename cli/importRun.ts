// An official checkpoint as the folder of a run, from which `train --resume` goes on. Tensors are copied one by one: a
// file larger than memory is no problem.

import { UsageError } from './errors.ts';
import type { FileData } from './files.ts';
import type { LazyTensors } from '../nn/index.ts';
import { hash32 } from '../models/data/hash.ts';
import { officialStateJson } from '../models/train/index.ts';
import { Progress, type ProgressStyle } from './progress.ts';
import type { RunConfig } from './runConfig.ts';
import { createRun, type RunFolder } from './runFolder.ts';
import { lazyPieces } from './safetensorsFile.ts';
import { TRAIN_KEY } from './training.ts';
import type { WeightFile } from './weightFile.ts';

export interface ImportOptions {
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/** Refuses a file that is no run. @throws UsageError that says what it is good for */
export function requireRun(file: WeightFile): void {
  if (file.optimizer) return;
  throw new UsageError(
    `${file.path} holds weights without an optimizer's state, so that no run can go on from it; begin a new one with ` +
      `--init-from ${file.path}.`,
  );
}

/**
 * Makes the folder of a run and writes the checkpoint into it. The folder is locked; its caller closes it.
 * @throws FileError where the folder holds something, or cannot be written; FormatError for a damaged record; then
 *   nothing is left of it
 */
export async function importRun(
  file: WeightFile,
  config: RunConfig,
  out: string,
  { style, signal }: ImportOptions,
): Promise<RunFolder> {
  requireRun(file);
  const json = officialStateJson(file, { seed: hash32(config.settings.seed, TRAIN_KEY) });
  const folder = await createRun(out);
  const { model, ema, optimizer } = file;
  const progress = new Progress({
    noun: 'tensor',
    total: model.size + ema.size + optimizer!.moments.size,
    style,
  });
  try {
    await folder.writeConfig(config);
    let count = 0;
    const onTensor = (): void => {
      signal.throwIfAborted();
      progress.update({ step: ++count });
    };
    const copy = (part: string, tensors: LazyTensors): [string, FileData] => [
      `${part}.safetensors`,
      lazyPieces(watched(tensors, onTensor), { format: 'pt', step: String(json.step) }),
    ];
    await folder.writeCheckpoint(json.step, [
      ['config.json', `${JSON.stringify(config, null, 2)}\n`],
      copy('model', model),
      copy('ema', ema),
      copy('optimizer', optimizer!.moments),
      ['state.json', `${JSON.stringify(json)}\n`],
    ]);
    return folder;
  } catch (error) {
    await folder.leave();
    throw error;
  } finally {
    progress.end();
  }
}

/** The same tensors; `onTensor` is called before each is read. */
function watched(tensors: LazyTensors, onTensor: () => void): LazyTensors {
  return new Map(
    [...tensors].map(([name, { shape, read }]) => [
      name,
      {
        shape,
        read: () => {
          onTensor();
          return read();
        },
      },
    ]),
  );
}
