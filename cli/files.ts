// Files that are whole or absent: written under another name in the same folder, synced, then renamed. Whoever reads
// the folder, or pulls the plug, sees the old file or the new one.
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { constants, hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { EngineError } from '../core/errors.ts';
import type { ErrorDetails } from '../core/errors.ts';
import { isRunning } from './processes.ts';

/**
 * A file or folder cannot be read or written. `code` is the system's error code, such as ENOSPC, where there is one.
 */
export class FileError extends EngineError {
  override name = 'FileError';
  readonly path: string;
  readonly code: string | undefined;

  constructor(operation: string, what: string, { path, ...options }: ErrorDetails & { readonly path: string }) {
    super(operation, what, options);
    this.path = path;
    this.code = errorCode(options.cause);
  }
}

/**
 * The system's code of an error (ENOENT, …), if it has one. Those that Node has no name for, EDQUOT among them, go by
 * their number.
 */
export function errorCode(error: unknown): string | undefined {
  const { code, errno } = (error ?? {}) as { code?: unknown; errno?: unknown };
  if (typeof code !== 'string') return undefined;
  if (!code.startsWith('Unknown system error') || typeof errno !== 'number') return code;
  return Object.entries(constants.errno).find(([, value]) => value === -errno)?.[0] ?? code;
}

const advice: Record<string, readonly [problem: string, remedy: string]> = {
  ENOSPC: ['no space is left on the device', 'free some space or choose another folder'],
  EDQUOT: ['the disk quota is used up', 'free some space or choose another folder'],
  ENOENT: ['the folder does not exist', 'create it first'],
  ENOTDIR: ['a part of the path is not a folder', 'choose another path'],
  EISDIR: ['there is a folder of that name', 'choose another name'],
  EACCES: ['permission is denied', 'choose a path that you may use'],
  EPERM: ['permission is denied', 'choose a path that you may use'],
  EROFS: ['the file system is read-only', 'choose another folder'],
  EFBIG: ['the file would be larger than allowed', 'raise the limit with `ulimit -f`, or choose another folder'],
  EIO: ['the disk reports an error', 'check it, or choose another folder'],
  EMFILE: ['too many files are open', 'raise the limit of open files'],
};

const READING = new Set(['read', 'open']);

/** What goes into a file: text, bytes, or pieces of them that are written one after another. */
export type FileData = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

// Tells the machines of a shared folder apart.
const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 6);
const TEMPORARY = new RegExp(`^\\..+\\.${HOST}-(\\d+)\\.[0-9a-f]{8}\\.tmp$`);

/** Removes the temporary files that `writeFileAtomic` left in a folder when a process of this machine was killed. */
export async function sweepTemporary(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, pid] = TEMPORARY.exec(name) ?? [];
    if (pid !== undefined && !isRunning(Number(pid))) await rm(join(folder, name), { force: true }).catch(() => {});
  }
}

/**
 * Makes a folder, with those above it.
 * @returns removes what was made, as far as it is empty
 */
export async function makeFolder(path: string): Promise<() => Promise<void>> {
  const first = await mkdir(path, { recursive: true });
  return async () => {
    if (first === undefined) return;
    for (let folder = resolve(path); ; folder = dirname(folder)) {
      const gone = await rmdir(folder).then(
        () => true,
        () => false,
      );
      if (!gone || folder === resolve(first)) return;
    }
  };
}

/**
 * Finds out whether a file can be written, by writing one beside it, and clears away what killed processes left there.
 * @throws FileError when it cannot
 */
export async function checkWritable(path: string): Promise<void> {
  const folder = dirname(path);
  await sweepTemporary(folder);
  if ((await stat(path).catch(() => undefined))?.isDirectory())
    throw fileError('checkWritable', 'write', path, Object.assign(new Error(), { code: 'EISDIR' }));
  const probe = join(folder, `.probe.${HOST}-${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
  try {
    await writeFileSynced(probe, 'x');
  } catch (error) {
    throw fileError('checkWritable', 'write', path, error);
  } finally {
    await rm(probe, { force: true }).catch(() => {});
  }
}

/**
 * Writes a file so that it appears at once and whole: temporary name in the same folder, fsync, rename, fsync of the
 * folder. A file of that name is replaced. On failure nothing changes and the temporary file is removed.
 * @throws FileError when it cannot be written; the message names the path and the reason
 */
export async function writeFileAtomic(path: string, data: FileData): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${HOST}-${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
  try {
    await writeFileSynced(temporary, data);
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw fileError('writeFileAtomic', 'write', path, error);
  }
}

/**
 * Writes a new file and syncs it; for files of a folder that is renamed as a whole. The system's errors come as they
 * are.
 */
export async function writeFileSynced(path: string, data: FileData): Promise<void> {
  const file = await open(path, 'wx');
  try {
    if (typeof data === 'string' || data instanceof Uint8Array) await file.writeFile(data);
    else for await (const piece of data) await file.writeFile(piece);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What the system says of a path as a sentence; errors that are not the system's stay as they are. */
export function fileError(operation: string, attempt: string, path: string, error: unknown): unknown {
  const code = errorCode(error);
  if (code === undefined || error instanceof FileError) return error;
  // What is missing is the file that is read, or the folder that is written to.
  const missing = code === 'ENOENT' && READING.has(attempt);
  const [problem, remedy] = missing
    ? ['it does not exist', 'check the path']
    : (advice[code] ?? [`the system reports ${code}`, 'check the path and the disk']);
  return new FileError(operation, `Cannot ${attempt} ${path}: ${problem}`, { path, remedy, cause: error });
}

/**
 * Makes a rename last through a power cut. Some systems (Windows, network drives) cannot sync a folder; there the
 * rename alone must do.
 */
export async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined || !['EISDIR', 'EPERM', 'EACCES', 'EINVAL', 'ENOTSUP', 'EBADF'].includes(code)) throw error;
  }
}
