// A small file by which rank 0 tells the launcher where its run is, so that it can be gone on with.

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
