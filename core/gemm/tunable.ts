// How products are tuned: which of them share a configuration, and how one is measured.

import type { Device } from '../gpu/device.ts';
import { Storage } from '../gpu/storage.ts';
import type { Tunable } from '../gpu/tunable.ts';
import { chooseConfig, configs, cuttable, family, MOST_PARTS } from './config.ts';
import { encodeGemm } from './encode.ts';
import {
  operandForms,
  type GemmConfig,
  type GemmLayout,
  type GemmMatrix,
  type GemmProblem,
  type OperandForm,
} from './spec.ts';

/** Sizes in classes: up to 8 each by itself, then two classes an octave. */
function bucket(n: number): string {
  return n <= 8 ? `${n}` : `2^${Math.round(2 * Math.log2(n)) / 2}`;
}

function operand({ dtype, transposed, vec }: OperandForm): string {
  return `${dtype}${transposed ? 't' : ''}${vec ? '' : 'u'}`;
}

const matrix = ({ offset, rowStride, transposed, batchStride, dtype }: GemmLayout): GemmLayout => ({
  // Only the alignment of an offset matters.
  offset: offset % 8,
  rowStride,
  dtype,
  ...(transposed !== undefined && { transposed }),
  ...(batchStride !== undefined && { batchStride }),
});

/** Keys are sizes, then a, b and c: `t` for transposed, `u` for not aligned to 4 elements. */
export const gemmTunable: Tunable<GemmProblem, GemmConfig> = {
  name: 'gemm',
  key(problem) {
    const { M, N, K, batch = 1 } = problem;
    const { a, b, c } = operandForms(problem);
    return `${batch > 1 ? `${bucket(batch)} of ` : ''}${bucket(M)}×${bucket(N)}×${bucket(K)} ${operand(a)} ${operand(b)} ${operand(c)}`;
  },
  outline: ({ M, N, K, batch = 1, a, b, c }) => ({ M, N, K, batch, a: matrix(a), b: matrix(b), c: matrix(c) }),
  heuristic: chooseConfig,
  candidates: configs,
  accepts(device, problem, config): config is GemmConfig {
    const { splits, ...form } = (config ?? {}) as GemmConfig;
    const text = JSON.stringify(form);
    return (
      Number.isInteger(splits) &&
      splits >= 1 &&
      splits <= MOST_PARTS &&
      (splits === 1 || cuttable(form)) &&
      family(device, problem).some(({ splits: _, ...c }) => JSON.stringify(c) === text)
    );
  },
  prepare(device, problem) {
    const { M, N, K, batch = 1 } = problem;
    const a = allocate(device, problem.a, M, K, batch);
    const b = allocate(device, problem.b, K, N, batch);
    const c = allocate(device, problem.c, M, N, batch);
    return {
      run: (config) => encodeGemm(device, { M, N, K, batch, a, b, c }, config),
      dispose: () => [a, b, c].forEach(({ storage }) => storage.release()),
    };
  },
};

function allocate(device: Device, layout: GemmLayout, rows: number, cols: number, batch: number): GemmMatrix {
  const { offset, rowStride, transposed = false, batchStride = 0, dtype } = layout;
  const elements = offset + batchStride * (batch - 1) + rowStride * (transposed ? cols : rows);
  const storage = new Storage(device, elements * (dtype === 'f16' ? 2 : 4), 'tuning');
  // A buffer of the pool may hold anything, also denormal numbers, which a CPU is slow with.
  device.stream.clear(storage.buffer);
  return { ...layout, storage };
}
