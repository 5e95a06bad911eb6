// Whole configurations of the paper, by name: what `--preset` sets where no flag says otherwise, and where each value is
// from. Sources: the official repository at 3da562e, its README and what train.py does by itself. `unchecked` is what the
// paper (Fei et al. 2024, arXiv 2402.05608) is said to have used; its text was not compared yet.

import { UsageError } from './errors.ts';
import type { TrainPlan, TrainSettings } from './trainSettings.ts';

export const PRESET_NAMES = ['cifar10-s2', 'celeba64-s2', 'imagenet256-h2', 'imagenet512-h2'] as const;
export type PresetName = (typeof PRESET_NAMES)[number];

type Source = 'train.py' | 'README' | 'unchecked' | 'ours';

/** Values by flag, and where each is from. */
type Sourced<T> = { readonly [K in keyof T]?: readonly [value: T[K], source: Source] };

export interface Preset {
  readonly about: string;
  readonly values: Sourced<TrainSettings & Omit<TrainPlan, 'keep'>>;
  /** What the model's input is. */
  readonly channels: number;
  readonly classes: number;
  /** Whether it is trained on the latents of an autoencoder, of an eighth of the pictures' side. */
  readonly latents: boolean;
}

const COMMON: Preset['values'] = {
  lr: [1e-4, 'train.py'],
  schedule: ['constant', 'unchecked'],
  weightDecay: [0, 'train.py'],
  betas: [[0.9, 0.999], 'train.py'],
  clip: [1, 'train.py'],
  ema: [0.9999, 'train.py'],
  emaWarmup: [false, 'train.py'],
  flip: [true, 'train.py'],
  dropPath: [0.1, 'train.py'],
  labelDropout: [0.1, 'train.py'],
  diffusionSteps: [1000, 'train.py'],
  noiseSchedule: ['linear', 'train.py'],
  checkpointEvery: [5000, 'train.py'],
  sampleEvery: [5000, 'ours'],
};

/** Pixels of an edge for one of the latent's, in the paper's autoencoder. */
const LATENT_FACTOR = 8;
const PIXELS = { channels: 3, classes: 0, latents: false };
const LATENTS = { channels: 4, classes: 1000, latents: true };

export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  'cifar10-s2': {
    about: 'CIFAR-10, unconditional, 32 × 32 pixels',
    ...PIXELS,
    values: {
      ...COMMON,
      model: ['DiS-S/2', 'README'],
      imageSize: [32, 'README'],
      unlabelled: [true, 'unchecked'],
      batch: [128, 'train.py'],
      steps: [500_000, 'unchecked'],
    },
  },
  'celeba64-s2': {
    about: 'CelebA, unconditional, 64 × 64 pixels',
    ...PIXELS,
    values: {
      ...COMMON,
      model: ['DiS-S/2', 'README'],
      imageSize: [64, 'README'],
      unlabelled: [true, 'unchecked'],
      batch: [128, 'train.py'],
      steps: [500_000, 'unchecked'],
    },
  },
  'imagenet256-h2': {
    about: 'ImageNet, 1,000 classes, latents of 256 × 256 pictures',
    ...LATENTS,
    values: {
      ...COMMON,
      model: ['DiS-H/2', 'README'],
      imageSize: [32, 'README'],
      batch: [1024, 'unchecked'],
      steps: [500_000, 'unchecked'],
      guidance: [1.5, 'README'],
    },
  },
  'imagenet512-h2': {
    about: 'ImageNet, 1,000 classes, latents of 512 × 512 pictures',
    ...LATENTS,
    values: {
      ...COMMON,
      model: ['DiS-H/2', 'README'],
      imageSize: [64, 'README'],
      batch: [1024, 'unchecked'],
      steps: [1_000_000, 'unchecked'],
      guidance: [1.5, 'README'],
    },
  },
};

/** For --help. */
export const presetsAbout = (): string =>
  `the paper's configuration where no flag says otherwise: ${PRESET_NAMES.map((name) => `${name} (${PRESETS[name].about})`).join('; ')}`;

/** The values of a preset under the names of their flags. */
export function presetValues(name: PresetName): Partial<TrainSettings & TrainPlan> {
  return Object.fromEntries(Object.entries(PRESETS[name].values).map(([flag, [value]]) => [flag, value]));
}

/** Options with those of a preset in place of what isn't given. */
export function withPreset<T extends object>(
  options: T,
  name: PresetName | undefined,
  given: (flag: string) => boolean,
): T {
  if (name === undefined) return options;
  const values = Object.entries(presetValues(name)).filter(
    ([flag]) => flag in options || flag === 'unlabelled' || flag === 'flip',
  );
  return { ...options, ...Object.fromEntries(values.filter(([flag]) => !given(flag))) };
}

/** A preset of latents says their side, and --vae wants that of the pictures. */
export function ofPictures<T extends { readonly imageSize: number; readonly vae?: string }>(
  options: T,
  name: PresetName,
): T {
  if (!PRESETS[name].latents || options.vae === undefined) return options;
  return { ...options, imageSize: LATENT_FACTOR * options.imageSize };
}

/** Refuses a preset of latents for a run that has pictures. @throws UsageError */
export function checkPreset(name: PresetName, options: { readonly latents?: string; readonly vae?: string }): void {
  if (!PRESETS[name].latents || options.latents !== undefined || options.vae !== undefined) return;
  throw new UsageError(
    `--preset ${name} is a model of latents, and the data are pictures; give latents with --latents or an autoencoder with --vae, or the preset of a model of pixels.`,
  );
}
