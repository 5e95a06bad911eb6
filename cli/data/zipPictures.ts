// Pictures in a ZIP archive, read in place: the archive's directory is read once, then each picture by itself, in any
// order. The archive may be anybody's: its directory is bounded by its size, entries that overlap are refused, and
// nothing unpacks to more than the directory says.
import { open, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { FormatError } from '../../core/errors.ts';
import { errorCode } from '../files.ts';
import { EDM_LABELS, checkEdmSize, parseEdmLabels, type EdmLabels } from './edmLabels.ts';
import { byCodeUnit, isImageName } from './listImages.ts';
import { DamagedError, type Listing, type ListedImage, type PictureSource, type SkippedFile } from './pictureSource.ts';

/** An entry of the directory has 46 bytes and more. */
const LEAST_ENTRY = 46;
const MOST_ENTRIES = 2e7;
const LONGEST_NAME = 4096;
/** No picture that can be decoded is larger. */
const LARGEST_PICTURE = 1024 * 2 ** 20;
/** Deflate packs no tighter, but for the bytes of a small entry. */
const TIGHTEST = 1032,
  SLACK = 1024;
/** The directory is read in pieces of this size. */
const WINDOW = 2 ** 20;

/** Opens the archive for each reading, so that nothing has to be closed and a drive may come back. */
class ArchiveReader extends yauzl.RandomAccessReader {
  private readonly path: string;
  private window: { readonly from: number; readonly bytes: Buffer } | undefined;
  /** Whether what lies behind each reading is wanted next. */
  ahead = true;

  constructor(path: string) {
    super();
    this.path = path;
  }

  forget(): void {
    this.ahead = false;
    this.window = undefined;
  }

  override _readStreamForRange(start: number, end: number): Readable {
    return Readable.from(this.range(start, end), { objectMode: false });
  }

  private async *range(start: number, end: number): AsyncGenerator<Buffer> {
    const file = await open(this.path);
    try {
      for (let at = start; at < end;) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(65536, end - at)), 0, undefined, at);
        if (bytesRead === 0) throw new DamagedError('the archive ends before the picture does');
        yield buffer.subarray(0, bytesRead);
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    this.fill(buffer.subarray(offset, offset + length), position).then(
      () => callback(null),
      (error: unknown) => callback(error as Error),
    );
  }

  private async fill(target: Buffer, position: number): Promise<void> {
    const at = this.window ? position - this.window.from : -1;
    if (at < 0 || at + target.length > this.window!.bytes.length) {
      const bytes = await this.piece(position, this.ahead ? Math.max(WINDOW, target.length) : target.length);
      if (bytes.length < target.length) throw new DamagedError('the archive is cut short');
      if (!this.ahead) return void bytes.copy(target);
      this.window = { from: position, bytes };
    }
    this.window!.bytes.copy(target, 0, position - this.window!.from);
  }

  private async piece(position: number, length: number): Promise<Buffer> {
    const file = await open(this.path);
    try {
      const buffer = Buffer.alloc(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    } finally {
      await file.close();
    }
  }
}

/** The pictures of a ZIP archive; a folder in it that holds all else is passed over. */
export function zipSource(root: string): PictureSource {
  let opened: { readonly zip: ZipFile; readonly entries: ReadonlyMap<string, Entry> } | undefined;
  return {
    root,
    async list(patience) {
      const found = await patience.read(root, () => readDirectory(root));
      const { zip, entries, listing, labels } = found;
      opened = { zip, entries };
      if (!labels) return listing;
      const edm = await patience.read(root, () => edmOf(zip, labels, `${root}/${labels.fileName}`));
      return edm === undefined ? { ...listing, ignored: listing.ignored + 1 } : { ...listing, edm };
    },
    read({ name }) {
      return unpack(opened!.zip, opened!.entries.get(name)!);
    },
  };
}

async function edmOf(zip: ZipFile, entry: Entry, path: string): Promise<EdmLabels | undefined> {
  checkEdmSize(entry.uncompressedSize, path);
  const bytes = await unpack(zip, entry).catch((error: unknown) => {
    if (!(error instanceof DamagedError)) throw error;
    throw new FormatError('zip', `${path} is damaged: ${error.message}`, { remedy: 'make the archive again' });
  });
  return parseEdmLabels(bytes, path);
}

interface Directory {
  readonly zip: ZipFile;
  /** Of pictures, by name. */
  readonly entries: ReadonlyMap<string, Entry>;
  readonly listing: Listing;
  /** The entry of dataset.json. */
  readonly labels: Entry | undefined;
}

async function readDirectory(path: string): Promise<Directory> {
  const stats = await stat(path);
  const bad = (what: string, cause?: unknown): FormatError =>
    new FormatError('zip', `${path} ${what}`, { remedy: 'make the archive again', cause });
  const reader = new ArchiveReader(path);
  const entries: Entry[] = [];
  let zip: ZipFile;
  try {
    zip = await yauzl.fromRandomAccessReaderPromise(reader, stats.size, { autoClose: false, lazyEntries: true });
    if (zip.entryCount > Math.min(MOST_ENTRIES, stats.size / LEAST_ENTRY))
      throw bad(`says that it holds ${zip.entryCount} files, more than fit into it`);
    let packed = 0;
    for await (const entry of zip.eachEntry()) {
      packed += entry.compressedSize;
      // Many entries of one content are how a small archive unpacks to more than any disk holds.
      if (packed > stats.size) throw bad('has entries that overlap');
      entries.push(entry);
    }
  } catch (error) {
    const code = errorCode(error);
    if (error instanceof FormatError || (code !== undefined && !code.startsWith('Z_'))) throw error;
    throw bad(`cannot be read as a ZIP archive: ${(error as Error).message}`, error);
  }
  reader.forget();
  return { zip, ...sort(path, entries, stats) };
}

/** Notes of systems (.DS_Store, __MACOSX/._photo.jpg) are no pictures. */
const isNote = (name: string): boolean => name.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');

function sort(root: string, all: readonly Entry[], stats: ListedImage['stats']): Omit<Directory, 'zip'> {
  const files = all.filter(({ fileName }) => !fileName.endsWith('/') && !isNote(fileName));
  const pictures = files.filter(({ fileName }) => isImageName(fileName));
  const isLabels = ({ fileName }: Entry): boolean => fileName === EDM_LABELS || fileName.endsWith(`/${EDM_LABELS}`);
  const prefix = commonFolder([...pictures, ...files.filter(isLabels)].map(({ fileName }) => fileName));
  const images: ListedImage[] = [],
    unusable: SkippedFile[] = [],
    entries = new Map<string, Entry>(),
    folders = new Set<string>();
  for (const entry of pictures) {
    const name = entry.fileName.slice(prefix.length).normalize('NFC');
    const path = `${root}/${entry.fileName.slice(0, LONGEST_NAME)}`;
    const reason = entries.has(name) ? 'the archive has another file of this name' : problem(entry);
    if (reason !== undefined) {
      unusable.push({ path, reason });
      continue;
    }
    entries.set(name, entry);
    if (name.includes('/')) folders.add(name.slice(0, name.indexOf('/')));
    images.push({
      path,
      name,
      stats: { size: entry.uncompressedSize, mtimeMs: stats.mtimeMs, ctimeMs: stats.ctimeMs },
    });
  }
  images.sort((a, b) => byCodeUnit(a.name, b.name));
  const labels = files.find(({ fileName }) => fileName === prefix + EDM_LABELS);
  const ignored = files.length - pictures.length - (labels ? 1 : 0);
  return { entries, labels, listing: { images, folders: [...folders].sort(byCodeUnit), unusable, ignored } };
}

/** The folders that all names begin with, down to the last slash. */
function commonFolder(names: readonly string[]): string {
  if (names.length === 0) return '';
  let common = names[0].slice(0, names[0].lastIndexOf('/') + 1);
  for (const name of names)
    while (!name.startsWith(common)) common = common.slice(0, common.lastIndexOf('/', common.length - 2) + 1);
  return common;
}

/** Why an entry is not read. */
function problem(entry: Entry): string | undefined {
  const { fileName, compressedSize, uncompressedSize } = entry;
  if (fileName.length > LONGEST_NAME) return 'its name is too long';
  if (entry.isEncrypted()) return 'it is encrypted';
  if (!entry.canDecodeFileData())
    return `it is packed by method ${entry.compressionMethod}, neither stored nor deflated`;
  if (uncompressedSize > LARGEST_PICTURE) return 'it is too large for a picture';
  if (uncompressedSize > compressedSize * TIGHTEST + SLACK) return 'it says to unpack to more than it can';
  return undefined;
}

/** The bytes of an entry. @throws the system's errors; DamagedError */
async function unpack(zip: ZipFile, entry: Entry): Promise<Uint8Array> {
  try {
    const chunks: Uint8Array[] = [];
    // yauzl ends the stream where it gives more or fewer bytes than the directory says.
    for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Uint8Array);
    return Buffer.concat(chunks);
  } catch (error) {
    const code = errorCode(error);
    if (error instanceof DamagedError || (code !== undefined && !/^(Z_|ERR_|ABORT)/.test(code))) throw error;
    throw new DamagedError(`its place in the archive is damaged (${(error as Error).message})`, { cause: error });
  }
}

/** Whether a file begins as a ZIP archive does. */
export function beginsAsZip(bytes: Uint8Array): boolean {
  const [p, k, three, four] = bytes;
  return p === 0x50 && k === 0x4b && ((three === 3 && four === 4) || (three === 5 && four === 6));
}
