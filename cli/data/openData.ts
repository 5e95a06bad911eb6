// From what a person types after --data to a data set.
import { createHash } from 'node:crypto';
import type { CifarKind } from '../../models/data/cifar.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { shapesDataset } from '../../models/data/shapes.ts';
import { counted } from '../format.ts';
import type { CifarFilesOptions } from './cifarFiles.ts';
import { detectCifar, openCifar } from './cifarFiles.ts';
import type { ImageFolderOptions, SkippedFile } from './imageFolder.ts';
import { openImageFolder } from './imageFolder.ts';
import { requireFolder } from './listImages.ts';
import type { PictureIndex } from './pictureIndex.ts';

export interface OpenDataOptions extends Omit<ImageFolderOptions, 'labels'>, Pick<CifarFilesOptions, 'split'> {
  /** Treat the images as one unlabelled set. Default false. */
  unlabelled?: boolean;
  /** Which of CIFAR-100's two sets of classes. Default fine. */
  cifarLabels?: 'fine' | 'coarse';
  /** Which shapes are drawn; another seed is another set, for instance for validation. Default 0. */
  shapesSeed?: number;
  /** Shapes in an epoch. Default 50,000. */
  shapesLength?: number;
}

export interface OpenedData {
  readonly kind: 'shapes' | 'folder' | CifarKind;
  readonly dataset: Dataset;
  /** One line for people. */
  readonly description: string;
  /**
   * Equal for equal data: the same items under the same indices, wherever they lie. A run stores it to notice other
   * data on resuming.
   */
  readonly fingerprint: string;
  /** Of a folder of pictures: what each of them holds. */
  readonly index?: PictureIndex;
  /** Files that could not be read so far; grows while training decodes them. */
  skipped(): readonly SkippedFile[];
}

const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);

function withoutLabels(dataset: Dataset): Dataset {
  const { length, size, channels } = dataset;
  const item: Dataset['item'] = async (index) => ({ pixels: (await dataset.item(index)).pixels, label: 0 });
  return { length, size, channels, numClasses: 0, classNames: [], item };
}

/**
 * Opens the data that `spec` names: `shapes` (drawn, no files), `cifar10:FOLDER`, `cifar100:FOLDER`, `folder:FOLDER`,
 * or a plain path, which is CIFAR where its binary files are found and a folder of images otherwise. A folder that is
 * really called shapes is `./shapes`.
 * @throws FileError, FormatError, ValueError with one sentence on what is wrong
 */
export async function openData(spec: string, options: OpenDataOptions): Promise<OpenedData> {
  const { size, unlabelled = false, split, cifarLabels, shapesSeed = 0, shapesLength } = options;
  if (spec === 'shapes') {
    const dataset = shapesDataset({ size, seed: shapesSeed, length: shapesLength });
    return {
      kind: 'shapes',
      dataset: unlabelled ? withoutLabels(dataset) : dataset,
      description: `shapes: ${counted(dataset.length, 'drawn image')} in ${dataset.numClasses} classes, ${size}x${size}`,
      fingerprint: digest(['shapes', size, shapesSeed, dataset.length, unlabelled]),
      skipped: () => [],
    };
  }
  const [, prefix, rest] = /^(cifar10|cifar100|folder):(.*)$/s.exec(spec) ?? [];
  const path = rest ?? spec;
  await requireFolder('openData', path);
  const kind = (prefix ?? (await detectCifar(path)) ?? 'folder') as CifarKind | 'folder';
  if (kind === 'folder') {
    const folder = await openImageFolder(path, { ...options, labels: unlabelled ? 'none' : 'auto' });
    const classes =
      folder.numClasses > 0 ? ` in ${folder.numClasses === 1 ? '1 class' : `${folder.numClasses} classes`}` : '';
    const ignored = folder.ignored > 0 ? `; ${counted(folder.ignored, 'other file')} ignored` : '';
    const skipped = folder.skipped.length > 0 ? `; ${counted(folder.skipped.length, 'unreadable file')} skipped` : '';
    const beside =
      folder.beside.length > 0 ? `; ${counted(folder.beside.length, 'image')} beside the class folders left out` : '';
    return {
      kind,
      dataset: folder,
      description: `${path}: ${counted(folder.length, 'image')}${classes}, cropped to ${size}x${size}${skipped}${beside}${ignored}`,
      fingerprint: digest([
        'folder',
        size,
        unlabelled,
        options.background,
        folder.files.map(({ name, hash }) => [name, hash]),
      ]),
      index: folder.index,
      skipped: () => folder.skipped,
    };
  }
  const dataset = await openCifar(path, kind, { split, labels: cifarLabels, size });
  return {
    kind,
    dataset: unlabelled ? withoutLabels(dataset) : dataset,
    description:
      `${path}: ${kind} ${split ?? 'train'}, ${counted(dataset.length, 'image')} in ` +
      `${dataset.numClasses} classes, ${size}x${size}`,
    fingerprint: digest([kind, size, split ?? 'train', cifarLabels ?? 'fine', unlabelled, dataset.hash]),
    skipped: () => [],
  };
}
