// JSON that was read from a file is somebody else's: how long it may be, what it must look like, and a sentence with
// the file and the field where it doesn't.

import { open, type FileHandle } from 'node:fs/promises';
import type { z } from 'zod';
import { FormatError } from '../core/errors.ts';
import { fileError } from './files.ts';

/** Longer than any of ours with ten thousand classes, and short enough that parsing it costs nothing. */
const LONGEST = 4 * 2 ** 20;

const DAMAGED = 'it is damaged, use another checkpoint';

/**
 * Reads a JSON object.
 *
 * @throws FileError when the file cannot be read; FormatError when it is too long, or no JSON object
 */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  let file: FileHandle | undefined;
  let text: string;
  try {
    file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > LONGEST)
      throw new FormatError('readJson', `${path} has ${size} bytes`, {
        expected: `at most ${LONGEST}`,
        remedy: DAMAGED,
      });
    text = await file.readFile('utf8');
  } catch (error) {
    throw error instanceof FormatError ? error : fileError('readJson', 'read', path, error);
  } finally {
    await file?.close();
  }
  const value = parsed(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FormatError('readJson', `${path} is not a JSON object`, { remedy: DAMAGED });
  return value as Record<string, unknown>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * A value that a schema accepts.
 *
 * @param path of the file, for the message
 * @param options.under name of the field that the value is of, if it is not the whole file
 * @param options.remedy what to do about a file that is refused
 * @throws FormatError that names the file, the field, its value and what was expected
 */
export function checked<T>(
  schema: z.ZodType<T>,
  value: unknown,
  path: string,
  { under, remedy = DAMAGED }: { readonly under?: string; readonly remedy?: string } = {},
): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = deepest(result.error.issues[0]);
  const keys = [...(under === undefined ? [] : [under]), ...issue.path.map(String)];
  if (issue.code === 'unrecognized_keys')
    throw new FormatError('checkFile', `${path}: ${[...keys, issue.keys[0]].join('.').slice(0, 100)} is unknown`, {
      expected: 'no such field',
      remedy,
    });
  const found = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)?.[key], value);
  const name = keys.length > 0 ? keys.join('.').slice(0, 100) : 'the whole';
  throw new FormatError('checkFile', `${path}: ${name} is ${shown(found)}`, {
    expected: expectation(issue),
    remedy,
  });
}

/** Of a choice between forms, what is wrong with the one that comes nearest. */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return issue;
  const inner = issue.errors.map(([first]) => deepest(first)).sort((a, b) => b.path.length - a.path.length)[0];
  return { ...inner, path: [...issue.path, ...inner.path] };
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return (
        { int: 'a whole number', number: 'a number', string: 'a text', boolean: 'true or false' }[
          issue.expected as string
        ] ?? (issue.expected === 'array' || issue.expected === 'tuple' ? 'a list' : `an ${issue.expected}`)
      );
    case 'invalid_value':
      return issue.values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(', ');
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${String(issue.minimum)}${unit(issue.origin)}`;
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${String(issue.maximum)}${unit(issue.origin)}`;
    default:
      return issue.message;
  }
}

const unit = (origin: string): string => (origin === 'string' ? ' characters' : origin === 'array' ? ' values' : '');

/** A value in a few characters. */
function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)} …` : text;
}
