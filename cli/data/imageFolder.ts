// A folder of pictures as a data set: every image below it, cropped square as the official script does, with the first-level
// folders as classes. Real folders hold damaged files and files that are no images: those are counted, named once, and stepped over.
import type { Stats } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { EngineError, FormatError, errorSentence } from '../../core/errors.ts';
import { centerCropArr } from '../../models/data/centerCrop.ts';
import type { Dataset, DatasetItem } from '../../models/data/dataset.ts';
import { FileError, errorCode } from '../files.ts';
import { decodeImage, readImageHeader } from './decodeImage.ts';
import type { DecodeOptions } from './decodeImage.ts';
import { limiter } from './limit.ts';

const extensions = new Set(['.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.avif', '.tif', '.tiff', '.gif']);

export interface SkippedFile {
  readonly path: string;
  readonly reason: string;
}

export interface ImageFolderOptions extends DecodeOptions {
  /** Side of the square that is cropped from each image. */
  size: number;
  /** `folders`: the first-level folders are classes; `none`: one unlabelled set; `auto`: folders where no image lies outside of one. Default auto. */
  labels?: 'auto' | 'folders' | 'none';
  /** Fewest readable images that will do. Default 1. */
  minImages?: number;
  /** Files read at a time. Default 8. */
  concurrency?: number;
  /** Cropped images are kept in memory up to this many bytes. Default 512 MiB. */
  cacheBytes?: number;
  /** Called once for each file that cannot be read, when that is found out: in the scan, or when it is first decoded. */
  onSkip?: (file: SkippedFile) => void;
  /** Called during the scan after each file. */
  onScan?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface ImageFile {
  readonly path: string;
  /** With `/` between its parts, relative to the data set's folder. */
  readonly name: string;
  readonly bytes: number;
}

interface Listing {
  readonly images: ImageFile[];
  ignored: number;
}

async function listImages(root: string): Promise<Listing> {
  const listing: Listing = { images: [], ignored: 0 };
  const seen = new Set<string>();
  const walk = async (folder: string, prefix: string): Promise<void> => {
    const real = await realpath(folder);
    // Links may form a circle.
    if (seen.has(real)) return;
    seen.add(real);
    for (const entry of (await readdir(folder)).sort(byCodeUnit)) {
      const path = join(folder, entry);
      // Dot files are the system's notes (.DS_Store, ._photo.jpg), not pictures.
      const info = entry.startsWith('.') ? undefined : await statIfThere(path);
      if (info?.isDirectory()) await walk(path, `${prefix}${entry}/`);
      else if (info?.isFile() && extensions.has(extname(entry).toLowerCase())) {
        listing.images.push({ path, name: prefix + entry, bytes: info.size });
      } else listing.ignored++;
    }
  };
  await walk(root, '');
  // One order on every machine, whatever the file system's and the locale's.
  listing.images.sort((a, b) => byCodeUnit(a.name, b.name));
  return listing;
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Undefined for a link that leads nowhere or a file removed meanwhile. */
async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ELOOP') return undefined;
    throw error;
  }
}

/** What a decoder complains of, in one line; of libvips' text the last line that says something, after those of the libraries below it. */
function reasonOf(error: unknown): string {
  if (error instanceof EngineError) return errorSentence(error);
  const lines = (error instanceof Error ? error.message : String(error)).split('\n').map((line) => line.trim());
  return lines.findLast((line) => /\p{L}{3}/u.test(line)) ?? 'unknown reason';
}

/** Fails with a sentence where `path` is not a folder that can be listed. */
export async function requireFolder(op: string, path: string): Promise<void> {
  let info: Stats;
  try {
    info = await stat(path);
  } catch (error) {
    const why =
      errorCode(error) === 'ENOENT' ? 'does not exist' : `cannot be opened (${errorCode(error) ?? reasonOf(error)})`;
    throw new FileError(op, `${path} ${why}`, { path, expected: 'a folder', remedy: 'check the path', cause: error });
  }
  if (!info.isDirectory())
    throw new FileError(op, `${path} is a file`, {
      path,
      expected: 'a folder',
      remedy: 'give the folder that holds it',
    });
}

/** Images of a folder as square crops. Open one with `openImageFolder`. */
export class ImageFolder implements Dataset {
  readonly root: string;
  readonly size: number;
  readonly channels = 3;
  readonly numClasses: number;
  readonly classNames: readonly string[];
  /** The images in use, in the order of their indices. */
  readonly files: readonly ImageFile[];
  /** Files that are not images by their name. */
  readonly ignored: number;
  readonly #labels: Int32Array;
  readonly #options: ImageFolderOptions;
  readonly #skipped: SkippedFile[] = [];
  readonly #limit: <T>(task: () => Promise<T>) => Promise<T>;
  /** Crops by index: those under way, those kept, and undefined for files that cannot be decoded. */
  readonly #crops = new Map<number, Promise<Uint8Array | undefined>>();
  #cacheRoom: number;

  constructor(
    root: string,
    files: readonly ImageFile[],
    ignored: number,
    skipped: readonly SkippedFile[],
    options: ImageFolderOptions,
  ) {
    this.root = root;
    this.size = options.size;
    this.files = files;
    this.ignored = ignored;
    this.#options = options;
    this.#skipped.push(...skipped);
    this.#limit = limiter(options.concurrency ?? 8);
    this.#cacheRoom = options.cacheBytes ?? 512 * 2 ** 20;
    const folderOf = ({ name }: ImageFile): string => (name.includes('/') ? name.slice(0, name.indexOf('/')) : '');
    const folders = files.map(folderOf);
    const mode = options.labels ?? 'auto';
    const outside = folders.indexOf('');
    if (mode === 'folders' && outside >= 0) {
      throw new FileError('imageFolder', `${files[outside].path} lies outside of a class folder`, {
        path: files[outside].path,
        expected: 'every image in a folder named after its class',
        remedy: 'move it, or use the folder without labels',
      });
    }
    this.classNames = mode === 'none' || outside >= 0 ? [] : [...new Set(folders)].sort(byCodeUnit);
    this.numClasses = this.classNames.length;
    const labelOf = new Map(this.classNames.map((name, label) => [name, label]));
    this.#labels = Int32Array.from(folders, (folder) => labelOf.get(folder) ?? 0);
  }

  get length(): number {
    return this.files.length;
  }

  /** Files that could not be read so far. */
  get skipped(): readonly SkippedFile[] {
    return this.#skipped;
  }

  /**
   * Image `index`, cropped, and its label. In place of an image that cannot be decoded comes the next one in order that can.
   * @throws {FormatError} when no image of the folder can be decoded
   */
  async item(index: number): Promise<DatasetItem> {
    for (let i = 0; i < this.length; i++) {
      const at = (index + i) % this.length;
      const pixels = await this.#crop(at);
      if (pixels) return { pixels, label: this.#labels[at] };
    }
    throw new FormatError('imageFolder', `none of the ${this.length} images in ${this.root} can be decoded`, {
      expected: 'at least one',
      remedy: 'check the files',
    });
  }

  #crop(index: number): Promise<Uint8Array | undefined> {
    const known = this.#crops.get(index);
    if (known) return known;
    const crop = this.#limit(() => this.#decode(index));
    this.#crops.set(index, crop);
    crop.then(
      (pixels) => {
        const bytes = pixels?.length ?? 0;
        // What is kept stays: under shuffled epochs nothing is gained by replacing one image with another.
        if (bytes > this.#cacheRoom) this.#crops.delete(index);
        else this.#cacheRoom -= bytes;
      },
      // Whoever asked for the image is told.
      () => this.#crops.delete(index),
    );
    return crop;
  }

  async #decode(index: number): Promise<Uint8Array | undefined> {
    const { path } = this.files[index];
    try {
      return centerCropArr(await decodeImage(path, this.#options), this.size).data;
    } catch (error) {
      const file = { path, reason: reasonOf(error) };
      this.#skipped.push(file);
      this.#options.onSkip?.(file);
      return undefined;
    }
  }
}

/**
 * Opens a folder of images (PNG, JPEG, WebP, AVIF, TIFF, GIF), recursively, and reads every header.
 *
 * Labels are the first-level folders in code-unit order, unless images lie beside them. Files whose header cannot be read are left out and
 * reported through `onSkip`; files that prove damaged later are replaced by their successor (see `ImageFolder.item`).
 * @throws {FileError} when the path is missing or not a folder, or holds too few images
 */
export async function openImageFolder(root: string, options: ImageFolderOptions): Promise<ImageFolder> {
  const { minImages = 1, concurrency = 8, onSkip, onScan, signal } = options;
  await requireFolder('imageFolder', root);
  const { images, ignored } = await listImages(root);
  if (images.length === 0) {
    const beside = ignored > 0 ? ` among its ${ignored} files` : '';
    throw new FileError('imageFolder', `${root} holds no image${beside}`, {
      path: root,
      expected: 'PNG, JPEG, WebP, AVIF, TIFF or GIF files or folders of them',
      remedy: 'check the path',
    });
  }
  const limit = limiter(concurrency);
  let done = 0;
  const reasons = await Promise.all(
    images.map((image) =>
      limit(async () => {
        signal?.throwIfAborted();
        const reason = await headerProblem(image);
        onScan?.(++done, images.length);
        return reason;
      }),
    ),
  );
  const skipped = images.flatMap(({ path }, i) => (reasons[i] === undefined ? [] : [{ path, reason: reasons[i] }]));
  for (const file of skipped) onSkip?.(file);
  const readable = images.filter((_, i) => reasons[i] === undefined);
  if (readable.length < Math.max(1, minImages)) {
    const damaged = skipped.length > 0 ? ` (${skipped.length} more cannot be read)` : '';
    throw new FileError(
      'imageFolder',
      `${root} holds ${readable.length} readable ${readable.length === 1 ? 'image' : 'images'}${damaged}`,
      { path: root, expected: `at least ${Math.max(1, minImages)}`, remedy: 'add images or lower the batch size' },
    );
  }
  return new ImageFolder(root, readable, ignored, skipped, options);
}

async function headerProblem({ path, bytes }: ImageFile): Promise<string | undefined> {
  if (bytes === 0) return 'the file is empty';
  try {
    await readImageHeader(path);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}
