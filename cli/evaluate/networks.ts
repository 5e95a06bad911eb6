// The networks of `dis-cli eval`, opened by name.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { EngineError, FormatError } from '../../core/errors.ts';
import { Generator, type Device } from '../../core/index.ts';
import { Classifier, trainClassifier } from '../../models/classifier.ts';
import {
  ClassifierNetwork,
  FidInception,
  FID_INCEPTION_SHA256_PREFIX,
  fidInceptionShapes,
  type FeatureNetwork,
} from '../../models/evaluate/index.ts';
import { openPt, ptTensors, readSafetensors, type SafetensorsEntry } from '../../nn/index.ts';
import { UsageError } from '../errors.ts';
import { fileError } from '../files.ts';
import { firstNotFinite } from '../finite.ts';
import { Progress, say, type ProgressStyle } from '../progress.ts';
import { hostEntry, readSafetensorsFile, safetensorsPieces } from '../safetensorsFile.ts';
import { openNsfwjs } from './nsfwjsPackage.ts';
import { PartStore } from './partStore.ts';
import { fields, type PictureSet } from './pictureSets.ts';

export const NETWORKS = ['classifier', 'nsfwjs', 'fid'] as const;
export type NetworkName = (typeof NETWORKS)[number];

export interface NetworkOptions {
  readonly device: Device;
  /** What a classifier is trained on. */
  readonly training: () => Promise<PictureSet>;
  readonly classifierSteps: number;
  readonly fidWeights?: string;
  readonly nsfwjs?: string;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/** @throws UsageError where a network lacks what it needs */
export function checkNetworks(
  names: readonly NetworkName[],
  { classes, fidWeights }: { readonly classes: number; readonly fidWeights?: string },
): void {
  if (names.includes('classifier') && classes < 2)
    throw new UsageError(
      '--network names classifier, which learns from pictures with classes; the data have none, so choose nsfwjs or fid.',
    );
  if (names.includes('fid') && fidWeights === undefined)
    throw new UsageError(
      '--network fid needs --fid-weights, the file pt_inception-2015-12-05-6726825d.pth of pytorch-fid or its safetensors.',
    );
}

/** @throws FileError, FormatError for the network's files; what the signal was aborted with */
export async function openNetwork(name: NetworkName, options: NetworkOptions): Promise<FeatureNetwork> {
  if (name === 'classifier') return openClassifier(options);
  return name === 'nsfwjs' ? openNsfwjs(options.device, options.nsfwjs) : openFid(options.device, options.fidWeights!);
}

/** SHA-256 of a file, in hex. */
export async function hashOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  } catch (error) {
    throw fileError('eval', 'read', path, error);
  }
  return hash.digest('hex');
}

async function openFid(device: Device, path: string): Promise<FidInception> {
  const hash = await hashOfFile(path);
  const entries = /\.safetensors$/i.test(path) ? await readSafetensorsFile(path) : await entriesOfPt(path);
  const ruined = firstNotFinite(entries);
  if (ruined !== undefined)
    throw new FormatError('eval', `${path} holds numbers that are not finite, in ${ruined}`, {
      remedy: 'get the file again',
    });
  const official = hash.startsWith(FID_INCEPTION_SHA256_PREFIX);
  if (!official)
    say(
      `${path} is not the file that FID is defined by, whose SHA-256 begins with ${FID_INCEPTION_SHA256_PREFIX}: ` +
        'its distances are not called FID.',
    );
  return new FidInception(device, entries, { identity: hash.slice(0, 16), official });
}

/** The file of pytorch-fid has 95 MB. */
const LARGEST_PT = 512 * 2 ** 20;

async function entriesOfPt(path: string): Promise<Map<string, SafetensorsEntry>> {
  let bytes: Uint8Array;
  try {
    const { size } = await stat(path);
    if (size > LARGEST_PT)
      throw new FormatError('eval', `${path} has ${size} bytes`, { expected: `at most ${LARGEST_PT}` });
    bytes = await readFile(path);
  } catch (error) {
    throw fileError('eval', 'read', path, error);
  }
  const file = await openPt(bytes);
  const tensors = ptTensors(file.value);
  const entries = new Map<string, SafetensorsEntry>();
  for (const name of fidInceptionShapes().keys()) {
    const tensor = tensors.get(name);
    // What is missing is told by name when the network is made.
    if (tensor) entries.set(name, await file.read(tensor));
  }
  return entries;
}

const FILE = 'classifier.safetensors';

/** Trains a classifier, or reads the one that was trained before. */
async function openClassifier(options: NetworkOptions): Promise<ClassifierNetwork> {
  const { device, training, classifierSteps: steps, style, signal } = options;
  const set = await training();
  const { size, channels, numClasses } = set.dataset;
  const store = new PartStore(set.store, 'classifier', { ...set.about, steps });
  const kept = await store.read(FILE);
  const generator = new Generator(device);
  try {
    const made = new Classifier(generator, { size, numClasses, channels });
    if (kept) {
      try {
        made.loadStateDict(readSafetensors(kept).tensors);
        return new ClassifierNetwork(made.eval(), { identity: identityOf(kept) });
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        // It is damaged: it is trained again.
      }
    }
    made.dispose();
  } finally {
    generator.dispose();
  }
  const progress = new Progress({ noun: 'classifier', total: steps, style });
  const classifier = await trainClassifier(device, {
    dataset: { ...fields(set.dataset), item: (i) => set.dataset.item(i) },
    steps,
    signal,
    onProgress: (step, loss) => progress.update({ step, loss }),
  }).finally(() => progress.end());
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of classifier.stateDict())
    entries.set(name, hostEntry({ shape: value.shape, data: (await value.data()) as Float32Array }));
  const bytes = Buffer.concat([...safetensorsPieces(entries, { format: 'pt' })]);
  await store.write(FILE, bytes);
  return new ClassifierNetwork(classifier, { identity: identityOf(bytes) });
}

const identityOf = (bytes: Uint8Array): string =>
  `classifier ${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`;
