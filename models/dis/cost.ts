// What a configuration costs: floating-point operations per image and bytes of GPU memory. Both are computed from
// shapes.

import type { FloatDType } from '../../core/index.ts';
import type { DisConfig } from './config.ts';
import { disDimensions, disParameterCount } from './shapes.ts';

/** Floating-point operations of one forward pass over one image, by kind. */
export interface DisFlops {
  /** Projections, embeddings and the final layer, biases included. */
  readonly matmul: number;
  /** Selective scans of both directions with softplus, D and gate. */
  readonly scan: number;
  /** Depthwise convolutions of both directions with bias and SiLU. */
  readonly conv: number;
  readonly norm: number;
  /** Residual and positional additions, modulation, SiLU of the embedders, sinusoids. */
  readonly elementwise: number;
  readonly total: number;
}

// Operations per value. An addition, a multiplication, a division and an elementary function count one each, a sign
// none.
const SILU = 4; // x / (1 + exp(-x)) as exp, add, reciprocal, multiply
const SOFTPLUS = 3; // log(1 + exp(x))
const RMS_NORM = 4; // square and accumulate, scale, weight
const LAYER_NORM = 7; // accumulate, subtract, square and accumulate, scale, weight, bias
const LAYER_NORM_PLAIN = 5;
/** Per state and token: δA, exp, the multiply-add of the recurrence, (δu)B, the multiply-add with C. */
const SCAN_PER_STATE = 7;

/**
 * Counts the operations of one forward pass for one image: multiply and add are two operations. Nothing is left out
 * that grows with the image; the published figures of state-space models often leave out the scan, or count
 * multiply-adds once.
 *
 * Per token and direction a mixer takes, with d the inner width, N states, R the rank of the step size and k the
 * convolution: scan `d (7 N + 12)`: 7 N for the recurrence, 12 for bias, softplus, δu, D and the gate with its SiLU;
 * convolution `d (2 k + 4)`, with bias and SiLU; projections `2 d (R + 2 N) + 2 R d`.
 * A training step costs about three forward passes. Guided sampling runs two images per image.
 */
export function disFlops(config: DisConfig): DisFlops {
  const { embedDim: width, ssm, channels, patchSize } = config;
  const { dInner, dtRank, dState, dConv, halfDepth, blocks, patches, tokens, patchDim, labelRows } =
    disDimensions(config);
  const linear = (rows: number, inputs: number, outputs: number, bias = true): number =>
    rows * outputs * (2 * inputs + (bias ? 1 : 0));

  let matmul = linear(patches, channels * patchSize ** 2, width);
  let elementwise = tokens * width; // positional embedding
  elementwise += width * 2; // angle and sinusoid of the timestep
  if (config.mlpTimeEmbed) {
    matmul += linear(1, width, 4 * width) + linear(1, 4 * width, width);
    elementwise += 4 * width * SILU;
  }

  const perDirection = linear(tokens, dInner, dtRank + 2 * dState, false) + linear(tokens, dtRank, dInner, false);
  const mixer =
    linear(tokens, width, 2 * dInner, ssm.bias) + 2 * perDirection + linear(tokens, dInner, width, ssm.bias);
  matmul += blocks * mixer;
  if (config.skip) matmul += halfDepth * linear(tokens, 2 * width, width);
  elementwise += blocks * tokens * dInner; // sum of the two directions
  elementwise += blocks * tokens * width; // residual additions: one in every block but the first, one before the last norm

  const gate = SILU + 1;
  const scan = blocks * 2 * tokens * dInner * (SCAN_PER_STATE * dState + 1 + SOFTPLUS + 1 + 2 + gate);
  const conv = blocks * 2 * tokens * dInner * (2 * dConv - 1 + (ssm.convBias ? 1 : 0) + SILU);

  const normPerValue = config.rmsNorm ? RMS_NORM : LAYER_NORM;
  const norm = (blocks + 1) * tokens * width * normPerValue + tokens * width * LAYER_NORM_PLAIN;

  matmul += linear(tokens, width, patchDim);
  if (labelRows > 0) {
    matmul += linear(1, width, 2 * width);
    elementwise += width * (1 + SILU) + width + 2 * tokens * width; // condition, its SiLU, 1 + scale, modulation
  }
  return { matmul, scan, conv, norm, elementwise, total: matmul + scan + conv + norm + elementwise };
}

/** Bytes of GPU memory, an estimate to choose a batch by. */
export interface DisMemory {
  readonly parameters: number;
  readonly gradients: number;
  /** First and second moments of Adam. */
  readonly optimizer: number;
  readonly ema: number;
  /** Activations kept for the backward pass, or live at once when sampling. */
  readonly activations: number;
  readonly total: number;
}

/** What a step's memory depends on beside the model. */
export interface DisMemoryOptions {
  /** Images at once; with guidance a sampled image counts two. */
  readonly batch: number;
  /** Storage of activations and working weights; masters, residual stream and scan states stay f32. Default f32. */
  readonly precision?: FloatDType;
  /** Recompute each mixer in the backward pass instead of keeping its activations: `checkpointBlocks` of the model. */
  readonly recompute?: boolean;
}

/**
 * Every how many tokens the scan keeps its states for the backward pass on a GPU; software adapters keep half as many.
 */
const TOKENS_PER_SAVED_STATE = 16;

/**
 * Memory of a training step: f32 masters, gradients, two moments and EMA (20 bytes per parameter), and what each block
 * keeps. Per token that is residual, normed input and output (3 widths, one more after a skip), input projection (2 d),
 * and for each direction convolution and step size (2 d), projections (R + 2 N), and N states per channel every 16
 * tokens; for both the output and what it was before the gate (2 d).
 */
export function disTrainingMemory(config: DisConfig, options: DisMemoryOptions): DisMemory {
  const { batch, precision = 'f32', recompute = false } = options;
  const count = disParameterCount(config);
  const { blocks, halfDepth, tokens, patchDim } = disDimensions(config);
  const size = precision === 'f16' ? 2 : 4;
  const oneBlock = blockActivations(config, size);
  const held = config.skip ? halfDepth * config.embedDim * size : 0;
  // Recomputed, one block at a time is there with its gradients.
  const perToken = held + (recompute ? 2 * oneBlock + blocks * config.embedDim * (4 + size) : blocks * oneBlock);
  const head = 3 * config.embedDim * size + 2 * patchDim * 4;
  const activations = batch * tokens * (perToken + head);
  return memory({
    parameters: 4 * count + (precision === 'f16' ? 2 * count : 0),
    gradients: 4 * count,
    optimizer: 8 * count,
    ema: 4 * count,
    activations,
  });
}

/**
 * Memory of sampling: the weights once, one block's activations, and what skip connections hold until they are used.
 */
export function disSamplingMemory(config: DisConfig, options: Omit<DisMemoryOptions, 'recompute'>): DisMemory {
  const { batch, precision = 'f32' } = options;
  const { halfDepth, tokens, patchDim } = disDimensions(config);
  const size = precision === 'f16' ? 2 : 4;
  const held = config.skip ? halfDepth * config.embedDim * size : 0;
  const activations = batch * tokens * (blockActivations(config, size) + held + 2 * patchDim * 4);
  return memory({ parameters: size * disParameterCount(config), gradients: 0, optimizer: 0, ema: 0, activations });
}

/** Bytes per token that one block's tensors take; `size` bytes per value, the residual and the states in f32. */
function blockActivations(config: DisConfig, size: number): number {
  const { dInner, dtRank, dState } = disDimensions(config);
  const states = (dInner * dState * 4) / TOKENS_PER_SAVED_STATE;
  const direction = (2 * dInner + dtRank + 2 * dState) * size + states;
  return config.embedDim * (4 + 2 * size) + 4 * dInner * size + 2 * direction;
}

function memory(parts: Omit<DisMemory, 'total'>): DisMemory {
  return { ...parts, total: parts.parameters + parts.gradients + parts.optimizer + parts.ema + parts.activations };
}
