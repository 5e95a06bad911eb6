// Bytes and operations of kernels, counted from their shapes.

import type { FloatDType } from '../../core/index.ts';
import { disDimensions, disParameterCount, type DisConfig } from '../../models/dis/index.ts';
import { inSequence, type Work } from '../work.ts';
import { bytesOf, type DisShape } from './shapes.ts';

export interface BothWays {
  readonly forward: Work;
  readonly backward: Work;
}

export function productWork(M: number, N: number, K: number, type: FloatDType): Work {
  return { bytes: bytesOf(type) * (M * K + K * N + M * N), flops: 2 * M * N * K, exps: 0, type, matrix: true };
}

/** A linear layer; backward are two products, one for either gradient. */
export function linearWork(rows: number, out: number, inputs: number, type: FloatDType): BothWays {
  const forward = productWork(rows, out, inputs, type);
  return { forward, backward: { ...forward, bytes: 2 * forward.bytes, flops: 2 * forward.flops } };
}

/**
 * Per state: δA, exp, a multiply-add of the recurrence, (δu)B, a multiply-add with C. Backward runs the recurrence again and adds, per
 * state, the adjoint's multiply-add and its products with A, B, C, u and the state, summed for each of them.
 */
export function scanWork({ batch, tokens, inner, states }: DisShape, type: FloatDType, directions: number): BothWays {
  const rows = batch * tokens * inner,
    small = batch * tokens * states,
    size = bytesOf(type);
  const work = (bytes: number, perState: number, perRow: number): Work => ({
    bytes,
    flops: directions * rows * (states * perState + perRow),
    exps: directions * rows * (states + 2) + rows,
    type: 'f32',
  });
  return {
    // u, delta and B, C of each direction; z and the result once.
    forward: work(size * (directions * (2 * rows + 2 * small) + 2 * rows), 6, 6),
    // Also the gradients of all of them, and that of the result.
    backward: work(size * (directions * (4 * rows + 4 * small) + 3 * rows), 18, 16),
  };
}

export function convWork({ batch, tokens, inner }: DisShape, type: FloatDType, taps: number): BothWays {
  const rows = batch * tokens * inner,
    size = bytesOf(type);
  return {
    forward: { bytes: 2 * rows * size, flops: rows * (2 * taps + 4), exps: rows, type: 'f32' },
    backward: { bytes: 3 * rows * size, flops: rows * (6 * taps + 10), exps: rows, type: 'f32' },
  };
}

/** With the residual: two tensors in and two out, both ways. */
export function rmsNormWork({ batch, tokens, width }: DisShape, type: FloatDType): BothWays {
  const rows = batch * tokens * width,
    bytes = 4 * rows * bytesOf(type);
  return {
    forward: { bytes, flops: 5 * rows, exps: 0, type: 'f32' },
    backward: { bytes, flops: 10 * rows, exps: 0, type: 'f32' },
  };
}

/** Without a residual. */
export function layerNormWork({ batch, tokens, width }: DisShape, type: FloatDType): BothWays {
  const rows = batch * tokens * width,
    size = bytesOf(type);
  return {
    forward: { bytes: 2 * rows * size, flops: 7 * rows, exps: 0, type: 'f32' },
    backward: { bytes: 3 * rows * size, flops: 14 * rows, exps: 0, type: 'f32' },
  };
}

/** AdamW with its moments and a moving average of the parameters, in place. */
export function adamWork(parameters: number): Work {
  return { bytes: 4 * 9 * parameters, flops: 20 * parameters, exps: parameters, type: 'f32' };
}

/** The kernels of a model's blocks, as if every fusion were made that can be; embeddings and the final layer weigh too little to count. */
export function disWork(config: DisConfig, batch: number, type: FloatDType): BothWays {
  const { tokens, blocks, halfDepth, dInner: inner, dState: states, dtRank: rank } = disDimensions(config);
  const width = config.embedDim,
    rows = batch * tokens;
  const shape: DisShape = { label: '', batch, tokens, width, inner, states, rank, priority: 0 };
  const twice = (work: BothWays): BothWays[] => [work, work];
  const block = [
    rmsNormWork(shape, 'f32'),
    linearWork(rows, 2 * inner, width, type),
    ...twice(convWork(shape, type, config.ssm.dConv)),
    ...twice(linearWork(rows, rank + 2 * states, inner, type)),
    ...twice(linearWork(rows, inner, rank, type)),
    scanWork(shape, type, 2),
    linearWork(rows, width, inner, type),
  ];
  const all = Array.from({ length: blocks }, () => block).flat();
  if (config.skip) for (let i = 0; i < halfDepth; i++) all.push(linearWork(rows, width, 2 * width, type));
  return {
    forward: inSequence(all.map((work) => work.forward)),
    backward: inSequence(all.map((work) => work.backward)),
  };
}

/** Forward, backward and the optimizer. */
export function trainingWork(config: DisConfig, batch: number, type: FloatDType): Work {
  const { forward, backward } = disWork(config, batch, type);
  return inSequence([...forward.parts!, ...backward.parts!, adamWork(disParameterCount(config))]);
}
