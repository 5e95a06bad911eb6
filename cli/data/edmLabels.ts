// dataset.json, as the tools of StyleGAN and EDM (T. Karras et al., "Elucidating the Design Space of Diffusion-Based
// Generative Models", dataset_tool.py) write it beside pictures: {"labels": [["00000/img00000000.png", 6], …]}, or null
// for pictures without classes.
import { readFile, stat } from 'node:fs/promises';
import { FormatError } from '../../core/errors.ts';
import { errorCode } from '../files.ts';
import { checked } from '../jsonFile.ts';
import { edmSchema } from '../schemas.ts';

export const EDM_LABELS = 'dataset.json';
/** Enough for ImageNet-21k. */
export const LONGEST_EDM = 1024 * 2 ** 20;

/** Labels by the picture's name; null where the pictures have no classes. */
export type EdmLabels = ReadonlyMap<string, number> | null;

/** The labels in a file; undefined where there is none, or it is another program's. @throws FormatError */
export async function readEdmLabels(path: string): Promise<EdmLabels | undefined> {
  const info = await stat(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!info?.isFile()) return undefined;
  checkEdmSize(info.size, path);
  return parseEdmLabels(await readFile(path), path);
}

/** @throws FormatError for a file that is too long to be one */
export function checkEdmSize(bytes: number, path: string): void {
  if (bytes > LONGEST_EDM)
    throw new FormatError('edmLabels', `${path} has ${bytes} bytes`, {
      expected: `at most ${LONGEST_EDM}`,
      remedy: REMEDY,
    });
}

const REMEDY = 'make it again, or take it away for classes by folders';

/** @param path for messages */
export function parseEdmLabels(bytes: Uint8Array, path: string): EdmLabels | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'));
  } catch (cause) {
    throw new FormatError('edmLabels', `${path} is no JSON`, { remedy: REMEDY, cause });
  }
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, 'labels')) return undefined;
  const { labels } = checked(edmSchema, value, path, { remedy: REMEDY });
  if (labels === null) return null;
  return new Map(labels.map(([name, label]) => [name.replaceAll('\\', '/').normalize('NFC'), label]));
}
