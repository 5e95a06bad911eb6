// What an evaluation has computed so far, in parts on the disk: it goes on where it was, and the next evaluation of the
// same things reads what is there. A part appears whole or not at all.
//
// Folders are named by a digest of all that decides their contents, and lie beside what they were computed from
// (`.dis-eval`), or in the user's cache folder where that cannot be written.

import { createHash } from 'node:crypto';
import { access, constants, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorCode, fileError, writeFileAtomic, type FileData } from '../files.ts';
import { tuningFolder } from '../tuningCache.ts';

/** Changes when what is computed for the same names becomes something else. */
const VERSION = 1;

const FOLDER = '.dis-eval';

/** 16 hex digits that tell `value` from others. */
export const digestOf = (value: unknown): string =>
  createHash('sha256')
    .update(JSON.stringify([VERSION, value]))
    .digest('hex')
    .slice(0, 16);

/** The folder for what is computed from `path`; undefined for what lies nowhere. */
export async function storeFolder(path: string | undefined): Promise<string> {
  if (path !== undefined) {
    const folder = (await stat(path)).isDirectory() ? path : dirname(path);
    const inside = join(folder, FOLDER);
    for (const each of [inside, folder]) {
      const problem = await access(each, constants.W_OK).then(
        () => undefined,
        (error: unknown) => errorCode(error),
      );
      if (problem === undefined) return inside;
      if (problem !== 'ENOENT') break;
    }
  }
  return join(tuningFolder(), 'eval');
}

/** Files of one thing that is computed. */
export class PartStore {
  readonly folder: string;
  private readonly about: object;
  private made = false;

  /**
   * @param parent see `storeFolder`
   * @param kind what it is, in a word
   * @param about all that decides the contents; it is written beside them for people
   */
  constructor(parent: string, kind: string, about: object) {
    this.folder = join(parent, `${kind}-${digestOf(about)}`);
    this.about = about;
  }

  /** Whether a part is there, of exactly so many bytes. */
  async has(name: string, bytes?: number): Promise<boolean> {
    const size = await stat(join(this.folder, name)).then(
      (info) => info.size,
      () => undefined,
    );
    return size !== undefined && (bytes === undefined || size === bytes);
  }

  /** A part of exactly so many bytes, or undefined where it isn't there. */
  async read(name: string, bytes?: number): Promise<Uint8Array | undefined> {
    return (await this.has(name, bytes)) ? readFile(join(this.folder, name)) : undefined;
  }

  /** @throws FileError */
  async write(name: string, data: FileData): Promise<void> {
    if (!this.made) {
      try {
        await mkdir(this.folder, { recursive: true });
      } catch (error) {
        throw fileError('evaluate', 'make the folder', this.folder, error);
      }
      await writeFileAtomic(join(this.folder, 'about.json'), `${JSON.stringify(this.about, null, 2)}\n`);
      this.made = true;
    }
    await writeFileAtomic(join(this.folder, name), data);
  }
}

/** Bytes of numbers, without a copy. */
export const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Numbers of bytes, which may lie anywhere. */
export const floatsOf = (bytes: Uint8Array): Float32Array =>
  new Float32Array(bytes.slice().buffer, 0, bytes.byteLength / 4);
