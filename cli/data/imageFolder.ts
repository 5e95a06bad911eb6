// A folder of pictures, or a ZIP archive of them, as a data set: every image in it, cropped square as the official
// script does, with the first-level folders as classes, or those of a dataset.json. Real folders hold damaged files and
// files that are no images: those are counted, named once, and stepped over. A file that cannot be read is another
// matter: it is tried again, and then ends the reading, since without it the data are others.
import { FormatError } from '../../core/errors.ts';
import { centerCropArr } from '../../models/data/centerCrop.ts';
import type { Channels } from '../../models/data/channels.ts';
import type { Dataset, DatasetItem } from '../../models/data/dataset.ts';
import type { Pixels } from '../../models/data/image.ts';
import { FileError } from '../files.ts';
import { counted, grouped, naming } from '../format.ts';
import { checkBackground, decodeDeep } from './decodeImage.ts';
import type { DecodeOptions } from './decodeImage.ts';
import { limiter } from './limit.ts';
import { byCodeUnit } from './listImages.ts';
import { Patience, type PatienceOptions } from './patience.ts';
import { examine, readUnchanged, reasonOf, type Examined, type PictureIndex } from './pictureIndex.ts';
import { folderSource } from './folderSource.ts';
import type { ListedImage, Listing, PictureSource, SkippedFile } from './pictureSource.ts';

export interface ImageFolderOptions extends DecodeOptions, PatienceOptions {
  /** Side of the square that is cropped from each image. */
  size: number;
  /**
   * `folders`: the first-level folders are classes; `none`: one unlabelled set; `auto`: what a dataset.json says, where
   * there is one, else folders, unless as many images lie outside of them as inside. Default auto.
   */
  labels?: 'auto' | 'folders' | 'none';
  /** Fewest readable images that will do. Default 1. */
  minImages?: number;
  /** Files read at a time. Default 8. */
  concurrency?: number;
  /** Cropped images are kept in memory up to this many bytes. Default 512 MiB. */
  cacheBytes?: number;
  /** What an earlier look at the folder found; files that were not touched since aren't looked into again. */
  known?: PictureIndex;
  /** Called once for each file that is left out, when that is found out: in the scan, or when it is first decoded. */
  onSkip?: (file: SkippedFile) => void;
  /** Called with a sentence about what the folder holds that its owner may not know of. */
  onNotice?: (sentence: string) => void;
  /** Called during the scan after each file. */
  onScan?: (done: number, total: number) => void;
}

/** Options with the channels that were chosen. */
type Chosen = ImageFolderOptions & { readonly channels: Channels };

export interface ImageFile {
  readonly path: string;
  /** See `ListedImage.name`. */
  readonly name: string;
  readonly hash: string;
}

/** Images of a folder as square crops. Open one with `openImageFolder`. */
export class ImageFolder implements Dataset {
  readonly root: string;
  readonly size: number;
  readonly channels: Channels;
  readonly numClasses: number;
  readonly classNames: readonly string[];
  /** The images in use, in the order of their indices. */
  readonly files: readonly ImageFile[];
  /** Files that are not images by their name. */
  readonly ignored: number;
  /** Images beside the class folders, or missing in dataset.json, which have no class and are left out. */
  readonly beside: readonly string[];
  /** Whether the classes are those of a dataset.json. */
  readonly labelled: boolean;
  /** What is known of every picture, those left out included. */
  readonly index: PictureIndex;
  private readonly patience: Patience;
  /** By index. */
  readonly labels: Int32Array;
  private readonly source: PictureSource;
  private readonly options: Chosen;
  private readonly skippedFiles: SkippedFile[] = [];
  private readonly limit: <T>(task: () => Promise<T>) => Promise<T>;
  /** Crops by index: those under way, those kept, and undefined for files that cannot be decoded. */
  private readonly crops = new Map<number, Promise<Pixels | undefined>>();
  private cacheRoom: number;

  /** @internal See `openImageFolder`. */
  constructor(source: PictureSource, found: Contents, options: Chosen, patience: Patience) {
    this.source = source;
    this.root = source.root;
    this.size = options.size;
    this.channels = options.channels;
    this.files = found.files;
    this.ignored = found.ignored;
    this.beside = found.beside;
    this.classNames = found.classNames;
    this.numClasses = found.classNames.length;
    this.index = found.index;
    this.options = options;
    this.labelled = found.labelled;
    this.patience = patience;
    this.skippedFiles.push(...found.skipped);
    this.limit = limiter(options.concurrency ?? 8);
    this.cacheRoom = options.cacheBytes ?? 512 * 2 ** 20;
    this.labels = Int32Array.from(found.files, found.labelOf);
  }

  get length(): number {
    return this.files.length;
  }

  /** Files that could not be read so far. */
  get skipped(): readonly SkippedFile[] {
    return this.skippedFiles;
  }

  /**
   * Image `index`, cropped, and its label. In place of an image that is damaged comes the next one in order that isn't.
   * @throws FormatError when no image of the folder can be decoded; FileError when one cannot be read, or has changed
   */
  async item(index: number): Promise<DatasetItem> {
    for (let i = 0; i < this.length; i++) {
      const at = (index + i) % this.length;
      const pixels = await this.crop(at);
      if (pixels) return { pixels, label: this.labels[at] };
    }
    throw new FormatError('imageFolder', `none of the ${this.length} images in ${this.root} can be decoded`, {
      expected: 'at least one',
      remedy: 'check the files',
    });
  }

  private crop(index: number): Promise<Pixels | undefined> {
    const known = this.crops.get(index);
    if (known) return known;
    const crop = this.limit(() => this.decode(index));
    this.crops.set(index, crop);
    crop.then(
      (pixels) => {
        const bytes = pixels?.byteLength ?? 0;
        // What is kept stays: under shuffled epochs nothing is gained by replacing one image with another.
        if (bytes > this.cacheRoom) this.crops.delete(index);
        else this.cacheRoom -= bytes;
      },
      // Whoever asked for it is told; the next one to ask tries again.
      () => this.crops.delete(index),
    );
    return crop;
  }

  private async decode(index: number): Promise<Pixels | undefined> {
    const file = this.files[index];
    const { path, name } = file;
    const bytes = await this.patience.read(path, () => readUnchanged(this.source, file, this.index.get(name)!));
    try {
      return centerCropArr(await decodeDeep(bytes, this.options), this.size).data;
    } catch (error) {
      const skipped = { path, reason: reasonOf(error) };
      this.skippedFiles.push(skipped);
      this.options.onSkip?.(skipped);
      return undefined;
    }
  }
}

/** What a folder holds, in order. */
interface Contents {
  readonly files: readonly ImageFile[];
  readonly classNames: readonly string[];
  readonly skipped: readonly SkippedFile[];
  readonly ignored: number;
  readonly beside: readonly string[];
  readonly index: PictureIndex;
  readonly labelled: boolean;
  readonly labelOf: (file: ImageFile) => number;
}

/** Channels of the pictures: grey where all are, transparent where most are and there is no background. */
function channelsOf(
  files: readonly ImageFile[],
  found: Scan['channels'],
  { background, onNotice }: ImageFolderOptions,
): Channels {
  const having = (channels: Channels): number =>
    files.reduce((count, { name }) => count + (found.get(name) === channels ? 1 : 0), 0);
  if (having(1) === files.length) return 1;
  if (background !== undefined || 2 * having(4) <= files.length) return 3;
  onNotice?.(
    'Most of the images have transparency, and so has the model: --channels 3 drops it, --background lays them on a colour.',
  );
  return 4;
}

const folderOf = (name: string): string => (name.includes('/') ? name.slice(0, name.indexOf('/')) : '');

/**
 * Opens a folder of images (PNG, JPEG, WebP, AVIF, TIFF, GIF), recursively, and looks into every file.
 *
 * Labels are the first-level folders in code-unit order, unless as many images lie beside them as in them; the few
 * beside are left out. Files whose header cannot be decoded are left out and reported through `onSkip`; files that
 * prove damaged later are replaced by their successor (see `ImageFolder.item`). A file that cannot be read at all is
 * tried again, then ends the opening.
 * @throws FileError when the path is missing or not a folder, or holds too few images, or a file cannot be read;
 *   ValueError for a background that is no colour
 */
export async function openImageFolder(root: string, options: ImageFolderOptions): Promise<ImageFolder> {
  return openPictures(folderSource(root), options);
}

/** The same of any source. */
export async function openPictures(source: PictureSource, options: ImageFolderOptions): Promise<ImageFolder> {
  const { root } = source;
  const { minImages = 1, background, onSkip, onNotice } = options;
  if (background !== undefined) await checkBackground(background);
  const patience = new Patience(options);
  const listing = await source.list(patience);
  if (listing.images.length + listing.unusable.length === 0) {
    const beside = listing.ignored > 0 ? ` among its ${listing.ignored} files` : '';
    throw new FileError('imageFolder', `${root} holds no image${beside}`, {
      path: root,
      expected: 'PNG, JPEG, WebP, AVIF, TIFF or GIF files or folders of them',
      remedy: 'check the path',
    });
  }
  const { index, channels } = await scan(source, listing.images, patience, options);
  const found = sort(root, listing, index, options.labels ?? 'auto');
  for (const file of found.skipped) onSkip?.(file);
  const why = found.labelled
    ? 'dataset.json gives it no class'
    : 'it lies beside the class folders and so has no class';
  for (const path of found.beside) onSkip?.({ path, reason: why });
  if (found.files.length < Math.max(1, minImages)) {
    const { length } = found.skipped;
    throw new FileError(
      'imageFolder',
      `${root} holds ${counted(found.files.length, 'readable image')}${length > 0 ? ` (${length} more cannot be read)` : ''}`,
      { path: root, expected: `at least ${Math.max(1, minImages)}`, remedy: 'add images or lower the batch size' },
    );
  }
  for (const sentence of found.notices) onNotice?.(sentence);
  const having = { channels: options.channels ?? channelsOf(found.files, channels, options) };
  return new ImageFolder(source, found, { ...options, ...having }, patience);
}

interface Scan {
  readonly index: PictureIndex;
  /** Channels of the pictures that were looked into, by name. */
  readonly channels: ReadonlyMap<string, Channels | undefined>;
}

/** Looks into every file. */
async function scan(
  source: PictureSource,
  images: readonly ListedImage[],
  patience: Patience,
  { concurrency = 8, known, onScan }: ImageFolderOptions,
): Promise<Scan> {
  const limit = limiter(concurrency);
  const stop = new AbortController();
  let done = 0;
  const look = async (image: ListedImage): Promise<Examined> => {
    stop.signal.throwIfAborted();
    const found = await patience.read(image.path, () => examine(source, image, known));
    onScan?.(++done, images.length);
    return found;
  };
  const looks = await Promise.all(images.map((image) => limit(() => look(image)))).finally(() => {
    // Where one ended the scan, those that wait are not begun.
    stop.abort();
  });
  return {
    index: new Map(looks.map(({ picture }) => [picture.name, picture])),
    channels: new Map(looks.map(({ picture, channels }) => [picture.name, channels])),
  };
}

/** Which files are used, with which classes, and what there is to say about the others. */
function sort(
  root: string,
  { images, folders, unusable, ignored, edm }: Listing,
  index: PictureIndex,
  labels: 'auto' | 'folders' | 'none',
): Contents & { readonly notices: readonly string[] } {
  const skipped = [...unusable];
  const notices: string[] = [];
  const readable: ImageFile[] = [];
  for (const { path, name } of images) {
    const { problem, hash } = index.get(name)!;
    if (problem === undefined) readable.push({ path, name, hash });
    else skipped.push({ path, reason: problem });
  }
  if (labels === 'auto' && edm) {
    const files = readable.filter(({ name }) => edm.has(name));
    const numClasses = files.reduce((most, { name }) => Math.max(most, edm.get(name)!), -1) + 1;
    return {
      files,
      classNames: Array.from({ length: numClasses }, (_, label) => String(label)),
      labelled: true,
      labelOf: ({ name }) => edm.get(name)!,
      skipped,
      ignored,
      beside: readable.filter(({ name }) => !edm.has(name)).map(({ path }) => path),
      index,
      notices,
    };
  }
  const outside = readable.filter(({ name }) => folderOf(name) === '');
  const inside = readable.length - outside.length;
  if (labels === 'folders' && outside.length > 0) {
    throw new FileError('imageFolder', `${outside[0].path} lies outside of a class folder`, {
      path: outside[0].path,
      expected: 'every image in a folder named after its class',
      remedy: 'move it, or use the folder without labels',
    });
  }
  const bare = labels === 'none' || edm === null;
  if (!bare && labels === 'auto' && inside > 0 && outside.length >= inside) {
    notices.push(
      `${root} has ${counted(outside.length, 'image')} beside its folders and ${grouped(inside)} in them: ` +
        'all are one set without classes. ' +
        `For classes, put every image into a folder named after its class.`,
    );
  }
  const common = { skipped, ignored, index, notices, labelled: false };
  if (bare || outside.length >= inside)
    return { ...common, files: readable, classNames: [], beside: [], labelOf: () => 0 };
  const files = readable.filter(({ name }) => folderOf(name) !== '');
  const classNames = [...new Set(files.map(({ name }) => folderOf(name)))].sort(byCodeUnit);
  const empty = folders.filter((name) => !classNames.includes(name));
  if (empty.length > 0 && classNames.length > 0) {
    const one = empty.length === 1;
    notices.push(
      `${one ? 'The folder' : 'The folders'} ${naming(empty)} in ${root} ${one ? 'holds' : 'hold'} no readable image and ` +
        `${one ? 'is no class' : 'are no classes'}.`,
    );
  }
  const labelOf = new Map(classNames.map((name, label) => [name, label]));
  return {
    ...common,
    files,
    classNames,
    beside: outside.map(({ path }) => path),
    labelOf: ({ name }) => labelOf.get(folderOf(name))!,
  };
}
