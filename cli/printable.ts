// Text of others on the terminal: names of files, classes, models, tensors and machines may hold escape sequences, line breaks and marks
// that turn the direction of writing. Everything that this program prints goes through here.

import { fstatSync } from 'node:fs';

// Control characters, formatting characters but for the two joiners that scripts and emoji need, half surrogates, line separators.
const UNPRINTABLE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Text on one line, in which nothing moves the cursor, colours, or turns the direction: `\x1b` instead of an escape. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.codePointAt(0)!;
    return (
      NAMED[character] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`)
    );
  });
}

/** The same for text of several lines, whose parts that are others' went through `printable` already. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n');

/** JSON that a terminal shows as it is; `JSON.stringify` escapes only half of the control characters. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent)
    .split('\n')
    .map((line) =>
      line.replace(UNPRINTABLE, (character) =>
        Array.from({ length: character.length }, (_, i) => character.charCodeAt(i))
          .map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`)
          .join(''),
      ),
    )
    .join('\n');
}

/** Prints lines as a command's result. */
export function print(text: string): void {
  process.stdout.write(`${printableLines(text)}\n`);
}

/** Whether stdout and stderr lead to the same file or pipe, so that what is meant for programs and for people meets. */
export function outputsMeet(): boolean {
  try {
    const [out, err] = [fstatSync(1), fstatSync(2)];
    return !out.isCharacterDevice() && out.dev === err.dev && out.ino === err.ino;
  } catch {
    return false;
  }
}
