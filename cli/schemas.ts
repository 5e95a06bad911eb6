// What the files of a run must hold. Every file that is read goes through one of these; see jsonFile.ts for what is
// said otherwise.

import { z } from 'zod';
import { ADAMW_STATE_WORDS, adamWWord } from '../kernels/index.ts';
import { CHANNELS } from '../models/data/channels.ts';
import { MOST_STEPS, NOISE_SCHEDULES } from '../models/diffusion/schedule.ts';
import type { DiffusionOptions } from '../models/diffusion/settings.ts';
import type { TrainerState } from '../models/train/types.ts';
import { SPLITS } from './data/split.ts';
import { MODEL_KINDS } from './modelKinds/index.ts';
import type { SampleSetIdentity } from './sampleSetIdentity.ts';
import { EVAL_METRICS, EVAL_NETWORKS, POSTERIORS, type TrainPlan, type TrainSettings } from './trainSettings.ts';

/** Beyond it, f32 has no number. */
const F32_MAX = 3.4028234663852886e38;
/** Of rates, norms and scales: sane ones are far below. */
const LARGE = 1e6;
const NAME = 1000;

const count = z.int().min(0);
const positive = z.int().min(1);
const probability = z.number().min(0).lt(1);

const settings: z.ZodType<TrainSettings> = z.strictObject({
  data: z.string().max(10_000),
  vae: z
    .strictObject({
      folder: z.string().max(10_000),
      digest: z.string().max(100),
      scalingFactor: z.number().gt(0).max(LARGE),
      shiftFactor: z.number().min(-LARGE).max(LARGE),
      online: z
        .strictObject({
          factor: positive.max(128),
          inChannels: z.literal(CHANNELS),
          latentChannels: positive.max(65536),
          posterior: z.enum(POSTERIORS),
        })
        .optional(),
    })
    .optional(),
  unlabelled: z.boolean(),
  flip: z.boolean(),
  background: z.string().max(NAME).optional(),
  cifarLabels: z.enum(['fine', 'coarse']),
  split: z.enum(SPLITS).optional(),
  channels: z.literal(CHANNELS).optional(),
  initFrom: z.string().max(10_000).optional(),

  model: z.enum(MODEL_KINDS.flatMap(({ names }) => names) as [string, ...string[]]),
  imageSize: positive.max(8192),
  embedDim: positive.optional(),
  depth: positive.optional(),
  patchSize: positive.optional(),
  dState: positive.optional(),
  dropPath: probability,
  labelDropout: z.number().min(0).max(1),
  learnSigma: z.boolean(),
  skip: z.boolean(),
  mlpTimeEmbed: z.boolean(),
  norm: z.enum(['rms', 'layer']),

  diffusionSteps: positive.max(MOST_STEPS),
  noiseSchedule: z.enum(NOISE_SCHEDULES),
  predict: z.enum(['epsilon', 'xstart']),
  sigmaSmall: z.boolean(),
  loss: z.enum(['mse', 'rescaled-mse', 'rescaled-kl']),
  timestepSampler: z.enum(['uniform', 'loss-second-moment']),

  batch: positive.max(2 ** 20),
  microBatches: positive,
  lr: z.number().gt(0).max(LARGE),
  minLr: z.number().min(0).max(LARGE),
  schedule: z.enum(['constant', 'cosine']),
  warmup: count,
  scheduleSteps: positive.optional(),
  betas: z.tuple([probability, probability]),
  weightDecay: z.number().min(0).max(LARGE),
  clip: z.number().min(0).max(LARGE),
  ema: probability,
  emaWarmup: z.boolean().optional(),
  warmupFromZero: z.boolean().optional(),
  precision: z.enum(['f32', 'f16']),
  syncEvery: positive.optional(),
  seed: count,
});

const plan: z.ZodType<TrainPlan> = z.strictObject({
  steps: positive,
  checkpointEvery: count,
  keep: count,
  sampleEvery: count,
  sampleSteps: positive,
  guidance: z.number().min(0).max(LARGE),
  evalEvery: count.optional(),
  evalMetric: z.enum(EVAL_METRICS).optional(),
  evalSamples: positive.optional(),
  evalNetwork: z.enum(EVAL_NETWORKS).optional(),
});

const diffusion: z.ZodType<DiffusionOptions> = z.strictObject({
  noiseSchedule: z.enum(NOISE_SCHEDULES),
  diffusionSteps: positive.max(MOST_STEPS),
  predictXstart: z.boolean(),
  learnSigma: z.boolean(),
  sigmaSmall: z.boolean(),
  useKl: z.boolean(),
  rescaleLearnedSigmas: z.boolean(),
});

/** config.json, but for the model, which its kind checks. */
export const configSchema = z.strictObject({
  format: z.literal('dis-run'),
  version: z.literal(1),
  settings,
  plan,
  /** Runs begun before there were kinds of models have none. */
  kind: z.enum(MODEL_KINDS.map(({ name }) => name) as [string, ...string[]]).default('dis'),
  model: z.looseObject({}),
  diffusion,
  classNames: z.array(z.string().max(NAME)).max(1_000_000),
  dataFingerprint: z.string().max(NAME),
  official: z.strictObject({ epochs: positive.max(LARGE), warmupEpochs: z.number().min(0).max(LARGE) }).optional(),
});

/** Arguments of the official train.py, with its defaults; those that decide nothing here are left out. */
export const officialArgsSchema = z.object({
  data_path: z.string().max(10_000).default(''),
  model: z.string().max(NAME).optional(),
  num_classes: z.int().max(LARGE).optional(),
  epochs: positive.max(LARGE).default(1000),
  warmup_epochs: z.number().min(0).max(LARGE).default(5),
  ckpt_every: positive.default(5000),
  eval_steps: count.default(1000),
  global_batch_size: positive.max(2 ** 20).default(128),
  global_seed: count.default(420),
  lr: z.number().gt(0).max(LARGE).default(1e-4),
  min_lr: z.number().min(0).max(LARGE).default(1e-6),
  accum_iter: positive.default(1),
});

export type OfficialArgs = z.infer<typeof officialArgsSchema>;

const timestepSampler = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('uniform'), numTimesteps: positive.max(MOST_STEPS) }),
  z.strictObject({
    kind: z.literal('loss-second-moment'),
    numTimesteps: positive.max(MOST_STEPS),
    historyPerTerm: positive.max(1000),
    uniformProb: z.number().min(0).max(1),
    history: z.array(z.array(z.number().min(-F32_MAX).max(F32_MAX)).max(1000)).max(MOST_STEPS),
  }),
]);

/** Words of the optimizer's state. The norm of a gradient that overflowed is null in JSON, and only read by people. */
const optimizerWords = z
  .array(z.number().min(-F32_MAX).max(F32_MAX).nullable())
  .length(ADAMW_STATE_WORDS)
  .check(({ value, issues }) => {
    const wrong = value.findIndex((word, i) => word === null && i !== adamWWord('gradNorm'));
    if (wrong >= 0) issues.push({ code: 'custom', message: 'a number', path: [wrong], input: value });
    for (const counter of ['step', 'skipped'] as const)
      if (!((value[adamWWord(counter)] ?? 0) >= 0))
        issues.push({ code: 'custom', message: 'at least 0', path: [adamWWord(counter)], input: value });
    if (!((value[adamWWord('lossScale')] ?? 0) > 0))
      issues.push({ code: 'custom', message: 'more than 0', path: [adamWWord('lossScale')], input: value });
  })
  .transform((words) => words.map((word) => word ?? 0));

/** state.json. */
export const stateSchema: z.ZodType<TrainerState['json']> = z.strictObject({
  step: count,
  generator: z.strictObject({ seed: count, position: count }),
  cursor: z.strictObject({ epoch: count, index: count }),
  optimizer: optimizerWords,
  timestepSampler: timestepSampler.optional(),
});

/** What a state.json says of a checkpoint that is only sampled. */
export const stepSchema = z.looseObject({ step: count });

const scalar = z.union([z.number(), z.boolean(), z.string().max(NAME)]);
const setting = z.union([scalar, z.array(scalar).max(100), z.record(z.string().max(NAME), scalar)]);

/** tuning.json of a run: kernel configurations by key; null keeps the rule of thumb. */
export const tuningSchema = z.strictObject({
  format: z.literal('dis-tuning-1'),
  adapter: z.string().max(NAME),
  entries: z.record(z.string().max(NAME), z.union([z.null(), z.record(z.string().max(NAME), setting)])),
});

/** set.json of samples that are drawn for an evaluation; see sampleSet.ts. */
export const sampleSetSchema: z.ZodType<SampleSetIdentity> = z.strictObject({
  checkpoint: z.string().max(NAME),
  seed: count,
  batch: positive,
  sampler: z.string().max(NAME),
  eta: z.number(),
  steps: positive,
  guidance: z.number(),
  guidanceChannels: positive.nullable(),
  precision: z.string().max(NAME),
  classes: z.array(count).max(1_000_000).nullable(),
  labels: z.enum(['cycle', 'random']),
  shape: z.tuple([positive, positive, positive]),
  vae: z.string().max(100).optional(),
});

/** dataset.json of EDM's tools; see data/edmLabels.ts. */
export const edmSchema = z.looseObject({
  labels: z.array(z.tuple([z.string().max(4096), count.max(999_999)])).nullable(),
});

/** What tune keeps of the speed of training steps. */
export const speedSchema = z.strictObject({
  speeds: z
    .array(
      z.strictObject({
        adapter: z.string().max(NAME),
        model: z.string().max(NAME),
        precision: z.enum(['f32', 'f16']),
        batch: positive,
        tokens: positive,
        parameters: positive,
        imagesPerSecond: z.number().gt(0),
        flopsPerImage: z.number().gt(0),
      }),
    )
    .max(100),
});

/** A file in the Hub's list of a repository. */
export const hubEntrySchema = z.object({
  path: z.string().max(NAME),
  size: count,
  oid: z.string().max(NAME).optional(),
  lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/) }).optional(),
});

export type HubEntry = z.infer<typeof hubEntrySchema>;

/** What was pulled into a folder. */
export const pulledSchema = z.record(z.string().max(NAME), z.string().max(NAME));

/** A line of metrics.jsonl: what a step did, or a note of somebody else's, which has no step. */
/** best.json of a run: the checkpoint whose samples were nearest to the data. */
export const bestSchema = z.strictObject({
  step: positive,
  metric: z.enum(EVAL_METRICS),
  name: z.string().max(NAME),
  value: z.number(),
  samples: positive,
});

export const metricsLineSchema = z.looseObject({ step: z.number().optional().catch(undefined) });

/** run.lock: who holds it. */
export const holderSchema = z.object({
  pid: positive,
  host: z.string().max(NAME),
  /** See `beginning`: another process may have the number by now. */
  began: z.string().max(NAME).optional(),
});

const finite = z.number().min(-Number.MAX_VALUE).max(Number.MAX_VALUE);
const looks = [z.string(), count, finite, finite, z.string().regex(/^[0-9a-f]{32}$/)] as const;

/** A line of data.jsonl: name, bytes, times, hash and, of a picture that cannot be read, why. */
export const pictureLineSchema = z.union([z.tuple([...looks]), z.tuple([...looks, z.string()])]);
