// Which classes a person means: names as they are first, then whatever their case, and numbers.

import { UsageError } from './errors.ts';
import { didYouMean } from './options.ts';

/** Unicode writes an accented letter as one character or as two; both are the same name. */
const composed = (name: string): string => name.normalize('NFC');
/** By way of capitals, so that ß and ss, σ and ς are the same. */
const caseless = (name: string): string => composed(composed(name).toUpperCase().toLowerCase());

/**
 * Labels of the classes that a list names, parted by commas; a name may hold commas itself.
 * @throws UsageError for a name that is no class, or could be several
 */
export function labelsOf(list: string, classNames: readonly string[], numClasses: number): number[] {
  const exact = index(classNames, composed),
    loose = index(classNames, caseless);
  const find = (name: string): readonly number[] => exact.get(composed(name)) ?? loose.get(caseless(name)) ?? [];
  const parts = list.split(',');
  const longest = Math.max(1, ...classNames.map((name) => name.split(',').length));
  const labels: number[] = [];
  for (let at = 0; at < parts.length;) {
    let count = Math.min(longest, parts.length - at);
    const name = (): string =>
      parts
        .slice(at, at + count)
        .join(',')
        .trim();
    while (count > 1 && find(name()).length === 0) count--;
    labels.push(only(name(), find(name()), classNames, numClasses));
    at += count;
  }
  return labels;
}

function index(names: readonly string[], key: (name: string) => string): Map<string, number[]> {
  const labels = new Map<string, number[]>();
  for (const [label, name] of names.entries()) {
    const known = labels.get(key(name));
    if (known) known.push(label);
    else labels.set(key(name), [label]);
  }
  return labels;
}

function only(name: string, found: readonly number[], classNames: readonly string[], numClasses: number): number {
  if (found.length === 1) return found[0];
  const shown = (names: readonly string[]): string => names.map((known) => JSON.stringify(known)).join(', ');
  if (found.length > 1) {
    throw new UsageError(
      `--classes names ${JSON.stringify(name)}, which may be ${shown(found.map((label) => classNames[label]))}; ` +
        `write it as it is, or give a number: ${found.join(', ')}.`,
    );
  }
  const label = /^\d+$/.test(name) ? Number(name) : NaN;
  if (label < numClasses) return label;
  const listed = classNames.length > 0 && classNames.length <= 20 ? `, or one of ${classNames.join(', ')}` : '';
  throw new UsageError(
    `--classes names ${JSON.stringify(name)}${didYouMean(name, classNames)}; expected a number from 0 to ${numClasses - 1}${listed}.`,
  );
}
