// A disk that fails: writes to files whose path matches get an error of the system, as Node reports it.

import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { constants } from 'node:os';

export interface Fault {
  /** Of the paths that fail. */
  readonly path: RegExp;
  readonly code: 'EIO' | 'EROFS' | 'EFBIG' | 'EDQUOT' | 'ENOSPC';
  /** Asked before each write; default always. */
  readonly when?: () => boolean;
}

/** The error that Node makes: for quotas it has no name. */
export function systemError(code: Fault['code'], path: string): Error {
  const errno = -(constants.errno as Record<string, number>)[code];
  const named = code === 'EDQUOT' ? `Unknown system error ${errno}` : code;
  return Object.assign(new Error(`${named}: write`), { code: named, errno, syscall: 'write', path });
}

/** Runs `body` while the disk fails in that way. */
export async function withFault<T>({ path, code, when = () => true }: Fault, body: () => Promise<T>): Promise<T> {
  const original = fs.open;
  fs.open = (async (...args: Parameters<typeof fs.open>) => {
    const name = String(args[0]);
    const file = await original(...args);
    if (!path.test(name) || args[1] === 'r') return file;
    for (const method of ['write', 'writeFile'] as const) {
      const real = file[method].bind(file) as (...values: unknown[]) => Promise<unknown>;
      Object.defineProperty(file, method, {
        value: (...values: unknown[]) => (when() ? Promise.reject(systemError(code, name)) : real(...values)),
      });
    }
    return file;
  }) as typeof fs.open;
  syncBuiltinESMExports();
  try {
    return await body();
  } finally {
    fs.open = original;
    syncBuiltinESMExports();
  }
}
