// Where pictures come from: a folder (folderSource.ts) or a ZIP archive (zipPictures.ts), which a data set lists and
// reads in the same way.
import type { Stats } from 'node:fs';
import type { EdmLabels } from './edmLabels.ts';
import type { Patience } from './patience.ts';

/** A picture and what tells whether it was touched: its size, and the times of its file. */
export interface ListedImage {
  /** For people. */
  readonly path: string;
  /** With `/` between its parts, relative to the source's root, in Unicode's composed form (NFC). */
  readonly name: string;
  readonly stats: Pick<Stats, 'size' | 'mtimeMs' | 'ctimeMs'>;
}

export interface SkippedFile {
  readonly path: string;
  readonly reason: string;
}

export interface Listing {
  readonly images: readonly ListedImage[];
  /** First-level folders, by name in NFC. */
  readonly folders: readonly string[];
  /** What has a picture's name and cannot be read, for a reason that trying again doesn't change. */
  readonly unusable: readonly SkippedFile[];
  /** Files that are no images by their name. */
  readonly ignored: number;
  /** What a dataset.json says of classes, where there is one. */
  readonly edm?: EdmLabels;
}

/** The bytes of a picture cannot be had from where they lie, and trying again wouldn't help. */
export class DamagedError extends Error {
  override name = 'DamagedError';
}

export interface PictureSource {
  /** For people. */
  readonly root: string;
  /** @throws FileError, FormatError */
  list(patience: Patience): Promise<Listing>;
  /** The bytes of a listed picture. @throws the system's errors; DamagedError */
  read(image: Pick<ListedImage, 'path' | 'name'>): Promise<Uint8Array>;
}
