// Programs over samples: tensors whose first dimension is a batch. An input of the expressions is an element of a part
// of a sample (half of the channels), one value a sample, or a column of a table in the row that an index tensor gives
// for the sample. They are mapped, or summed over the elements of each sample, always in the same order.

import { LimitError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import { grid1d } from '../gpu/grid.ts';
import { defineKernel, type Kernel, type KernelSource } from '../gpu/kernel.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import { denseOperand } from './dense.ts';
import type { Expr } from './expr.ts';
import { inputsOf, unify } from './graph.ts';
import { bindingsOf, extensionsOf, loaded, type Operand } from './kernel.ts';
import { computedType, generate, wide, type Generated } from './wgsl.ts';
import type { MathName } from './wgslMath.ts';

/** What an input of the expressions is; tensors by their numbers. */
export type Source =
  /** An element of part `part` of a sample: the tensor is (batch, parts · size). */
  | { readonly kind: 'element'; readonly tensor: number; readonly part?: number; readonly parts?: number }
  /** One value a sample, (batch). */
  | { readonly kind: 'sample'; readonly tensor: number }
  /**
   * Column `column` of a table (rows, columns) f32, in the row that an i32 tensor (batch) gives. A row out of range
   * reads as NaN.
   */
  | {
      readonly kind: 'row';
      readonly table: number;
      readonly row: number;
      readonly column: number;
      readonly columns: number;
    };

/**
 * An expression, and where its values go: into part `part` of a result of `parts` parts a sample, which lies behind
 * `before` parts.
 */
export interface SampleOutput {
  readonly expr: Expr;
  readonly part: number;
  readonly parts: number;
  readonly before: number;
}

/** How many samples there are, of how many elements in a part. */
export interface SampleSize {
  readonly batch: number;
  readonly size: number;
}

/** Expressions over samples, with the kernels made of them. */
export class SampleProgram {
  readonly name: string;
  readonly sources: readonly Source[];
  readonly outputs: readonly SampleOutput[];
  /** Tensors that it reads, by number, ascending: each is a binding. */
  readonly reads: readonly number[];
  /** @internal Kernels by a number that stands for the layout. */
  readonly layouts = new Map<number, SampleLayout>();

  /**
   * @param outputs in the order in which their results lie. Scalar 0 of the expressions is the reciprocal of a part's
   *   size, scalar 1 and those that follow are given when the program is run.
   */
  constructor(name: string, sources: readonly Source[], outputs: readonly SampleOutput[]) {
    const exprs = unify(outputs.map((o) => o.expr));
    this.name = name;
    this.sources = sources;
    this.outputs = outputs.map((o, i) => ({ ...o, expr: exprs[i] }));
    const reads = inputsOf(exprs).flatMap((i) => {
      const source = sources[i];
      return source.kind === 'row' ? [source.table, source.row] : [source.tensor];
    });
    this.reads = [...new Set(reads)].sort((a, b) => a - b);
  }
}

/** How the tensors that a program reads lie. Frozen, so that its kernel is found by identity. */
class SampleLayout {
  readonly program: SampleProgram;
  /** Four elements at a time. */
  readonly vec: boolean;
  /** Types of the tensors read. */
  readonly types: readonly DType[];
  /** How many numbers are given at run time. */
  readonly scalars: number;

  constructor(program: SampleProgram, vec: boolean, types: readonly DType[], scalars: number) {
    this.program = program;
    this.vec = vec;
    this.types = types;
    this.scalars = scalars;
    Object.freeze(this);
  }
}

/**
 * Evaluates the expressions for every element.
 *
 * @param tensors by number; only those that the program reads are needed
 * @returns all results one after the other, f32
 */
export function mapSamples(
  device: Device,
  program: SampleProgram,
  tensors: readonly (Tensor | null)[],
  { batch, size }: SampleSize,
  scalars: readonly number[] = [],
): Tensor {
  const last = program.outputs[program.outputs.length - 1];
  const y = emptyTensor(device, [(last.before + last.parts) * batch * size], 'f32');
  const groups = grid1d((batch * size) / width(size), MAP_GROUP);
  dispatch(device, mapKernel, program, tensors, { batch, size }, scalars, y, groups);
  return y;
}

/** Sums the expressions over the elements of each sample: (outputs, batch), f32. */
export function sumSamples(
  device: Device,
  program: SampleProgram,
  tensors: readonly (Tensor | null)[],
  { batch, size }: SampleSize,
  scalars: readonly number[] = [],
): Tensor {
  const pieces = Math.max(1, Math.ceil(size / width(size) / PIECE));
  const y = emptyTensor(device, [program.outputs.length, batch, pieces], 'f32');
  const most = device.limits.maxComputeWorkgroupsPerDimension;
  if (batch > most || pieces > most)
    throw new LimitError(program.name, `There are ${batch} samples of ${size} elements`, {
      expected: `at most ${most} samples of ${most * PIECE} elements`,
      remedy: 'split the batch',
    });
  dispatch(device, sumKernel, program, tensors, { batch, size }, scalars, y, [pieces, batch, 1]);
  return pieces > 1 ? y.sum(2) : y.reshape(program.outputs.length, batch);
}

function dispatch(
  device: Device,
  kernel: Kernel<SampleLayout>,
  program: SampleProgram,
  tensors: readonly (Tensor | null)[],
  { batch, size }: SampleSize,
  scalars: readonly number[],
  y: Tensor,
  groups: readonly [number, number, number],
): void {
  if (batch === 0) return;
  const given = program.reads.map((i) => denseOperand(tensors[i]!));
  const layout = layoutOf(
    program,
    width(size) === 4,
    given.map((x) => x.dtype),
    scalars.length,
  );
  const rows = program.sources.find((s) => s.kind === 'row');
  const params = [batch, size / width(size), rows ? tensors[rows.table]!.shape[0] : 0, 1 / size, ...scalars];
  device.run(kernel, layout, [...given, y], params, groups);
}

const TYPES: Readonly<Record<DType, number>> = { f32: 0, f16: 1, i32: 2, u32: 3, bool: 4 };

function layoutOf(program: SampleProgram, vec: boolean, types: readonly DType[], scalars: number): SampleLayout {
  let key = scalars * 2 + Number(vec);
  for (const type of types) key = key * 5 + TYPES[type];
  let layout = program.layouts.get(key);
  if (!layout) program.layouts.set(key, (layout = new SampleLayout(program, vec, types, scalars)));
  return layout;
}

/** Elements that an invocation takes at a time. */
function width(size: number): 1 | 4 {
  return size % 4 === 0 ? 4 : 1;
}

const MAP_GROUP = 64;
const SUM_GROUP = 128;
/** Elements, or vectors of them, that a workgroup of a sum goes through. */
const PIECE = SUM_GROUP * 8;

/** Bindings and parameters, what depends on sample `b` alone, and the values of element `i` of its parts. */
function scaffold({ program, vec, types, scalars }: SampleLayout): {
  head: Omit<KernelSource, 'body' | 'workgroupSize'>;
  code: Generated;
} {
  const { sources, outputs, reads } = program;
  const operands = new Map(
    reads.map((tensor, j): [number, Operand] => {
      const whole = sources.some((s) => s.kind === 'element' && s.tensor === tensor);
      return [tensor, { name: `x${tensor}`, type: types[j], access: 'read', vec: vec && whole }];
    }),
  );
  const input = (node: Expr, math: (name: MathName) => string): { text: string; once: boolean } => {
    const source = sources[node.value];
    const t = wide(computedType(node.type), vec);
    if (source.kind === 'element')
      return { text: `${t}(${loaded(operands.get(source.tensor)!, place(source), vec, 'vector')})`, once: false };
    if (source.kind === 'sample')
      return { text: `${t}(${loaded(operands.get(source.tensor)!, 'b', vec, 'splat')})`, once: true };
    const row = `u32(x${source.row}[b])`;
    const at = `min(${row}, p.rows - 1u) * ${source.columns}u + ${source.column}u`;
    const value = loaded(operands.get(source.table)!, at, vec, 'splat');
    return { text: `select(${math('special')}(0x7fc00000u), ${value}, ${row} < p.rows)`, once: true };
  };
  const code = generate(
    outputs.map((o) => o.expr),
    vec,
    input,
    (s) => (s ? `p.s${s}` : 'p.reciprocal'),
  );
  return {
    head: {
      label: program.name,
      bindings: [
        ...bindingsOf([...operands.values()]),
        { name: 'y', type: vec ? 'array<vec4f>' : 'array<f32>', access: 'write' },
      ],
      declarations: code.declarations,
      enable: extensionsOf([...operands.values()]),
      params: [
        { name: 'batch', type: 'u32' },
        { name: 'size', type: 'u32' },
        { name: 'rows', type: 'u32' },
        { name: 'reciprocal', type: 'f32' },
        ...Array.from({ length: scalars }, (_, s) => ({ name: `s${s + 1}`, type: 'f32' as const })),
      ],
    },
    code,
  };
}

/** Index of element `i` in part `part` of sample `b`. */
function place({ part = 0, parts = 1 }: { readonly part?: number; readonly parts?: number }): string {
  return parts === 1 ? 'b * p.size + i' : `(b * ${parts}u + ${part}u) * p.size + i`;
}

const mapKernel = defineKernel<SampleLayout>('samples', (layout) => {
  const { head, code } = scaffold(layout);
  const stores = layout.program.outputs.map(
    (o, j) => `y[${o.before ? `${o.before}u * p.batch * p.size + ` : ''}${place(o)}] = ${code.results[j]};`,
  );
  return {
    ...head,
    workgroupSize: [MAP_GROUP],
    coarsenable: true,
    body: `  if (flat >= p.batch * p.size) { return; }
  let b = flat / p.size;
  let i = flat % p.size;
  ${[...code.ahead, ...code.lines, ...stores].join('\n  ')}`,
  };
});

const sumKernel = defineKernel<SampleLayout>('samples.sum', (layout) => {
  const { head, code } = scaffold(layout);
  const { vec } = layout;
  const { results } = code;
  const zero = vec ? 'vec4f()' : '0.0';
  const total = (j: number): string => (vec ? `dot(sum${j}, vec4f(1.0))` : `sum${j}`);
  return {
    ...head,
    label: `${layout.program.name}.sum`,
    // The result is a number of floats, whatever is read at a time.
    bindings: [...head.bindings.slice(0, -1), { name: 'y', type: 'array<f32>', access: 'write' }],
    workgroupSize: [SUM_GROUP],
    workgroupBytes: SUM_GROUP * results.length * 4,
    declarations: `${head.declarations}\n${results.map((_, j) => `var<workgroup> part${j}: array<f32, ${SUM_GROUP}>;`).join('\n')}`,
    body: `  let b = wid.y;
  ${code.ahead.join('\n  ')}
  ${results.map((_, j) => `var sum${j} = ${zero};`).join('\n  ')}
  let end = min(p.size, (wid.x + 1u) * ${PIECE}u);
  for (var i = wid.x * ${PIECE}u + li; i < end; i += ${SUM_GROUP}u) {
    ${code.lines.join('\n    ')}
    ${results.map((r, j) => `sum${j} += ${r};`).join('\n    ')}
  }
  ${results.map((_, j) => `part${j}[li] = ${total(j)};`).join('\n  ')}
  for (var reach = ${SUM_GROUP / 2}u; reach > 0u; reach /= 2u) {
    workgroupBarrier();
    if (li < reach) {
      ${results.map((_, j) => `part${j}[li] += part${j}[li + reach];`).join('\n      ')}
    }
  }
  if (li == 0u) {
    ${results.map((_, j) => `y[(${j}u * p.batch + b) * nwg.x + wid.x] = part${j}[0];`).join('\n    ')}
  }`,
  };
});
