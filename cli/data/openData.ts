// From what a person types after --data to a data set.
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { ValueError } from '../../core/errors.ts';
import { withChannels, type Channels } from '../../models/data/channels.ts';
import type { CifarKind } from '../../models/data/cifar.ts';
import type { Dataset } from '../../models/data/dataset.ts';
import { shapesDataset } from '../../models/data/shapes.ts';
import { counted } from '../format.ts';
import { detectCifar, openCifar } from './cifarFiles.ts';
import { folderSource } from './folderSource.ts';
import { detectIdx, openIdx } from './idxFiles.ts';
import { openPictures, type ImageFolderOptions } from './imageFolder.ts';
import { openLatents } from './latentFolder.ts';
import { requireFolder } from './listImages.ts';
import type { PictureIndex } from './pictureIndex.ts';
import type { SkippedFile } from './pictureSource.ts';
import type { DataSplit } from './split.ts';
import { beginsAsZip, zipSource } from './zipPictures.ts';

export interface OpenDataOptions extends Omit<ImageFolderOptions, 'labels'> {
  /** Which part, of data that are given out in two. Default train. */
  split?: DataSplit;
  /** Treat the images as one unlabelled set. Default false. */
  unlabelled?: boolean;
  /** Which of CIFAR-100's two sets of classes. Default fine. */
  cifarLabels?: 'fine' | 'coarse';
  /** Channels of the images; default what the data have. */
  channels?: Channels;
  /** Which shapes are drawn; another seed is another set. Default 0, of the split test 1. */
  shapesSeed?: number;
  /** Shapes in an epoch. Default 50,000, of the split test 10,000. */
  shapesLength?: number;
}

export interface OpenedData {
  readonly kind: 'shapes' | 'latents' | 'folder' | 'zip' | 'idx' | CifarKind;
  readonly dataset: Dataset;
  /** Of pictures that are encoded while a run trains: what they become. */
  readonly latents?: { readonly size: number; readonly channels: number };
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

/** What a model is trained on: the data, or their latents. */
export function trainedOn({ dataset, latents }: OpenedData): Omit<Dataset, 'item'> {
  const { length, size, channels, numClasses, classNames } = dataset;
  return { length, size, channels, numClasses, classNames, ...latents };
}

const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);

function withoutLabels(dataset: Dataset): Dataset {
  const { length, size, channels } = dataset;
  const item: Dataset['item'] = async (index) => ({ ...(await dataset.item(index)), label: 0 });
  return { length, size, channels, numClasses: 0, classNames: [], item };
}

/**
 * Opens the data that `spec` names: `shapes` (drawn, no files), `cifar10:FOLDER`, `cifar100:FOLDER`, `idx:FOLDER`,
 * `folder:FOLDER`, `zip:FILE`, `latents:FOLDER` (which dis-cli encode wrote), or a plain path: a file is a ZIP archive of images, a folder is CIFAR or IDX where their
 * files are found and a folder of images otherwise. A folder that is really called shapes is `./shapes`.
 * @throws FileError, FormatError, ValueError with one sentence on what is wrong
 */
export async function openData(spec: string, options: OpenDataOptions): Promise<OpenedData> {
  if (spec === 'shapes') return openShapes(options);
  const [, prefix, rest] = /^(cifar10|cifar100|idx|folder|zip|latents):(.*)$/s.exec(spec) ?? [];
  const path = rest ?? spec;
  if (prefix === 'latents') return openLatentFolder(path, options);
  const kind = (prefix ?? (await detect(path))) as PictureKind;
  if (kind === 'folder' || kind === 'zip') return openImages(path, kind, options);
  return kind === 'idx' ? openIdxFiles(path, options) : openCifarFiles(path, kind, options);
}

type PictureKind = Exclude<OpenedData['kind'], 'shapes' | 'latents'>;

async function detect(path: string): Promise<PictureKind> {
  if (await isZip(path)) return 'zip';
  await requireFolder('openData', path);
  return (await detectCifar(path)) ?? ((await detectIdx(path)) ? 'idx' : 'folder');
}

/** Whether a file is a ZIP archive, by how it begins; folders and what cannot be read are none. */
async function isZip(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  try {
    const read = await file?.read(new Uint8Array(4), 0, 4, 0).catch(() => undefined);
    return read !== undefined && beginsAsZip(read.buffer.subarray(0, read.bytesRead));
  } finally {
    await file?.close();
  }
}

/** What is done to every data set that is no set of picture files. */
function finish(
  dataset: Dataset,
  { unlabelled = false, channels }: OpenDataOptions,
  described: Omit<OpenedData, 'dataset' | 'fingerprint' | 'skipped'>,
  identity: readonly unknown[],
): OpenedData {
  const labelled = unlabelled ? withoutLabels(dataset) : dataset;
  const given = channels ?? dataset.channels;
  const other = given === dataset.channels ? '' : `, ${CHANNEL_WORDS[given as Channels]}`;
  return {
    ...described,
    description: described.description + other,
    dataset: channels === undefined ? labelled : withChannels(labelled, channels),
    // The channels are what the data have, unless they are said: so the same data keep their mark.
    fingerprint: digest(given === dataset.channels ? identity : [...identity, `channels ${given}`]),
    skipped: () => [],
  };
}

const CHANNEL_WORDS: Record<Channels, string> = { 1: 'as grey', 3: 'as RGB', 4: 'as RGBA' };

async function openLatentFolder(path: string, { size, unlabelled = false }: OpenDataOptions): Promise<OpenedData> {
  const { dataset, index } = await openLatents(path);
  if (index.size !== size)
    throw new ValueError('openData', `is ${size}`, {
      option: 'size',
      expected: `${index.size}, the side of the latents in ${path}`,
    });
  const classes = index.numClasses > 0 ? ` in ${counted(index.numClasses, 'class', 'classes')}` : '';
  return {
    kind: 'latents',
    dataset: unlabelled ? withoutLabels(dataset) : dataset,
    description: `${path}: ${counted(index.count, 'latent')}${classes}, ${index.channels}x${size}x${size}`,
    fingerprint: digest(['latents', unlabelled, index]),
    skipped: () => [],
  };
}

function openShapes(options: OpenDataOptions): OpenedData {
  const { size, unlabelled = false, split = 'train' } = options;
  const { shapesSeed = split === 'test' ? 1 : 0, shapesLength = split === 'test' ? 10_000 : undefined } = options;
  const dataset = shapesDataset({ size, seed: shapesSeed, length: shapesLength });
  const { length, numClasses } = dataset;
  const description = `shapes: ${counted(length, 'drawn image')} in ${numClasses} classes, ${size}x${size}`;
  return finish(dataset, options, { kind: 'shapes', description }, ['shapes', size, shapesSeed, length, unlabelled]);
}

async function openCifarFiles(path: string, kind: CifarKind, options: OpenDataOptions): Promise<OpenedData> {
  const { size, unlabelled = false, split = 'train', cifarLabels = 'fine' } = options;
  const dataset = await openCifar(path, kind, { split, labels: cifarLabels, size });
  const description =
    `${path}: ${kind} ${split}, ${counted(dataset.length, 'image')} in ` +
    `${dataset.numClasses} classes, ${size}x${size}`;
  return finish(dataset, options, { kind, description }, [kind, size, split, cifarLabels, unlabelled, dataset.hash]);
}

async function openIdxFiles(path: string, options: OpenDataOptions): Promise<OpenedData> {
  const { size, unlabelled = false, split = 'train' } = options;
  const dataset = await openIdx(path, options);
  const classes = dataset.numClasses > 0 ? ` in ${counted(dataset.numClasses, 'class', 'classes')}` : '';
  const description =
    `${path}: IDX ${split}, ${counted(dataset.length, 'grey image')}${classes}` +
    `${dataset.fitted === '' ? ',' : `${dataset.fitted} to`} ${size}x${size}`;
  const identity = ['idx', size, split, unlabelled, dataset.classNames, dataset.hash];
  return finish(dataset, options, { kind: 'idx', description }, identity);
}

async function openImages(path: string, kind: 'folder' | 'zip', options: OpenDataOptions): Promise<OpenedData> {
  const { size, unlabelled = false, background, split } = options;
  if (split === 'test')
    throw new ValueError(
      'openData',
      `is test, but ${path} is ${kind === 'zip' ? 'an archive' : 'a folder'} of images`,
      {
        option: 'split',
        expected: 'CIFAR or IDX files, or shapes',
        remedy: `give the ${kind === 'zip' ? 'archive' : 'folder'} of the test images`,
      },
    );
  if (background !== undefined && options.channels === 4)
    throw new ValueError('openData', `is 4, and a background takes the transparency away`, {
      option: 'channels',
      remedy: 'leave one of the two out',
    });
  const folder = await openPictures(kind === 'zip' ? zipSource(path) : folderSource(path), {
    ...options,
    labels: unlabelled ? 'none' : 'auto',
  });
  const { channels } = folder;
  const classes =
    folder.numClasses > 0 ? ` in ${folder.numClasses === 1 ? '1 class' : `${folder.numClasses} classes`}` : '';
  const ignored = folder.ignored > 0 ? `; ${counted(folder.ignored, 'other file')} ignored` : '';
  const skipped = folder.skipped.length > 0 ? `; ${counted(folder.skipped.length, 'unreadable file')} skipped` : '';
  const beside =
    folder.beside.length > 0
      ? `; ${counted(folder.beside.length, 'image')} ${folder.labelled ? 'without a class' : 'beside the class folders'} left out`
      : '';
  const as = channels === 3 ? '' : `, ${CHANNEL_WORDS[channels]}`;
  const what = `${counted(folder.length, 'image')}${classes}, cropped to ${size}x${size}${as}`;
  return {
    kind,
    dataset: folder,
    description: `${path}: ${what}${skipped}${beside}${ignored}`,
    fingerprint: digest([
      'folder',
      size,
      unlabelled,
      background,
      folder.files.map(({ name, hash }) => [name, hash]),
      ...(channels === 3 ? [] : [`channels ${channels}`]),
      ...(folder.labelled ? [['labels', folder.numClasses, ...folder.labels]] : []),
    ]),
    index: folder.index,
    skipped: () => folder.skipped,
  };
}
