// Flags that describe a model, shared by `train` and `info`.

import type { Command } from 'commander';
import { DIS_DEFAULTS, DIS_NAMES, SSM_DEFAULTS, disConfig, disSize } from '../models/dis/config.ts';
import type { DisConfig, DisName } from '../models/dis/config.ts';
import { choice, flag, integer, probability } from './options.ts';

export interface ModelFlags {
  readonly model: DisName;
  readonly imageSize: number;
  readonly embedDim?: number;
  readonly depth?: number;
  readonly patchSize?: number;
  readonly dState?: number;
  readonly dropPath: number;
  readonly labelDropout: number;
  readonly learnSigma: boolean;
  readonly skip: boolean;
  readonly mlpTimeEmbed: boolean;
  readonly norm: 'rms' | 'layer';
}

const describe = (name: DisName): string => {
  const { embedDim, depth } = disSize(name);
  return `${name.split('/')[0].slice(4)} ${embedDim}×${depth}`;
};

const sizes = DIS_NAMES.filter((name) => name.endsWith('/2'))
  .map(describe)
  .join(', ');

/** Adds the flags that describe a model. */
export function addModelFlags(command: Command): void {
  const options = [
    flag(
      '--model <name>',
      `size and patch of the model, DiS-SIZE/2 or /4; width×depth: ${sizes}`,
      choice(DIS_NAMES),
      'DiS-S/2',
    ),
    flag('--image-size <pixels>', 'side of the square images', integer({ min: 1 }), 32),
    flag('--embed-dim <n>', 'another width than the named model has', integer({ min: 1 })),
    flag('--depth <n>', 'another depth', integer({ min: 1 })),
    flag('--patch-size <n>', 'another patch side', integer({ min: 1 })),
    flag('--d-state <n>', `states per channel (default: ${SSM_DEFAULTS.dState})`, integer({ min: 1 })),
    flag(
      '--drop-path <p>',
      'how often the last block is left out in training; earlier ones less',
      probability(),
      DIS_DEFAULTS.dropPathRate,
    ),
    flag(
      '--label-dropout <p>',
      'how often a label is left out in training, which guidance needs',
      probability({ closed: true }),
      DIS_DEFAULTS.classDropoutProb,
    ),
    flag('--norm <kind>', 'rms or layer normalisation', choice(['rms', 'layer']), 'rms'),
  ];
  for (const option of options) command.addOption(option);
  command
    .option('--no-learn-sigma', 'a fixed variance instead of a learned one')
    .option('--no-skip', 'no long skip connections')
    .option('--no-mlp-time-embed', 'no perceptron on the timestep');
}

/**
 * The configuration that the flags describe, for inputs of `channels` and `numClasses`.
 * @throws {ValueError} where they make no model; its option is told as the flag
 */
export function modelOfFlags(
  flags: ModelFlags,
  { channels, numClasses }: { channels: number; numClasses: number },
): DisConfig {
  return disConfig(flags.model, {
    imgSize: flags.imageSize,
    channels,
    numClasses,
    embedDim: flags.embedDim,
    depth: flags.depth,
    patchSize: flags.patchSize,
    dropPathRate: flags.dropPath,
    classDropoutProb: flags.labelDropout,
    learnSigma: flags.learnSigma,
    skip: flags.skip,
    mlpTimeEmbed: flags.mlpTimeEmbed,
    rmsNorm: flags.norm === 'rms',
    ...(flags.dState !== undefined && { ssm: { dState: flags.dState } }),
  });
}
