// Sizes that follow from a configuration: widths, tokens, and the ordered parameter list of the official state dict. No
// tensor is made, so `dis-cli info` and the checks of a checkpoint cost nothing.

import type { DisConfig } from './config.ts';

/** Widths of a model that follow from its configuration. */
export interface DisDimensions {
  /** Width inside the mixer. */
  readonly dInner: number;
  readonly dtRank: number;
  readonly dState: number;
  readonly dConv: number;
  /** Blocks before the middle one, and after it. */
  readonly halfDepth: number;
  /** Mixers in all, 2 · halfDepth + 1. */
  readonly blocks: number;
  readonly patches: number;
  /** Tokens in front of the patches: the timestep, and the label if there are classes. */
  readonly extras: number;
  readonly tokens: number;
  readonly outChannels: number;
  /** Values that the final layer gives per token. */
  readonly patchDim: number;
  /** Rows of the label table: the classes, and the null class if labels are ever dropped. */
  readonly labelRows: number;
}

/** Widths and counts that follow from a configuration. */
export function disDimensions(config: DisConfig): DisDimensions {
  const { ssm, embedDim, numClasses } = config;
  const halfDepth = Math.floor(config.depth / 2);
  const patches = (config.imgSize / config.patchSize) ** 2;
  const extras = numClasses > 0 ? 2 : 1;
  const outChannels = config.learnSigma ? 2 * config.channels : config.channels;
  return {
    dInner: Math.trunc(ssm.expand * embedDim),
    dtRank: ssm.dtRank === 'auto' ? Math.ceil(embedDim / 16) : ssm.dtRank,
    dState: ssm.dState,
    dConv: ssm.dConv,
    halfDepth,
    blocks: 2 * halfDepth + 1,
    patches,
    extras,
    tokens: patches + extras,
    outChannels,
    patchDim: config.patchSize ** 2 * outChannels,
    labelRows: numClasses > 0 ? numClasses + (config.classDropoutProb > 0 ? 1 : 0) : 0,
  };
}

/** Drop-path rate of each block in execution order, then that of the branch before the last norm. */
export function dropPathRates(config: DisConfig): { readonly blocks: readonly number[]; readonly final: number } {
  const { dropPathRate, depth } = config;
  // The official list is one zero and then linspace(0, rate, depth) in float32, so the first two blocks never drop.
  const rates = [0, ...Array.from({ length: depth }, (_, i) => (depth > 1 ? (dropPathRate * i) / (depth - 1) : 0))];
  return { blocks: rates.slice(0, disDimensions(config).blocks), final: dropPathRate };
}

/** Name → shape of each tensor of a state dict. */
export type WeightShapes = ReadonlyMap<string, readonly number[]>;

/** A parameter by name, with its sizes. */
export type ParameterShape = readonly [name: string, shape: readonly number[]];

/** Names and shapes of all parameters, in the order of the official state dict. */
export function disParameterShapes(config: DisConfig): ParameterShape[] {
  const { embedDim: width, channels, patchSize } = config;
  const { halfDepth, tokens, labelRows, patchDim } = disDimensions(config);
  const shapes: ParameterShape[] = [
    ['pos_embed', [1, tokens, width]],
    ['patch_embed.proj.weight', [width, channels, patchSize, patchSize]],
    ['patch_embed.proj.bias', [width]],
  ];
  if (config.mlpTimeEmbed)
    shapes.push(...linear('time_embed.0', width, 4 * width), ...linear('time_embed.2', 4 * width, width));
  if (labelRows > 0) shapes.push(['label_emb.embedding_table.weight', [labelRows, width]]);
  for (let i = 0; i < halfDepth; i++) shapes.push(...block(config, `in_blocks.${i}`, false));
  shapes.push(...block(config, 'mid_block', false));
  for (let i = 0; i < halfDepth; i++) shapes.push(...block(config, `out_blocks.${i}`, config.skip));
  shapes.push(...norm(config, 'norm_f'), ...linear('final_layer.linear', width, patchDim));
  if (labelRows > 0) shapes.push(...linear('final_layer.adaLN_modulation.1', width, 2 * width));
  return shapes;
}

/** Number of parameters. */
export function disParameterCount(config: DisConfig): number {
  return disParameterShapes(config).reduce(
    (sum, [, shape]) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  );
}

function block(config: DisConfig, name: string, skip: boolean): ParameterShape[] {
  const shapes = [...mixer(config, `${name}.mixer`), ...norm(config, `${name}.norm`)];
  if (skip) shapes.push(...linear(`${name}.skip_linear`, 2 * config.embedDim, config.embedDim));
  return shapes;
}

function mixer(config: DisConfig, name: string): ParameterShape[] {
  const { embedDim, ssm } = config;
  const { dInner, dtRank, dState, dConv } = disDimensions(config);
  const direction = (suffix: string): ParameterShape[] => {
    const conv: ParameterShape[] = [[`${name}.conv1d${suffix}.weight`, [dInner, 1, dConv]]];
    if (ssm.convBias) conv.push([`${name}.conv1d${suffix}.bias`, [dInner]]);
    return [
      ...conv,
      ...linear(`${name}.x_proj${suffix}`, dInner, dtRank + 2 * dState, false),
      ...linear(`${name}.dt_proj${suffix}`, dtRank, dInner),
    ];
  };
  return [
    [`${name}.A_log`, [dInner, dState]],
    [`${name}.D`, [dInner]],
    [`${name}.A_b_log`, [dInner, dState]],
    [`${name}.D_b`, [dInner]],
    ...linear(`${name}.in_proj`, embedDim, 2 * dInner, ssm.bias),
    ...direction(''),
    ...direction('_b'),
    ...linear(`${name}.out_proj`, dInner, embedDim, ssm.bias),
  ];
}

function norm(config: DisConfig, name: string): ParameterShape[] {
  const weight: ParameterShape = [`${name}.weight`, [config.embedDim]];
  return config.rmsNorm ? [weight] : [weight, [`${name}.bias`, [config.embedDim]]];
}

function linear(name: string, inputs: number, outputs: number, bias = true): ParameterShape[] {
  const weight: ParameterShape = [`${name}.weight`, [outputs, inputs]];
  return bias ? [weight, [`${name}.bias`, [outputs]]] : [weight];
}
