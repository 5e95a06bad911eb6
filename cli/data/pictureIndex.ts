// What is known of each picture of a folder: its content's hash, and whether its header can be read. A run keeps it, so
// that going on reads again only what may have changed, and says which pictures did.
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { EngineError, errorSentence } from '../../core/errors.ts';
import { writeFileAtomic } from '../files.ts';
import { readImageHeader } from './decodeImage.ts';
import type { ListedImage } from './listImages.ts';
import { ChangedError } from './patience.ts';

/** One picture, as its line in the index has it. */
export interface IndexedPicture {
  /** See `ListedImage.name`. */
  readonly name: string;
  readonly bytes: number;
  /**
   * When it was written, and when anything of it was changed, in milliseconds: equal times mean that nobody touched it.
   */
  readonly modified: number;
  readonly changed: number;
  readonly hash: string;
  /** Why its header cannot be read. */
  readonly problem?: string;
}

export type PictureIndex = ReadonlyMap<string, IndexedPicture>;

/** Of bytes, one part after the other, in hexadecimal. */
export function contentHash(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 32);
}

/** Looks into one picture, or takes what an earlier look found where the file was not touched since. */
export async function examine({ name, path, stats }: ListedImage, known?: PictureIndex): Promise<IndexedPicture> {
  const before = known?.get(name);
  if (before && isUntouched(before, stats)) return before;
  const bytes = await readFile(path);
  const problem = bytes.length === 0 ? 'the file is empty' : await headerProblem(bytes);
  return {
    name,
    bytes: bytes.length,
    modified: stats.mtimeMs,
    changed: stats.ctimeMs,
    hash: contentHash(bytes),
    ...(problem !== undefined && { problem }),
  };
}

/** The bytes of a picture. @throws ChangedError when they are not those that were looked into */
export async function readUnchanged(path: string, { hash }: IndexedPicture): Promise<Uint8Array> {
  const bytes = await readFile(path);
  if (contentHash(bytes) !== hash) throw new ChangedError(`${path} has changed`);
  return bytes;
}

// Setting a file's times back changes the second of them, so that both together are hard to forge by accident.
const isUntouched = ({ bytes, modified, changed }: IndexedPicture, stats: Stats): boolean =>
  bytes === stats.size && modified === stats.mtimeMs && changed === stats.ctimeMs;

async function headerProblem(bytes: Uint8Array): Promise<string | undefined> {
  try {
    await readImageHeader(bytes);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}

/**
 * What a decoder complains of, in one line: the last one that says something, after those of the libraries below it.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof EngineError) return errorSentence(error);
  const lines = (error instanceof Error ? error.message : String(error)).split('\n').map((line) => line.trim());
  const line = lines.findLast((text) => /\p{L}{3}/u.test(text)) ?? 'unknown reason';
  return line.replace(/^Input buffer (has|contains)/, 'the file $1');
}

/** Which pictures differ between two looks at a folder, in words; undefined where none does. */
export function describeDifference(before: PictureIndex, now: PictureIndex): string | undefined {
  const of = (what: string, names: readonly string[]): string[] =>
    names.length === 0
      ? []
      : [
          `${names[0]}${names.length > 1 ? ` and ${names.length - 1} more` : ''} ${names.length > 1 ? 'are' : 'is'} ${what}`,
        ];
  const names = [...before.keys()];
  const parts = [
    ...of(
      'other than before',
      names.filter((name) => now.has(name) && now.get(name)!.hash !== before.get(name)!.hash),
    ),
    ...of(
      'missing',
      names.filter((name) => !now.has(name)),
    ),
    ...of(
      'new',
      [...now.keys()].filter((name) => !before.has(name)),
    ),
  ];
  return parts.length > 0 ? parts.join(', ') : undefined;
}

/** Writes an index, a line a picture. */
export async function writeIndex(path: string, index: PictureIndex): Promise<void> {
  function* lines(): Generator<Uint8Array> {
    let text = '';
    for (const { name, bytes, modified, changed, hash, problem } of index.values()) {
      text += `${JSON.stringify([name, bytes, modified, changed, hash, ...(problem === undefined ? [] : [problem])])}\n`;
      if (text.length > 65536) {
        yield Buffer.from(text);
        text = '';
      }
    }
    yield Buffer.from(text);
  }
  await writeFileAtomic(path, lines());
}

/** Longest line and largest count of an index that is read: beyond them it is none of ours. */
const LONGEST_LINE = 65536,
  MOST_PICTURES = 2e7;

/** Reads an index; undefined where there is none, or one that is damaged: then every picture is looked into again. */
export async function readIndex(path: string): Promise<PictureIndex | undefined> {
  const index = new Map<string, IndexedPicture>();
  const input = createReadStream(path, { encoding: 'utf8' });
  try {
    for await (const line of boundedLines(input)) {
      const row: unknown = JSON.parse(line);
      if (!Array.isArray(row) || row.length < 5 || row.length > 6 || index.size >= MOST_PICTURES) return undefined;
      const [name, bytes, modified, changed, hash, problem] = row as unknown[];
      if (typeof name !== 'string' || typeof hash !== 'string' || !/^[0-9a-f]{32}$/.test(hash)) return undefined;
      if (![bytes, modified, changed].every((value) => typeof value === 'number')) return undefined;
      if (problem !== undefined && typeof problem !== 'string') return undefined;
      const times = { bytes: bytes as number, modified: modified as number, changed: changed as number };
      index.set(name, { name, ...times, hash, ...(problem !== undefined && { problem }) });
    }
    return index.size > 0 ? index : undefined;
  } catch {
    return undefined;
  } finally {
    input.destroy();
  }
}

/** Lines of a stream; ends with an error at one that is too long to be ours, before it fills the memory. */
async function* boundedLines(input: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of input) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    if (rest.length > LONGEST_LINE) throw new Error('a line is too long');
    yield* lines;
  }
  if (rest !== '') yield rest;
}
