// DiS as a kind of model: the only file of the command line that knows it.

import { Option } from 'commander';
import { z } from 'zod';
import { counted, grouped } from '../format.ts';
import { choice, flag, integer, probability } from '../options.ts';
import { DIS_DEFAULTS, DIS_NAMES, SSM_DEFAULTS, disConfig, disSize } from '../../models/dis/config.ts';
import type { DisConfig, DisName } from '../../models/dis/config.ts';
import { disFlops, disSamplingMemory, disTrainingMemory } from '../../models/dis/cost.ts';
import { Dis } from '../../models/dis/dis.ts';
import { disDimensions, disParameterCount, disParameterShapes } from '../../models/dis/shapes.ts';
import type { ModelKind } from './kind.ts';

export interface DisFlags {
  readonly embedDim?: number;
  readonly depth?: number;
  readonly patchSize?: number;
  readonly dState?: number;
  readonly dropPath: number;
  readonly skip: boolean;
  readonly mlpTimeEmbed: boolean;
  readonly norm: 'rms' | 'layer';
}

const whole = z.int().min(0);

const stored: z.ZodType<DisConfig> = z.strictObject({
  imgSize: whole,
  patchSize: whole,
  embedDim: whole,
  channels: whole,
  depth: whole,
  numClasses: whole,
  ssm: z.strictObject({
    dState: whole,
    dConv: whole,
    expand: z.number(),
    dtRank: z.union([z.literal('auto'), whole]),
    dtMin: z.number(),
    dtMax: z.number(),
    dtInit: z.enum(['random', 'constant']),
    dtScale: z.number(),
    dtInitFloor: z.number(),
    convBias: z.boolean(),
    bias: z.boolean(),
  }),
  dropPathRate: z.number(),
  normEpsilon: z.number(),
  rmsNorm: z.boolean(),
  learnSigma: z.boolean(),
  mlpTimeEmbed: z.boolean(),
  skip: z.boolean(),
  classDropoutProb: z.number(),
  initializerRange: z.number(),
  rescalePrenormResidual: z.boolean(),
  residualsPerLayer: whole,
});

const sizes = (): string =>
  DIS_NAMES.filter((name) => name.endsWith('/2'))
    .map((name) => {
      const { embedDim, depth } = disSize(name);
      return `${name.split('/')[0].slice('DiS-'.length)} ${embedDim}×${depth}`;
    })
    .join(', ');

export const disKind: ModelKind<DisConfig, DisFlags> = {
  name: 'dis',
  names: DIS_NAMES,
  about: `size and patch of the model, DiS-SIZE/2 or /4; width×depth: ${sizes()}`,
  flags: () => [
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
    flag('--norm <kind>', 'rms or layer normalisation', choice(['rms', 'layer']), 'rms'),
    new Option('--no-skip', 'no long skip connections'),
    new Option('--no-mlp-time-embed', 'no perceptron on the timestep'),
  ],
  fromFlags: (flags, { channels, numClasses }) =>
    disConfig(flags.model as DisName, {
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
    }),
  stored,
  fromStored: (config) => disConfig(config),
  shapes: disParameterShapes,
  costs: (config, options) => ({
    parameters: disParameterCount(config),
    tokens: disDimensions(config).tokens,
    flopsPerImage: { ...disFlops(config) },
    training: { ...disTrainingMemory(config, options) },
    sampling: { ...disSamplingMemory(config, options) },
  }),
  summary(config) {
    const { blocks, dInner, dState, patches, tokens } = disDimensions(config);
    const classes = config.numClasses > 0 ? counted(config.numClasses, 'class', 'classes') : 'unconditional';
    return [
      ['input', `${config.channels} × ${config.imgSize} × ${config.imgSize}, ${classes}`],
      ['blocks', `${blocks}, width ${config.embedDim}, inner width ${dInner}, ${dState} states`],
      ['tokens', `${grouped(tokens)} (${grouped(patches)} patches of ${config.patchSize} × ${config.patchSize})`],
    ];
  },
  build: (generator, config) => new Dis(generator, config),
};
