// Encodes the dispatches of a product: binds operands near their first elements, cuts K into parts, and cuts products
// that exceed the largest grid.

import type { FloatDType } from '../tensor/dtype.ts';
import type { Device } from '../gpu/device.ts';
import type { Operand } from '../gpu/dispatcher.ts';
import { grid1d } from '../gpu/grid.ts';
import { Storage } from '../gpu/storage.ts';
import { matrixKernel } from './matrix.ts';
import { panelChunk, panelKernel, panelSpan } from './panel.ts';
import { REDUCE_WORKGROUP, reduceKernel } from './reduce.ts';
import { registerKernel, subgroupKernel } from './register.ts';
import { transposeProduct, problemForm, type GemmConfig, type GemmMatrix, type GemmSpec } from './spec.ts';
import { tileKernel } from './tile.ts';
import { vectorColumns, vectorKernel } from './vector.ts';

/** Workgroups that a dispatch may have in one dimension. */
export const GRID_LIMIT = 65535;

const kernels = {
  register: registerKernel,
  subgroup: subgroupKernel,
  panel: panelKernel,
  tile: tileKernel,
  matrix: matrixKernel,
  vector: vectorKernel,
} as const;

/** Encodes a product, which must have been checked, in a given configuration. */
export function encodeGemm(device: Device, spec: GemmSpec, config: GemmConfig): void {
  const computed = config.transposeOutput && config.splits === 1 ? transposeProduct(spec) : spec;
  for (const part of withinGrid(computed, config)) dispatch(device, part, config);
}

function dispatch(device: Device, spec: GemmSpec, config: GemmConfig): void {
  const { M, N, K, batch = 1, a, b, c, bias } = spec;
  const align = device.limits.minStorageBufferOffsetAlignment;
  const [aAt, aOffset] = place(a, align);
  const [bAt, bOffset] = place(b, align);
  const [cAt, cOffset] = place(c, align);
  const [biasAt, biasOffset] = bias ? place(bias, align) : [null, 0];
  const operands = [a.rowStride, a.batchStride ?? 0, bOffset, b.rowStride, b.batchStride ?? 0];
  const { chunk, splits } = parts(K, config);
  if (splits === 1) {
    const problem = problemForm(spec, { ...config, splits: 1 });
    const rest = config.form === 'panel' ? [chunk, panelSpan(spec, config)] : [K, 1];
    device.run(
      kernels[config.form],
      { config: { ...config, splits: 1 }, problem },
      biasAt ? [aAt, bAt, cAt, biasAt] : [aAt, bAt, cAt],
      [M, N, K, aOffset, ...operands, cOffset, c.rowStride, c.batchStride ?? 0, biasOffset, ...rest],
      workgroups(spec, config, 1),
    );
    return;
  }
  const storage = new Storage(device, batch * splits * M * N * 4, 'gemm parts');
  // The number of parts is a parameter: one kernel serves any number above 1.
  device.run(
    kernels[config.form],
    { config: { ...config, splits: 2 }, problem: problemForm(spec, { ...config, splits: 2 }) },
    [aAt, bAt, { storage, byteOffset: 0 }],
    [M, N, K, aOffset, ...operands, 0, N, M * N, 0, chunk, splits],
    workgroups(spec, config, splits),
  );
  const whole = problemForm(spec, { ...config, form: 'register', splits: 1 });
  const form = {
    c: { ...whole.c, vec: whole.c.vec && N % 4 === 0 },
    bias: whole.bias,
    activation: whole.activation,
    accumulate: whole.accumulate,
  };
  device.run(
    reduceKernel,
    form,
    [{ storage, byteOffset: 0 }, cAt, ...(biasAt ? [biasAt] : [])],
    [M, N, batch, splits, cOffset, c.rowStride, c.batchStride ?? 0, biasOffset],
    grid1d((batch * M * N) / (form.c.vec ? 4 : 1), REDUCE_WORKGROUP),
  );
  storage.release();
}

export function workgroups(
  spec: Pick<GemmSpec, 'M' | 'N' | 'batch'>,
  config: GemmConfig,
  splits: number,
): [number, number, number] {
  const { M, N, batch = 1 } = spec;
  const { form, rows, quads, x, y } = config;
  if (form === 'vector') {
    const [gx, gy] = grid1d(Math.ceil(M / rows) * Math.ceil(N / vectorColumns(config)), y);
    return [gx, gy, batch * splits];
  }
  const down = form === 'panel' ? panelSpan(spec, config) : rows * y;
  return [Math.ceil(N / (4 * quads * x)), Math.ceil(M / down), batch * splits];
}

/** Elements of K in a part, a multiple of the configuration's depth, and how many parts that makes. */
export function parts(K: number, config: GemmConfig): { chunk: number; splits: number } {
  if (config.form === 'panel') return { chunk: panelChunk(K, config), splits: 1 };
  const chunk = Math.max(config.depth, Math.ceil(K / config.splits / config.depth) * config.depth);
  return { chunk, splits: Math.max(1, Math.ceil(K / chunk)) };
}

/**
 * Binds a matrix as near to its first element as the adapter's alignment allows, and gives the rest as an offset in
 * elements.
 */
export function place(m: { storage: Storage; offset: number; dtype: FloatDType }, align: number): [Operand, number] {
  const size = m.dtype === 'f16' ? 2 : 4;
  const byteOffset = Math.floor((m.offset * size) / align) * align;
  return [{ storage: m.storage, byteOffset }, m.offset - byteOffset / size];
}

/** Cuts a product that needs more workgroups in one dimension than a dispatch may have. */
function withinGrid(spec: GemmSpec, config: GemmConfig): GemmSpec[] {
  const { M, batch = 1, a, c } = spec;
  const rows = GRID_LIMIT * config.rows * config.y;
  const items = Math.floor(GRID_LIMIT / config.splits);
  if (M <= rows && batch <= items) return [spec];
  const list: GemmSpec[] = [];
  for (let z = 0; z < batch; z += items) {
    for (let m = 0; m < M; m += rows) {
      const move = (x: GemmMatrix, down: number): GemmMatrix => ({
        ...x,
        offset: x.offset + z * (x.batchStride ?? 0) + down,
      });
      list.push({
        ...spec,
        M: Math.min(rows, M - m),
        batch: Math.min(items, batch - z),
        a: move(a, a.transposed ? m : m * a.rowStride),
        b: move(spec.b, 0),
        c: move(c, c.transposed ? m : m * c.rowStride),
      });
    }
  }
  return list;
}
