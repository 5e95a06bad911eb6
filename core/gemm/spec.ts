// What a matrix product is: its operands, and what of them a kernel is compiled for.

import type { FloatDType } from '../tensor/dtype.ts';
import type { Storage } from '../gpu/storage.ts';

/** A function of each element, in the same dispatch as the product. */
export type GemmActivation = 'silu' | 'gelu' | 'relu';

/**
 * How a matrix lies in memory, or a batch of them. Element (i, j) lies at `offset + i * rowStride + j`, transposed at
 * `offset + j * rowStride + i`, both counted in elements; item z of a batch begins `z * batchStride` later.
 */
export interface GemmLayout {
  /** First element. */
  readonly offset: number;
  /** Elements from one stored row to the next. */
  readonly rowStride: number;
  readonly transposed?: boolean;
  /** Elements from one item of the batch to the next; 0 gives all of them the same matrix. */
  readonly batchStride?: number;
  readonly dtype: FloatDType;
}

/** A stored matrix. */
export interface GemmMatrix extends GemmLayout {
  readonly storage: Storage;
}

/** A vector of N elements that is added to every row. */
export interface GemmBias {
  readonly storage: Storage;
  readonly offset: number;
  readonly dtype: FloatDType;
}

/** Sizes and layouts of a product. A configuration is chosen by these. */
export interface GemmProblem {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Products to form, 1 if left out. */
  readonly batch?: number;
  /** M × K. */
  readonly a: GemmLayout;
  /** K × N. */
  readonly b: GemmLayout;
  /** M × N, not transposed. Only a configuration with `transposeOutput` gives its kernel a transposed one. */
  readonly c: GemmLayout;
}

/** `c = activation(a · b + bias)`, with `accumulate` `c = activation(a · b + bias + c)`. */
export interface GemmSpec extends GemmProblem {
  readonly a: GemmMatrix;
  readonly b: GemmMatrix;
  readonly c: GemmMatrix;
  readonly bias?: GemmBias | null;
  readonly activation?: GemmActivation | null;
  readonly accumulate?: boolean;
}

/** Subgroups of this size or less mean a CPU. */
export const CPU_SUBGROUP = 8;

/** Steps of K from which on its sum is added up in blocks. */
const LONG = 512;

/** How an operand is read or written, as far as a kernel's source depends on it. */
export interface OperandForm {
  readonly dtype: FloatDType;
  readonly transposed: boolean;
  /** Whether it is bound as `vec4`, which needs the contiguous extent and all strides to be multiples of 4. */
  readonly vec: boolean;
  /**
   * Whether it is bound as 16 bytes of f16 (matrix form only). That needs rows at multiples of 8 elements, and memory
   * for the last 8.
   */
  readonly wide?: boolean;
}

/**
 * A product whose operands are images. It gives pixels: a is a matrix of weights, b's columns are windows of an image
 * (N, C, H, W), read where they lie, and c's columns are pixels of the result. Or it gives weights, an item of the batch
 * for each tap of the window: a holds gradients of pixels, b the pixels that the tap met, and K runs over all of them.
 */
export interface ImageForm {
  readonly gives: 'pixels' | 'weights';
  /** Taps of the window, (height, width). */
  readonly kernel: readonly [number, number];
  /** Pixels: whether K goes through the channels within a tap, not through the taps within a channel. */
  readonly tapsOutside: boolean;
  /** With taps outside: whether the channels are not a multiple of the configuration's depth. */
  readonly channelTail: boolean;
  /** Whether windows reach beyond the image. */
  readonly padded: boolean;
  /** Pixels: whether the results of a sample and channel lie side by side. */
  readonly dense: boolean;
}

/** What of a product a kernel's source depends on. */
export interface ProblemForm {
  readonly a: OperandForm;
  readonly b: OperandForm;
  readonly c: OperandForm;
  readonly bias: FloatDType | null;
  readonly activation: GemmActivation | null;
  readonly accumulate: boolean;
  /** Whether the z dimension also counts parts of K, each written by itself. */
  readonly split: boolean;
  /** Whether K is not a multiple of the configuration's depth. */
  readonly tail: boolean;
  /** Whether a sum over K is added up in blocks: it would lose digits otherwise, and nothing else cuts it. */
  readonly long: boolean;
  readonly image?: ImageForm;
}

/**
 * A way to compute a product.
 *
 * - `subgroup`: a subgroup owns `rows` rows and 4 · `quads` columns a lane; each lane loads some rows of a and the
 *   others get them by a shuffle.
 * - `panel`: a subgroup keeps `depth` rows of b for 4 · `quads` columns a lane in private memory, and takes rows of a
 *   past them, `rows` at a time.
 * - `register`: an invocation owns `rows` rows and 4 · `quads` columns, and loads straight from storage.
 * - `tile`: a workgroup stages `rows`·`y` rows of a and 4 · `quads` · `x` columns of b, `depth` deep, in workgroup
 *   memory.
 * - `matrix`: the same on the matrix unit; `rows` and `quads` are of one subgroup, and a workgroup has `x` × `y` of
 *   them.
 * - `vector`: `x` lanes share the K of `rows` rows and 4 · `quads` columns (`quads` may be ¼: one column).
 *
 * `splits` > 1 cuts K into that many parts, added up in order by a second kernel. `transposeOutput` computes cᵀ = bᵀ ·
 * aᵀ, with K in one piece: lanes then own rows of c, so that a c of few columns leaves no lanes idle.
 */
export interface GemmConfig {
  readonly form: 'subgroup' | 'panel' | 'register' | 'tile' | 'matrix' | 'vector';
  readonly rows: number;
  readonly quads: number;
  /** Workgroup size. */
  readonly x: number;
  readonly y: number;
  /** Steps of k that are staged at once; 4 where nothing is staged. */
  readonly depth: number;
  readonly splits: number;
  readonly transposeOutput?: boolean;
  /** M, N and K of the matrix unit. */
  readonly unit?: readonly [number, number, number];
}

/** The variant of a product's kernel. */
export interface GemmVariant {
  readonly config: GemmConfig;
  readonly problem: ProblemForm;
}

/** Whether all rows of a matrix begin at multiples of `n` elements. */
function begins({ offset, rowStride, batchStride = 0 }: GemmLayout, batch: number, n: number): boolean {
  return offset % n === 0 && rowStride % n === 0 && (batch === 1 || batchStride % n === 0);
}

/**
 * Whether each row can be read eight elements at a time. Of `rows` rows of `extent` elements, the last eight may reach
 * beyond the row but not beyond the storage.
 */
function inEights(matrix: GemmMatrix, rows: number, extent: number, batch: number): boolean {
  const { storage, offset, rowStride, batchStride = 0 } = matrix;
  const end = offset + (batch - 1) * batchStride + (rows - 1) * rowStride + Math.ceil(extent / 8) * 8;
  return begins(matrix, batch, 8) && end * 2 <= storage.bytes;
}

function operandForm(layout: GemmLayout, extent: number, batch: number): OperandForm {
  return {
    dtype: layout.dtype,
    transposed: layout.transposed ?? false,
    vec: extent % 4 === 0 && begins(layout, batch, 4),
  };
}

/** How the operands of a product lie in memory. */
export function operandForms({ M, N, K, batch = 1, a, b, c }: GemmProblem): Pick<ProblemForm, 'a' | 'b' | 'c'> {
  return {
    a: operandForm(a, a.transposed ? M : K, batch),
    b: operandForm(b, b.transposed ? K : N, batch),
    c: operandForm(c, N, batch),
  };
}

/** The product that gives the transposed result. */
export function transposeProduct(spec: GemmSpec): GemmSpec {
  const transpose = (m: GemmMatrix): GemmMatrix => ({ ...m, transposed: !m.transposed });
  return { ...spec, M: spec.N, N: spec.M, a: transpose(spec.b), b: transpose(spec.a), c: transpose(spec.c) };
}

/** The form of a product as a configuration will compile it. */
export function problemForm(spec: GemmSpec, config: GemmConfig): ProblemForm {
  const { a, b, c } = operandForms(spec);
  const { M, N, K, batch = 1 } = spec;
  const split = config.splits > 1;
  const vector = config.form === 'vector',
    matrix = config.form === 'matrix';
  return {
    // A transposed a is read element by element where lanes share K, or where the rows are not a multiple of four.
    a: {
      ...a,
      vec: a.vec && (!a.transposed || !(vector || config.rows % 4 !== 0)),
      ...(matrix && { wide: a.transposed ? inEights(spec.a, K, M, batch) : inEights(spec.a, M, K, batch) }),
    },
    b: {
      ...b,
      vec: b.vec && (!vector || b.transposed),
      ...(matrix && { wide: b.transposed ? inEights(spec.b, N, K, batch) : inEights(spec.b, K, N, batch) }),
    },
    // Lanes own neighbouring columns; those of a transposed c are not neighbours in memory.
    c: split
      ? { dtype: 'f32', transposed: false, vec: N % 4 === 0 && !vector }
      : { ...c, vec: c.vec && !vector && !c.transposed },
    bias: split ? null : (spec.bias?.dtype ?? null),
    activation: split ? null : (spec.activation ?? null),
    accumulate: split ? false : (spec.accumulate ?? false),
    split,
    tail: K % (config.form === 'panel' ? 4 : config.depth) !== 0,
    // On a GPU the forms that own many results have no registers to spare.
    long: K > LONG && (vector || (config.form === 'subgroup' && config.x <= CPU_SUBGROUP)),
  };
}
