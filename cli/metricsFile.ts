// The metrics of a run: JSON lines that are only ever appended to.

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { errorCode, fileError } from './files.ts';
import { metricsLineSchema } from './schemas.ts';

/** Bytes of records that wait where the disk refuses them; beyond, the oldest are given up. */
const MOST_WAITING = 16 * 2 ** 20;

/**
 * Appends metrics, a line a record. Lines that the disk refuses, full or failing, wait in memory and are tried again
 * with the next: a run is worth more than its metrics.
 */
export class MetricsFile {
  readonly path: string;
  private readonly file: FileHandle;
  private pending: Buffer = Buffer.alloc(0);
  private failure: unknown;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.file = file;
  }

  static async open(path: string): Promise<MetricsFile> {
    try {
      return new MetricsFile(path, await open(path, 'a'));
    } catch (error) {
      throw fileError('metrics', 'write', path, error);
    }
  }

  /** Why the last records are not written: an error of the system; undefined where they are. */
  get problem(): unknown {
    return this.failure;
  }

  /** @returns whether everything so far is written */
  append(record: object): Promise<boolean> {
    this.pending = Buffer.concat([this.pending, Buffer.from(`${JSON.stringify(record)}\n`)]);
    if (this.pending.length > MOST_WAITING)
      this.pending = this.pending.subarray(this.pending.indexOf(10, this.pending.length - MOST_WAITING / 2) + 1);
    return this.write();
  }

  /** Makes what was written last through a power cut, as far as the disk does. */
  async sync(): Promise<void> {
    await this.file.sync().catch((error: unknown) => {
      if (errorCode(error) === undefined) throw error;
    });
  }

  /** @returns whether everything is written; what is not is lost */
  async close(): Promise<boolean> {
    try {
      const whole = await this.write();
      await this.sync();
      return whole;
    } finally {
      // Some file systems say only now that they lost something.
      await this.file.close().catch(() => undefined);
    }
  }

  private async write(): Promise<boolean> {
    try {
      while (this.pending.length > 0) {
        const { bytesWritten } = await this.file.write(this.pending);
        this.pending = this.pending.subarray(bytesWritten);
      }
      this.failure = undefined;
      return true;
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
      this.failure = error;
      return false;
    }
  }
}

/** Bytes read at a time, and the longest line that can be a record. */
const PIECE = 65536;

/**
 * Drops the records of steps after `step`, and a last line that was cut: what a run that goes on from there writes
 * again. They are at the end, so the file is read from there and cut once, whatever its size.
 */
export async function truncateMetrics(path: string, step: number): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'r+');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw fileError('metrics', 'read', path, error);
  }
  try {
    const info = await file.stat();
    if (!info.isFile()) return;
    const kept = await endOfKept(file, info.size, step);
    if (kept < info.size) {
      await file.truncate(kept);
      await file.sync();
    }
  } catch (error) {
    throw fileError('metrics', 'write', path, error);
  } finally {
    await file.close();
  }
}

/** Where the last line ends that stays. */
async function endOfKept(file: FileHandle, size: number, step: number): Promise<number> {
  // What comes after the last newline was cut.
  let end = (await lastNewline(file, size)) + 1;
  while (end > 0) {
    const from = Math.max(0, end - PIECE);
    const piece = await read(file, from, end);
    let at = piece.length;
    while (at > 0) {
      const begin = piece.subarray(0, at - 1).lastIndexOf(10) + 1;
      if (begin === 0 && from > 0) break; // it begins before this piece
      if (stepOfLine(piece.toString('utf8', begin, at)) <= step) return from + at;
      at = begin;
    }
    // A line that is longer than a piece is no record.
    end = at < piece.length ? from + at : (await lastNewline(file, end - 1)) + 1;
  }
  return 0;
}

/** The place of the last newline before `end`; -1 where there is none. */
async function lastNewline(file: FileHandle, end: number): Promise<number> {
  for (let at = end; at > 0; at -= PIECE) {
    const begin = Math.max(0, at - PIECE);
    const found = (await read(file, begin, at)).lastIndexOf(10);
    if (found >= 0) return begin + found;
  }
  return -1;
}

async function read(file: FileHandle, begin: number, end: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(end - begin), 0, end - begin, begin);
  return buffer.subarray(0, bytesRead);
}

/** Infinity for a line that is no record. */
function stepOfLine(line: string): number {
  try {
    const record = metricsLineSchema.safeParse(JSON.parse(line));
    return record.success ? (record.data.step ?? -Infinity) : Infinity; // a note of somebody else's stays
  } catch {
    return Infinity;
  }
}
