// Matrix products: squares, and the projections of a DiS block.

import { grad, linear, matmul, type Tensor, type FloatDType } from '../../core/index.ts';
import { concatLinear } from '../../kernels/concat-linear/index.ts';
import type { BenchCase } from '../case.ts';
import { linearWork, productWork } from './count.ts';
import { backwardOf, bytesOf, disShapes, forwardOf, type DisShape } from './shapes.ts';

/** The products of a block: its name, the rows of its weight and the columns. */
function projections({ width, inner, states, rank }: DisShape): [name: string, out: number, inputs: number][] {
  return [
    ['in_proj', 2 * inner, width],
    ['x_proj', rank + 2 * states, inner],
    ['dt_proj', inner, rank],
    ['out_proj', width, inner],
  ];
}

function projectionCases(shape: DisShape, type: FloatDType): BenchCase[] {
  const rows = shape.batch * shape.tokens,
    size = bytesOf(type);
  const common = {
    group: 'matmul' as const,
    size: type === 'f16' ? `${shape.label} f16` : shape.label,
    priority: shape.priority + (type === 'f16' ? 1 : 0),
    ...(type === 'f16' && { needs: 'shader-f16' as const }),
  };
  const product = (name: string, N: number, K: number, compute: (x: Tensor, weight: Tensor) => Tensor): BenchCase[] => {
    const { forward, backward } = linearWork(rows, N, K, type);
    const largest = size * Math.max(rows * N, rows * K, N * K);
    return [
      {
        ...common,
        name: `${name} forward`,
        work: forward,
        largest,
        live: forward.bytes,
        prepare: (device) =>
          forwardOf(device, (inputs) => {
            const [x, weight] = [inputs.random([rows, K], { dtype: type }), inputs.random([N, K], { dtype: type })];
            return () => compute(x, weight);
          }),
      },
      {
        ...common,
        name: `${name} backward`,
        work: backward,
        largest,
        live: backward.bytes,
        dispatches: 2,
        prepare: (device) =>
          backwardOf(
            device,
            (inputs) => ({
              of: [inputs.random([rows, K], { dtype: type }), inputs.random([N, K], { dtype: type })],
              compute: ([x, weight]) => compute(x, weight),
            }),
            (roots, of, gradient) => grad(roots, of, { gradient, retainGraph: true }),
          ),
      },
    ];
  };
  const { width } = shape;
  return [
    ...projections(shape).flatMap(([name, N, K]) => product(name, N, K, (x, weight) => linear(x, weight))),
    ...product('skip_linear', width, 2 * width, (x, weight) => concatLinear(x.split(width, 1), weight)),
  ];
}

function squareCases(): BenchCase[] {
  return [512, 1024, 2048, 4096].flatMap((n) =>
    (['f32', 'f16'] as const).map((type): BenchCase => ({
      group: 'matmul',
      name: 'matmul',
      size: type === 'f16' ? `${n}³ f16` : `${n}³`,
      work: productWork(n, n, n, type),
      largest: n * n * bytesOf(type),
      live: 3 * n * n * bytesOf(type),
      priority: (n === 2048 ? 1 : 0) + (type === 'f16' ? 1 : 0),
      ...(type === 'f16' && { needs: 'shader-f16' as const }),
      prepare: (device) =>
        forwardOf(device, (inputs) => {
          const [a, b] = [inputs.random([n, n], { dtype: type }), inputs.random([n, n], { dtype: type })];
          return () => matmul(a, b);
        }),
    })),
  );
}

export function matmulCases(): BenchCase[] {
  return [
    ...squareCases(),
    ...disShapes().flatMap((shape) => (['f32', 'f16'] as const).flatMap((type) => projectionCases(shape, type))),
  ];
}
