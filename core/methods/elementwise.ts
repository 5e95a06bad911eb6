// Elementwise operations as methods of tensors.

import * as ops from '../ops/elementwise.ts';
import { full } from '../ops/create.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Tensor, TensorLike } from '../tensor.ts';
import { HostMethods } from './host.ts';

export abstract class ElementwiseMethods extends HostMethods {
  /** A tensor of ones of this shape and type. */
  onesLike(this: Tensor): Tensor {
    return full(this.device, this.shape, 1, this.dtype);
  }

  /** A tensor of zeros of this shape and type. */
  zerosLike(this: Tensor): Tensor {
    return full(this.device, this.shape, 0, this.dtype);
  }

  /** The values in another type; the tensor itself where it has that type. Floats become integers by truncation. */
  cast(this: Tensor, dtype: DType): Tensor {
    return dtype === this.dtype ? this : ops.cast(this, dtype);
  }

  /** The tensor itself where it is row-major, else a copy that is. */
  contiguous(this: Tensor): Tensor {
    return ops.contiguous(this);
  }

  /** A row-major copy on memory of its own. */
  clone(this: Tensor): Tensor {
    return ops.clone(this);
  }

  /** x + y, broadcast. */
  add(this: Tensor, y: TensorLike): Tensor {
    return ops.add(this, y);
  }

  /** x − y, broadcast. */
  sub(this: Tensor, y: TensorLike): Tensor {
    return ops.sub(this, y);
  }

  /** x · y, broadcast. */
  mul(this: Tensor, y: TensorLike): Tensor {
    return ops.mul(this, y);
  }

  /** x / y, broadcast; integers divide to integers towards zero. */
  div(this: Tensor, y: TensorLike): Tensor {
    return ops.div(this, y);
  }

  /** x to the power of y, broadcast. NaN for a negative base and an exponent that is not whole. */
  pow(this: Tensor, y: TensorLike): Tensor {
    return ops.pow(this, y);
  }

  /** Remainder of x / y with the sign of y, as in Python. */
  remainder(this: Tensor, y: TensorLike): Tensor {
    return ops.remainder(this, y);
  }

  /** The smaller of x and y; NaN where either is. At a tie both get half of the gradient. */
  minimum(this: Tensor, y: TensorLike): Tensor {
    return ops.minimum(this, y);
  }

  /** The larger of x and y; NaN where either is. At a tie both get half of the gradient. */
  maximum(this: Tensor, y: TensorLike): Tensor {
    return ops.maximum(this, y);
  }

  /** Whether x = y (bool). */
  eq(this: Tensor, y: TensorLike): Tensor {
    return ops.eq(this, y);
  }

  /** Whether x ≠ y (bool). */
  ne(this: Tensor, y: TensorLike): Tensor {
    return ops.ne(this, y);
  }

  /** Whether x < y (bool). */
  lt(this: Tensor, y: TensorLike): Tensor {
    return ops.lt(this, y);
  }

  /** Whether x ≤ y (bool). */
  le(this: Tensor, y: TensorLike): Tensor {
    return ops.le(this, y);
  }

  /** Whether x > y (bool). */
  gt(this: Tensor, y: TensorLike): Tensor {
    return ops.gt(this, y);
  }

  /** Whether x ≥ y (bool). */
  ge(this: Tensor, y: TensorLike): Tensor {
    return ops.ge(this, y);
  }

  /** Whether both are true, that is not 0 (bool). */
  logicalAnd(this: Tensor, y: TensorLike): Tensor {
    return ops.logicalAnd(this, y);
  }

  /** Whether either is true, that is not 0 (bool). */
  logicalOr(this: Tensor, y: TensorLike): Tensor {
    return ops.logicalOr(this, y);
  }

  /** Whether it is false, that is 0 (bool). */
  logicalNot(this: Tensor): Tensor {
    return ops.logicalNot(this);
  }

  /** −x. */
  neg(this: Tensor): Tensor {
    return ops.neg(this);
  }

  /** |x|. */
  abs(this: Tensor): Tensor {
    return ops.abs(this);
  }

  /** −1, 0 or 1. */
  sign(this: Tensor): Tensor {
    return ops.sign(this);
  }

  /** x². */
  square(this: Tensor): Tensor {
    return ops.square(this);
  }

  /** 1 / x. */
  reciprocal(this: Tensor): Tensor {
    return ops.reciprocal(this);
  }

  /** eˣ. */
  exp(this: Tensor): Tensor {
    return ops.exp(this);
  }

  /** Natural logarithm. */
  log(this: Tensor): Tensor {
    return ops.log(this);
  }

  /** log(1 + x), exact near 0. */
  log1p(this: Tensor): Tensor {
    return ops.log1p(this);
  }

  /** eˣ − 1, exact near 0. */
  expm1(this: Tensor): Tensor {
    return ops.expm1(this);
  }

  /** √x. */
  sqrt(this: Tensor): Tensor {
    return ops.sqrt(this);
  }

  /** 1 / √x. */
  rsqrt(this: Tensor): Tensor {
    return ops.rsqrt(this);
  }

  /** Sine of x in radians. */
  sin(this: Tensor): Tensor {
    return ops.sin(this);
  }

  /** Cosine of x in radians. */
  cos(this: Tensor): Tensor {
    return ops.cos(this);
  }

  /** Hyperbolic tangent. */
  tanh(this: Tensor): Tensor {
    return ops.tanh(this);
  }

  /** 1 / (1 + e⁻ˣ). */
  sigmoid(this: Tensor): Tensor {
    return ops.sigmoid(this);
  }

  /** x · sigmoid(x). */
  silu(this: Tensor): Tensor {
    return ops.silu(this);
  }

  /** x · Φ(x), with the error function. */
  gelu(this: Tensor): Tensor {
    return ops.gelu(this);
  }

  /** max(x, 0). */
  relu(this: Tensor): Tensor {
    return ops.relu(this);
  }

  /** log(1 + eˣ), and x above 20. */
  softplus(this: Tensor): Tensor {
    return ops.softplus(this);
  }

  /** The error function. */
  erf(this: Tensor): Tensor {
    return ops.erf(this);
  }

  /** 1 − erf(x), to all digits where it is small. */
  erfc(this: Tensor): Tensor {
    return ops.erfc(this);
  }

  /** The largest whole number ≤ x. */
  floor(this: Tensor): Tensor {
    return ops.floor(this);
  }

  /** The smallest whole number ≥ x. */
  ceil(this: Tensor): Tensor {
    return ops.ceil(this);
  }

  /** To the nearest whole number, ties to even. */
  round(this: Tensor): Tensor {
    return ops.round(this);
  }

  /** Towards zero. */
  trunc(this: Tensor): Tensor {
    return ops.trunc(this);
  }

  /** Whether it is NaN (bool). */
  isNan(this: Tensor): Tensor {
    return ops.isNan(this);
  }

  /** Whether it is ∞ or −∞ (bool). */
  isInf(this: Tensor): Tensor {
    return ops.isInf(this);
  }

  /** Whether it is neither NaN nor infinite (bool). */
  isFinite(this: Tensor): Tensor {
    return ops.isFinite(this);
  }

  /** min(max(x, lo), hi); NaN stays. */
  clamp(this: Tensor, lo: number, hi: number): Tensor {
    return ops.clamp(this, lo, hi);
  }
}
