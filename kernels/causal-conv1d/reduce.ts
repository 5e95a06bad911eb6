// Second stage of the convolution's sums over tokens: many parts of few columns, which several invocations a column add
// up. docs/kernels/causal-conv1d.md has what each step gave.

import type { Device } from '../../core/index.ts';
import { defineKernel, grid1d, type Operand } from '../../core/kit.ts';
import { columnsPerGroup, partSums, sharingOf, type Sharing } from '../partSums.ts';

interface Variant {
  readonly width: number;
  /** Convolutions whose sums lie beside each other. */
  readonly sets: number;
  readonly sharing: Sharing;
}

/** From (parts, sets, W + 1, D) to dweight (D, W) and then dbias (D) of each set. */
const reduceKernel = defineKernel<Variant>('causalConv1d.reduce', ({ width, sets, sharing }) => {
  const rows = width + 1;
  return {
    bindings: [
      { name: 'sums', type: 'array<f32>', access: 'read' },
      { name: 'out', type: 'array<f32>', access: 'write' },
    ],
    params: (['parts', 'D'] as const).map((name) => ({ name, type: 'u32' })),
    ...partSums(
      sharing,
      'p.parts',
      `(${sets * rows}u * p.D)`,
      (part, column) => `sums[${part} * ${sets * rows}u * p.D + ${column}]`,
      `
    let d = column % p.D;
    let k = column / p.D % ${rows}u;
    out[column / (${rows}u * p.D) * ${rows}u * p.D + select(d * ${width}u + k, ${width}u * p.D + d, k == ${width}u)] = total;`,
    ),
  };
});

/** Adds up `parts` of (sets, W + 1, D) partial sums. `out` gets dweight (D, W) and then dbias (D) of each set. */
export function convReduce(
  device: Device,
  sums: Operand,
  out: Operand,
  { parts, sets, width, channels }: { parts: number; sets: number; width: number; channels: number },
): void {
  const columns = sets * (width + 1) * channels;
  const sharing = sharingOf(columns, parts, device.adapter.software);
  device.run(
    reduceKernel,
    { width, sets, sharing },
    [sums, out],
    [parts, channels],
    grid1d(columns, columnsPerGroup(sharing)),
  );
}
