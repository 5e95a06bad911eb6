// Checks of numbers on the command line.

import { InvalidArgumentError } from 'commander';

export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < Infinity)) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}

export function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('Expected a whole number from 1 on.');
  return value;
}

/** A regular expression more. */
export function patterns(text: string, before: readonly RegExp[] = []): RegExp[] {
  try {
    return [...before, new RegExp(text, 'i')];
  } catch (error) {
    throw new InvalidArgumentError(`Expected a regular expression: ${(error as Error).message}.`);
  }
}

/** Aborted by the first Ctrl-C or SIGTERM; the second Ctrl-C ends the process at once. */
export function interruption(note: (text: string) => void): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      note('Finishing what is being measured, then showing what there is.');
      controller.abort();
    });
  }
  return controller.signal;
}
