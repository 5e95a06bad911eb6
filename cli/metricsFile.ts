// The metrics of a run: JSON lines that are only ever appended to.

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { isDiskFull } from './errors.ts';
import { fileError } from './files.ts';

/**
 * Appends metrics, a line a record. Lines that a full disk refuses wait in memory and are tried again with the next.
 */
export class MetricsFile {
  readonly path: string;
  readonly #file: FileHandle;
  #pending: Buffer = Buffer.alloc(0);

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<MetricsFile> {
    try {
      return new MetricsFile(path, await open(path, 'a'));
    } catch (error) {
      throw fileError('metrics', 'write', path, error);
    }
  }

  /** @returns whether everything so far is written */
  async append(record: object): Promise<boolean> {
    this.#pending = Buffer.concat([this.#pending, Buffer.from(`${JSON.stringify(record)}\n`)]);
    try {
      while (this.#pending.length > 0) {
        const { bytesWritten } = await this.#file.write(this.#pending);
        this.#pending = this.#pending.subarray(bytesWritten);
      }
      return true;
    } catch (error) {
      if (isDiskFull(error)) return false;
      throw fileError('metrics', 'write', this.path, error);
    }
  }

  /** Makes what was appended last through a power cut. */
  async sync(): Promise<void> {
    await this.#file.sync().catch(() => {});
  }

  async close(): Promise<void> {
    await this.sync();
    await this.#file.close();
  }
}
