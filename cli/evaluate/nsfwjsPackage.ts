// The weights in the npm package nsfwjs: JavaScript files whose strings hold them in base64. They are read as text;
// nothing of the package is run.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FormatError } from '../../core/errors.ts';
import type { Device } from '../../core/index.ts';
import { NsfwjsInception, nsfwjsShapes, type KerasTensor } from '../../models/evaluate/index.ts';
import { FileError, fileError } from '../files.ts';

const MODEL = join('dist', 'models', 'inception_v3');

/** Files of a sound package are smaller. */
const LARGEST = 16 * 2 ** 20;

const HOW = 'run npm pack nsfwjs, unpack the file, and give its folder package with --nsfwjs';

/** The folder of the package: the one named, or the nearest node_modules/nsfwjs. */
export function findNsfwjs(given: string | undefined): string {
  const candidates = given === undefined ? nearby() : [given, join(given, 'package'), join(given, 'nsfwjs')];
  const found = candidates.find((folder) => existsSync(join(folder, MODEL)));
  if (found !== undefined) return resolve(found);
  throw new FileError(
    'nsfwjs',
    given === undefined ? 'The package nsfwjs is not installed' : `${given} holds no ${MODEL}`,
    {
      path: given ?? 'node_modules/nsfwjs',
      expected: 'the folder of the npm package nsfwjs',
      remedy: HOW,
    },
  );
}

function nearby(): string[] {
  const found: string[] = [];
  for (const begin of [process.cwd(), dirname(fileURLToPath(import.meta.url))])
    for (let folder = begin; ; folder = dirname(folder)) {
      found.push(join(folder, 'node_modules', 'nsfwjs'));
      if (folder === dirname(folder)) break;
    }
  return found;
}

async function read(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > LARGEST)
      throw new FormatError('nsfwjs', `${path} has ${size} bytes`, { expected: `at most ${LARGEST}`, remedy: HOW });
    return await readFile(path, 'latin1');
  } catch (error) {
    throw fileError('nsfwjs', 'read', path, error);
  }
}

/**
 * A tensor's entry in the manifest, as the minifier writes it; numbers may begin with a point, and each has its
 * quantisation.
 */
const ENTRY =
  /\{name:"([\w/]{1,100})",shape:\[([\d,]{1,40})\],dtype:"float32",quantization:\{min:([-+.\deE]{1,30}),scale:([-+.\deE]{1,30}),dtype:"uint8"\}\}/g;

/**
 * Reads the weights and makes the network.
 * @throws FileError where files are missing; FormatError where they are others than nsfwjs 4's
 */
export async function openNsfwjs(device: Device, given: string | undefined): Promise<NsfwjsInception> {
  const folder = join(findNsfwjs(given), MODEL);
  const manifest = await read(join(folder, 'model.min.js'));
  const hash = createHash('sha256').update(manifest);
  const shards: Buffer[] = [];
  for (let i = 1; i <= 6; i++) {
    const path = join(folder, `group1-shard${i}of6.min.js`);
    const [, text] = /exports="([A-Za-z0-9+/=]*)"/.exec(await read(path)) ?? [];
    if (text === undefined)
      throw new FormatError('nsfwjs', `${path} holds no weights`, { expected: 'a string in base64', remedy: HOW });
    shards.push(Buffer.from(text, 'base64'));
    hash.update(shards[i - 1]);
  }
  const data = Buffer.concat(shards);
  const expected = nsfwjsShapes();
  const weights = new Map<string, KerasTensor>();
  let at = 0;
  for (const [, name, dimensions, min, scale] of manifest.matchAll(ENTRY)) {
    const shape = dimensions.split(',').map(Number);
    const count = (expected.get(name) ?? []).reduce((a, b) => a * b, 1);
    if (String(shape) !== String(expected.get(name)) || at + count > data.length)
      throw new FormatError('nsfwjs', `${folder}: ${name} has shape (${shape.join(',')})`, {
        expected: `(${(expected.get(name) ?? []).join(',')}), and ${data.length} bytes hold ${at} before it`,
        remedy: HOW,
      });
    const [first, step] = [Number(min), Number(scale)];
    weights.set(name, { shape, data: Float32Array.from(data.subarray(at, at + count), (v) => v * step + first) });
    at += count;
  }
  if (at !== data.length || weights.size !== expected.size)
    throw new FormatError('nsfwjs', `${folder} holds ${weights.size} tensors and ${data.length} bytes`, {
      expected: `${expected.size} tensors`,
      remedy: HOW,
    });
  return new NsfwjsInception(device, weights, { identity: `nsfwjs ${hash.digest('hex').slice(0, 16)}` });
}
