// Encodes the dispatches of a product of images: brings weights into order where they are not, cuts K into parts.

import type { Device } from '../../gpu/device.ts';
import type { Operand } from '../../gpu/dispatcher.ts';
import { grid1d } from '../../gpu/grid.ts';
import { Storage } from '../../gpu/storage.ts';
import { matrixKernel } from '../matrix.ts';
import { panelKernel, panelSpan } from '../panel.ts';
import { REDUCE_WORKGROUP, reduceKernel } from '../reduce.ts';
import { registerKernel } from '../register.ts';
import type { GemmConfig } from '../spec.ts';
import { parts, place, workgroups } from '../encode.ts';
import { tileKernel } from '../tile.ts';
import {
  area,
  imageForm,
  paddedChannels,
  storesFours,
  tapsOutside,
  weightMatrix,
  type ImageSpec,
  type PixelsSpec,
  type WeightsSpec,
} from './spec.ts';
import { weightsKernel } from './weights.ts';

const kernels = { register: registerKernel, panel: panelKernel, tile: tileKernel, matrix: matrixKernel } as const;

/** Forms that read images. */
export const IMAGE_FORMS: readonly GemmConfig['form'][] = ['register', 'panel', 'tile', 'matrix'];

/** Encodes a product of images in a given configuration. */
export function encodeImages(device: Device, spec: ImageSpec, config: GemmConfig): void {
  const { batch, groups, rows: M, channels, windows, image } = spec;
  const grid = area(windows.grid),
    taps = area(windows.kernel),
    plane = image.height * image.width;
  const align = device.limits.minStorageBufferOffsetAlignment;
  const items = spec.gives === 'weights' ? groups * taps : groups;
  const [N, K] = spec.gives === 'weights' ? [channels, batch * grid] : [batch * grid, weightMatrix(spec, config).K];
  const a = spec.gives === 'weights' ? gradients(spec, align) : weights(device, spec, config, align);
  const [bAt, bOffset] = place(image, align);
  const { chunk, splits } = parts(K, config);
  const used = { ...config, splits: splits === 1 ? 1 : 2 };
  const form = imageForm(spec, used);
  const result =
    spec.gives === 'weights'
      ? {
          at: { storage: spec.result.storage, byteOffset: 0 },
          offset: 0,
          row: N,
          batch: M * N,
          sample: 0,
          steps: [0, 0],
        }
      : pixels(spec, align);
  const split = splits === 1 ? null : new Storage(device, items * splits * M * N * 4, 'gemm parts');
  const [biasAt, biasOffset] = spec.gives === 'pixels' && spec.bias ? place(spec.bias, align) : [null, 0];
  const rest =
    config.form === 'panel' ? [chunk, panelSpan({ M, N, batch: items }, config)] : [split ? chunk : K, splits];
  device.run(
    kernels[config.form as keyof typeof kernels],
    { config: used, problem: form },
    [a.at, bAt, split ? { storage: split, byteOffset: 0 } : result.at, ...(biasAt && !split ? [biasAt] : [])],
    [
      ...[M, N, K, a.offset, a.row, a.batch, bOffset, plane, channels * plane],
      ...(split ? [0, N, M * N] : [result.offset, result.row, result.batch]),
      ...[split ? 0 : biasOffset, ...rest],
      ...[M, grid, windows.grid[1], windows.grid[0], a.sample, groups * channels * plane],
      ...[image.height, image.width, ...windows.stride, ...windows.origin, ...windows.step],
      ...[
        spec.gives === 'pixels' ? paddedChannels(channels, tapsOutside(spec, config) ? config.depth : 1) : channels,
        channels,
      ],
      ...[result.sample, ...result.steps],
    ],
    workgroups({ M, N, batch: items }, config, splits),
  );
  a.copy?.release();
  if (!split) return;
  const whole = imageForm(spec, { ...config, splits: 1 });
  const fours = spec.gives === 'pixels' ? storesFours(spec) : whole.c.vec;
  device.run(
    reduceKernel,
    {
      c: { ...whole.c, vec: fours && N % 4 === 0 },
      bias: whole.bias,
      activation: whole.activation,
      accumulate: false,
      ...(spec.gives === 'pixels' && { pixels: { dense: form.image!.dense } }),
    },
    [{ storage: split, byteOffset: 0 }, result.at, ...(biasAt ? [biasAt] : [])],
    [
      ...[M, N, items, splits, result.offset, result.row, result.batch, biasOffset],
      ...(spec.gives === 'pixels' ? [M, grid, windows.grid[1], result.sample, ...result.steps] : []),
    ],
    grid1d((items * M * N) / (fours && N % 4 === 0 ? 4 : 1), REDUCE_WORKGROUP),
  );
  split.release();
}

/** An operand as a kernel takes it: where it is bound, its first element there, and strides. */
interface Bound {
  readonly at: Operand;
  readonly offset: number;
  readonly row: number;
  readonly batch: number;
  readonly sample: number;
  /** To be released after the dispatch. */
  readonly copy?: Storage;
}

function gradients({ gradient, rows, groups, windows }: WeightsSpec, align: number): Bound {
  const [at, offset] = place(gradient, align);
  const grid = area(windows.grid);
  return { at, offset, row: grid, batch: rows * grid, sample: groups * rows * grid };
}

function weights(device: Device, spec: PixelsSpec, config: GemmConfig, align: number): Bound {
  const { weight, groups, rows, channels, windows } = spec;
  const { K, rowStride, groupStride, copied } = weightMatrix(spec, config);
  const [at, offset] = place(weight, align);
  if (!copied) return { at, offset, row: rowStride, batch: groupStride, sample: 0 };
  const outside = tapsOutside(spec, config);
  const count = groups * rows * K;
  const copy = new Storage(device, Math.max(4, count * (weight.dtype === 'f16' ? 2 : 4)), 'weights in order');
  device.run(
    weightsKernel,
    { type: weight.dtype, tapsOutside: outside },
    [
      { storage: weight.storage, byteOffset: 0 },
      { storage: copy, byteOffset: 0 },
    ],
    [
      ...[count, rows, channels, paddedChannels(channels, outside ? config.depth : 1), ...windows.kernel],
      ...[weight.offset, weight.group, weight.row, weight.channel, ...weight.tap],
    ],
    grid1d(count, 64),
  );
  return { at: { storage: copy, byteOffset: 0 }, offset: 0, row: rowStride, batch: groupStride, sample: 0, copy };
}

function pixels({ result, rows }: PixelsSpec, align: number): Bound & { steps: readonly number[] } {
  const [at, offset] = place(result, align);
  const { channel, sample, row, column } = result;
  return { at, offset, row: channel, batch: rows * channel, sample, steps: [row, column] };
}
