// Products of images as a kernel that comes in several configurations.

import type { Device } from '../../gpu/device.ts';
import { Storage } from '../../gpu/storage.ts';
import { choose, type Tunable } from '../../gpu/tunable.ts';
import { imageConfigs } from '../config.ts';
import type { GemmConfig } from '../spec.ts';
import { encodeImages } from './encode.ts';
import { area, asProduct, pointwise, type ImageProblem, type ImageSpec } from './spec.ts';

/** Sizes in classes: up to 8 each by itself, then two classes an octave. */
const bucket = (n: number): string => (n <= 8 ? `${n}` : `2^${Math.round(2 * Math.log2(n)) / 2}`);

/** Most parts that K is cut into, as for matrices. */
const MOST_PARTS = 64;

/** Keys are sizes, the window, and types; `u` where pixels are read one by one. */
export const imageTunable: Tunable<ImageProblem, GemmConfig> = {
  name: 'conv2d',
  key(spec) {
    const { M, N, K, batch = 1, a } = asProduct(spec);
    const { kernel, stride } = spec.windows;
    const runs = pointwise(spec) && area(spec.windows.grid) % 4 === 0;
    return (
      `${spec.gives} ${batch > 1 ? `${bucket(batch)} of ` : ''}${bucket(M)}×${bucket(N)}×${bucket(K)} ` +
      `${kernel.join('×')}${stride.some((s) => s > 1) ? ` by ${stride.join(',')}` : ''} ${a.dtype}${runs ? '' : 'u'}`
    );
  },
  outline(spec) {
    // The memory is left behind.
    const bare = <T extends object>(m: T): T => ({ ...m, storage: undefined });
    return spec.gives === 'weights'
      ? { ...spec, gradient: bare(spec.gradient), image: bare(spec.image), result: null }
      : {
          ...spec,
          weight: bare(spec.weight),
          image: bare(spec.image),
          result: bare(spec.result),
          bias: spec.bias && bare(spec.bias),
        };
  },
  heuristic: (device, spec) => imageConfigs(device, asProduct(spec))[0],
  candidates: (device, spec) => imageConfigs(device, asProduct(spec)),
  accepts(device, spec, config): config is GemmConfig {
    const { splits, ...form } = (config ?? {}) as GemmConfig;
    return (
      Number.isInteger(splits) &&
      splits >= 1 &&
      splits <= MOST_PARTS &&
      (splits === 1 || form.form !== 'panel') &&
      imageConfigs(device, asProduct(spec)).some(
        ({ splits: _, ...other }) => JSON.stringify(other) === JSON.stringify(form),
      )
    );
  },
  prepare(device, spec) {
    const made: Storage[] = [];
    const allocate = (elements: number, dtype: 'f32' | 'f16'): Storage => {
      const storage = new Storage(device, elements * (dtype === 'f16' ? 2 : 4), 'tuning');
      // A buffer of the pool may hold anything, also denormal numbers, which a CPU is slow with.
      device.stream.clear(storage.buffer);
      made.push(storage);
      return storage;
    };
    const { batch, groups, rows, channels, windows, image } = spec;
    const memory = {
      ...image,
      storage: allocate(image.offset + batch * groups * channels * image.height * image.width, image.dtype),
    };
    const results = batch * groups * rows * area(windows.grid),
      weights = groups * rows * channels * area(windows.kernel);
    const like = (m: { offset: number; dtype: 'f32' | 'f16' }, elements: number): Storage =>
      allocate(m.offset + elements, m.dtype);
    const copy: ImageSpec =
      spec.gives === 'weights'
        ? {
            ...spec,
            image: memory,
            gradient: { ...spec.gradient, storage: like(spec.gradient, results) },
            result: { storage: allocate(weights, 'f32') },
          }
        : {
            ...spec,
            image: memory,
            weight: { ...spec.weight, storage: like(spec.weight, groups * spec.weight.group + rows * spec.weight.row) },
            result: { ...spec.result, storage: like(spec.result, batch * spec.result.sample) },
            bias: spec.bias && { ...spec.bias, storage: like(spec.bias, groups * rows) },
          };
    return { run: (config) => encodeImages(device, copy, config), dispose: () => made.forEach((s) => s.release()) };
  },
};

/** Encodes a product of images: pixels from windows, or weights from two images. Sums are f32, in a fixed order. */
export function imageProduct(device: Device, spec: ImageSpec, config?: GemmConfig): void {
  encodeImages(device, spec, config ?? choose(device, imageTunable, spec));
}
