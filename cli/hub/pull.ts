// A repository of the Hub as a folder here. What comes is somebody else's: only files that a checkpoint has are taken,
// under our own names for them, none larger than its configuration explains; what an interrupted download left is gone on
// from, and hashes are compared.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { FormatError } from '../../core/errors.ts';
import { HubError } from '../errors.ts';
import { FileError, fileError, syncFolder, writeFileAtomic } from '../files.ts';
import { bytes as inBytes } from '../format.ts';
import { checked, readJson } from '../jsonFile.ts';
import { kindNamed } from '../modelKinds/index.ts';
import { Progress, type ProgressStyle } from '../progress.ts';
import { parseRunConfig, type RunConfig } from '../runConfig.ts';
import { hubEntrySchema, pulledSchema, type HubEntry } from '../schemas.ts';
import { asking, type HubAccess } from './client.ts';

const MEBI = 2 ** 20;
/** Files of a checkpoint: the most bytes they may have, beside what the parameters take, and how often they hold those. */
const TAKEN: Readonly<Record<string, readonly [bytes: number, parameters: number]>> = {
  'config.json': [4 * MEBI, 0],
  'state.json': [4 * MEBI, 0],
  'ema.safetensors': [16 * MEBI, 1],
  'model.safetensors': [16 * MEBI, 1],
  'optimizer.safetensors': [16 * MEBI, 2],
  'README.md': [MEBI, 0],
  'samples.png': [64 * MEBI, 0],
};
/** What was pulled: names and the marks that the Hub gives their contents. */
const PULLED = '.pulled.json';
const MOST_FILES = 10_000;

export interface PullOptions {
  readonly revision?: string;
  /** Also the optimizer's state, from which training goes on. */
  readonly optimizer?: boolean;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/**
 * Brings a repository's checkpoint into a folder. Files that are there already stay.
 * @throws HubError, FileError; FormatError where what comes is no checkpoint, or larger than one
 */
export async function pull(access: HubAccess, name: string, folder: string, options: PullOptions): Promise<string[]> {
  const entries = await listed(access, name, options);
  for (const needed of ['config.json', 'state.json'])
    if (!entries.has(needed))
      throw new FormatError('pull', `${name} has no ${needed}`, { expected: 'a repository that dis-cli push made' });
  await makeOwn(folder);
  const known = await readPulled(folder);
  const take = async (entry: HubEntry, progress?: Progress): Promise<void> => {
    if (known[entry.path] === mark(entry) && (await sizeOf(join(folder, entry.path))) === entry.size) return;
    await download(access, name, folder, entry, options, progress);
    known[entry.path] = mark(entry);
    await writeFileAtomic(join(folder, PULLED), `${JSON.stringify(known)}\n`);
  };
  const limit = (path: string, parameters: number): number => TAKEN[path][0] + 4 * TAKEN[path][1] * parameters;
  const check = (entry: HubEntry, parameters: number): void => {
    if (entry.size > limit(entry.path, parameters))
      throw new FormatError('pull', `${entry.path} of ${name} has ${entry.size} bytes`, {
        expected: `at most ${limit(entry.path, parameters)}, as its configuration says`,
      });
  };
  const config = entries.get('config.json')!;
  check(config, 0);
  await take(config);
  const { kind, model, settings } = await configOf(folder, name);
  const { parameters } = kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision });
  const rest = [...entries.values()].filter(({ path }) => path !== 'config.json');
  for (const entry of rest) check(entry, parameters);
  const total = rest.reduce((sum, { size }) => sum + size, 0);
  await checkSpace(folder, total);
  const progress = new Progress({ noun: 'KiB', total: Math.ceil(total / 1024), style: options.style });
  try {
    for (const entry of rest) await take(entry, progress);
  } finally {
    progress.end();
  }
  return [...entries.keys()];
}

async function configOf(folder: string, name: string): Promise<RunConfig> {
  return parseRunConfig(await readJson(join(folder, 'config.json')), `config.json of ${name}`);
}

/** What of a repository is taken, by name. */
async function listed(
  access: HubAccess,
  name: string,
  { revision, optimizer }: PullOptions,
): Promise<Map<string, HubEntry>> {
  const entries = new Map<string, HubEntry>();
  let count = 0;
  await asking(access, `the list of ${name}`, async () => {
    const { hub, ...rest } = access;
    for await (const item of hub.listFiles({ repo: { type: 'model', name }, revision, ...rest })) {
      if (++count > MOST_FILES) throw new HubError(`${name} has more than ${MOST_FILES} files.`);
      const wanted = Object.hasOwn(TAKEN, item.path) && (optimizer || item.path !== 'optimizer.safetensors');
      if (item.type === 'file' && wanted) entries.set(item.path, checked(hubEntrySchema, item, `the list of ${name}`));
    }
  });
  return entries;
}

const mark = ({ oid, lfs, size }: HubEntry): string => `${lfs?.oid ?? oid} ${size}`;

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

async function readPulled(folder: string): Promise<Record<string, string>> {
  try {
    return checked(pulledSchema, JSON.parse(await readFile(join(folder, PULLED), 'utf8')), PULLED);
  } catch {
    return {};
  }
}

/** Makes the folder, or takes one that was pulled into before. */
async function makeOwn(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    const names = await readdir(folder);
    const foreign = names.includes(PULLED) ? undefined : names.find((name) => !/^\..+\.(part|tmp)$/.test(name));
    if (foreign === undefined) return;
    throw new FileError('pull', `${folder} holds ${foreign}`, {
      path: folder,
      expected: 'a new or empty folder, or one that was pulled into before',
      remedy: 'give another one',
    });
  } catch (error) {
    throw fileError('pull', 'make the folder', folder, error);
  }
}

async function checkSpace(folder: string, needed: number): Promise<void> {
  const space = await statfs(folder).catch(() => undefined);
  if (!space || space.blocks === 0 || space.bavail * space.bsize > needed) return;
  throw new FileError(
    'pull',
    `The disk has ${inBytes(space.bavail * space.bsize)} free, and the files take ${inBytes(needed)}`,
    {
      path: folder,
      remedy: 'free some space or choose another folder',
    },
  );
}

/** One file, from where an earlier download ended. */
async function download(
  access: HubAccess,
  name: string,
  folder: string,
  entry: HubEntry,
  { revision, signal }: PullOptions,
  progress?: Progress,
): Promise<void> {
  const { hub, ...rest } = access;
  const { path, size } = entry;
  const digest = createHash('sha256').update(mark(entry)).digest('hex').slice(0, 16);
  const part = join(folder, `.${path}.${digest}.part`);
  const ask = <T>(call: () => Promise<T>): Promise<T> => asking(access, `${path} of ${name}`, call);
  const info = await ask(() => hub.fileDownloadInfo({ repo: { type: 'model', name }, path, revision, ...rest }));
  if (!info || info.size !== size)
    throw new HubError(`${path} of ${name} changed while it was pulled; run the command again.`);
  const hash = entry.lfs && createHash('sha256');
  let at = Math.min((await sizeOf(part)) ?? 0, size);
  try {
    if (hash && at > 0)
      for await (const chunk of createReadStream(part, { end: at - 1 })) hash.update(chunk as Uint8Array);
    const file = await open(part, at > 0 ? 'r+' : 'w');
    try {
      await file.truncate(at);
      if (at < size) {
        const blob = await ask(() =>
          hub.downloadFile({ repo: { type: 'model', name }, path, revision, downloadInfo: info, xet: false, ...rest }),
        );
        await ask(async () => {
          for await (const chunk of Readable.fromWeb(
            blob!.slice(at, size).stream() as never,
          ) as AsyncIterable<Uint8Array>) {
            signal.throwIfAborted();
            if (at + chunk.length > size)
              throw new HubError(`${path} of ${name} is longer than the ${size} bytes that were announced.`);
            await file.write(chunk, 0, chunk.length, at);
            hash?.update(chunk);
            at += chunk.length;
            progress?.update({ step: Math.floor(at / 1024) });
          }
        });
      }
      if (at < size)
        throw new HubError(`${path} of ${name} ended after ${at} of ${size} bytes; run the command again to go on.`);
      await file.sync();
    } finally {
      await file.close();
    }
    const found = hash?.digest('hex');
    if (found !== undefined && found !== entry.lfs!.oid) {
      await rm(part, { force: true });
      throw new HubError(
        `${path} of ${name} has the SHA-256 ${found}, and ${entry.lfs!.oid} was announced; run the command again.`,
      );
    }
    await rename(part, join(folder, path));
    await syncFolder(folder);
  } catch (error) {
    throw fileError('pull', 'write', part, error);
  }
}
