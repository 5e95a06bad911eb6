// Small files by which ranks tell the launcher where their run is and which of them were silent, so that it can be gone
// on with.

import { readFileSync, writeFileSync } from 'node:fs';

/** Names the file; set by the launcher. */
export const REPORT = 'DIS_RUN_REPORT';

export function reportFolder(path: string): void {
  const file = process.env[REPORT];
  if (file) writeFileSync(file, path);
}

export function reportedFolder(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8') || undefined;
  } catch {
    return undefined;
  }
}

/** Tells the launcher which ranks were silent. */
export function reportLost(ranks: readonly number[]): void {
  const file = process.env[REPORT];
  if (file) writeFileSync(`${file}.lost`, ranks.join(' '));
}

/** The ranks that were silent. */
export function reportedLost(file: string): number[] {
  try {
    return readFileSync(`${file}.lost`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
