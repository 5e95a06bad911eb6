// A run of `dis-cli train-vae` in its folder: the loop of every run, with checkpoints that are folders of diffusers, and
// pictures of originals and reconstructions.

import { join } from 'node:path';
import { z } from 'zod';
import { Generator, noGrad, scope, tensor, keep, type Device, type Tensor } from '../core/index.ts';
import { trainClassifier, type Classifier } from '../models/classifier.ts';
import { DataLoader, type Dataset } from '../models/data/dataset.ts';
import type { ImageBatch } from '../models/data/grid.ts';
import { hash32 } from '../models/data/hash.ts';
import { Trainer } from '../models/train/trainer.ts';
import type { TrainerState } from '../models/train/types.ts';
import { psnr, TrainableVae, VaeObjective, vaeConfig, vaeShapes, type VaeConfig } from '../models/vae/index.ts';
import { warmupCosine, warmupEmaDecay } from '../nn/index.ts';
import { describeFailure } from './errors.ts';
import { FileError, type FileData } from './files.ts';
import { invocation } from './invocation.ts';
import { checked, readJson } from './jsonFile.ts';
import { MetricsFile, truncateMetrics } from './metricsFile.ts';
import { comfortableScale, sheet, writeImage } from './pictures.ts';
import { Progress, say, type ProgressStyle } from './progress.ts';
import type { CheckpointEntry, RunFolder } from './runFolder.ts';
import { checkSafetensorsFile, hostEntry, readSafetensorsFile, safetensorsPieces } from './safetensorsFile.ts';
import { stateSchema } from './schemas.ts';
import { TrainLoop } from './trainLoop.ts';
import { vaeFiles } from './vaeFolder.ts';

const positive = z
  .int()
  .min(1)
  .max(2 ** 20);
const weight = z.number().min(0).max(1e6);

/** What a run of an autoencoder is told; config.json of its folder. */
export const vaeRunSchema = z.strictObject({
  format: z.literal('dis-vae-run'),
  version: z.literal(1),
  settings: z.strictObject({
    data: z.string().max(10_000),
    imageSize: positive.max(8192),
    background: z.string().max(1000).optional(),
    flip: z.boolean(),
    widths: z.array(positive).min(1).max(8),
    layers: positive.max(64),
    groups: positive,
    latentChannels: positive,
    batch: positive,
    lr: z.number().gt(0).max(1e6),
    warmup: z.int().min(0),
    ema: z.number().min(0).lt(1),
    klWeight: weight,
    edgeWeight: weight,
    perceptual: z.enum(['none', 'classifier']),
    perceptualWeight: weight,
    heldOut: positive,
    precision: z.enum(['f32', 'f16']),
    seed: z.int().min(0),
    scheduleSteps: positive.max(2 ** 40),
  }),
  plan: z.strictObject({
    steps: positive.max(2 ** 40),
    checkpointEvery: z.int().min(0),
    keep: z.int().min(0),
    sampleEvery: z.int().min(0),
  }),
  channels: positive.max(4),
  dataFingerprint: z.string().max(1000),
});

export type VaeRunConfig = z.infer<typeof vaeRunSchema>;

/** @throws FileError, FormatError */
export async function readVaeRun(folder: string): Promise<VaeRunConfig> {
  const path = join(folder, 'config.json');
  return checked(vaeRunSchema, await readJson(path), path);
}

/** The autoencoder that settings describe. @throws ValueError */
export function vaeOf({ settings, channels }: Pick<VaeRunConfig, 'settings' | 'channels'>): VaeConfig {
  return vaeConfig({
    inChannels: channels,
    outChannels: channels,
    blockOutChannels: settings.widths,
    layersPerBlock: settings.layers,
    normNumGroups: settings.groups,
    latentChannels: settings.latentChannels,
    sampleSize: settings.imageSize,
    scalingFactor: 1,
  });
}

export interface VaeRun {
  readonly device: Device;
  readonly folder: RunFolder;
  readonly config: VaeRunConfig;
  readonly rest: Dataset;
  readonly heldOut: Dataset;
  readonly resume: CheckpointEntry | undefined;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/** How well held-out pictures come back, by the averaged weights. */
export interface Reconstruction {
  /** Mean over pictures, dB. */
  readonly psnr: number;
  /** Of the mean squared error of all of them, dB. */
  readonly psnrOfMean: number;
  /** 1 / standard deviation of their latents. */
  readonly scalingFactor: number;
}

/** Pictures on the sheet of originals and reconstructions. */
const SHOWN = 8;
/** A checkpoint's other files. */
const PARTS = ['model', 'optimizer'] as const;

/**
 * Trains until the plan's last step or the signal; what was reached is in a checkpoint when this returns. The same is
 * tried when something fails that leaves the state whole.
 *
 * @returns how well the last checkpoint reconstructs; undefined where nothing was trained
 */
export async function trainVae(run: VaeRun): Promise<{ done: boolean; step: number; result?: Reconstruction }> {
  const { device, folder, config, rest, resume, style, signal } = run;
  const { settings, plan } = config;
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(item: T): T => {
    made.unshift(item);
    return item;
  };
  const state = resume && (await readState(resume, config));
  const start = state?.json.step ?? 0;
  if (resume) await truncateMetrics(folder.metrics, start);
  const metrics = await MetricsFile.open(folder.metrics);
  let progress: Progress | undefined;
  try {
    const judge = settings.perceptual === 'classifier' ? own(await classifier(run)) : undefined;
    const generator = own(new Generator(device, hash32(settings.seed, 1)));
    const vae = own(scope(() => new TrainableVae(generator, vaeOf(config))));
    const decay = warmupEmaDecay(settings.ema);
    const schedule = warmupCosine({ lr: settings.lr, warmup: settings.warmup, total: settings.scheduleSteps });
    const trainer = own(
      new Trainer({
        device,
        model: vae,
        diffusion: new VaeObjective(vae, { ...settings, perceptual: judge && ((x) => features(judge, x)) }),
        batchSize: settings.batch,
        lr: (step) => schedule(step < settings.warmup ? step + 1 : step),
        betas: [0.9, 0.99],
        emaDecay: (step) => Math.min(decay(step), settings.ema),
        precision: settings.precision,
        seed: hash32(settings.seed, 3),
      }),
    );
    if (state) trainer.loadState(state);
    progress = new Progress({ total: plan.steps, start, style });
    const { seed, flip, batch: batchSize } = settings;
    let latest: (Reconstruction & { step: number }) | undefined;
    // A checkpoint and a sheet of the same step are one look at the held-out pictures.
    const look = async (): Promise<Reconstruction> => {
      const { step } = trainer;
      if (latest?.step !== step) latest = { step, ...(await trainer.withEma(() => reconstruct(run, vae, step))) };
      return latest;
    };
    const loop = new TrainLoop({
      ...{ folder, plan, trainer, metrics, progress, resume, signal },
      loader: () => new DataLoader(rest, { batchSize, seed: hash32(seed, 2), flip, cursor: trainer.cursor, signal }),
      files: async (current) => {
        let scalingFactor = latest?.scalingFactor ?? 1;
        try {
          const { psnr, psnrOfMean, ...found } = await look();
          ({ scalingFactor } = found);
          await metrics.append({ step: trainer.step, psnr, psnrOfMean, scalingFactor });
        } catch (error) {
          // The weights are worth more than what they are measured with.
          if (!(error instanceof FileError)) throw error;
          progress!.warn(
            `${describeFailure(error).message} Nothing was measured; the scaling factor is taken to be ${scalingFactor}.`,
          );
        }
        return checkpointOf(config, current, scalingFactor);
      },
      sheet: async () => void (await look()),
      metricsOf: ({ vb, ...others }) => ({ ...others, kl: vb }),
      command: invocation('train-vae', '--resume', folder.shown),
    });
    await loop.end();
    return { done: trainer.step >= plan.steps, step: trainer.step, ...(latest && { result: latest }) };
  } finally {
    progress?.end();
    if (!(await metrics.close())) say(`The last metrics are lost: ${describeFailure(metrics.problem).message}`);
    for (const item of made) item.dispose();
  }
}

/** Feature maps of the classifier's layers. */
function features(judge: Classifier, x: Tensor): Tensor[] {
  const found: Tensor[] = [];
  let h = x;
  for (const [i, layer] of judge.features.layers.slice(0, -1).entries()) {
    h = layer.forward(h);
    if (i % 2 === 1) found.push(h);
  }
  return found;
}

/** A classifier of drawn shapes, for the perceptual term; the same in every process of a run. */
async function classifier({ device, config: { settings }, style, signal }: VaeRun): Promise<Classifier> {
  const steps = 300;
  const progress = new Progress({ noun: 'classifier', total: steps, style });
  try {
    const judge = await trainClassifier(device, {
      size: settings.imageSize,
      steps,
      signal,
      onProgress: (step, loss) => progress.update({ step, loss }),
    });
    judge.requiresGrad_(false);
    return judge;
  } finally {
    progress.end();
  }
}

/** Reconstructs the held-out pictures, and writes a sheet of the first of them: originals above what became of them. */
async function reconstruct(run: VaeRun, vae: TrainableVae, step: number): Promise<Reconstruction> {
  const { device, heldOut, config, folder } = run;
  let [errors, decibels, square, sum, values] = [0, 0, 0, 0, 0];
  const shown: Float32Array[] = [];
  const pictures: Float32Array[] = [];
  const loader = new DataLoader(heldOut, {
    batchSize: Math.min(config.settings.batch, heldOut.length),
    shuffle: false,
    dropLast: false,
    epochs: 1,
  });
  let shape: ImageBatch['shape'] = [0, 0, 0, 0];
  for await (const batch of loader) {
    const [y, z] = noGrad(() =>
      scope(() => {
        const { mean } = vae.encode(tensor(device, batch.images, { shape: batch.shape }));
        return [keep(vae.decode(mean).clamp(-1, 1).cast('f32')), keep(mean.cast('f32'))];
      }),
    );
    const [decoded, latents] = [await y.data(), await z.data()];
    y.dispose();
    z.dispose();
    const each = batch.images.length / batch.shape[0];
    for (let n = 0; n < batch.shape[0]; n++) {
      let error = 0;
      for (let i = n * each; i < (n + 1) * each; i++) error += (decoded[i] - batch.images[i]) ** 2;
      errors += error / each;
      decibels += psnr(Math.max(error / each, 1e-10));
      if (pictures.length < SHOWN) {
        pictures.push(batch.images.slice(n * each, (n + 1) * each));
        shown.push(Float32Array.from(decoded.slice(n * each, (n + 1) * each)));
      }
    }
    for (const v of latents) {
      sum += v;
      square += v * v;
    }
    values += latents.length;
    shape = batch.shape;
  }
  const all = [...pictures, ...shown];
  const data = new Float32Array(all.length * all[0].length);
  all.forEach((one, i) => data.set(one, i * one.length));
  const [, c, h, w] = shape;
  await writeImage(
    folder.sheetPath(step),
    sheet({ data, shape: [all.length, c, h, w] }, { nrow: pictures.length, scale: comfortableScale(h) }),
  );
  const deviation = Math.sqrt(Math.max(square / values - (sum / values) ** 2, 1e-12));
  return {
    psnr: decibels / heldOut.length,
    psnrOfMean: psnr(Math.max(errors / heldOut.length, 1e-10)),
    scalingFactor: Number((1 / deviation).toPrecision(5)),
  };
}

/** Diffusers' folder of the averaged weights, with what the run needs to go on. */
function checkpointOf(config: VaeRunConfig, state: TrainerState, scalingFactor: number): [string, FileData][] {
  return [
    ...vaeFiles({ ...vaeOf(config), scalingFactor }, state.ema),
    ...PARTS.map((part): [string, FileData] => [
      `${part}.safetensors`,
      safetensorsPieces(new Map(Array.from(state[part], ([name, value]) => [name, hostEntry(value)]))),
    ]),
    ['state.json', `${JSON.stringify(state.json)}\n`],
  ];
}

async function readState({ path }: CheckpointEntry, config: VaeRunConfig): Promise<TrainerState> {
  const file = (name: string): string => join(path, name);
  const json = checked(stateSchema, await readJson(file('state.json')), file('state.json'));
  const shapes = vaeShapes(vaeOf(config));
  const weights = 'diffusion_pytorch_model.safetensors';
  await checkSafetensorsFile(file('model.safetensors'), shapes);
  await checkSafetensorsFile(file(weights), shapes);
  await checkSafetensorsFile(
    file('optimizer.safetensors'),
    ['m', 'v'].flatMap((key) => shapes.map(([name, shape]) => [`${key}.${name}`, shape] as const)),
  );
  return {
    model: await readSafetensorsFile(file('model.safetensors')),
    ema: await readSafetensorsFile(file(weights)),
    optimizer: await readSafetensorsFile(file('optimizer.safetensors')),
    json,
  };
}
