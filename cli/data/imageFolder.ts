// A folder of pictures as a data set: every image below it, cropped square as the official script does, with the
// first-level folders as classes. Real folders hold damaged files and files that are no images: those are counted,
// named once, and stepped over. A file that cannot be read is another matter: it is tried again, and then ends the
// reading, since without it the data are others.
import { FormatError } from '../../core/errors.ts';
import { centerCropArr } from '../../models/data/centerCrop.ts';
import type { Channels } from '../../models/data/channels.ts';
import type { Dataset, DatasetItem } from '../../models/data/dataset.ts';
import { FileError } from '../files.ts';
import { counted, grouped, naming } from '../format.ts';
import { checkBackground, decodeImage } from './decodeImage.ts';
import type { DecodeOptions } from './decodeImage.ts';
import { limiter } from './limit.ts';
import { byCodeUnit, listImages, requireFolder, type ListedImage, type Listing } from './listImages.ts';
import { Patience, type PatienceOptions } from './patience.ts';
import { examine, readUnchanged, reasonOf, type IndexedPicture, type PictureIndex } from './pictureIndex.ts';

export interface SkippedFile {
  readonly path: string;
  readonly reason: string;
}

export interface ImageFolderOptions extends DecodeOptions, PatienceOptions {
  /** Side of the square that is cropped from each image. */
  size: number;
  /**
   * `folders`: the first-level folders are classes; `none`: one unlabelled set; `auto`: folders, unless as many images
   * lie outside of them as inside. Default auto.
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
  /** Images beside the class folders, which have no class and are left out. */
  readonly beside: readonly string[];
  /** What is known of every picture, those left out included. */
  readonly index: PictureIndex;
  private readonly patience: Patience;
  private readonly labels: Int32Array;
  private readonly options: ImageFolderOptions;
  private readonly skippedFiles: SkippedFile[] = [];
  private readonly limit: <T>(task: () => Promise<T>) => Promise<T>;
  /** Crops by index: those under way, those kept, and undefined for files that cannot be decoded. */
  private readonly crops = new Map<number, Promise<Uint8Array | undefined>>();
  private cacheRoom: number;

  /** @internal See `openImageFolder`. */
  constructor(root: string, found: Contents, options: ImageFolderOptions, patience: Patience) {
    this.root = root;
    this.size = options.size;
    this.channels = options.channels ?? 3;
    this.files = found.files;
    this.ignored = found.ignored;
    this.beside = found.beside;
    this.classNames = found.classNames;
    this.numClasses = found.classNames.length;
    this.index = found.index;
    this.options = options;
    this.patience = patience;
    this.skippedFiles.push(...found.skipped);
    this.limit = limiter(options.concurrency ?? 8);
    this.cacheRoom = options.cacheBytes ?? 512 * 2 ** 20;
    const labelOf = new Map(found.classNames.map((name, label) => [name, label]));
    this.labels = Int32Array.from(found.files, ({ name }) => labelOf.get(folderOf(name)) ?? 0);
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

  private crop(index: number): Promise<Uint8Array | undefined> {
    const known = this.crops.get(index);
    if (known) return known;
    const crop = this.limit(() => this.decode(index));
    this.crops.set(index, crop);
    crop.then(
      (pixels) => {
        const bytes = pixels?.length ?? 0;
        // What is kept stays: under shuffled epochs nothing is gained by replacing one image with another.
        if (bytes > this.cacheRoom) this.crops.delete(index);
        else this.cacheRoom -= bytes;
      },
      // Whoever asked for it is told; the next one to ask tries again.
      () => this.crops.delete(index),
    );
    return crop;
  }

  private async decode(index: number): Promise<Uint8Array | undefined> {
    const { path, name } = this.files[index];
    const bytes = await this.patience.read(path, () => readUnchanged(path, this.index.get(name)!));
    try {
      return centerCropArr(await decodeImage(bytes, this.options), this.size).data;
    } catch (error) {
      const file = { path, reason: reasonOf(error) };
      this.skippedFiles.push(file);
      this.options.onSkip?.(file);
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
  const { minImages = 1, background, onSkip, onNotice } = options;
  if (background !== undefined) await checkBackground(background);
  await requireFolder('imageFolder', root);
  const patience = new Patience(options);
  const listing = await listImages(root, patience);
  if (listing.images.length === 0) {
    const beside = listing.ignored > 0 ? ` among its ${listing.ignored} files` : '';
    throw new FileError('imageFolder', `${root} holds no image${beside}`, {
      path: root,
      expected: 'PNG, JPEG, WebP, AVIF, TIFF or GIF files or folders of them',
      remedy: 'check the path',
    });
  }
  const index = await scan(listing.images, patience, options);
  const found = sort(root, listing, index, options.labels ?? 'auto');
  for (const file of found.skipped) onSkip?.(file);
  for (const path of found.beside) onSkip?.({ path, reason: 'it lies beside the class folders and so has no class' });
  if (found.files.length < Math.max(1, minImages)) {
    const { length } = found.skipped;
    throw new FileError(
      'imageFolder',
      `${root} holds ${counted(found.files.length, 'readable image')}${length > 0 ? ` (${length} more cannot be read)` : ''}`,
      { path: root, expected: `at least ${Math.max(1, minImages)}`, remedy: 'add images or lower the batch size' },
    );
  }
  for (const sentence of found.notices) onNotice?.(sentence);
  return new ImageFolder(root, found, options, patience);
}

/** Looks into every file. */
async function scan(
  images: readonly ListedImage[],
  patience: Patience,
  { concurrency = 8, known, onScan }: ImageFolderOptions,
): Promise<PictureIndex> {
  const limit = limiter(concurrency);
  const stop = new AbortController();
  let done = 0;
  const look = async (image: ListedImage): Promise<IndexedPicture> => {
    stop.signal.throwIfAborted();
    const found = await patience.read(image.path, () => examine(image, known));
    onScan?.(++done, images.length);
    return found;
  };
  const looks = await Promise.all(images.map((image) => limit(() => look(image)))).finally(() => {
    // Where one ended the scan, those that wait are not begun.
    stop.abort();
  });
  return new Map(looks.map((look) => [look.name, look]));
}

/** Which files are used, with which classes, and what there is to say about the others. */
function sort(
  root: string,
  { images, folders, dangling, ignored }: Listing,
  index: PictureIndex,
  labels: 'auto' | 'folders' | 'none',
): Contents & { readonly notices: readonly string[] } {
  const skipped = dangling.map((path): SkippedFile => ({ path, reason: 'it is a link that leads nowhere' }));
  const notices: string[] = [];
  const readable: ImageFile[] = [];
  for (const { path, name } of images) {
    const { problem, hash } = index.get(name)!;
    if (problem === undefined) readable.push({ path, name, hash });
    else skipped.push({ path, reason: problem });
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
  if (labels === 'auto' && inside > 0 && outside.length >= inside) {
    notices.push(
      `${root} has ${counted(outside.length, 'image')} beside its folders and ${grouped(inside)} in them: ` +
        'all are one set without classes. ' +
        `For classes, put every image into a folder named after its class.`,
    );
  }
  if (labels === 'none' || outside.length >= inside)
    return { files: readable, classNames: [], skipped, ignored, beside: [], index, notices };
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
  return { files, classNames, skipped, ignored, beside: outside.map(({ path }) => path), index, notices };
}
