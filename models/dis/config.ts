// What a DiS is made of: the options of the official class under camelCase names, its ten configurations, sizes small
// enough for a laptop, and the checks that turn options into a configuration one can build. arXiv 2402.05608, §3 and
// Table 1; where the paper and the code differ the code counts (DiS-S has width 368 there, 384 in the paper).

import { ValueError } from '../../core/errors.ts';

/** Options of the Mamba mixer. */
export interface SsmConfig {
  /** N, states per channel. */
  readonly dState: number;
  /** Width of the causal convolution, 2 to 4. */
  readonly dConv: number;
  /** Inner width as a multiple of the model's. */
  readonly expand: number;
  /** R, rank of the step-size projection; 'auto' is ⌈embedDim / 16⌉. */
  readonly dtRank: number | 'auto';
  readonly dtMin: number;
  readonly dtMax: number;
  readonly dtInit: 'random' | 'constant';
  readonly dtScale: number;
  readonly dtInitFloor: number;
  readonly convBias: boolean;
  /** Bias of the input and output projections. */
  readonly bias: boolean;
}

/** A complete, checked configuration; {@link disConfig} makes one. */
export interface DisConfig {
  /** Edge of the model's square input; for latents that is the picture's edge / 8. */
  readonly imgSize: number;
  readonly patchSize: number;
  readonly embedDim: number;
  /** Channels of the input: 3 for pixels, 4 for latents. */
  readonly channels: number;
  /** The official constructor's depth: there are 2⌊depth/2⌋ + 1 blocks. */
  readonly depth: number;
  /** 0 for an unconditional model. */
  readonly numClasses: number;
  readonly ssm: SsmConfig;
  readonly dropPathRate: number;
  readonly normEpsilon: number;
  /** RMSNorm if true, LayerNorm if false. */
  readonly rmsNorm: boolean;
  /** The model also gives variance values: twice the output channels. */
  readonly learnSigma: boolean;
  /** A two-layer perceptron on the timestep embedding. */
  readonly mlpTimeEmbed: boolean;
  /** Long skip connections from the first half of the blocks to the second. */
  readonly skip: boolean;
  /** How often training replaces a label by the null class; above 0 the table has a row for that class. */
  readonly classDropoutProb: number;
  /** Standard deviation of the label embedding at initialisation. */
  readonly initializerRange: number;
  /** Divide output projections by √(residualsPerLayer · depth) at initialisation. */
  readonly rescalePrenormResidual: boolean;
  readonly residualsPerLayer: number;
}

/** Everything may be left out; the ssm options too, one by one. */
export type DisOptions = Partial<Omit<DisConfig, 'ssm'>> & { readonly ssm?: Partial<SsmConfig> };

/** Defaults of the official mixer. */
export const SSM_DEFAULTS: SsmConfig = {
  dState: 16,
  dConv: 4,
  expand: 2,
  dtRank: 'auto',
  dtMin: 0.001,
  dtMax: 0.1,
  dtInit: 'random',
  dtScale: 1,
  dtInitFloor: 1e-4,
  convBias: true,
  bias: false,
};

/** Defaults of the official class. */
export const DIS_DEFAULTS: DisConfig = {
  imgSize: 224,
  patchSize: 16,
  embedDim: 192,
  channels: 3,
  depth: 12,
  numClasses: 0,
  ssm: SSM_DEFAULTS,
  dropPathRate: 0.1,
  normEpsilon: 1e-5,
  rmsNorm: true,
  learnSigma: true,
  mlpTimeEmbed: true,
  skip: true,
  classDropoutProb: 0.1,
  initializerRange: 0.02,
  rescalePrenormResidual: true,
  residualsPerLayer: 1,
};

type OfficialSize = 'S' | 'B' | 'M' | 'L' | 'H';
type SmallSize = 'N' | 'Ti' | 'XS';
/** Name of a configuration: size and patch. */
export type DisName = `DiS-${OfficialSize | SmallSize}/${2 | 4}`;

const WIDTH_AND_DEPTH: Readonly<Record<OfficialSize | SmallSize, readonly [embedDim: number, depth: number]>> = {
  N: [64, 4],
  Ti: [128, 8],
  XS: [256, 12],
  S: [368, 24],
  B: [768, 24],
  M: [768, 48],
  L: [1024, 48],
  H: [1536, 48],
};

/**
 * Every named size: three of ours that train on a laptop (N nano, Ti tiny, XS extra small), then the ten official ones.
 */
export const DIS_NAMES: readonly DisName[] = (['N', 'Ti', 'XS', 'S', 'B', 'M', 'L', 'H'] as const).flatMap(
  (size) => [`DiS-${size}/2`, `DiS-${size}/4`] as const,
);

/**
 * Width, depth and patch size of a named configuration.
 *
 * @throws ValueError for a name that is none, listing those there are
 */
export function disSize(name: string): Pick<DisConfig, 'embedDim' | 'depth' | 'patchSize'> {
  if (!(DIS_NAMES as readonly string[]).includes(name)) {
    throw new ValueError('disSize', `unknown model ${JSON.stringify(name)}`, {
      expected: `one of ${DIS_NAMES.join(', ')}`,
    });
  }
  const [size, patch] = name.slice('DiS-'.length).split('/') as [OfficialSize | SmallSize, string];
  const [embedDim, depth] = WIDTH_AND_DEPTH[size];
  return { embedDim, depth, patchSize: Number(patch) };
}

/**
 * Completes and checks options.
 *
 * ```ts
 * disConfig('DiS-S/2', { imgSize: 32, numClasses: 10 })
 * disConfig({ imgSize: 16, patchSize: 2, embedDim: 48, depth: 4 })
 * ```
 *
 * @param base a named size, or options over the official defaults.
 * @param options go over those of the name.
 * @throws ValueError for an unknown name or option, or a value that makes no model
 */
export function disConfig(base: DisName | DisOptions, options: DisOptions = {}): DisConfig {
  const named = typeof base === 'string' ? disSize(base) : base;
  const given: DisOptions = { ...defined(named), ...defined(options) };
  refuseUnknown(given, DIS_DEFAULTS, '');
  const ssmGiven = {
    ...(typeof base === 'string' ? undefined : defined(base.ssm ?? {})),
    ...defined(options.ssm ?? {}),
  };
  refuseUnknown(ssmGiven, SSM_DEFAULTS, 'ssm.');
  const config: DisConfig = { ...DIS_DEFAULTS, ...given, ssm: { ...SSM_DEFAULTS, ...ssmGiven } };
  const normalised = { ...config, numClasses: config.numClasses < 0 ? 0 : config.numClasses };
  check(normalised);
  return normalised;
}

/** Options of the official constructor that change nothing here, or that the official code itself never reads. */
const OFFICIAL_WITHOUT_EFFECT = new Set([
  'drop_rate',
  'fused_add_norm',
  'residual_in_fp32',
  'if_cls_token',
  'conv',
  'device',
  'dtype',
]);

/**
 * Options from the names of the official constructor (`img_size`, `num_classes: -1`, `ssm_cfg: {d_state: …}` …), as
 * checkpoints and configuration files of the Python code have them.
 *
 * @throws ValueError for an unknown name, or a mixer other than the bidirectional `v2`
 */
export function disOptionsFromOfficial(official: Readonly<Record<string, unknown>>): DisOptions {
  const options: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(official)) {
    if (OFFICIAL_WITHOUT_EFFECT.has(key) || value === null || value === undefined) continue;
    if (key === 'bimamba_type') {
      if (value !== 'v2')
        throw new ValueError('disOptionsFromOfficial', `bimamba_type is ${JSON.stringify(value)}`, {
          expected: '"v2", the only mixer DiS uses',
        });
    } else if (key === 'ssm_cfg') {
      options.ssm = Object.fromEntries(
        Object.entries(value as object).map(([name, item]) => [camelCase(name), item as unknown]),
      );
    } else if (key === 'initializer_cfg') {
      const names: Record<string, string> = { n_residuals_per_layer: 'residualsPerLayer' };
      for (const [name, item] of Object.entries(value as object))
        options[names[name] ?? camelCase(name)] = item as unknown;
    } else {
      options[camelCase(key)] = value;
    }
  }
  refuseUnknown(options, DIS_DEFAULTS, '');
  refuseUnknown((options.ssm ?? {}) as object, SSM_DEFAULTS, 'ssm.');
  return options as DisOptions;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function refuseUnknown(given: object, known: object, prefix: string): void {
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(known, key))
      throw new ValueError('disConfig', `unknown option ${prefix}${key}`, {
        expected: `one of ${Object.keys(known).join(', ')}`,
      });
  }
}

/**
 * Far beyond any model that was trained, and small enough that counting the parameters of one costs nothing: a
 * configuration may come from a file of somebody else.
 */
const LIMITS = {
  imgSize: 8192,
  patchSize: 8192,
  embedDim: 16384,
  channels: 1024,
  depth: 1000,
  residualsPerLayer: 1000,
  numClasses: 1_000_000,
  dState: 1024,
} as const;
/** Of factors, step sizes and the like. */
const SANE = 1000;

function check(config: DisConfig): void {
  const { ssm } = config;
  for (const name of ['imgSize', 'patchSize', 'embedDim', 'channels', 'depth', 'residualsPerLayer'] as const)
    integer(name, config[name], 1, LIMITS[name]);
  integer('numClasses', config.numClasses, 0, LIMITS.numClasses);
  if (config.imgSize % config.patchSize !== 0) {
    throw new ValueError('disConfig', `is ${config.imgSize}`, {
      option: 'imgSize',
      expected: `a multiple of the patch size ${config.patchSize}`,
      remedy: 'change one of them',
    });
  }
  between('dropPathRate', config.dropPathRate, 0, 1, config.dropPathRate < 1);
  between('classDropoutProb', config.classDropoutProb, 0, 1);
  positive('normEpsilon', config.normEpsilon);
  for (const name of ['rmsNorm', 'learnSigma', 'mlpTimeEmbed', 'skip', 'rescalePrenormResidual'] as const)
    boolean(name, config[name]);
  if (!(typeof config.initializerRange === 'number' && config.initializerRange >= 0 && config.initializerRange <= SANE))
    throw new ValueError('disConfig', `is ${config.initializerRange}`, {
      option: 'initializerRange',
      expected: `a number from 0 to ${SANE}`,
    });

  integer('ssm.dState', ssm.dState, 1, LIMITS.dState);
  integer('ssm.dConv', ssm.dConv, 2, 4);
  positive('ssm.expand', ssm.expand);
  integer('ssm.expand × embedDim', Math.trunc(ssm.expand * config.embedDim), 1, LIMITS.embedDim * 4);
  if (ssm.dtRank !== 'auto') integer('ssm.dtRank', ssm.dtRank, 1, LIMITS.embedDim);
  for (const name of ['dtMin', 'dtMax', 'dtScale', 'dtInitFloor'] as const) positive(`ssm.${name}`, ssm[name]);
  if (ssm.dtMin > ssm.dtMax)
    throw new ValueError('disConfig', `is ${ssm.dtMin}`, {
      option: 'ssm.dtMin',
      expected: `at most ssm.dtMax ${ssm.dtMax}`,
    });
  if (ssm.dtInit !== 'random' && ssm.dtInit !== 'constant')
    throw new ValueError('disConfig', `is ${String(ssm.dtInit)}`, {
      option: 'ssm.dtInit',
      expected: 'random or constant',
    });
  boolean('ssm.convBias', ssm.convBias);
  boolean('ssm.bias', ssm.bias);
}

function integer(name: string, value: number, least: number, most = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new ValueError('disConfig', `is ${value}`, { option: name, expected: `an integer ${range}` });
}

function between(name: string, value: number, least: number, most: number, also = true): void {
  if (typeof value === 'number' && value >= least && value <= most && also) return;
  throw new ValueError('disConfig', `is ${value}`, {
    option: name,
    expected: `a probability from ${least} to ${also ? most : `below ${most}`}`,
  });
}

function positive(name: string, value: number): void {
  if (!(typeof value === 'number' && value > 0 && value <= SANE))
    throw new ValueError('disConfig', `is ${value}`, { option: name, expected: `a positive number up to ${SANE}` });
}

function boolean(name: string, value: boolean): void {
  if (typeof value !== 'boolean')
    throw new ValueError('disConfig', `is ${JSON.stringify(value)}`, { option: name, expected: 'true or false' });
}
