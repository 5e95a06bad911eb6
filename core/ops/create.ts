// Making tensors.

import type { Device } from '../device.ts';
import type { DType } from '../dtype.ts';
import { ShapeError, ValueError } from '../errors.ts';
import type { HostArray } from '../hostData.ts';
import { keep } from '../scope.ts';
import { numelOf, show, type Shape } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { defineKernel, grid1d } from '../kernel.ts';
import { storageType } from '../dtype.ts';

/** Numbers, nested as deep as there are dimensions. */
export type Nested = number | boolean | readonly Nested[];

export interface CreateOptions {
  shape?: Shape;
  dtype?: DType;
  requiresGrad?: boolean;
}

/**
 * A tensor of host data: a number, nested arrays, or a typed array. Its type follows the data (Float → f32, Int32Array → i32,
 * Uint32Array → u32, booleans → bool; numbers → f32) unless given.
 */
export function tensor(device: Device, data: Nested | HostArray, options: CreateOptions = {}): Tensor {
  const flat = ArrayBuffer.isView(data) ? { values: data as HostArray, shape: [data.length] } : flattenNested(data as Nested);
  const shape = options.shape ?? flat.shape;
  if (numelOf(shape) !== flat.values.length) throw new ShapeError(`[tensor] ${flat.values.length} values given for shape ${show(shape)}, expected ${numelOf(shape)}.`);
  const t = Tensor.empty(device, shape, options.dtype ?? typeOf(flat.values));
  if (t.numel) t.write(flat.values);
  return options.requiresGrad ? t.requiresGrad_() : t;
}

function typeOf(values: HostArray): DType {
  if (values instanceof Int32Array) return 'i32';
  if (values instanceof Uint32Array) return 'u32';
  return Array.isArray(values) && typeof values[0] === 'boolean' ? 'bool' : 'f32';
}

function flattenNested(data: Nested): { values: number[] | boolean[]; shape: number[] } {
  const shape: number[] = [];
  for (let level: Nested = data; Array.isArray(level); level = (level as readonly Nested[])[0]) shape.push((level as readonly Nested[]).length);
  const values: (number | boolean)[] = [];
  const walk = (level: Nested, dim: number): void => {
    if (dim === shape.length) {
      if (typeof level === 'object') throw new ShapeError('[tensor] Nested arrays are deeper in one place than in another.');
      values.push(level);
    } else {
      if (!Array.isArray(level) || level.length !== shape[dim]) throw new ShapeError(`[tensor] Nested arrays have ${Array.isArray(level) ? level.length : 'no'} items where the first has ${shape[dim]}, in dimension ${dim}.`);
      for (const item of level as readonly Nested[]) walk(item, dim + 1);
    }
  };
  walk(data, 0);
  return { values: values as number[], shape };
}

/** A tensor whose content is undefined, to be written by a kernel. */
export function empty(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  for (const size of shape) if (!Number.isInteger(size) || size < 0) throw new ValueError(`[empty] Shape ${show(shape)} has a size of ${size}, expected whole numbers from 0 on.`);
  return Tensor.empty(device, shape, dtype);
}

const fillKernel = defineKernel<{ type: 'f32' | 'f16' | 'i32' | 'u32'; arange: boolean }>('fill', ({ type, arange }) => ({
  bindings: [{ name: 'y', type: `array<${type}>`, access: 'write' }],
  params: [{ name: 'n', type: 'u32' }, { name: 'value', type: type === 'i32' || type === 'u32' ? type : 'f32' }, { name: 'step', type: type === 'i32' || type === 'u32' ? 'i32' : 'f32' }],
  workgroupSize: [64],
  enable: type === 'f16' ? ['f16'] : [],
  body: `  if (flat >= p.n) { return; }
  y[flat] = ${type}(p.value${arange ? ` + ${type === 'u32' ? 'u32' : type === 'i32' ? 'i32' : 'f32'}(flat) * ${type === 'u32' ? 'u32(p.step)' : 'p.step'}` : ''});`,
}));

/** A tensor of one value. */
export function full(device: Device, shape: Shape, value: number, dtype: DType = 'f32'): Tensor {
  const t = empty(device, shape, dtype);
  if (t.numel) device.run(fillKernel, { type: storageType(dtype), arange: false }, [t], [t.numel, value, 0], grid1d(t.numel, 64));
  return t;
}

export function zeros(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  return full(device, shape, 0, dtype);
}

export function ones(device: Device, shape: Shape, dtype: DType = 'f32'): Tensor {
  return full(device, shape, 1, dtype);
}

/** begin, begin + step, … before end. */
export function arange(device: Device, begin: number, end?: number, step = 1, dtype: DType = 'f32'): Tensor {
  const [from, to] = end === undefined ? [0, begin] : [begin, end];
  if (step === 0) throw new ValueError('[arange] The step is 0.');
  const t = empty(device, [Math.max(0, Math.ceil((to - from) / step))], dtype);
  if (t.numel) device.run(fillKernel, { type: storageType(dtype), arange: true }, [t], [t.numel, from, step], grid1d(t.numel, 64));
  return t;
}

/** `count` values from begin to end, both included. */
export function linspace(device: Device, begin: number, end: number, count: number): Tensor {
  return tensor(device, Float32Array.from({ length: count }, (_, i) => (count === 1 ? begin : begin + ((end - begin) * i) / (count - 1))));
}

/** The identity matrix. */
export function eye(device: Device, n: number, dtype: DType = 'f32'): Tensor {
  const data = new Float32Array(n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return tensor(device, data, { shape: [n, n], dtype });
}

/** Takes a tensor out of its scope. */
export function keepTensor(t: Tensor): Tensor {
  return keep(t);
}
