// `dis-cli sample --count N` into a .npz file or a folder: opens the device, draws what is missing and puts it together.

import { join } from 'node:path';
import { checkSampling, type ClassifierFreeGuidance } from '../models/sample/index.ts';
import type { Sampler } from '../models/diffusion/index.ts';
import type { Weights } from './checkpoint.ts';
import { byCodeUnit } from './data/listImages.ts';
import { contentHash } from './data/pictureIndex.ts';
import { runWorkers, thisWorker, type GpuOptions } from './distributed/workers.ts';
import { latentFactor } from '../models/vae/index.ts';
import { openDecoder } from './decodeLatents.ts';
import { Interrupted } from './errors.ts';
import { fileError, makeFolder } from './files.ts';
import { counted, grouped } from './format.ts';
import { catchInterrupt } from './interrupt.ts';
import { adapterLabel, openCliDevice, type AdapterOptions } from './openCliDevice.ts';
import { print, printable } from './printable.ts';
import { defaultStyle, Progress, say } from './progress.ts';
import {
  beginSampleSet,
  describeSet,
  drawGroups,
  finishSampleSet,
  imagesIn,
  missingGroups,
  type SampleSet,
} from './sampleSet.ts';
import type { LabelOrder } from './sampleSetIdentity.ts';
import { loadTuning } from './tuningCache.ts';
import { readVae } from './vaeFolder.ts';
import { modelOfSource, type WeightSource } from './weightSource.ts';

export interface SampleSetRequest extends AdapterOptions, GpuOptions {
  readonly out: string;
  readonly count: number;
  readonly source: WeightSource;
  readonly weights: Weights;
  readonly classes: readonly number[] | undefined;
  readonly labels: LabelOrder;
  readonly samplerName: string;
  readonly sampler: Sampler;
  readonly eta: number;
  readonly steps: number;
  readonly guidance: ClassifierFreeGuidance;
  readonly seed: number;
  readonly batch: number;
  readonly precision: 'f32' | 'f16';
  readonly quiet?: boolean;
  /** Another place of the autoencoder of a run on latents. */
  readonly vae?: string;
}

/**
 * Draws a set, or goes on with one; in a worker, its share of the groups.
 * @throws UsageError, FileError, MpiError, WorkerError, Interrupted
 */
export async function drawSampleSet(request: SampleSetRequest): Promise<void> {
  const { source, weights, classes = null, guidance, sampler, steps, seed, batch, precision } = request;
  const { config, step } = source;
  const { imgSize, channels } = config.model;
  checkSampling(config.model, {
    labels: classes ?? undefined,
    count: request.count,
    guidance,
    diffusion: config.diffusion,
    steps,
    batch,
  });
  const { vae } = config.settings;
  const decoded = vae && (await readVae(request.vae ?? vae.folder));
  const factor = decoded ? latentFactor(decoded.config) : 1;
  const set: SampleSet = {
    out: request.out,
    count: request.count,
    identity: {
      checkpoint: await hashOf(source, weights),
      seed,
      batch,
      sampler: request.samplerName,
      eta: request.eta,
      steps,
      guidance: guidance.scale ?? 1,
      guidanceChannels: guidance.channels ?? null,
      precision,
      classes,
      labels: request.labels,
      shape: [imgSize * factor, imgSize * factor, decoded?.config.outChannels ?? channels],
      ...(decoded && { vae: decoded.digest }),
    },
  };
  const worker = thisWorker();
  if (!worker)
    await makeFolder(join(set.out, '..')).catch((error: unknown) => {
      throw fileError('sample', 'make the folder of', set.out, error);
    });
  const missing = worker ? await missingGroups(set, worker) : await beginSampleSet(set);
  const there = set.count - imagesIn(set, missing);
  const quiet = request.quiet || worker !== undefined;
  if (there > 0 && !quiet) say(`${grouped(there)} of the images are there already.`);
  const interrupt = catchInterrupt(() => say('Stopping; the same command goes on with what is there.'));
  const style = quiet ? 'none' : defaultStyle('lines');
  const progress = new Progress({ total: set.count, start: there, style, noun: 'image' });
  const onProgress = (images: number): void =>
    worker ? worker.report(images) : progress.update({ step: Math.floor(there + images) });
  const noteOn = (where: string): void =>
    progress.note(
      `${printable(source.title)}${step === undefined ? '' : `, step ${grouped(step)}`}, ` +
        `${describeSet(set)} on ${where}`,
    );
  const { signal } = interrupt;
  try {
    if (missing.length > 0) {
      const { gpus, oversubscribe } = request;
      if (gpus !== undefined && !worker) {
        const onBegin = (workers: number): void =>
          noteOn(oversubscribe ? `shared adapters, by ${workers} processes` : counted(workers, 'GPU'));
        await runWorkers({ gpus, oversubscribe, parts: missing.length, signal, onBegin, onProgress });
      } else await draw();
    }
    progress.end();
    if (worker) return;
    await finishSampleSet(set);
    if (!request.quiet) print(printable(`Wrote ${describeSet(set)}.`));
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw new Interrupted();
    throw error;
  } finally {
    progress.end();
    interrupt.release();
  }

  async function draw(): Promise<void> {
    using device = await openCliDevice(request);
    await loadTuning(device);
    using model = await modelOfSource(device, source, weights);
    model.to(precision);
    noteOn(adapterLabel(device));
    const { diffusion } = config;
    const decoder = vae && (await openDecoder(device, vae, request.vae));
    const decode = decoder?.decode;
    const how = { model, diffusion, guidance, sampler, steps, decode };
    await drawGroups(set, missing, { ...how, device, signal, onProgress }).finally(() => decoder?.dispose());
  }
}

/** Tells weights from others, wherever they lie. */
async function hashOf(source: WeightSource, weights: Weights): Promise<string> {
  const entries = [...(await source.read(weights))].sort(([a], [b]) => byCodeUnit(a, b));
  return contentHash(...entries.flatMap(([name, { data }]) => [Buffer.from(name), bytesOf(data)]));
}

const bytesOf = (data: ArrayBufferView): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
