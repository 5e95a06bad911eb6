// The configuration of a run from the arguments of the official train.py. Shapes decide the model, arguments how it is
// trained; what train.py has no argument for is as its code does it. How many steps an epoch has, only the data tell.

import { FormatError } from '../core/errors.ts';
import { trainedOn, type OpenedData } from './data/openData.ts';
import { UsageError } from './errors.ts';
import { checked } from './jsonFile.ts';
import { disKind } from './modelKinds/dis.ts';
import { officialFlags, type OfficialCheckpoint } from './modelKinds/disOfficial.ts';
import { diffusionOf, parseRunConfig, type RunConfig } from './runConfig.ts';
import { officialArgsSchema } from './schemas.ts';
import { settingsOf, planFlags, type TrainOptions } from './trainOptions.ts';

/** `create_diffusion(timestep_respacing="")`. */
const PROCESS = {
  noiseSchedule: 'linear',
  diffusionSteps: 1000,
  predict: 'epsilon',
  sigmaSmall: false,
  loss: 'mse',
  timestepSampler: 'uniform',
} as const;

/** Of AdamW; a run here has no other. */
const EPS = 1e-8;

/**
 * The configuration of the run that a checkpoint is of, without its data: `withData` completes it.
 * @param path of the file, for errors
 * @param defaults what `dis-cli train` takes where nothing is given
 * @throws FormatError for arguments that describe no run
 */
export function officialConfig(
  { config: model, args: given, optimizer }: OfficialCheckpoint,
  path: string,
  defaults: TrainOptions,
): RunConfig {
  const args = checked(officialArgsSchema, given, path, { under: 'args' });
  if (optimizer && optimizer.eps !== EPS)
    throw new FormatError('officialConfig', `${path}: the optimizer's eps is ${optimizer.eps}`, {
      expected: `${EPS}, as in the official train.py`,
    });
  const settings = {
    ...settingsOf({ ...defaults, data: args.data_path }),
    ...officialFlags(model, args.model),
    ...PROCESS,
    channels: model.channels,
    flip: true,
    unlabelled: model.numClasses === 0,
    batch: args.global_batch_size,
    lr: args.lr,
    minLr: Math.min(args.min_lr, args.lr),
    schedule: 'cosine',
    scheduleSteps: Math.max(1, optimizer?.step ?? 0),
    warmupFromZero: true,
    betas: optimizer?.betas ?? [0.9, 0.999],
    weightDecay: optimizer?.weightDecay ?? 0,
    clip: 1,
    ema: 0.9999,
    emaWarmup: false,
    seed: args.global_seed,
  };
  return parseRunConfig(
    {
      format: 'dis-run',
      version: 1,
      settings,
      plan: { ...planFlags(defaults), checkpointEvery: args.ckpt_every, sampleEvery: args.eval_steps },
      kind: disKind.name,
      model,
      diffusion: diffusionOf({ ...PROCESS, learnSigma: model.learnSigma }),
      classNames: [],
      dataFingerprint: '',
      official: { epochs: args.epochs, warmupEpochs: args.warmup_epochs },
    },
    path,
  );
}

/**
 * A run that came without its data, with them: epochs become steps, and classes get their names.
 * @throws UsageError where the data are none of the model's
 */
export function withData(config: RunConfig, data: OpenedData): RunConfig {
  const dataset = trainedOn(data);
  const { official, ...rest } = config;
  if (!official) return config;
  const { numClasses, channels } = config.model;
  if (dataset.numClasses !== numClasses || dataset.channels !== channels)
    throw new UsageError(
      `The run is of ${numClasses} classes and ${channels} channels, and the data in ${config.settings.data} have ` +
        `${dataset.numClasses} and ${dataset.channels}; give the data that it was begun with after --data.`,
    );
  if (dataset.size !== config.model.imgSize)
    throw new UsageError(
      `The run is of a side of ${config.model.imgSize}, and the data in ${config.settings.data} of ${dataset.size}; ` +
        'give the data that it was begun with.',
    );
  const stepsPerEpoch = Math.max(1, Math.floor(dataset.length / config.settings.batch));
  const warmup = Math.round(official.warmupEpochs * stepsPerEpoch),
    steps = official.epochs * stepsPerEpoch;
  return {
    ...rest,
    settings: { ...config.settings, warmup, scheduleSteps: Math.max(steps, warmup + 1) },
    plan: { ...config.plan, steps },
    classNames: dataset.classNames,
    dataFingerprint: data.fingerprint,
  };
}
