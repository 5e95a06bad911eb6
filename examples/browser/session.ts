// A training run: data, model, diffusion and trainer, and what the page asks of them. It knows nothing of the page.

import { Generator, scope, type Device } from 'dis-webgpu/core';
import {
  createDiffusion,
  DataLoader,
  Dis,
  disConfig,
  sampleProgressive,
  shapesDataset,
  Trainer,
  type DiffusionOptions,
  type DisConfig,
  type DisName,
  type GaussianDiffusion,
  type StepRecord,
  type TrainerState,
} from 'dis-webgpu/models';
import { readSafetensors, warmupCosine, writeSafetensors, type SafetensorsEntry } from 'dis-webgpu/nn';

export interface RunSettings {
  readonly model: DisName;
  readonly batchSize: number;
  readonly lr: number;
  /** Steps of the whole run; the learning rate falls until then. */
  readonly steps: number;
}

export interface Checkpoint {
  readonly settings: RunSettings;
  readonly state: TrainerState;
}

export interface SampleRequest {
  /** Images of each class. */
  readonly rows: number;
  /** DDIM steps. */
  readonly steps: number;
  readonly seed: number;
  /** Is shown the images as they are expected after each step, (rows · classes, 3, H, W) in [-1, 1], row by row. */
  readonly onStep: (images: Float32Array, done: number) => void;
}

export const IMAGE_SIZE = 16;
const DIFFUSION: DiffusionOptions = { predictXstart: true, learnSigma: false };
const WARMUP = 50;
const GUIDANCE = 2.5;
/** Until then the moving average still remembers the random weights that it began with. */
const AVERAGE_FROM = 500;
const FORMAT = 'dis-browser-1';
/** Parts of a state, and what their names begin with in a file. */
const PARTS = ['model', 'ema', 'optimizer'] as const;

export const dataset = shapesDataset({ size: IMAGE_SIZE });

export function modelConfig(model: DisName): DisConfig {
  return disConfig(model, {
    imgSize: IMAGE_SIZE,
    channels: dataset.channels,
    numClasses: dataset.numClasses,
    learnSigma: false,
    dropPathRate: 0,
  });
}

export class Session {
  readonly settings: RunSettings;
  private readonly device: Device;
  private readonly model: Dis;
  private readonly diffusion: GaussianDiffusion;
  private readonly trainer: Trainer;

  /** Begins a run, or goes on from a state of one. @throws where the settings make no model, or the state is another model's */
  constructor(device: Device, settings: RunSettings, state?: TrainerState) {
    const { batchSize, lr, steps } = settings;
    const rate = warmupCosine({ lr, minLr: lr * 0.02, warmup: Math.min(WARMUP, steps / 2), total: steps });
    using generator = new Generator(device, 0);
    this.device = device;
    this.settings = settings;
    this.model = scope(() => new Dis(generator, modelConfig(settings.model)));
    this.diffusion = createDiffusion(device, DIFFUSION);
    // The first step is not wasted on a rate of 0.
    this.trainer = new Trainer({
      device,
      model: this.model,
      diffusion: this.diffusion,
      batchSize,
      lr: (step) => rate(step + 1),
      betas: [0.9, 0.99],
      emaDecay: 0.998,
    });
    if (!state) return;
    try {
      this.trainer.loadState(state);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Steps taken. */
  get step(): number {
    return this.trainer.step;
  }

  get done(): boolean {
    return this.step >= this.settings.steps;
  }

  /** Which weights samples are drawn with. */
  get weights(): 'own' | 'average' {
    return this.step < AVERAGE_FROM ? 'own' : 'average';
  }

  /** Trains until the end or until `signal` aborts. After every `pauseEvery` steps nothing is under way when the record comes. */
  train(signal: AbortSignal, pauseEvery: number): AsyncGenerator<StepRecord> {
    const { batchSize, steps } = this.settings;
    return this.trainer.run(new DataLoader(dataset, { batchSize, cursor: this.trainer.cursor }), {
      steps,
      signal,
      pauseEvery,
    });
  }

  /** Draws images of every class. No step may be under way. */
  async sample(request: SampleRequest): Promise<void> {
    if (this.weights === 'average') return this.trainer.withEma(() => this.draw(request));
    this.model.eval();
    try {
      await this.draw(request);
    } finally {
      this.model.train();
    }
  }

  private async draw({ rows, steps, seed, onStep }: SampleRequest): Promise<void> {
    const { device, model } = this;
    const { numClasses } = model.config;
    const labels = Array.from({ length: rows * numClasses }, (_, i) => i % numClasses);
    const drawing = sampleProgressive({
      device,
      model,
      diffusion: DIFFUSION,
      labels,
      guidance: GUIDANCE,
      steps,
      seed,
      batch: labels.length,
    });
    // Reading each step's images lets the page breathe between steps.
    for await (const { predXstart, index } of drawing) onStep((await predXstart.data()) as Float32Array, index + 1);
  }

  /** Everything that the run needs to go on bit for bit. No step may be under way. */
  async checkpoint(): Promise<Checkpoint> {
    return { settings: this.settings, state: await this.trainer.state() };
  }

  dispose(): void {
    this.trainer.dispose();
    this.diffusion.dispose();
    this.model.dispose();
  }
}

/** A checkpoint as a safetensors file: `model.*`, `ema.*` and `optimizer.*`, with everything else as JSON in the metadata. */
export function writeCheckpoint({ settings, state }: Checkpoint): Uint8Array<ArrayBuffer> {
  const entries = PARTS.flatMap((part) =>
    Array.from(state[part], ([name, { shape, data }]): [string, SafetensorsEntry] => [
      `${part}.${name}`,
      { dtype: 'F32', shape, data: data as Float32Array },
    ]),
  );
  return writeSafetensors(entries, [
    ['format', FORMAT],
    ['settings', JSON.stringify(settings)],
    ['state', JSON.stringify(state.json)],
  ]) as Uint8Array<ArrayBuffer>;
}

/** @throws where the file is no safetensors file, or none of this page */
export function readCheckpoint(file: ArrayBuffer): Checkpoint {
  const { tensors, metadata } = readSafetensors(file);
  const settings = metadata.get('settings'),
    json = metadata.get('state');
  if (metadata.get('format') !== FORMAT || settings === undefined || json === undefined)
    throw new Error('The file holds no checkpoint that this page has written.');
  const [model, ema, optimizer] = PARTS.map((part) => {
    const own = [...tensors].filter(([name]) => name.startsWith(`${part}.`));
    return new Map(own.map(([name, entry]) => [name.slice(part.length + 1), entry]));
  });
  return {
    settings: JSON.parse(settings) as RunSettings,
    state: { model, ema, optimizer, json: JSON.parse(json) as TrainerState['json'] },
  };
}
