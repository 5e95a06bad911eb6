// The end of a run's metrics: what the last steps were like.

import { open } from 'node:fs/promises';

/** More is not read; records have some 200 bytes. */
const BYTES = 128 * 1024;

/**
 * The mean loss of the last steps up to one, from the file's end.
 * @returns undefined where there is no such file or record
 */
export async function lastLosses(path: string, step: number, count: number): Promise<number | undefined> {
  const file = await open(path, 'r').catch(() => undefined);
  if (!file) return undefined;
  try {
    const info = await file.stat();
    if (!info.isFile()) return undefined;
    const from = Math.max(0, info.size - BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(info.size - from), 0, info.size - from, from);
    const losses = buffer
      .toString('utf8', 0, bytesRead)
      .split('\n')
      .map(recordOf)
      .filter((record) => record !== undefined && record.step <= step)
      .map((record) => record!.loss)
      .slice(-count);
    return losses.length > 0 ? losses.reduce((sum, loss) => sum + loss, 0) / losses.length : undefined;
  } finally {
    await file.close();
  }
}

function recordOf(line: string): { readonly step: number; readonly loss: number } | undefined {
  try {
    const { step, loss } = JSON.parse(line) as { step?: unknown; loss?: unknown };
    return Number.isFinite(step) && Number.isFinite(loss) ? { step: step as number, loss: loss as number } : undefined;
  } catch {
    return undefined;
  }
}
