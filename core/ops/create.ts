// Making tensors.

import type { Device } from '../gpu/device.ts';
import { isFloat, storageType, type DType } from '../tensor/dtype.ts';
import { DTypeError, ShapeError, ValueError } from '../errors.ts';
import { isFloat16Array } from '../tensor/float16.ts';
import { wholeOf, type HostArray } from '../tensor/hostData.ts';
import { numelOf, show, type Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { checkDevice, inWords } from '../tensor/arguments.ts';
import { defineKernel } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';

/** Numbers, nested as deep as there are dimensions. */
export type Nested = number | boolean | readonly Nested[];

/** Shape and type of a tensor of host data. */
export interface CreateOptions {
  shape?: Shape;
  dtype?: DType;
  requiresGrad?: boolean;
}

/**
 * A tensor of host data: a number, nested arrays, or a typed array. Its type follows the data (Int32Array → i32,
 * Uint32Array → u32, Float16Array → f16, booleans → bool; everything else → f32) unless given.
 *
 * @throws ShapeError where the data doesn't fill the shape or nested arrays are ragged, ValueError for what is no
 *   number
 */
export function tensor(device: Device, data: Nested | HostArray, options: CreateOptions = {}): Tensor {
  checkDevice('tensor', device);
  const flat = isTyped(data) ? { values: data, shape: [data.length] } : flattenNested(data as Nested);
  const shape = checkShape('tensor', options.shape ?? flat.shape);
  if (numelOf(shape) !== flat.values.length)
    throw new ShapeError('tensor', `${flat.values.length} values given for shape ${show(shape)}`, {
      expected: `${numelOf(shape)}`,
    });
  const dtype = options.dtype ?? typeOf(flat.values);
  if (options.requiresGrad && !isFloat(dtype))
    throw new DTypeError('tensor', `A ${dtype} tensor has no gradient`, { expected: 'f32 or f16' });
  const t = emptyTensor(device, shape, dtype);
  try {
    if (t.numel) t.upload(flat.values);
  } catch (error) {
    t.dispose();
    throw error;
  }
  return options.requiresGrad ? t.requiresGrad_() : t;
}

function isTyped(data: Nested | HostArray): data is Exclude<HostArray, readonly unknown[]> {
  if (data instanceof DataView || data instanceof BigInt64Array || data instanceof BigUint64Array) {
    throw new ValueError('tensor', `The data is a ${data.constructor.name}`, {
      expected: 'numbers, nested arrays of them, or a typed array of numbers',
    });
  }
  return ArrayBuffer.isView(data) || isFloat16Array(data);
}

function typeOf(values: HostArray): DType {
  if (values instanceof Int32Array) return 'i32';
  if (values instanceof Uint32Array) return 'u32';
  if (isFloat16Array(values)) return 'f16';
  return Array.isArray(values) && typeof values[0] === 'boolean' ? 'bool' : 'f32';
}

function checkShape(op: string, shape: Shape): Shape {
  if (!Array.isArray(shape))
    throw new ValueError(op, `The shape is ${inWords(shape)}`, {
      expected: 'an array of whole numbers',
      remedy: typeof shape === 'number' ? `write [${String(shape)}]` : undefined,
    });
  for (const size of shape)
    if (!Number.isSafeInteger(size) || size < 0)
      throw new ValueError(op, `Shape ${show(shape)} has a size of ${size}`, { expected: 'whole numbers from 0 on' });
  return shape;
}

function flattenNested(data: Nested): { values: number[] | boolean[]; shape: number[] } {
  const shape: number[] = [];
  for (let level: Nested = data; Array.isArray(level); level = (level as readonly Nested[])[0])
    shape.push((level as readonly Nested[]).length);
  const values: (number | boolean)[] = [];
  const walk = (level: Nested, dim: number): void => {
    if (dim === shape.length) {
      if (Array.isArray(level))
        throw new ShapeError('tensor', 'Nested arrays are deeper in one place than in another', {
          expected: `${dim} levels everywhere`,
        });
      if (typeof level !== 'number' && typeof level !== 'boolean')
        throw new ValueError('tensor', `${String(level)} is no number`, {
          expected: 'numbers, nested arrays of them, or a typed array',
        });
      values.push(level);
    } else {
      if (!Array.isArray(level) || level.length !== shape[dim])
        throw new ShapeError(
          'tensor',
          `Nested arrays have ${Array.isArray(level) ? level.length : 'no'} items where the first has ${shape[dim]}, ` +
            `in dimension ${dim}`,
        );
      for (const item of level as readonly Nested[]) walk(item, dim + 1);
    }
  };
  walk(data, 0);
  return { values: values as number[], shape };
}

/** A tensor whose content is undefined, to be written by a kernel. */
export function empty(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  checkDevice('empty', device);
  return emptyTensor(device, checkShape('empty', shape), dtype);
}

/** The kernel behind `full`, `zeros`, `ones` and `arange`. */
export const fillKernel = defineKernel<{ type: 'f32' | 'f16' | 'i32' | 'u32'; arange: boolean }>(
  'fill',
  ({ type, arange }) => ({
    bindings: [{ name: 'y', type: `array<${type}>`, access: 'write' }],
    params: [
      { name: 'n', type: 'u32' },
      { name: 'value', type: type === 'i32' || type === 'u32' ? type : 'f32' },
      { name: 'step', type: type === 'i32' || type === 'u32' ? 'i32' : 'f32' },
    ],
    workgroupSize: [64],
    coarsenable: true,
    enable: type === 'f16' ? ['f16'] : [],
    body: `  if (flat >= p.n) { return; }
  y[flat] = ${type}(p.value${
    arange
      ? ` + ${type === 'u32' ? 'u32' : type === 'i32' ? 'i32' : 'f32'}(flat)
    * ${type === 'u32' ? 'u32(p.step)' : 'p.step'}`
      : ''
  });`,
  }),
);

/**
 * A tensor of one value.
 *
 * @throws ValueError for a number that an integer type can't hold
 */
export function full(device: Device, shape: Shape, value: number, dtype: DType = 'f32'): Tensor {
  checkDevice('full', device);
  // NaN is true.
  const stored = dtype === 'bool' ? Number(value !== 0) : isFloat(dtype) ? value : wholeOf(value, dtype, 'full');
  const t = empty(device, shape, dtype);
  if (t.numel)
    device.run(fillKernel, { type: storageType(dtype), arange: false }, [t], [t.numel, stored, 0], grid1d(t.numel, 64));
  return t;
}

/** A tensor of zeros. */
export function zeros(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  checkDevice('zeros', device);
  return full(device, shape, 0, dtype);
}

/** A tensor of ones; of `true` for bool. */
export function ones(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  checkDevice('ones', device);
  return full(device, shape, 1, dtype);
}

/** begin, begin + step, … before end. */
export function arange(device: Device, begin: number, end?: number, step = 1, dtype: DType = 'f32'): Tensor {
  checkDevice('arange', device);
  const [from, to] = end === undefined ? [0, begin] : [begin, end];
  if (![from, to, step].every(Number.isFinite) || step === 0)
    throw new ValueError('arange', `From ${from} to ${to} by ${step}`, {
      expected: 'finite numbers and a step that is not 0',
    });
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!isFloat(dtype)) {
    if (dtype === 'bool' || !Number.isInteger(from) || !Number.isInteger(step))
      throw new ValueError('arange', `From ${from} by ${step} in ${dtype}`, {
        expected: 'whole numbers in i32 or u32',
        remedy: 'use f32 and cast() it',
      });
    if (count) for (const end of [from, from + (count - 1) * step]) wholeOf(end, dtype, 'arange');
  }
  const t = empty(device, [count], dtype);
  if (t.numel)
    device.run(fillKernel, { type: storageType(dtype), arange: true }, [t], [t.numel, from, step], grid1d(t.numel, 64));
  return t;
}

/** `count` values from begin to end, both included. */
export function linspace(device: Device, begin: number, end: number, count: number): Tensor {
  checkDevice('linspace', device);
  checkShape('linspace', [count]);
  return tensor(
    device,
    Float32Array.from({ length: count }, (_, i) => (count === 1 ? begin : begin + ((end - begin) * i) / (count - 1))),
  );
}

/** The identity matrix. */
export function eye(device: Device, n: number, dtype: DType = 'f32'): Tensor {
  checkDevice('eye', device);
  checkShape('eye', [n, n]);
  const data = new Float32Array(n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return tensor(device, data, { shape: [n, n], dtype });
}
