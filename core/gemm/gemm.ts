// The product of two matrices: checks it, chooses a configuration and encodes it.

import type { Device } from '../gpu/device.ts';
import { ValueError } from '../errors.ts';
import { choose } from '../gpu/tunable.ts';
import { encodeGemm } from './encode.ts';
import type { GemmConfig, GemmMatrix, GemmSpec } from './spec.ts';
import { gemmTunable } from './tunable.ts';

/**
 * `c = activation(a · b + bias)` for matrices anywhere in memory, or for a batch of them; with `accumulate`
 * `c = activation(a · b + bias + c)`. a is M × K, b is K × N, c is M × N; sums are f32. The result doesn't depend on
 * timing: the same product on the same adapter with the same configuration gives the same bits.
 *
 * @param config how to compute it; left out, what was measured for products like this, or else `chooseConfig`, decides
 * @throws ValueError where a matrix doesn't lie inside its storage, or c shares its storage with an operand
 */
export function gemm(device: Device, spec: GemmSpec, config?: GemmConfig): void {
  check(spec);
  if (spec.M === 0 || spec.N === 0 || spec.batch === 0) return;
  encodeGemm(device, spec, config ?? choose(device, gemmTunable, spec));
}

function check(spec: GemmSpec): void {
  const { M, N, K, batch = 1, a, b, c, bias } = spec;
  inside('a', a, M, K, batch);
  inside('b', b, K, N, batch);
  inside('c', c, M, N, batch);
  if (c.transposed)
    throw new ValueError('gemm', 'c is transposed', { expected: 'rows', remedy: 'compute b^T a^T instead' });
  if (bias) inside('bias', { ...bias, rowStride: N }, 1, N, 1);
  for (const [name, m] of [
    ['a', a],
    ['b', b],
    ['bias', bias],
  ] as const) {
    if (m && m.storage === c.storage) {
      throw new ValueError('gemm', `c shares the storage of ${name}`, {
        expected: 'one of its own: a kernel cannot read and write the same buffer',
        remedy: 'write to a new tensor',
      });
    }
  }
}

function inside(name: string, m: GemmMatrix, rows: number, cols: number, batch: number): void {
  if (rows === 0 || cols === 0 || batch === 0) return;
  const [outer, inner] = m.transposed ? [cols, rows] : [rows, cols];
  const last = m.offset + (outer - 1) * m.rowStride + inner - 1 + (batch - 1) * (m.batchStride ?? 0);
  const elements = Math.floor(m.storage.bytes / (m.dtype === 'f16' ? 2 : 4));
  if (m.offset < 0 || last >= elements || !Number.isInteger(last)) {
    throw new ValueError(
      'gemm',
      `${name} (${rows} × ${cols}, offset ${m.offset}, row stride ${m.rowStride}, batch ${batch} by ${m.batchStride ?? 0}) ` +
        `ends at element ${last}`,
      { expected: `less than the storage's ${elements}`, remedy: 'check its strides' },
    );
  }
}
