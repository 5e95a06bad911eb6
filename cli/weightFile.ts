// A file of weights: a .pt file of PyTorch, as the official train.py writes it or a state dict by itself, or safetensors
// with the official names. Only its structure is read when it is opened; tensors are when they are asked for.

import { open, type FileHandle } from 'node:fs/promises';
import { FormatError, errorClause } from '../core/errors.ts';
import {
  openPt,
  readSafetensorsHeader,
  safetensorsEntry,
  safetensorsHeaderBytes,
  toFloat32,
  type ByteSource,
  type LazyTensors,
  type SafetensorsHeader,
} from '../nn/index.ts';
import { fileError } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { disConfigFromShapes, officialCheckpoint, type OfficialCheckpoint } from './modelKinds/disOfficial.ts';
import { readAt } from './safetensorsFile.ts';

export interface WeightFile extends OfficialCheckpoint {
  readonly path: string;
  readonly format: 'pt' | 'safetensors';
  close(): Promise<void>;
}

/**
 * Opens a file of weights; the caller closes it.
 * @throws FileError when it cannot be read; FormatError naming the file and what is wrong in it, what in it is not
 *   allowed, or what it looks like where it holds no DiS
 */
export async function openWeightFile(path: string): Promise<WeightFile> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fileError('openWeights', 'read', path, error);
  }
  try {
    const source = fileSource(file, (await file.stat()).size);
    const head = await source.read(0, Math.min(9, source.size));
    const isSafetensors = /\.safetensors$/i.test(path) || (head.length === 9 && head[8] === 0x7b);
    const checkpoint = isSafetensors ? await openSafetensors(source) : await officialCheckpoint(await openPt(source));
    return {
      ...checkpoint,
      model: finite(checkpoint.model, path),
      ema: finite(checkpoint.ema, path),
      ...(checkpoint.optimizer && {
        optimizer: { ...checkpoint.optimizer, moments: finite(checkpoint.optimizer.moments, path) },
      }),
      path,
      format: isSafetensors ? 'safetensors' : 'pt',
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw named(error, path);
  }
}

/** An error with the name of the file before it. */
function named(error: unknown, path: string): unknown {
  if (!(error instanceof FormatError)) return fileError('openWeights', 'read', path, error);
  return new FormatError('openWeights', `${path}: ${errorClause(error)}`, {
    expected: error.expected,
    remedy: error.remedy,
    cause: error,
  });
}

function fileSource(file: FileHandle, size: number): ByteSource {
  return { size, read: (begin, end) => readAt(file, begin, end - begin) };
}

async function openSafetensors(source: ByteSource): Promise<OfficialCheckpoint> {
  const first = await source.read(0, Math.min(8, source.size));
  const headerBytes = await source.read(0, Math.min(safetensorsHeaderBytes(first), source.size));
  const header = readSafetensorsHeader(headerBytes, source.size);
  for (const [name, { dtype }] of header.unreadable)
    throw new FormatError('openWeights', `${JSON.stringify(name)} has dtype ${dtype}, which is not read`);
  const tensors = lazily(header, source);
  const config = disConfigFromShapes(new Map([...header.tensors].map(([name, { shape }]) => [name, shape])));
  return { config, model: tensors, ema: tensors, args: {} };
}

function lazily(header: SafetensorsHeader, source: ByteSource): LazyTensors {
  return new Map(
    [...header.tensors].map(([name, info]) => [
      name,
      {
        shape: info.shape,
        read: async () => {
          const bytes = await source.read(header.dataStart + info.begin, header.dataStart + info.end);
          return { dtype: 'F32', shape: info.shape, data: toFloat32(safetensorsEntry(info, bytes)) };
        },
      },
    ]),
  );
}

/** Refuses numbers that are not finite when they are read, and says which file is damaged. */
function finite(tensors: LazyTensors, path: string): LazyTensors {
  return new Map(
    [...tensors].map(([name, { shape, read }]) => [
      name,
      {
        shape,
        read: async () => {
          const entry = await read().catch((error: unknown) => {
            throw named(error, path);
          });
          if (firstNotFinite([[name, entry]]) === undefined) return entry;
          throw new FormatError('openWeights', `${path} holds numbers that are not finite, in ${name}`, {
            remedy: 'its run had diverged; use an earlier checkpoint',
          });
        },
      },
    ]),
  );
}
