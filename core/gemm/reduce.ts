// The second pass of a product whose K was cut into parts: adds up the parts in their order, so that the bits are the
// same in every run, and applies the epilogue.

import { defineKernel } from '../gpu/kernel.ts';
import type { ProblemForm } from './spec.ts';
import { activationFunction } from './wgsl.ts';

export interface ReduceVariant extends Pick<ProblemForm, 'c' | 'bias' | 'activation' | 'accumulate'> {
  /** Whether c holds pixels, and whether they lie side by side within a sample. Biases then belong to rows. */
  readonly pixels?: { readonly dense: boolean };
}

export const REDUCE_WORKGROUP = 64;

const REDUCE_PARAMS = ['M', 'N', 'batch', 'splits', 'cOffset', 'cStride', 'cBatch', 'biasOffset'];
const PIXEL_PARAMS = ['biasBatch', 'grid', 'gridWidth', 'outSample', 'outRow', 'outColumn'];

/**
 * Parts are (batch, splits, M, N). An invocation makes 4 neighbouring elements of a row where c is aligned, otherwise
 * one.
 */
export const reduceKernel = defineKernel<ReduceVariant>(
  'gemm.reduce',
  ({ c, bias, activation, accumulate, pixels }) => {
    const wide = c.vec ? 4 : 1;
    const type = c.vec ? 'vec4f' : 'f32';
    const added = c.vec
      ? 'vec4f(f32(bias[b]), f32(bias[b + 1u]), f32(bias[b + 2u]), f32(bias[b + 3u]))'
      : 'f32(bias[b])';
    const stored = c.vec ? `vec4<${c.dtype}>` : c.dtype;
    return {
      bindings: [
        { name: 'parts', type: `array<${c.vec ? 'vec4<f32>' : 'f32'}>`, access: 'read' },
        { name: 'C', type: `array<${stored}>`, access: 'write' },
        ...(bias ? [{ name: 'bias', type: `array<${bias}>`, access: 'read' } as const] : []),
      ],
      params: [...REDUCE_PARAMS, ...(pixels ? PIXEL_PARAMS : [])].map((name) => ({ name, type: 'u32' })),
      workgroupSize: [REDUCE_WORKGROUP],
      coarsenable: true,
      enable: [c.dtype, bias].includes('f16') ? ['f16'] : [],
      declarations: activationFunction(activation),
      body: `  let perRow = p.N / ${wide}u;
  let perItem = p.M * perRow;
  if (flat >= p.batch * perItem) { return; }
  let item = flat / perItem;
  let within = flat % perItem;
  let row = within / perRow;
  let col = (within % perRow) * ${wide}u;
  var sum = ${type}();
  var at = item * p.splits * perItem + within;
  var i = 0u;
  // Several loads are in flight at once.
  for (; i + 4u <= p.splits; i += 4u) {
    let v0 = parts[at];
    let v1 = parts[at + perItem];
    let v2 = parts[at + 2u * perItem];
    let v3 = parts[at + 3u * perItem];
    sum += (v0 + v1) + (v2 + v3);
    at += 4u * perItem;
  }
  for (; i < p.splits; i++) {
    sum += parts[at];
    at += perItem;
  }
${
  bias
    ? `  let b = p.biasOffset + ${pixels ? 'item * p.biasBatch + row' : 'col'};
  sum += ${pixels ? `${type}(f32(bias[b]))` : added};`
    : ''
}
${
  pixels
    ? `  let sample = col / p.grid;
  let pixel = col % p.grid;
  let column = sample * p.outSample + ${
    pixels.dense ? 'pixel' : 'pixel / p.gridWidth * p.outRow + pixel % p.gridWidth * p.outColumn'
  };`
    : '  let column = col;'
}
  let to = (p.cOffset + item * p.cBatch + row * p.cStride + column) / ${wide}u;
${accumulate ? `  sum += ${type}(C[to]);` : ''}
  C[to] = ${stored}(activate(vec4f(sum))${c.vec ? '' : '.x'});`,
    };
  },
);
