// Options of the command line with types: each parser turns a flag's text into a value or says in one sentence what it
// expected.

import { Option } from 'commander';
import { UsageError } from './errors.ts';

/** Text of a flag → value; `name` is the flag as typed, for the error. */
export type Parser<T> = (text: string, name: string) => T;

/**
 * An option whose value is checked when it is read, e.g.
 * `flag('--batch <n>', 'images a step', integer({ min: 1 }), 16)`.
 */
export function flag<T>(flags: string, description: string, parse: Parser<T>, initial?: T): Option {
  const option = new Option(flags, description);
  const name = option.long ?? flags;
  option.argParser((text: string) => parse(text, name));
  if (initial !== undefined) option.default(initial, Array.isArray(initial) ? initial.join(',') : undefined);
  return option;
}

export function integer({
  min = Number.MIN_SAFE_INTEGER,
  max = Number.MAX_SAFE_INTEGER,
}: { min?: number; max?: number } = {}): Parser<number> {
  return (text, name) => {
    // 50k and 1_000_000 are how people write steps.
    const match = /^([+-]?\d[\d_]*)([kKmM]?)$/.exec(text.trim());
    const value = match
      ? Number(match[1].replaceAll('_', '')) * ({ k: 1e3, m: 1e6 }[match[2].toLowerCase()] ?? 1)
      : NaN;
    if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
    throw new UsageError(
      `${name} is ${quote(text)}, expected a whole number${range(min, max, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)}.`,
    );
  };
}

export function number({
  min = -Infinity,
  max = Infinity,
  above,
}: { min?: number; max?: number; /** Exclusive lower bound. */ above?: number } = {}): Parser<number> {
  return (text, name) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (Number.isFinite(value) && value >= min && value <= max && (above === undefined || value > above)) return value;
    const wanted =
      above !== undefined
        ? ` above ${above}${max < Infinity ? ` up to ${max}` : ''}`
        : range(min, max, -Infinity, Infinity);
    throw new UsageError(`${name} is ${quote(text)}, expected a number${wanted}.`);
  };
}

/** A number in [0, 1), or [0, 1] with `closed`. */
export function probability({ closed = false }: { closed?: boolean } = {}): Parser<number> {
  return (text, name) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (value >= 0 && (value < 1 || (closed && value === 1))) return value;
    throw new UsageError(`${name} is ${quote(text)}, expected a number from 0 to ${closed ? '1' : 'below 1'}.`);
  };
}

/** One of several words, in any case. */
export function choice<const T extends string>(values: readonly T[]): Parser<T> {
  return (text, name) => {
    const found = values.find((value) => value.toLowerCase() === text.toLowerCase());
    if (found !== undefined) return found;
    throw new UsageError(`${name} is ${quote(text)}${didYouMean(text, values)}; expected one of ${values.join(', ')}.`);
  };
}

/** One of several numbers. */
export function oneOf<const T extends number>(values: readonly T[]): Parser<T> {
  const word = choice(values.map(String));
  return (text, name) => Number(word(text.trim(), name)) as T;
}

/** Any text that is not empty. */
export const text: Parser<string> = (value, name) => {
  if (value.trim() !== '') return value;
  throw new UsageError(`${name} is empty, expected some text.`);
};

/** Several values separated by commas. */
export function list<T>(item: Parser<T>, { length }: { length?: number } = {}): Parser<T[]> {
  return (value, name) => {
    const items = value.split(',').map((part) => part.trim());
    if (items.some((part) => part === '') || (length !== undefined && items.length !== length)) {
      throw new UsageError(
        `${name} is ${quote(value)}, expected ${length ?? 'values'}${length === undefined ? '' : ' values'} separated by commas.`,
      );
    }
    return items.map((part) => item(part, name));
  };
}

/** `, did you mean X` for the nearest of `known`, or nothing where none is near. */
export function didYouMean(typed: string, known: Iterable<string>): string {
  let nearest: string | undefined,
    least = Infinity;
  for (const word of known) {
    const distance = editDistance(typed.toLowerCase(), word.toLowerCase());
    if (distance < least) [nearest, least] = [word, distance];
  }
  return nearest !== undefined && least <= Math.max(1, Math.floor(Math.max(typed.length, nearest.length) * 0.4))
    ? `, did you mean ${nearest}`
    : '';
}

/**
 * Insertions, deletions, substitutions and swaps of neighbours that lead from `a` to `b` (optimal string alignment).
 */
function editDistance(a: string, b: string): number {
  const d = Array.from({ length: a.length + 1 }, (_, i) =>
    Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)),
  );
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? d[i - 2][j - 2] + 1 : Infinity;
      d[i][j] = Math.min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1), swapped);
    }
  }
  return d[a.length][b.length];
}

const quote = (value: string): string => JSON.stringify(value);

function range(min: number, max: number, lowest: number, highest: number): string {
  if (min > lowest && max < highest) return ` from ${min} to ${max}`;
  if (min > lowest) return ` of at least ${min}`;
  return max < highest ? ` of at most ${max}` : '';
}
