// Element types of tensors and how they lie in GPU buffers.

/** Element type of a tensor. `bool` is stored as u32 (0 or 1): WGSL has no bool in storage. */
export type DType = 'f32' | 'f16' | 'i32' | 'u32' | 'bool';

/** Floating-point element type: what kernels, products and losses compute with. */
export type FloatDType = 'f32' | 'f16';

/** Host arrays that tensors are made of and read into. f16 travels as its bits. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint16Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint8ClampedArray;

/** Bytes of one stored element. */
export function sizeOf(dtype: DType): number {
  return dtype === 'f16' ? 2 : 4;
}

/** The least and the largest value of an integer type. */
export function rangeOf(type: 'i32' | 'u32'): [number, number] {
  return type === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
}

/** The type of an element in a WGSL storage buffer. */
export function storageType(dtype: DType): 'f32' | 'f16' | 'i32' | 'u32' {
  return dtype === 'bool' ? 'u32' : dtype;
}

/** Whether it is f32 or f16: only those have gradients. */
export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype === 'f32' || dtype === 'f16';
}

const rank: Record<DType, number> = { bool: 0, u32: 1, i32: 2, f16: 3, f32: 4 };

/** The type that an operation on both gives: the higher of bool < u32 < i32 < f16 < f32. */
export function promote(a: DType, b: DType): DType {
  return rank[a] >= rank[b] ? a : b;
}
