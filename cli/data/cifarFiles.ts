// Finds the binary files of CIFAR-10 and CIFAR-100 in a folder, as their archives unpack, and reads them.
import { readFile, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { CifarKind, CifarOptions } from '../../models/data/cifar.ts';
import { cifarDataset } from '../../models/data/cifar.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { FileError } from '../files.ts';
import { contentHash } from './pictureIndex.ts';
import { requireFolder } from './listImages.ts';
import type { DataSplit } from './split.ts';

export interface CifarFilesOptions extends Pick<CifarOptions, 'labels' | 'size'> {
  /** Default train. */
  split?: DataSplit;
}

interface Layout {
  readonly folder: string;
  readonly train: RegExp;
  readonly test: RegExp;
  readonly names: { readonly fine: string; readonly coarse: string };
}

/** How the archives cifar-10-binary.tar.gz and cifar-100-binary.tar.gz unpack. */
const layouts: Record<CifarKind, Layout> = {
  cifar10: {
    folder: 'cifar-10-batches-bin',
    train: /^data_batch_\d+\.bin$/,
    test: /^test_batch\.bin$/,
    names: { fine: 'batches.meta.txt', coarse: 'batches.meta.txt' },
  },
  cifar100: {
    folder: 'cifar-100-binary',
    train: /^train\.bin$/,
    test: /^test\.bin$/,
    names: { fine: 'fine_label_names.txt', coarse: 'coarse_label_names.txt' },
  },
};

async function entriesOf(folder: string): Promise<string[]> {
  return (await readdir(folder)).sort();
}

/**
 * Whether the folder, or the archive's folder in it, holds binary files of CIFAR-10 or CIFAR-100; undefined when of
 * neither.
 */
export async function detectCifar(path: string): Promise<CifarKind | undefined> {
  for (const kind of ['cifar10', 'cifar100'] as const) {
    if ((await locate(path, kind)) !== undefined) return kind;
  }
  return undefined;
}

async function locate(path: string, kind: CifarKind): Promise<{ folder: string; entries: string[] } | undefined> {
  const { folder: inner, train, test } = layouts[kind];
  const entries = await entriesOf(path);
  const matches = (name: string): boolean => train.test(name) || test.test(name);
  if (entries.some(matches)) return { folder: path, entries };
  return entries.includes(inner) ? locate(join(path, inner), kind) : undefined;
}

/**
 * CIFAR-10 or CIFAR-100 from a folder with its binary files (`data_batch_1.bin` …, or `train.bin`), or from one that
 * holds the archive's folder. Class names are read from the text files beside them where there are any.
 * @throws FileError when the folder or the files of the split are missing; FormatError when a file is damaged
 */
export async function openCifar(
  path: string,
  kind: CifarKind,
  { split = 'train', labels = 'fine', size }: CifarFilesOptions = {},
): Promise<Dataset & { /** Of the files' content. */ readonly hash: string }> {
  await requireFolder('cifar', path);
  const layout = layouts[kind];
  const found = await locate(path, kind);
  const chosen = found?.entries.filter((name) => layout[split].test(name)) ?? [];
  if (!found || chosen.length === 0) {
    const wanted = {
      cifar10: { train: 'data_batch_1.bin …', test: 'test_batch.bin' },
      cifar100: { train: 'train.bin', test: 'test.bin' },
    }[kind][split];
    const python = !found && (await entriesOf(path)).some((name) => /^(data_batch_\d+|train)$/.test(name));
    const remedy = python
      ? 'these are the files of the Python version, get the binary version'
      : 'unpack the archive of the binary version there';
    throw new FileError('cifar', `${path} holds no ${split} files of ${kind}`, {
      path,
      expected: `${wanted}`,
      remedy: `${remedy}`,
    });
  }
  const files = await Promise.all(
    chosen.map(async (name) => ({
      name: join(found.folder, name),
      bytes: new Uint8Array(await readFile(join(found.folder, name))),
    })),
  );
  const namesFile = found.entries.find((name) => name === basename(layout.names[labels]));
  const classNames = namesFile === undefined ? undefined : await readNames(join(found.folder, namesFile));
  const hash = contentHash(...files.map(({ bytes }) => bytes));
  return Object.assign(cifarDataset(files, { kind, labels, size, classNames }), { hash });
}

async function readNames(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8'))
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
