// The flags of `dis-cli train` as values: which belong to a run's settings, which to its plan, and which a resumed run
// may give anew.

import type { OpenedData } from './data/openData.ts';
import { UsageError } from './errors.ts';
import type { AdapterOptions } from './openCliDevice.ts';
import { defaultStyle, type ProgressStyle } from './progress.ts';
import type { PresetName } from './presets.ts';
import type { Posterior, TrainPlan, TrainSettings } from './trainSettings.ts';

export interface TrainOptions extends Omit<TrainSettings, 'data' | 'vae'>, TrainPlan, AdapterOptions {
  readonly data?: string;
  /** A folder of latents, instead of data. */
  readonly latents?: string;
  /** The autoencoder that pictures are encoded with while the run trains. */
  readonly vae?: string;
  readonly posterior: Posterior;
  readonly epochs?: number;
  readonly preset?: PresetName;
  readonly out?: string;
  /** A folder, or true for the one that --out names. */
  readonly resume?: string | true;
  readonly progress: 'auto' | ProgressStyle;
  readonly quiet?: boolean;
  /** Where a trace of some steps is written. */
  readonly profile?: string;
  /** How many GPUs, or which. */
  readonly gpus?: number | readonly number[];
  readonly oversubscribe?: boolean;
  readonly distributed?: boolean;
  readonly maxRestarts: number;
  /** Seconds. */
  readonly rankTimeout: number;
}

/** How a run shows that it moves. */
export function styleOf({ quiet, progress }: Pick<TrainOptions, 'quiet' | 'progress'>): ProgressStyle {
  return quiet ? 'none' : progress === 'auto' ? defaultStyle('json') : progress;
}

/** Whether a flag was given. */
export type Given = (name: string) => boolean;
/** A flag as it is written. */
export type FlagName = (name: string) => string;

/** Flags that a resumed run may give anew. */
export const PLAN = [
  'steps',
  'checkpointEvery',
  'keep',
  'sampleEvery',
  'sampleSteps',
  'guidance',
  'evalEvery',
  'evalMetric',
  'evalSamples',
  'evalNetwork',
] as const satisfies readonly (keyof TrainPlan)[];
/** Flags that say nothing about the run itself. */
const ASIDE = new Set([
  ...['gpus', 'oversubscribe', 'distributed', 'maxRestarts', 'rankTimeout'],
  ...['epochs', 'out', 'preset', 'resume', 'profile', 'progress', 'quiet', 'adapter', 'tier'],
  ...PLAN,
]);
/** Settings that a resumed run may give anew where they come to the same: the data may lie elsewhere by now. */
const PLACES = new Set(['data', 'latents', 'vae']);
/** Flags that become other settings: see `inLatentSpace`. */
const OF_LATENTS = new Set(['latents', 'vae', 'posterior']);

/** Names every flag whose value is another than the run was begun with. */
export function refuseChanges(options: TrainOptions, before: TrainSettings, given: Given, flagName: FlagName): void {
  const { online } = before.vae ?? {};
  // As the flags had it.
  const flags = { ...before, imageSize: before.imageSize * (online?.factor ?? 1), posterior: online?.posterior };
  const changes = Object.entries(options).flatMap(([name, value]) => {
    if (ASIDE.has(name) || PLACES.has(name) || !given(name)) return [];
    const was = flags[name as keyof typeof flags];
    return JSON.stringify(was) === JSON.stringify(value)
      ? []
      : [`${flagName(name)} is ${String(value)} and was ${was === undefined ? 'not given' : String(was)}`];
  });
  if (changes.length > 0)
    throw new UsageError(
      `A resumed run keeps its settings, but ${changes.join(', ')}; leave ` +
        `${changes.length === 1 ? 'it' : 'them'} out, or begin a new run with another --out.`,
    );
}

/** The settings of a new run. */
export function settingsOf(
  options: Omit<TrainOptions, 'vae' | 'posterior'> & { readonly data: string },
): TrainSettings {
  const settings = Object.fromEntries(
    Object.entries(options).filter(([name]) => !ASIDE.has(name) && !OF_LATENTS.has(name)),
  );
  return { unlabelled: false, flip: false, sigmaSmall: false, ...settings } as unknown as TrainSettings;
}

/** The flags that are of the plan. */
export function planFlags(options: TrainPlan): TrainPlan {
  return Object.fromEntries(PLAN.map((name) => [name, options[name]])) as unknown as TrainPlan;
}

/** What a run's plan depends on beside the options. */
export interface PlanBasis {
  readonly data: OpenedData;
  readonly settings: Pick<TrainSettings, 'batch' | 'syncEvery' | 'vae'>;
}

/** The plan of a run, in steps. @throws UsageError where local steps don't fit into it */
export function planOf(options: TrainPlan & { readonly epochs?: number }, { data, settings }: PlanBasis): TrainPlan {
  const { batch, syncEvery = 1 } = settings;
  const named = planFlags(options);
  const steps = (options.epochs ?? 0) * Math.max(1, Math.floor(data.dataset.length / batch));
  const plan =
    options.epochs === undefined ? named : { ...named, steps: syncEvery * Math.max(1, Math.ceil(steps / syncEvery)) };
  if (settings.vae && (plan.evalEvery ?? 0) > 0)
    throw new UsageError(
      "--eval-every measures pictures, and the run is on latents; leave it out, and use --sample-every's sheets.",
    );
  const stops = {
    '--steps': plan.steps,
    '--checkpoint-every': plan.checkpointEvery,
    '--sample-every': plan.sampleEvery,
  };
  for (const [flag, value] of Object.entries(stops))
    if (value % syncEvery !== 0)
      throw new UsageError(
        `${flag} is ${value}, expected a multiple of --sync-every ${syncEvery}: between two exchanges ranks differ.`,
      );
  return plan;
}
