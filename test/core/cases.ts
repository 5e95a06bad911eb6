// Every differentiable operation with shapes to try it at, and the layouts in which its inputs may lie.

import * as core from '../../core/index.ts';
import { numelOf, tensor, type Tensor } from '../../core/index.ts';

export interface Case {
  /** Shapes of the inputs, where n stands for a size that is tried. */
  readonly shapes: (n: number) => number[][];
  readonly fn: (...x: Tensor[]) => Tensor;
  /** Moves values from [-1, 1) to where the function is smooth. */
  readonly at?: (u: number, entry: number, input: number) => number;
  /** False where the second derivative is 0 or undefined. */
  readonly second?: boolean;
  readonly eps?: number;
}

const one = (fn: (x: Tensor) => Tensor, options: Partial<Case> = {}): Case => ({
  shapes: (n) => [[n, 3]],
  fn: fn as Case['fn'],
  ...options,
});
const two = (fn: (x: Tensor, y: Tensor) => Tensor, options: Partial<Case> = {}): Case => ({
  shapes: (n) => [[2, n], [n]],
  fn: fn as Case['fn'],
  ...options,
});
const index = (x: Tensor, shape: number[], below: number): Tensor =>
  tensor(
    x.device,
    Int32Array.from({ length: numelOf(shape) }, (_, i) => (i * 7 + 3) % below),
    { shape },
  );
/** Values 1/256 apart in a scrambled order, those of each input between those of the others: differences neither cross nor tie. */
const apart = {
  at: (u: number, i: number, k: number): number => ((i * 7919) % 1031) / 256 - 2 + k / 768 + 1e-4 * u,
  eps: 5e-4,
};

export const cases: Record<string, Case> = {
  neg: one((x) => x.neg(), { second: false }),
  abs: one((x) => x.abs(), { at: (u) => u + Math.sign(u), second: false }),
  square: one((x) => x.square()),
  reciprocal: one((x) => x.reciprocal(), { at: (u) => u + 2 }),
  exp: one((x) => x.exp()),
  log: one((x) => x.log(), { at: (u) => u + 2 }),
  log1p: one((x) => x.log1p(), { at: (u) => 0.7 * u }),
  expm1: one((x) => x.expm1()),
  sqrt: one((x) => x.sqrt(), { at: (u) => u + 2 }),
  rsqrt: one((x) => x.rsqrt(), { at: (u) => u + 2 }),
  sin: one((x) => x.sin()),
  cos: one((x) => x.cos()),
  tanh: one((x) => x.tanh()),
  sigmoid: one((x) => x.sigmoid()),
  silu: one((x) => x.silu()),
  gelu: one((x) => x.gelu()),
  geluTanh: one((x) => core.geluTanh(x)),
  softplus: one((x) => x.softplus()),
  erf: one((x) => x.erf()),
  relu: one((x) => x.relu().mul(x), { at: (u) => u + Math.sign(u) }),
  clamp: one((x) => x.clamp(-0.7, 0.7).mul(x), { at: (u) => (Math.abs(Math.abs(u) - 0.7) < 0.05 ? 0 : u) }),
  clone: one((x) => x.clone().mul(x)),
  'cast and back': one((x) => x.cast('f32').mul(x)),
  add: two((x, y) => x.add(y).mul(x)),
  sub: two((x, y) => x.sub(y).mul(y)),
  mul: two((x, y) => x.mul(y)),
  div: two((x, y) => x.div(y), { at: (u) => u + 2 }),
  pow: two((x, y) => x.pow(y), { at: (u) => u + 2 }),
  'pow of a number': one((x) => core.pow(2, x)),
  cube: one((x) => x.pow(3)),
  'pow 1.7': one((x) => x.pow(1.7), { at: (u) => u + 2 }),
  remainder: two((x, y) => x.mul(0.2).add(5.3).remainder(y.mul(0.1).add(2)), { second: false }),
  minimum: two((x, y) => x.minimum(y), { ...apart, second: false }),
  maximum: two((x, y) => x.maximum(y).square(), apart),
  where: two((x, y) => core.where(x.detach().gt(0), x.square(), y.exp())),
  'clamp between tensors': {
    shapes: (n) => [[2, n], [n], [1]],
    fn: (x, y, z) => core.clamp(x, y.sub(2), z.add(2)),
    ...apart,
    second: false,
  },
  fuse: { shapes: (n) => [[2, n], [n], [2, 1]], fn: core.fuse((x, y, z) => x.silu().mul(y).add(z.exp())) },
  sum: { shapes: (n) => [[3, n, 2]], fn: (x) => x.square().sum([0, 2]) },
  mean: { shapes: (n) => [[n, 3]], fn: (x) => x.mul(x).mean(0) },
  var: { shapes: (n) => [[3, n + 1]], fn: (x) => x.var(1) },
  max: { shapes: (n) => [[2, n]], fn: (x) => x.max(1).square(), ...apart },
  min: { shapes: (n) => [[n, 2]], fn: (x) => x.min(0, true).mul(x.mean()), ...apart },
  cumsum: { shapes: (n) => [[2, n, 2]], fn: (x) => x.square().cumsum(1) },
  softmax: { shapes: (n) => [[3, n]], fn: (x) => x.softmax(1), eps: 2e-2 },
  logSoftmax: { shapes: (n) => [[n, 3]], fn: (x) => x.logSoftmax(0) },
  matmul: {
    shapes: (n) => [
      [3, n],
      [n, 2],
    ],
    fn: (x, y) => x.matmul(y),
  },
  'matmul with batches': {
    shapes: (n) => [
      [2, 1, 3, 4],
      [2, 4, n],
    ],
    fn: (x, y) => x.matmul(y),
  },
  'matmul by one matrix': {
    shapes: (n) => [
      [2, 3, n],
      [n, 4],
    ],
    fn: (x, y) => x.matmul(y),
  },
  'matmul of vectors': { shapes: (n) => [[n], [n]], fn: (x, y) => x.matmul(y) },
  'vector times matrix': { shapes: (n) => [[3], [3, n]], fn: (x, y) => x.matmul(y) },
  linear: { shapes: (n) => [[2, 3, 5], [n, 5], [n]], fn: (x, w, b) => core.linear(x, w, b) },
  einsum: {
    shapes: (n) => [
      [2, n, 3],
      [n, 2],
    ],
    fn: (x, y) => core.einsum('bij,ib->jb', x, y),
  },
  reshape: one((x) => x.permute(1, 0).reshape(-1).square()),
  permute: { shapes: (n) => [[2, n, 3]], fn: (x) => x.permute(2, 0, 1).square() },
  flatten: { shapes: (n) => [[2, n, 3]], fn: (x) => x.flatten(1).square() },
  'unsqueeze and squeeze': one((x) => x.unsqueeze(1).squeeze(1).square()),
  transpose: one((x) => x.T.matmul(x)),
  expand: { shapes: (n) => [[n, 1]], fn: (x) => x.expand(2, n(x), 3).square() },
  slice: { shapes: (n) => [[2, n + 8]], fn: (x) => x.slice(1, 3, -1, 2).square() },
  select: { shapes: (n) => [[3, n]], fn: (x) => x.select(0, 1).mul(x.select(0, -1)) },
  split: {
    shapes: (n) => [[n + 2, 2]],
    fn: (x) => {
      const [a, b] = x.split([1, n(x) - 1]);
      return a.mul(b);
    },
  },
  chunk: {
    shapes: (n) => [[2, 2 * n]],
    fn: (x) => {
      const [a, b] = x.chunk(2, 1);
      return a.mul(b);
    },
  },
  'one part of a split': { shapes: (n) => [[2, n + 3]], fn: (x) => x.split(2, 1)[1].square() },
  flip: one((x) => x.flip(0).mul(x)),
  pad: one((x) =>
    x
      .pad(
        [
          [2, 1],
          [0, 3],
        ],
        0.5,
      )
      .square(),
  ),
  concat: two((x, y) => core.concat([x, y.unsqueeze(0).square()])),
  stack: two((x, y) => core.stack([x.select(0, 0), y.square()], 1)),
  gather: { shapes: (n) => [[2, n]], fn: (x) => x.gather(1, index(x, [2, 9], n(x, 1))).square() },
  'gather of a part': { shapes: (n) => [[3, n]], fn: (x) => x.gather(1, index(x, [2, 3], n(x, 1))).square() },
  indexSelect: { shapes: (n) => [[n, 3]], fn: (x) => x.indexSelect(0, index(x, [9], n(x))).square() },
  'indexSelect of columns': {
    shapes: (n) => [[3, n, 2]],
    fn: (x) => x.indexSelect(1, index(x, [5], n(x, 1))).square(),
  },
  scatterAdd: {
    shapes: (n) => [
      [2, n],
      [2, 9],
    ],
    fn: (x, s) => x.scatterAdd(1, index(x, [2, 9], n(x, 1)), s).square(),
  },
  'scatterAdd to a part': {
    shapes: (n) => [
      [3, n],
      [4, 5],
    ],
    fn: (x, s) => x.scatterAdd(1, index(x, [2, 3], n(x, 1)), s).square(),
  },
};

function n(x: Tensor, axis = 0): number {
  return x.shape[axis];
}

/** The same tensor as a view of another: gradients flow through it to what was made. */
export const layouts: Record<
  string,
  { stored: (shape: number[]) => number[]; view: (x: Tensor, shape: number[]) => Tensor }
> = {
  dense: { stored: (s) => s, view: (x) => x },
  transposed: { stored: (s) => [...s].reverse(), view: (x) => x.T },
  'with an offset and a step': {
    stored: (s) => s.map((size, d) => (d === 0 ? 2 * size + 1 : size + 1)),
    view: (x, s) => s.reduce((t, size, d) => (d === 0 ? t.slice(0, 1, 2 * size + 1, 2) : t.slice(d, 1)), x),
  },
  reversed: { stored: (s) => s, view: (x, s) => x.flip(...s.map((_, d) => d)) },
  broadcast: { stored: (s) => s.map((size, d) => (d === 0 ? 1 : size)), view: (x, s) => x.expand(...s) },
};
