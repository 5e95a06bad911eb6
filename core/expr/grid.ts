// Programs over tensors that broadcast: an invocation for an element, or for four that lie together. Operands keep
// their strides and offsets; dimensions that all of them walk alike are one.

import { LimitError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import type { Operand as Bound } from '../gpu/dispatcher.ts';
import { grid1d } from '../gpu/grid.ts';
import { defineKernel, type KernelParam } from '../gpu/kernel.ts';
import { sizeOf } from '../tensor/dtype.ts';
import {
  broadcastShapes,
  broadcastStrides,
  collapse,
  isContiguous,
  numelOf,
  sameShape,
  type Shape,
} from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor } from '../tensor/make.ts';
import type { Expr } from './expr.ts';
import { bindingsOf, extensionsOf, loaded, stored, type Access, type Operand } from './kernel.ts';
import { copyProgram, type Program } from './program.ts';
import { generate } from './wgsl.ts';

/**
 * How the operands of a program lie: inputs, then outputs that are no inputs. Frozen, so that its kernel is found by
 * identity.
 */
export class GridLayout {
  readonly program: Program;
  /** Dimensions after collapsing; 0 where every operand is contiguous, or one value. */
  readonly rank: number;
  /** Four elements at a time. */
  readonly vec: boolean;
  readonly access: readonly Access[];

  constructor(program: Program, rank: number, vec: boolean, access: readonly Access[]) {
    this.program = program;
    this.rank = rank;
    this.vec = vec;
    this.access = access;
    Object.freeze(this);
  }
}

const GROUP = 64;

/**
 * Tensors that one kernel binds at most, also where the adapter allows more: a layout is a number of so many digits.
 */
const MOST_TENSORS = 16;

const ACCESS: readonly Access[] = ['vector', 'splat', 'gather'];

export const gridKernel = defineKernel<GridLayout>('elementwise', ({ program, rank, vec, access }) => {
  const { inputs, outputs, scalars, inPlace } = program;
  const operands = [
    ...inputs.map((type, i): Operand => ({
      name: `x${i}`,
      type,
      access: inPlace && i < outputs.length ? 'write' : 'read',
      vec: vec && access[i] === 'vector',
    })),
    ...(inPlace ? [] : outputs).map((o, k): Operand => ({ name: `y${k}`, type: o.type, access: 'write', vec })),
  ];
  const params: KernelParam[] = [{ name: 'n', type: 'u32' }];
  scalars.forEach((type, i) => params.push({ name: `s${i}`, type: type === 'i32' || type === 'u32' ? type : 'f32' }));
  // Without a rank, offsets are still there: a view may begin anywhere.
  operands.forEach((_, i) => params.push({ name: `o${i}`, type: 'i32' }));
  for (let d = 1; d < rank; d++) params.push({ name: `n${d}`, type: 'u32' });
  if (rank)
    operands.forEach((_, i) => {
      for (let d = 0; d < rank; d++) params.push({ name: `q${i}_${d}`, type: 'i32' });
    });

  const lines = ['if (flat >= p.n) { return; }'];
  if (rank) {
    lines.push('var rest = flat;');
    for (let d = rank - 1; d >= 1; d--) lines.push(`let c${d} = i32(rest % p.n${d}); rest = rest / p.n${d};`);
    lines.push('let c0 = i32(rest);');
  }
  // In vector form the last dimension counts vectors.
  operands.forEach(({ vec: whole }, i) => {
    const steps = [`p.o${i}`];
    if (rank) for (let d = 0; d < rank; d++) steps.push(`c${d}${vec && d === rank - 1 ? ' * 4' : ''} * p.q${i}_${d}`);
    else if (access[i] !== 'splat') steps.push(`i32(flat)${vec ? ' * 4' : ''}`);
    lines.push(`let i${i} = ${whole ? `(${steps.join(' + ')}) / 4` : steps.join(' + ')};`);
  });
  const code = generate(
    outputs,
    vec,
    ({ value: i }: Expr) => ({ text: loaded(operands[i], `i${i}`, vec, access[i], `p.q${i}_${rank - 1}`) }),
    (s) => `p.s${s}`,
  );
  lines.push(...code.lines);
  const first = inPlace ? 0 : inputs.length;
  code.results.forEach((value, k) => lines.push(stored(operands[first + k], `i${first + k}`, value, vec)));
  return {
    label: program.name,
    bindings: bindingsOf(operands),
    params,
    workgroupSize: [GROUP],
    coarsenable: true,
    enable: extensionsOf(operands),
    declarations: code.declarations,
    body: lines.join('\n'),
  };
});

/** Layouts of each program, by a number that stands for them. */
const LAYOUTS = new WeakMap<Program, Map<number, GridLayout>>();

/** The layout as an object that there is one of. */
function layoutOf(program: Program, rank: number, vec: boolean, access: readonly number[]): GridLayout {
  let key = rank * 2 + Number(vec);
  for (const a of access) key = key * 3 + a;
  let layouts = LAYOUTS.get(program);
  if (!layouts) LAYOUTS.set(program, (layouts = new Map()));
  let layout = layouts.get(key);
  if (!layout)
    layouts.set(
      key,
      (layout = new GridLayout(
        program,
        rank,
        vec,
        access.map((a) => ACCESS[a]),
      )),
    );
  return layout;
}

/** Whether elements can be taken as vectors: they lie together, and so do the places where each row begins. */
function alignedStart(t: Tensor): boolean {
  return t.offset % 4 === 0 && (t.storage.bytes / sizeOf(t.dtype)) % 4 === 0;
}

function aligned(t: Tensor, strides: Shape, last: number): boolean {
  return strides[last] === 1 && alignedStart(t) && strides.every((v, d) => d === last || v % 4 === 0);
}

/**
 * Runs a program without recording. Outputs are new tensors, or the views given in `into`, which have the shape that
 * the inputs broadcast to; or, in place, the first inputs.
 */
export function runGrid(
  program: Program,
  tensors: readonly Tensor[],
  scalars: readonly number[],
  device: Device,
  into?: readonly Tensor[],
): Tensor[] {
  const { inPlace } = program;
  const given = inPlace ? tensors.slice(0, program.outputs.length) : into;
  const shape = given ? given[0].shape : commonShape(program.name, tensors);
  const outs = given ?? program.outputs.map((o) => emptyTensor(device, shape, o.type));
  const all = inPlace ? tensors : [...tensors, ...outs];
  const n = numelOf(shape);
  if (n === 0) return [...outs];
  const limit = Math.min(device.limits.maxStorageBuffersPerShaderStage, MOST_TENSORS);
  if (inPlace && (all.length > limit || aliased(tensors, outs.length)))
    return throughCopies(program, tensors, scalars, device);
  if (all.length > limit) return inParts(program, tensors, scalars, device, outs, limit);
  // Most operations take operands of one shape that lie as one row: there is nothing to look for.
  if (all.every((t) => sameShape(t.shape, shape) && isContiguous(shape, t.strides))) {
    const vec = n % 4 === 0 && all.every(alignedStart);
    launch(device, layoutOf(program, 0, vec, all.map(vectorAccess)), all, vec ? n / 4 : n, scalars, []);
    return [...outs];
  }
  const { shape: sizes, strides } = collapse(
    shape,
    all.map((t) => broadcastStrides(t.shape, t.strides, shape)),
  );
  const last = sizes.length - 1;
  const written = (i: number): boolean => (inPlace ? i < outs.length : i >= tensors.length);
  const vec = sizes[last] % 4 === 0 && all.every((t, i) => !written(i) || aligned(t, strides[i], last));
  const access = all.map((t, i) => (strides[i][last] === 0 ? 1 : vec && !aligned(t, strides[i], last) ? 2 : 0));
  const flat = last === 0 && strides.every((s, i) => (s[0] === 1 ? access[i] === 0 : s[0] === 0 && !written(i)));
  const places: number[] = [];
  if (!flat) {
    for (let d = 1; d <= last; d++) places.push(vec && d === last ? sizes[d] / 4 : sizes[d]);
    for (const s of strides) places.push(...s);
  }
  const layout = layoutOf(program, flat ? 0 : sizes.length, vec, access);
  launch(device, layout, all, vec ? n / 4 : n, scalars, places);
  return [...outs];
}

const vectorAccess = (): number => 0;

function launch(
  device: Device,
  layout: GridLayout,
  tensors: readonly Tensor[],
  count: number,
  scalars: readonly number[],
  places: readonly number[],
): void {
  const params = [count, ...scalars];
  const operands: Bound[] = [];
  for (const { storage, offset } of tensors) {
    params.push(offset);
    operands.push({ storage, byteOffset: 0 });
  }
  device.run(gridKernel, layout, operands, places.length ? [...params, ...places] : params, grid1d(count, GROUP));
}

function commonShape(name: string, tensors: readonly Tensor[]): Shape {
  const { shape } = tensors[0];
  return tensors.every((t) => sameShape(t.shape, shape))
    ? shape
    : broadcastShapes(name, ...tensors.map((t) => t.shape));
}

/**
 * Whether one of the first tensors shares its memory with another: a kernel can't read memory by one binding that it
 * writes by another.
 */
function aliased(tensors: readonly Tensor[], written: number): boolean {
  return tensors.some((t, i) => i < written && tensors.some((other, k) => k !== i && other.storage === t.storage));
}

/**
 * Runs a program with more tensors than a kernel may bind: several kernels, each with as many of the outputs as fit.
 */
function inParts(
  program: Program,
  tensors: readonly Tensor[],
  scalars: readonly number[],
  device: Device,
  outs: readonly Tensor[],
  limit: number,
): Tensor[] {
  const parts = program.within(limit, (reads) => {
    throw new LimitError(program.name, `An expression reads ${reads} tensors and writes one`, {
      expected: `at most ${limit} in all, the adapter's number of storage buffers`,
      remedy: 'fuse fewer operations',
    });
  });
  for (const { program: part, reads, begin, end } of parts)
    runGrid(
      part,
      reads.map((i) => tensors[i]),
      scalars,
      device,
      outs.slice(begin, end),
    );
  return [...outs];
}

/** Runs a program in place by way of new tensors. */
function throughCopies(
  program: Program,
  tensors: readonly Tensor[],
  scalars: readonly number[],
  device: Device,
): Tensor[] {
  const results = runGrid(program.outOfPlace, tensors, scalars, device);
  return results.map((result, k) => {
    runGrid(copyProgram(result.dtype, tensors[k].dtype), [result], [], device, [tensors[k]]);
    result.dispose();
    return tensors[k];
  });
}
