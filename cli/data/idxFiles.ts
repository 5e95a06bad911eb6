// Finds the IDX files of MNIST, Fashion-MNIST and the like in a folder, as they are given out, and reads them, gzipped
// or not.
import { createReadStream } from 'node:fs';
import { open, readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FormatError } from '../../core/errors.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { IDX_HEADER_BYTES, idxDataset, idxHeader, isPadded, parseIdx, type IdxArray } from '../../models/data/idx.ts';
import { FileError } from '../files.ts';
import { Patience, type PatienceOptions } from './patience.ts';
import { contentHash } from './pictureIndex.ts';
import type { DataSplit } from './split.ts';

export interface IdxFilesOptions extends PatienceOptions {
  /** Side of the square images. */
  size: number;
  /** Default train. */
  split?: DataSplit;
  /** Leave the labels alone, so that their file need not be there. Default false. */
  unlabelled?: boolean;
}

// As given out, t10k-images-idx3-ubyte.gz; some programs unpack to t10k-images.idx3-ubyte.
const PATTERNS: Record<DataSplit, Record<'images' | 'labels', RegExp>> = {
  train: { images: /^train-images[-.]idx3-ubyte(\.gz)?$/, labels: /^train-labels[-.]idx1-ubyte(\.gz)?$/ },
  test: { images: /^(t10k|test)-images[-.]idx3-ubyte(\.gz)?$/, labels: /^(t10k|test)-labels[-.]idx1-ubyte(\.gz)?$/ },
};
const USUAL: Record<DataSplit, string> = { train: 'train', test: 't10k' };

/** A line for each class, in label order. */
const CLASS_NAMES = 'classes.txt';
const LONGEST_NAMES = 65536;
/** More than any set of this format has, and less than would fill the memory of a usual machine. */
const MOST_BYTES = 4 * 2 ** 30;
/** Deflate packs no tighter. */
const TIGHTEST = 1032;

/** Whether a folder holds IDX pictures. */
export async function detectIdx(folder: string): Promise<boolean> {
  return (await readdir(folder)).some((name) => Object.values(PATTERNS).some(({ images }) => images.test(name)));
}

/**
 * IDX pictures and labels of a folder. Class names are the lines of `classes.txt` beside them, or numbers.
 * @throws FileError when a file of the split is missing or cannot be read; FormatError when one is damaged
 */
export async function openIdx(
  folder: string,
  { size, split = 'train', unlabelled = false, ...waiting }: IdxFilesOptions,
): Promise<Dataset & { /** Of the files' content. */ readonly hash: string; readonly fitted: string }> {
  const entries = (await readdir(folder)).sort();
  const patience = new Patience(waiting);
  const find = async (what: 'images' | 'labels'): Promise<IdxArray> => {
    const name = entries.find((entry) => PATTERNS[split][what].test(entry));
    if (name === undefined) {
      const wanted = `${USUAL[split]}-${what}-idx${what === 'images' ? 3 : 1}-ubyte`;
      throw new FileError('idx', `${folder} holds no ${what} of the ${split} split`, {
        path: folder,
        expected: `${wanted} or ${wanted}.gz`,
        remedy: 'put it there, or check the path',
      });
    }
    const path = join(folder, name);
    return patience.read(path, () => readIdx(path));
  };
  const images = await find('images');
  const labels = unlabelled ? undefined : await find('labels');
  const classNames =
    unlabelled || !entries.includes(CLASS_NAMES) ? undefined : await readNames(join(folder, CLASS_NAMES));
  const dataset = idxDataset({ images, labels, size, classNames });
  const [, height, width] = images.shape;
  const fitted = width === size && height === size ? '' : isPadded(width, height, size) ? ', padded' : ', resampled';
  return Object.assign(dataset, { hash: contentHash(images.data, ...(labels ? [labels.data] : [])), fitted });
}

async function readIdx(path: string): Promise<IdxArray> {
  const { size } = await stat(path);
  const start = await beginning(path);
  const packed = start[0] === 0x1f && start[1] === 0x8b;
  if (!packed) {
    checkSize(path, idxHeader(start, path).length, size);
    return parseIdx(new Uint8Array(await readFile(path)), path);
  }
  return inflate(path, size);
}

async function beginning(path: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const { bytesRead, buffer } = await file.read(new Uint8Array(IDX_HEADER_BYTES), 0, IDX_HEADER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Before memory is taken: whether a file of `bytes` may hold so many elements. */
function checkSize(path: string, length: number, most: number): void {
  if (length <= Math.min(most, MOST_BYTES)) return;
  throw new FormatError('idx', `${path} says that it holds ${length} bytes of elements`, {
    expected: length > MOST_BYTES ? `at most ${MOST_BYTES}` : 'as many as there can be in a file of its size',
    remedy: 'download it again: it is damaged',
  });
}

/** Unpacks a gzipped file into memory of the size that its header says. */
async function inflate(path: string, size: number): Promise<IdxArray> {
  let header = Buffer.alloc(0);
  let shape: readonly number[] | undefined;
  let data = new Uint8Array(0);
  let filled = 0;
  const bad = (what: string, cause?: unknown): FormatError =>
    new FormatError('idx', `${path} ${what}`, { remedy: 'download it again: it is damaged', cause });
  // What ends the stream from within; the stream itself may say no more than that it was ended.
  let refused: unknown;
  const take = (chunk: Uint8Array): void => {
    if (filled + chunk.length > data.length) throw bad('unpacks to more bytes than its header says');
    data.set(chunk, filled);
    filled += chunk.length;
  };
  const begin = (): void => {
    const found = idxHeader(header, path);
    checkSize(path, found.length, size * TIGHTEST);
    shape = found.shape;
    data = new Uint8Array(found.length);
    take(header.subarray(found.bytes));
  };
  try {
    await pipeline(createReadStream(path), createGunzip(), async (source: AsyncIterable<Buffer>) => {
      try {
        for await (const chunk of source) {
          if (shape) take(chunk);
          else {
            header = Buffer.concat([header, chunk]);
            if (header.length >= IDX_HEADER_BYTES) begin();
          }
        }
      } catch (error) {
        refused = error;
        throw error;
      }
    });
    if (!shape) begin(); // a file that is shorter than the longest header
  } catch (error) {
    if (refused instanceof FormatError) throw refused;
    // zlib's codes are not the system's: trying again would not help.
    const { code } = error as { code?: unknown };
    if (typeof code === 'string' && code.startsWith('Z_')) throw bad('cannot be unpacked', error);
    throw error;
  }
  if (filled < data.length) throw bad(`unpacks to ${data.length - filled} bytes less than its header says`);
  return { name: path, shape: shape!, data };
}

async function readNames(path: string): Promise<string[]> {
  if ((await stat(path)).size > LONGEST_NAMES)
    throw new FormatError('idx', `${path} is too long`, {
      expected: `at most ${LONGEST_NAMES} bytes`,
      remedy: 'give a line for each class, in the order of their labels',
    });
  const lines = (await readFile(path, 'utf8')).split(/\r?\n/).map((line) => line.trim());
  return lines.filter((line) => line !== '');
}
