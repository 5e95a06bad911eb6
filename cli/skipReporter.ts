// Names files that cannot be read as they are met: the first ones each, so that a folder full of them doesn't drown the
// rest.

import type { SkippedFile } from './data/pictureSource.ts';
import { say } from './progress.ts';

const NAMED = 20;

/** A handler for `onSkip`. The total is told at the end of the run. */
export function skipReporter(write: (line: string) => void = say): (file: SkippedFile) => void {
  let count = 0;
  return ({ path, reason }) => {
    count++;
    if (count <= NAMED) write(`Skipped ${path}: ${reason}.`);
    else if (count === NAMED + 1) write('More files are skipped; they are counted from here on.');
  };
}
