// `dis-cli eval` from names to numbers: what is compared with what, under which networks.

import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Device } from '../../core/index.ts';
import type { Channels } from '../../models/data/channels.ts';
import type { FeatureNetwork } from '../../models/evaluate/index.ts';
import { readRunConfig, type Weights } from '../checkpoint.ts';
import type { DataSplit } from '../data/split.ts';
import { runWorkers, type GpuOptions, type Worker } from '../distributed/workers.ts';
import { UsageError } from '../errors.ts';
import { invocation } from '../invocation.ts';
import { grouped } from '../format.ts';
import { Progress, type ProgressStyle } from '../progress.ts';
import type { RunConfig } from '../runConfig.ts';
import { checkpointsNamed, locateCheckpoint } from '../runFolder.ts';
import { bitsPerDim, type BitsPerDimResult } from './bitsPerDim.ts';
import { Evaluation, type ReferenceSet } from './evaluation.ts';
import type { EvalOutcome } from './evalTable.ts';
import type { Metric } from './measures.ts';
import { checkNetworks, hashOfFile, openNetwork, type NetworkName } from './networks.ts';
import { findNsfwjs } from './nsfwjsPackage.ts';
import { openPictureSet, part, type PictureSet } from './pictureSets.ts';
import { drawSampledSet, missingParts, otherSplit, type SampledSetOptions, type SampleSettings } from './sampledSet.ts';
import { isStatisticsName, readStatistics } from './statisticsFile.ts';

export interface EvalOptions extends Omit<SampleSettings, 'steps'>, GpuOptions {
  readonly device: Device;
  readonly metrics: readonly Metric[];
  readonly network?: readonly NetworkName[];
  readonly samples?: number;
  readonly referenceSamples?: number;
  readonly split?: DataSplit;
  readonly imageSize?: number;
  readonly floor: boolean;
  readonly bpdSamples: number;
  readonly checkpoint: string;
  readonly weights: Weights;
  readonly steps?: number;
  readonly batch: number;
  readonly classifierSteps: number;
  readonly nsfwjs?: string;
  readonly fidWeights?: string;
  readonly cache?: string;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
  /** In a worker: its share of the samples is drawn, and nothing is judged. */
  readonly worker?: Worker;
}

/** Pictures where nobody says how many. */
const SAMPLES = 5000,
  MOST_REFERENCE = 50_000;

/** Opens pictures of the shape that is compared. */
type Open = (spec: string, split?: DataSplit) => Promise<PictureSet>;

/**
 * Yields an outcome for each checkpoint, or one for pictures.
 * @throws UsageError, FileError, FormatError, ValueError; what the signal was aborted with
 */
export async function* evaluate(
  what: string,
  against: string | undefined,
  options: EvalOptions,
): AsyncGenerator<EvalOutcome> {
  const run = await runAt(what);
  if (run) yield* evaluateRun(what, run, against, options);
  else yield await evaluatePictures(what, against, options);
}

/** The configuration of a run or a checkpoint; undefined for anything else. */
async function runAt(what: string): Promise<RunConfig | undefined> {
  const entries = await readdir(what).catch((): string[] => []);
  return entries.includes('config.json') && (entries.includes('checkpoints') || entries.includes('state.json'))
    ? readRunConfig(what)
    : undefined;
}

async function evaluatePictures(what: string, against: string | undefined, options: EvalOptions): Promise<EvalOutcome> {
  const { imageSize: size, metrics, samples, cache, signal } = options;
  if (against === undefined)
    throw new UsageError(
      `${what} is no run, so it needs a second folder, or a file of statistics, to be compared with.`,
    );
  if (size === undefined)
    throw new UsageError(
      '--image-size is missing: pictures that are not of a run need the side at which they are compared.',
    );
  if (metrics.includes('bpd'))
    throw new UsageError('--metrics names bpd, but bits per dimension are those of a run; leave it out.');
  if (options.gpus !== undefined)
    throw new UsageError('--gpus divides the samples of a run, and these are pictures; leave it out.');
  let channels: Channels | undefined;
  const open: Open = async (spec, split) => {
    const set = await openPictureSet(spec, { size, signal, cifarLabels: 'fine', channels, split, cache });
    channels ??= set.dataset.channels as Channels;
    return set;
  };
  const whole = await open(what);
  const set = part(whole, 0, Math.min(samples ?? whole.dataset.length, whole.dataset.length));
  const reference = await openReference(against, undefined, open, options);
  const names = networkNames(reference, reference.set?.dataset.numClasses ?? 0, options);
  const results = await judgeAll(names, set, reference, () => trainingSet(against, reference, open), options);
  return {
    title: `${grouped(set.dataset.length)} pictures of ${what}`,
    about: { what, reference: reference.label, imageSize: size },
    count: set.dataset.length,
    results,
  };
}

async function* evaluateRun(
  what: string,
  config: RunConfig,
  against: string | undefined,
  options: EvalOptions,
): AsyncGenerator<EvalOutcome> {
  const { metrics, cache, signal, device, weights, precision, batch, style } = options;
  const { settings, model } = config;
  if (settings.vae)
    throw new UsageError(
      `${what} is a run on latents, and pictures are measured; draw them with \`${invocation()} sample ${what} --count 5000 ` +
        '--folder samples`, then eval that folder against pictures.',
    );
  if (options.imageSize !== undefined && options.imageSize !== model.imgSize)
    throw new UsageError(
      `--image-size is ${options.imageSize}, but the run's pictures have ${model.imgSize}; leave it out.`,
    );
  const located = await locateCheckpoint(what);
  const checkpoints = await checkpointsNamed(located, options.checkpoint);
  const { data, unlabelled, background, cifarLabels } = settings;
  const open: Open = (spec, split) =>
    openPictureSet(spec, {
      ...{ size: model.imgSize, channels: model.channels as Channels, unlabelled, background, cifarLabels },
      ...{ split, cache, signal },
    });
  const reference = await openReference(against ?? data, settings.split ?? 'train', open, options);
  const names = networkNames(reference, model.numClasses, options);
  if (metrics.includes('bpd') && !reference.set)
    throw new UsageError('--metrics names bpd, which needs pictures as reference, not a file of statistics.');
  const own = against === undefined && reference.set;
  const labelled = own && own.dataset.numClasses === model.numClasses ? own : undefined;
  const labels = model.numClasses > 0 && {
    // As often as in the data, where they are the run's own.
    about: labelled ? JSON.stringify(labelled.about) : 'even',
    of: async (i: number): Promise<number> =>
      labelled ? (await labelled.dataset.item(i % labelled.dataset.length)).label : i % model.numClasses,
  };
  const count = options.samples ?? SAMPLES;
  const steps = options.steps ?? Math.min(50, settings.diffusionSteps);
  const store = cache ?? join(located.run ?? located.checkpoint.path, 'eval');
  const { sampler, eta, guidance, seed } = options;
  const sampled: SampleSettings = { weights, sampler, eta, steps, guidance, seed, precision };
  const drawn = metrics.some((metric) => metric !== 'bpd');
  const sets: Omit<SampledSetOptions, 'onProgress'>[] = [];
  for (const checkpoint of checkpoints) {
    const hash = await hashOfFile(join(checkpoint.path, `${weights}.safetensors`));
    const settings = sampled;
    sets.push({ device, config, checkpoint, hash, batch, store, signal, settings, count, ...(labels && { labels }) });
  }
  if (options.worker) return drawShare(sets, options.worker);
  if (drawn && options.gpus !== undefined) await drawOnGpus(sets, options);
  for (const each of sets) {
    const { checkpoint, hash } = each;
    const common = { device, config, checkpoint, hash, batch, store, signal };
    let results: EvalOutcome['results'] = [];
    if (drawn) {
      const progress = new Progress({ noun: `sampling step ${checkpoint.step}:`, total: count, style });
      const set = await drawSampledSet({
        ...each,
        onProgress: (done) => progress.update({ step: Math.floor(done) }),
      }).finally(() => progress.end());
      const training = (): Promise<PictureSet> => open(data, settings.split ?? 'train');
      results = await judgeAll(names, set, reference, training, options);
    }
    const bpd =
      metrics.includes('bpd') &&
      reference.set &&
      (await bitsOf(reference.set, { ...common, weights, precision, style }, options));
    yield {
      title:
        `${relative('', what) || what}, step ${grouped(checkpoint.step)}, ${weights} weights, ` +
        (drawn ? `${sampler} ${steps} steps, guidance ${guidance}, ${precision}, seed ${seed}` : precision),
      about: { what, step: checkpoint.step, ...sampled, reference: reference.label },
      count,
      results,
      ...(bpd && { bpd }),
    };
  }
}

/** Draws a worker's share of the samples of all checkpoints. */
async function drawShare(sets: readonly Omit<SampledSetOptions, 'onProgress'>[], worker: Worker): Promise<void> {
  let before = 0;
  for (const set of sets) {
    let last = 0;
    const onProgress = (done: number): void => worker.report(before + (last = done));
    await drawSampledSet({ ...set, share: worker, onProgress });
    before += last;
  }
}

/** Draws what is missing of the samples by a worker on each GPU, into the parts that are read afterwards. */
async function drawOnGpus(
  sets: readonly Omit<SampledSetOptions, 'onProgress'>[],
  { gpus, oversubscribe, style, signal }: EvalOptions,
): Promise<void> {
  let parts = 0,
    pictures = 0;
  for (const set of sets) {
    const missing = await missingParts(set);
    parts += missing.length;
    pictures += missing.reduce((sum, { begin, end }) => sum + end - begin, 0);
  }
  if (parts === 0) return;
  const progress = new Progress({ noun: 'sample', total: pictures, style });
  const onProgress = (done: number): void => progress.update({ step: Math.floor(done) });
  await runWorkers({ gpus: gpus!, oversubscribe, parts, signal, onProgress }).finally(() => progress.end());
}

async function bitsOf(
  set: PictureSet,
  common: Omit<Parameters<typeof bitsPerDim>[1], 'onProgress'> & { style: ProgressStyle },
  { bpdSamples }: EvalOptions,
): Promise<BitsPerDimResult & { of: string }> {
  const some = part(set, 0, Math.min(bpdSamples, set.dataset.length));
  const progress = new Progress({ noun: 'bits per dimension', total: some.dataset.length, style: common.style });
  try {
    const found = await bitsPerDim(some, { ...common, onProgress: (step) => progress.update({ step }) });
    return { ...found, of: set.label };
  } finally {
    progress.end();
  }
}

/** @param trained the split that a run was trained on */
async function openReference(
  spec: string,
  trained: DataSplit | undefined,
  open: Open,
  { split, referenceSamples, floor }: EvalOptions,
): Promise<ReferenceSet> {
  if (isStatisticsName(spec) && (await stat(spec).catch(() => undefined))?.isDirectory() !== true) {
    if (split !== undefined) throw new UsageError('--split is given, but statistics have none; leave it out.');
    return { label: spec, stored: await readStatistics(spec) };
  }
  const wanted = split ?? otherSplit(trained ?? 'train');
  // A folder of pictures has no splits: it is opened as it is.
  const set = await open(spec, split).then((first) =>
    first.splits && split === undefined ? open(spec, wanted) : first,
  );
  const count = Math.min(referenceSamples ?? MOST_REFERENCE, set.dataset.length);
  const other = floor && set.splits ? await open(spec, otherSplit(wanted)) : undefined;
  return { label: set.label, set: part(set, 0, count), ...(other && { other }) };
}

/** What a classifier learns from, where there is no run: the reference's training split. */
function trainingSet(spec: string, { set }: ReferenceSet, open: Open): Promise<PictureSet> {
  if (!set)
    throw new UsageError('--network classifier needs pictures as reference, to learn from; choose nsfwjs or fid.');
  return set.splits ? open(spec, 'train') : Promise.resolve(set);
}

/**
 * The networks that are asked for, else one that fits. What they need is checked before anything is computed.
 * @param classes of the data that a classifier would learn from
 */
function networkNames({ stored }: ReferenceSet, classes: number, options: EvalOptions): NetworkName[] {
  const { network, fidWeights, nsfwjs } = options;
  const fitting: NetworkName = stored?.network === NSFWJS || classes < 2 ? 'nsfwjs' : 'classifier';
  const names = [...new Set(network ?? [fitting])];
  checkNetworks(names, { classes, fidWeights });
  if (names.includes('nsfwjs')) findNsfwjs(nsfwjs);
  return names;
}

/** As its distance is called. */
const NSFWJS = 'FD(nsfwjs-incv3)';

/** The measures of every network. */
async function judgeAll(
  names: readonly NetworkName[],
  samples: PictureSet,
  reference: ReferenceSet,
  training: () => Promise<PictureSet>,
  options: EvalOptions,
): Promise<EvalOutcome['results']> {
  const { device, metrics, floor, style, signal } = options;
  const evaluation = new Evaluation({ device, metrics, floor, style, signal });
  const results = [];
  for (const name of names) {
    const network: FeatureNetwork = await openNetwork(name, { ...options, training });
    try {
      checkStored(network, reference);
      results.push(await evaluation.run(network, samples, reference));
    } finally {
      network.dispose();
    }
  }
  return results;
}

/** Statistics of another network make no distance. */
function checkStored(network: FeatureNetwork, { label, stored }: ReferenceSet): void {
  if (!stored) return;
  const size = stored.statistics.mean.length;
  if (size !== network.features)
    throw new UsageError(
      `${label} has ${size} features, but ${network.distanceName} has ${network.features}; choose the --network it is of.`,
    );
  if (stored.network !== undefined && stored.network !== network.distanceName)
    throw new UsageError(
      `${label} is of ${stored.network}, not of ${network.distanceName}; choose the --network it is of.`,
    );
}
