// The metrics of a run: JSON lines that are only ever appended to.

import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { isDiskFull } from './errors.ts';
import { errorCode, fileError, writeFileAtomic } from './files.ts';

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
  append(record: object): Promise<boolean> {
    this.#pending = Buffer.concat([this.#pending, Buffer.from(`${JSON.stringify(record)}\n`)]);
    return this.#write();
  }

  /** Makes what was written last through a power cut. */
  async sync(): Promise<void> {
    await this.#file.sync().catch((error: unknown) => {
      // EINVAL: a pipe or a device, which has nothing to sync.
      if (!isDiskFull(error) && errorCode(error) !== 'EINVAL') throw fileError('metrics', 'write', this.path, error);
    });
  }

  /** @returns whether everything is written; what is not is lost */
  async close(): Promise<boolean> {
    try {
      const whole = await this.#write();
      await this.sync();
      return whole;
    } finally {
      await this.#file.close();
    }
  }

  async #write(): Promise<boolean> {
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
}

/** Drops the records of steps after `step`, and a last line that was cut: what a run that goes on from there writes again. */
export async function truncateMetrics(path: string, step: number): Promise<void> {
  try {
    await writeFileAtomic(path, keptLines(path, step));
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw fileError('metrics', 'read', path, error);
  }
}

async function* keptLines(path: string, step: number): AsyncGenerator<Uint8Array> {
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (stepOfLine(line) <= step) yield Buffer.from(`${line}\n`);
  }
}

/** Infinity for a line that is no record. */
function stepOfLine(line: string): number {
  try {
    return (JSON.parse(line) as { step?: number }).step ?? -Infinity;
  } catch {
    return Infinity;
  }
}
