// The bidirectional Mamba mixer: selective state spaces (arXiv 2312.00752) that read the tokens in both directions
// (Vision Mamba, arXiv 2401.09417, §3.3; "bimamba v2" in its code). Nothing is flipped, copied or concatenated;
// everything between the outer projections is one operation, kernels/mamba-inner.

import {
  noGrad,
  ones,
  scope,
  ShapeError,
  show,
  tensor,
  ValueError,
  type DType,
  type Generator,
  type Tensor,
} from '../core/index.ts';
import { mambaInner, type MambaDirection } from '../kernels/mamba-inner/index.ts';
import { Conv1d } from './conv1d.ts';
import * as init from './init.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import { parameter } from './parameter.ts';

/** Sizes of a `Mamba` block, and how it is initialised. */
export interface MambaOptions {
  /** Width of the tokens. */
  readonly dModel: number;
  /** N, states per channel. Default 16. */
  readonly dState?: number;
  /** Width of the causal convolution, 2 to 4. Default 4. */
  readonly dConv?: number;
  /** Inner width as a multiple of dModel. Default 2. */
  readonly expand?: number;
  /** R, rank of the step-size projection. Default 'auto', ⌈dModel / 16⌉. */
  readonly dtRank?: number | 'auto';
  /**
   * Range of the initial step sizes of the forward direction, log-uniform: dtMin (default 0.001) to dtMax (default
   * 0.1).
   */
  readonly dtMin?: number;
  readonly dtMax?: number;
  readonly dtInit?: 'random' | 'constant';
  readonly dtScale?: number;
  readonly dtInitFloor?: number;
  /** Bias of the convolutions. Default true. */
  readonly convBias?: boolean;
  /** Bias of the input and output projections. Default false. */
  readonly bias?: boolean;
}

/** The inverse of softplus, x + log(1 - exp(-x)), of x raised to a minimum. */
const stepBias = (steps: Tensor, floor: number): Tensor => {
  const dt = steps.maximum(floor);
  return dt.add(dt.neg().expm1().neg().log());
};

/**
 * `out = out_proj(forward(x) + reverse(x))`, where for each direction, with its own parameters,
 *
 *     [u | z] = in_proj(x)                        the projection is shared
 *     u = silu(conv1d(u))                         depthwise, causal in the direction of reading
 *     [dt | B | C] = x_proj(u);  delta = dt_proj.weight dt
 *     y = (scan(u, softplus(delta + dt_proj.bias), -exp(A_log), B, C) + D u) · silu(z)
 *
 * Shapes: x, out (B, L, dModel). Parameters have the official names, the reverse direction's ending in `_b`.
 *
 * Initialisation is the official one: projections U(±1/√in), convolutions U(±1/√dConv) with bias, A_log = log(1…N), D =
 * 1; `dt_proj` U(±dtScale/√R), its bias such that softplus(bias) is log-uniform between dtMin and dtMax. The reverse
 * direction's `dt_proj_b` is left as an ordinary linear layer there, so it is here.
 */
export class Mamba extends Module {
  /** (dInner, dState): A = -exp(A_log). */
  readonly A_log: Tensor;
  /** (dInner), the direct path. */
  readonly D: Tensor;
  /** The same of the reverse direction. */
  readonly A_b_log: Tensor;
  /** The same of the reverse direction. */
  readonly D_b: Tensor;
  /** dModel → 2 dInner: x and the gate z. */
  readonly in_proj: Linear;
  /** Depthwise over dInner channels. */
  readonly conv1d: Conv1d;
  /** dInner → dtRank + 2 dState: step sizes, B and C. */
  readonly x_proj: Linear;
  /** dtRank → dInner: step sizes of the channels. */
  readonly dt_proj: Linear;
  /** The same of the reverse direction. */
  readonly conv1d_b: Conv1d;
  /** The same of the reverse direction. */
  readonly x_proj_b: Linear;
  /** The same of the reverse direction. */
  readonly dt_proj_b: Linear;
  /** dInner → dModel. */
  readonly out_proj: Linear;
  /** Inner width. */
  readonly dInner: number;
  /** N, states per channel. */
  readonly dState: number;
  /** R, rank of the step-size projection. */
  readonly dtRank: number;
  /** Width of the tokens. */
  readonly dModel: number;

  /**
   * @param generator draws the initial values; its device holds them.
   * @throws ValueError
   */
  constructor(generator: Generator, options: MambaOptions) {
    super();
    const {
      dModel,
      dState = 16,
      dConv = 4,
      expand = 2,
      dtRank = 'auto',
      dtMin = 0.001,
      dtMax = 0.1,
      dtInit = 'random',
      dtScale = 1,
      dtInitFloor = 1e-4,
      convBias = true,
      bias = false,
    } = options;
    this.dModel = dModel;
    this.dState = dState;
    this.dInner = Math.trunc(expand * dModel);
    this.dtRank = dtRank === 'auto' ? Math.ceil(dModel / 16) : dtRank;
    for (const [name, value] of Object.entries({ dModel, dState, dConv, dInner: this.dInner, dtRank: this.dtRank })) {
      if (!Number.isInteger(value) || value < 1)
        throw new ValueError('Mamba', `is ${value}`, { option: name, expected: 'an integer of at least 1' });
    }
    const { dInner, dtRank: rank } = this;
    const { device } = generator;
    const linear = (inputs: number, outputs: number, withBias: boolean): Linear =>
      new Linear(generator, inputs, outputs, { bias: withBias });
    const conv = (): Conv1d => new Conv1d(generator, dInner, dInner, dConv, { groups: dInner, bias: convBias });
    const states = (): Tensor =>
      parameter(
        tensor(
          device,
          Float32Array.from({ length: dInner * dState }, (_, i) => Math.log((i % dState) + 1)),
          { shape: [dInner, dState] },
        ),
      );
    const direct = (): Tensor => parameter(ones(device, [dInner]));

    [this.A_log, this.D, this.A_b_log, this.D_b] = [states(), direct(), states(), direct()];
    this.in_proj = linear(dModel, 2 * dInner, bias);
    this.conv1d = conv();
    this.x_proj = linear(dInner, rank + 2 * dState, false);
    this.dt_proj = linear(rank, dInner, true);
    this.conv1d_b = conv();
    this.x_proj_b = linear(dInner, rank + 2 * dState, false);
    this.dt_proj_b = linear(rank, dInner, true);
    this.out_proj = linear(dInner, dModel, bias);

    const bound = dtScale / Math.sqrt(rank);
    if (dtInit === 'random') init.uniform(this.dt_proj.weight, generator, { low: -bound, high: bound });
    else init.constant(this.dt_proj.weight, bound);
    noGrad(() =>
      scope(() =>
        this.dt_proj.bias!.copy_(
          stepBias(generator.uniform([dInner], { low: Math.log(dtMin), high: Math.log(dtMax) }).exp(), dtInitFloor),
        ),
      ),
    );
  }

  /**
   * (B, L, dModel) → the same shape.
   *
   * @throws ShapeError
   */
  forward(x: Tensor): Tensor {
    if (x.ndim !== 3 || x.shape[2] !== this.dModel)
      throw new ShapeError('Mamba', `x has shape ${show(x.shape)}`, { expected: `(batch, length, ${this.dModel})` });
    return scope(() => {
      const xz = this.in_proj.forward(x);
      const y = mambaInner({
        xz,
        forward: this.direction(xz.dtype, this.conv1d, this.x_proj, this.dt_proj, this.A_log, this.D),
        reverse: this.direction(xz.dtype, this.conv1d_b, this.x_proj_b, this.dt_proj_b, this.A_b_log, this.D_b),
      });
      return this.out_proj.forward(y);
    });
  }

  private direction(
    dtype: DType,
    conv: Conv1d,
    xProj: Linear,
    dtProj: Linear,
    aLog: Tensor,
    D: Tensor,
  ): MambaDirection {
    return {
      convWeight: conv.weight.reshape(this.dInner, -1),
      convBias: conv.bias,
      xProj: xProj.weight.cast(dtype),
      dtProj: dtProj.weight.cast(dtype),
      dtBias: dtProj.bias!,
      aLog,
      D,
    };
  }
}
