// What is known of each picture of a folder: its content's hash, and whether its header can be read. A run keeps it, so
// that going on reads again only what may have changed, and says which pictures did.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { EngineError, errorSentence } from '../../core/errors.ts';
import type { Channels } from '../../models/data/channels.ts';
import { writeFileAtomic } from '../files.ts';
import { pictureLineSchema } from '../schemas.ts';
import { readImageHeader } from './decodeImage.ts';
import { ChangedError } from './patience.ts';
import { DamagedError, type ListedImage, type PictureSource } from './pictureSource.ts';

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

/** What a look into a picture found; its channels where it was not taken from an earlier look. */
export interface Examined {
  readonly picture: IndexedPicture;
  readonly channels?: Channels;
}

export type PictureIndex = ReadonlyMap<string, IndexedPicture>;

/** Of bytes, one part after the other, in hexadecimal. */
export function contentHash(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 32);
}

/** Looks into one picture, or takes what an earlier look found where the file was not touched since. */
export async function examine(source: PictureSource, image: ListedImage, known?: PictureIndex): Promise<Examined> {
  const { name, stats } = image;
  const before = known?.get(name);
  if (before && isUntouched(before, stats)) return { picture: before };
  const times = { modified: stats.mtimeMs, changed: stats.ctimeMs };
  let bytes: Uint8Array;
  try {
    bytes = await source.read(image);
  } catch (error) {
    if (!(error instanceof DamagedError)) throw error;
    return { picture: { name, bytes: stats.size, ...times, hash: contentHash(), problem: error.message } };
  }
  const { problem, channels }: Header = bytes.length === 0 ? { problem: 'the file is empty' } : await header(bytes);
  const hash = contentHash(bytes);
  return {
    picture: { name, bytes: bytes.length, ...times, hash, ...(problem !== undefined && { problem }) },
    channels,
  };
}

/** The bytes of a picture. @throws ChangedError when they are not those that were looked into */
export async function readUnchanged(
  source: PictureSource,
  image: Pick<ListedImage, 'path' | 'name'>,
  { hash }: IndexedPicture,
): Promise<Uint8Array> {
  const bytes = await source.read(image).catch((error: unknown) => {
    // It was not damaged when it was looked into.
    if (error instanceof DamagedError) return undefined;
    throw error;
  });
  if (!bytes || contentHash(bytes) !== hash) throw new ChangedError(`${image.path} has changed`);
  return bytes;
}

// Setting a file's times back changes the second of them, so that both together are hard to forge by accident.
const isUntouched = ({ bytes, modified, changed }: IndexedPicture, stats: ListedImage['stats']): boolean =>
  bytes === stats.size && modified === stats.mtimeMs && changed === stats.ctimeMs;

interface Header {
  readonly problem?: string;
  readonly channels?: Channels;
}

async function header(bytes: Uint8Array): Promise<Header> {
  try {
    const { channels } = await readImageHeader(bytes);
    return { channels };
  } catch (error) {
    return { problem: reasonOf(error) };
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
      const { success, data } = pictureLineSchema.safeParse(JSON.parse(line));
      if (!success || index.size >= MOST_PICTURES) return undefined;
      const [name, bytes, modified, changed, hash, problem] = data;
      index.set(name, { name, bytes, modified, changed, hash, ...(problem !== undefined && { problem }) });
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
