// General operations that should run at the speed of a copy.

import { fuse, Generator, grad, tensor, zeros, type Tensor } from '../../core/index.ts';
import {
  adamWState,
  advanceAdamW,
  fusedAdamW,
  globalNorm,
  globalNormConfig,
  globalNormPartials,
} from '../../kernels/index.ts';
import type { BenchCase, Group } from '../case.ts';
import type { Work } from '../work.ts';
import { adamWork } from './count.ts';
import { backwardOf, disShapes, forwardOf, type DisShape, type Inputs } from './shapes.ts';

const siluMulAdd = fuse((x, y, z) => x.silu().mul(y).add(z), 'siluMulAdd');

const moves = (bytes: number, flops = 0, exps = 0): Work => ({ bytes, flops, exps, type: 'f32' });

interface Simple {
  readonly group: Group;
  readonly name: string;
  /** f32 tensors of the full size that are read or written, parts of one counting as parts. */
  readonly tensors: number;
  readonly flops?: number;
  readonly exps?: number;
  readonly dispatches?: number;
  make(inputs: Inputs, rows: number, columns: number): () => unknown;
}

const SIMPLE: readonly Simple[] = [
  {
    group: 'elementwise',
    name: 'x + y',
    tensors: 3,
    flops: 1,
    make: (inputs, rows, columns) => {
      const [x, y] = [inputs.random([rows, columns]), inputs.random([rows, columns])];
      return () => x.add(y);
    },
  },
  {
    group: 'elementwise',
    name: 'silu(x)·y + z forward',
    tensors: 4,
    flops: 4,
    exps: 1,
    make: (inputs, rows, columns) => {
      const [x, y, z] = [0, 1, 2].map(() => inputs.random([rows, columns]));
      return () => siluMulAdd(x, y, z);
    },
  },
  {
    group: 'reduce',
    name: 'softmax',
    tensors: 2,
    flops: 4,
    exps: 1,
    dispatches: 4,
    make: (inputs, rows, columns) => {
      const x = inputs.random([rows, columns]);
      return () => x.softmax(-1);
    },
  },
  {
    group: 'reduce',
    name: 'sum of rows',
    tensors: 1,
    flops: 1,
    make: (inputs, rows, columns) => {
      const x = inputs.random([rows, columns]);
      return () => x.sum(1);
    },
  },
  {
    group: 'reduce',
    name: 'sum of columns',
    tensors: 1,
    flops: 1,
    dispatches: 2,
    make: (inputs, rows, columns) => {
      const x = inputs.random([rows, columns]);
      return () => x.sum(0);
    },
  },
  {
    group: 'movement',
    name: 'transposing copy',
    tensors: 2,
    make: (inputs, rows, columns) => {
      const x = inputs.random([rows, columns]);
      return () => x.transpose(0, 1).contiguous();
    },
  },
  {
    group: 'movement',
    name: 'gather of rows',
    tensors: 2,
    make: (inputs, rows, columns) => {
      const x = inputs.random([rows, columns]);
      const index = inputs.keep(
        tensor(
          inputs.device,
          Int32Array.from({ length: rows }, (_, i) => (i * 7919) % rows),
          { dtype: 'i32' },
        ),
      );
      return () => x.indexSelect(0, index);
    },
  },
  {
    group: 'random',
    name: 'uniform',
    tensors: 1,
    make: (inputs, rows, columns) => {
      const generator = inputs.keep(new Generator(inputs.device, 2));
      return () => generator.uniform([rows, columns]);
    },
  },
  {
    group: 'random',
    name: 'normal',
    tensors: 1,
    exps: 2,
    make: (inputs, rows, columns) => {
      const generator = inputs.keep(new Generator(inputs.device, 2));
      return () => generator.normal([rows, columns]);
    },
  },
];

function simpleCases(shape: DisShape): BenchCase[] {
  const rows = shape.batch * shape.tokens;
  return SIMPLE.map(({ group, name, tensors, flops = 0, exps = 0, dispatches = 1, make }) => {
    const columns = group === 'elementwise' ? shape.inner : shape.width;
    const n = rows * columns;
    return {
      group,
      name,
      size: shape.label,
      priority: shape.priority,
      largest: 4 * n,
      live: 4 * n * (tensors + 1),
      dispatches,
      work: moves(4 * n * tensors, n * flops, n * exps),
      prepare: (device) => forwardOf(device, (inputs) => make(inputs, rows, columns)),
    };
  });
}

function gatedCases(shape: DisShape): BenchCase[] {
  const { batch, tokens, inner, label, priority } = shape;
  const n = batch * tokens * inner;
  return [
    {
      group: 'elementwise',
      name: 'silu(x)·y + z backward',
      size: label,
      priority,
      largest: 4 * n,
      live: 4 * n * 7,
      work: moves(4 * n * 5, 9 * n, n),
      prepare: (device) =>
        backwardOf(
          device,
          (inputs) => ({
            of: [0, 1, 2].map(() => inputs.random([batch, tokens, inner])),
            compute: ([x, y, z]) => siluMulAdd(x, y, z),
          }),
          (roots, of, gradient) => grad(roots, of, { gradient, retainGraph: true }),
        ),
    },
  ];
}

function castCases(shape: DisShape): BenchCase[] {
  const n = shape.batch * shape.tokens * shape.inner;
  return (['f16', 'f32'] as const).map((to): BenchCase => ({
    group: 'movement',
    name: `cast to ${to}`,
    size: shape.label,
    priority: shape.priority + 1,
    largest: 4 * n,
    live: 6 * n,
    work: moves(6 * n),
    needs: 'shader-f16',
    prepare: (device) =>
      forwardOf(device, (inputs) => {
        const x = inputs.random([n], { dtype: to === 'f16' ? 'f32' : 'f16' });
        return () => x.cast(to);
      }),
  }));
}

/** Parameters of DiS-S/2 (28 million) and of a model a tenth of that. */
function optimizerCases(): BenchCase[] {
  return (
    [
      [2.8e6, 0],
      [28e6, 1],
    ] as const
  ).flatMap(([numel, priority]): BenchCase[] => [
    {
      group: 'optimizer',
      name: 'AdamW + EMA',
      size: `${numel / 1e6}M`,
      priority,
      largest: 4 * numel,
      live: 20 * numel,
      work: adamWork(numel),
      dispatches: 2,
      prepare: (device) =>
        forwardOf(device, (inputs) => {
          const [params, grads, ema] = [0, 1, 2].map(() => inputs.random([numel]));
          const [m, v] = [0, 1].map((): Tensor => inputs.keep(zeros(device, [numel])));
          const state = inputs.keep(tensor(device, adamWState({ lr: 1e-4 })));
          return () => {
            advanceAdamW(device, state);
            fusedAdamW(device, { state, params, grads, m, v, ema });
          };
        }),
    },
    {
      group: 'optimizer',
      name: 'global norm',
      size: `${numel / 1e6}M`,
      priority,
      largest: 4 * numel,
      live: 4 * numel,
      work: moves(4 * numel, 2 * numel),
      dispatches: 2,
      prepare: (device) =>
        forwardOf(device, (inputs) => {
          const x = inputs.random([numel]);
          const partial = inputs.keep(zeros(device, [globalNormPartials(globalNormConfig(device), 1)]));
          const out = inputs.keep(zeros(device, [2]));
          return () => globalNorm(device, [x], { partial, out });
        }),
    },
  ]);
}

export function generalCases(): BenchCase[] {
  return [
    ...disShapes().flatMap((shape) => [...simpleCases(shape), ...gatedCases(shape), ...castCases(shape)]),
    ...optimizerCases(),
  ];
}
