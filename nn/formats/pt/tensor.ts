// What a .pt file says of a tensor: a view (shape, strides, offset) of a storage whose bytes are read when they are
// asked for.

import type { SafetensorsDtype } from '../safetensors.ts';
import { quoted, refuse } from './errors.ts';

/**
 * PyTorch's types: bytes of an element, and under which name the values are handed on; null for those that aren't read.
 */
const DTYPES = {
  float64: [8, 'F64'],
  float32: [4, 'F32'],
  float16: [2, 'F16'],
  bfloat16: [2, 'BF16'],
  float8_e4m3fn: [1, 'F8_E4M3'],
  float8_e5m2: [1, 'F8_E5M2'],
  int64: [8, 'I64'],
  int32: [4, 'I32'],
  int16: [2, 'I16'],
  int8: [1, 'I8'],
  uint64: [8, 'U64'],
  uint32: [4, 'U32'],
  uint16: [2, 'U16'],
  uint8: [1, 'U8'],
  bool: [1, 'BOOL'],
  complex32: [4, null],
  complex64: [8, null],
  complex128: [16, null],
  quint8: [1, null],
  qint8: [1, null],
  qint32: [4, null],
  float8_e4m3fnuz: [1, null],
  float8_e5m2fnuz: [1, null],
  float8_e8m0fnu: [1, null],
} as const satisfies Record<string, readonly [number, SafetensorsDtype | null]>;

/** Types of PyTorch's tensors, by their names there. */
export type PtDtype = keyof typeof DTYPES;

export const isPtDtype = (name: string): name is PtDtype => Object.hasOwn(DTYPES, name);
export const ptBytesPerElement = (dtype: PtDtype): number => DTYPES[dtype][0];
/** The type of the values that are read, or null where this type isn't read. */
export const ptEntryDtype = (dtype: PtDtype): SafetensorsDtype | null => DTYPES[dtype][1];

/** One memory, of which any number of tensors are views. */
export interface PtStorage {
  /** The name of its record. */
  readonly key: string;
  /** `bytes` where each tensor says its own type. */
  readonly dtype: PtDtype | 'bytes';
  /** Elements; bytes where the type is `bytes`. */
  readonly length: number;
  /** In a storage that is a part of another, where it begins there, in elements. */
  readonly partOf?: { readonly key: string; readonly offset: number };
}

export const ptStorageBytes = ({ dtype, length }: PtStorage): number =>
  length * (dtype === 'bytes' ? 1 : ptBytesPerElement(dtype));

/** A tensor of a file; strides and offset count elements. */
export class PtTensor {
  /** Type of its elements. */
  readonly dtype: PtDtype;
  /** Sizes of the dimensions. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** First element in the storage, in elements. */
  readonly offset: number;
  /** The memory that it is a view of. */
  readonly storage: PtStorage;
  /** Whether PyTorch recorded operations on it. */
  readonly requiresGrad: boolean;

  /**
   * @throws FormatError for a shape or strides that are none, or a view that reaches beyond its storage or repeats it
   * too often
   */
  constructor(view: Pick<PtTensor, 'dtype' | 'shape' | 'strides' | 'offset' | 'storage' | 'requiresGrad'>) {
    checkView(view);
    this.dtype = view.dtype;
    this.shape = view.shape;
    this.strides = view.strides;
    this.offset = view.offset;
    this.storage = view.storage;
    this.requiresGrad = view.requiresGrad;
  }
}

const MAX_RANK = 64;
/**
 * A view with zero strides is larger than what it shows. Up to here, or up to so many times its storage, it is written
 * out.
 */
const MAX_REPEATED_BYTES = 64 * 2 ** 20,
  MAX_REPEATED_TIMES = 16;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkView({ dtype, shape, strides, offset, storage }: Omit<PtTensor, 'requiresGrad'>): void {
  const text = (sizes: readonly unknown[]): string =>
    `(${sizes.length > 8 ? `${sizes.slice(0, 8).join(',')},…` : sizes.join(',')})`;
  if (shape.length > MAX_RANK)
    throw refuse(`a tensor has ${shape.length} dimensions`, { expected: `at most ${MAX_RANK}` });
  if (!shape.every(isCount))
    throw refuse(`a tensor has the shape ${text(shape)}`, { expected: 'non-negative integers' });
  if (strides.length !== shape.length || !strides.every(isCount))
    throw refuse(`a tensor of shape ${text(shape)} has the strides ${text(strides)}`, {
      expected: `${shape.length} non-negative integers`,
    });
  if (!isCount(offset))
    throw refuse(`a tensor has the storage offset ${String(offset)}`, { expected: 'a non-negative integer' });

  const size = ptBytesPerElement(dtype);
  const elements = shape.reduce((product, n) => product * n, 1);
  const held = Math.floor(ptStorageBytes(storage) / size);
  const label = `a tensor of shape ${text(shape)}, strides ${text(strides)} and offset ${offset}`;
  // The last element that the view reaches; none where it is empty.
  const end = elements === 0 ? offset : shape.reduce((last, n, d) => last + (n - 1) * strides[d], offset) + 1;
  if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(end)) throw refuse(`the size of ${label} overflows`);
  if (end > held)
    throw refuse(`${label} reaches element ${end} of storage ${quoted(storage.key)}`, { expected: `at most ${held}` });
  const most = Math.max(MAX_REPEATED_BYTES, MAX_REPEATED_TIMES * ptStorageBytes(storage));
  if (elements * size > most)
    throw refuse(`${label} repeats its storage of ${held} elements to ${elements}`, {
      expected: `at most ${most} bytes`,
    });
}
