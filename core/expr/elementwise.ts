// Runs expressions over tensors: one kernel for any number of inputs and outputs, with broadcasting and strides, four elements at a
// time where the layout allows it. The derivative is another expression run the same way.

import { defineOp } from '../autograd/tape.ts';
import type { Device } from '../gpu/device.ts';
import { isFloat, promote, sizeOf, storageType, type DType } from '../tensor/dtype.ts';
import { LimitError, ShapeError } from '../errors.ts';
import { differentiate, Expr, generate, SPECIAL, topological, type ExprLike } from './expr.ts';
import { defineKernel, type KernelBinding, type KernelParam } from '../gpu/kernel.ts';
import { grid1d } from '../gpu/grid.ts';
import {
  broadcastShapes,
  broadcastStrides,
  collapse,
  isContiguous,
  numelOf,
  sameShape,
  show,
  type Shape,
} from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { emptyTensor, isTensor } from '../tensor/make.ts';

/** Expressions of one kernel. */
interface Program {
  readonly id: number;
  readonly name: string;
  readonly outputs: readonly Expr[];
  readonly inputs: readonly DType[];
  /** Types of the numbers given at run time. */
  readonly scalars: readonly DType[];
  /** Gradient programs by which inputs need one. */
  readonly gradients: Map<string, Gradient>;
}

interface Gradient {
  /** Inputs that get one, in order. */
  readonly wanted: readonly number[];
  readonly exprs: readonly (Expr | null)[];
  /** Inputs of the forward pass that the derivative reads. */
  readonly used: readonly number[];
}

const programs: Program[] = [];
const byKey = new Map<string, Program>();

function program(name: string, outputs: readonly Expr[], inputs: readonly DType[], scalars: readonly DType[]): Program {
  const key = `${name}|${outputs.map((o) => o.id).join()}|${inputs.join()}|${scalars.join()}`;
  let known = byKey.get(key);
  if (!known) {
    known = { id: programs.length, name, outputs, inputs, scalars, gradients: new Map() };
    programs.push(known);
    byKey.set(key, known);
  }
  return known;
}

/** How an operand is read along the last dimension: as vectors, one value for all, one by one. */
type Access = 'vector' | 'splat' | 'gather';

interface Variant {
  readonly program: number;
  /** Dimensions after collapsing; 0 where every operand is contiguous, or one value. */
  readonly rank: number;
  readonly vec: boolean;
  readonly access: readonly Access[];
  /** Output types. */
  readonly outs: readonly DType[];
}

const GROUP = 64;

const elementwiseKernel = defineKernel<Variant>('elementwise', (v) => {
  const { name: label, outputs, inputs, scalars } = programs[v.program];
  const operands = [
    ...inputs.map((type, i) => ({ name: `x${i}`, type, access: 'read' as const })),
    ...v.outs.map((type, i) => ({ name: `y${i}`, type, access: 'write' as const })),
  ];
  const bindings = operands.map(({ name, type, access }, i): KernelBinding => {
    const element = storageType(type);
    return { name, access, type: `array<${v.vec && v.access[i] === 'vector' ? `vec4<${element}>` : element}>` };
  });
  const params: KernelParam[] = [{ name: 'n', type: 'u32' }];
  scalars.forEach((type, i) => params.push({ name: `s${i}`, type: type === 'i32' || type === 'u32' ? type : 'f32' }));
  // Without a rank, offsets are still there: a view may begin anywhere.
  operands.forEach((_, i) => params.push({ name: `o${i}`, type: 'i32' }));
  for (let d = 1; d < v.rank; d++) params.push({ name: `n${d}`, type: 'u32' });
  if (v.rank)
    operands.forEach((_, i) => {
      for (let d = 0; d < v.rank; d++) params.push({ name: `q${i}_${d}`, type: 'i32' });
    });

  const lines = ['  if (flat >= p.n) { return; }'];
  const width = v.vec ? 4 : 1;
  const index: string[] = [];
  if (v.rank) {
    lines.push('  var rest = flat;');
    for (let d = v.rank - 1; d >= 1; d--) {
      // In vector form the last dimension counts vectors.
      lines.push(`  let c${d} = i32(rest % p.n${d}); rest = rest / p.n${d};`);
    }
    lines.push('  let c0 = i32(rest);');
  }
  operands.forEach((_, i) => {
    const steps: string[] = [`p.o${i}`];
    if (v.rank)
      for (let d = 0; d < v.rank; d++) steps.push(`c${d}${width > 1 && d === v.rank - 1 ? ' * 4' : ''} * p.q${i}_${d}`);
    else if (v.access[i] !== 'splat') steps.push(`i32(flat)${width > 1 ? ' * 4' : ''}`);
    index.push(`i${i}`);
    lines.push(`  let i${i} = ${steps.join(' + ')};`);
  });
  const read = (i: number): string => {
    const { name, type } = operands[i];
    const at = v.vec && v.access[i] === 'vector' ? `${name}[i${i} / 4]` : `${name}[i${i}]`;
    const load = (text: string, vector: boolean): string => {
      if (type === 'bool') return vector ? `(${text} != vec4<u32>(0u))` : `(${text} != 0u)`;
      return type === 'f16' ? `${vector ? 'vec4<f32>' : 'f32'}(${text})` : text;
    };
    if (!v.vec) return load(at, false);
    if (v.access[i] === 'vector') return load(at, true);
    const element = type === 'f16' ? 'f32' : type;
    if (v.access[i] === 'splat') return `vec4<${element}>(${load(at, false)})`;
    const step = `p.q${i}_${v.rank - 1}`;
    return `vec4<${element}>(${[0, 1, 2, 3].map((k) => load(`${name}[i${i} + ${k} * ${step}]`, false)).join(', ')})`;
  };
  const { lines: body, results, helpers } = generate(outputs, v.vec, read, (s) => `p.s${s}`);
  lines.push(...body.map((line) => `  ${line}`));
  v.outs.forEach((type, k) => {
    const i = inputs.length + k;
    const from = outputs[k].type;
    let value = results[k];
    const t = (base: string): string => (v.vec ? `vec4<${base}>` : base);
    if (type === 'bool')
      value =
        from === 'bool'
          ? `select(${t('u32')}(0u), ${t('u32')}(1u), ${value})`
          : `select(${t('u32')}(0u), ${t('u32')}(1u), ${value} != ${t(from === 'f16' ? 'f32' : from)}(0))`;
    else if (type === 'f16' || (from === 'f16' ? 'f32' : from) !== type) value = `${t(type)}(${value})`;
    lines.push(`  y${k}[i${i}${v.vec ? ' / 4' : ''}] = ${value};`);
  });
  const text = [...helpers, ...body].join('\n');
  return {
    label,
    bindings,
    params,
    workgroupSize: [GROUP],
    coarsenable: true,
    enable: operands.some((o) => o.type === 'f16') ? ['f16'] : [],
    declarations: [...(text.includes('special(') ? [SPECIAL] : []), ...helpers].join('\n'),
    body: lines.join('\n'),
  };
});

/** Runs a program without recording. Outputs are new tensors, or the views given in `into`. */
function compute(
  prog: Program,
  tensors: readonly Tensor[],
  scalars: readonly number[],
  device: Device,
  into?: readonly Tensor[],
): Tensor[] {
  const shape = into ? into[0].shape : broadcastShapes(prog.name, ...tensors.map((t) => t.shape));
  const outs = into ?? prog.outputs.map((o) => emptyTensor(device, shape, o.type));
  const n = numelOf(shape);
  if (n === 0) return [...outs];
  if (tensors.length + outs.length > device.limits.maxStorageBuffersPerShaderStage)
    return computeInParts(prog, tensors, scalars, device, outs);
  const all = [...tensors, ...outs];
  // Most operations take operands of one shape that lie as one row: there is nothing to look for.
  const plain = all.every((t) => sameShape(t.shape, shape) && isContiguous(shape, t.strides));
  const collapsed = plain
    ? { shape: [n], strides: all.map(() => [1]) }
    : collapse(
        shape,
        all.map((t) => broadcastStrides(t.shape, t.strides, shape)),
      );
  const sizes = collapsed.shape,
    strides = collapsed.strides;
  const last = sizes.length - 1;
  const aligned = (t: Tensor, s: Shape): boolean =>
    s[last] === 1 &&
    t.offset % 4 === 0 &&
    s.every((v, d) => d === last || v % 4 === 0) &&
    (t.storage.bytes / sizeOf(t.dtype)) % 4 === 0;
  const vec = sizes[last] % 4 === 0 && outs.every((t, k) => aligned(t, strides[tensors.length + k]));
  const access = all.map((t, i): Access =>
    strides[i][last] === 0 ? 'splat' : vec && !aligned(t, strides[i]) ? 'gather' : 'vector',
  );
  const flat =
    last === 0 && strides.every((s, i) => (s[0] === 1 ? access[i] === 'vector' : s[0] === 0 && i < tensors.length));
  const count = vec ? n / 4 : n;
  const params: number[] = [count, ...scalars, ...all.map((t) => t.offset)];
  if (!flat) {
    for (let d = 1; d <= last; d++) params.push(vec && d === last ? sizes[d] / 4 : sizes[d]);
    for (const s of strides) params.push(...s);
  }
  const variant: Variant = {
    program: prog.id,
    rank: flat ? 0 : sizes.length,
    vec,
    access,
    outs: outs.map((t) => t.dtype),
  };
  device.run(
    elementwiseKernel,
    variant,
    all.map((t) => ({ storage: t.storage, byteOffset: 0 })),
    params,
    grid1d(count, GROUP),
  );
  return [...outs];
}

/** Runs a program with more tensors than a kernel may bind: several kernels, each with as many of the outputs as fit. */
function computeInParts(
  prog: Program,
  tensors: readonly Tensor[],
  scalars: readonly number[],
  device: Device,
  outs: readonly Tensor[],
): Tensor[] {
  const limit = device.limits.maxStorageBuffersPerShaderStage;
  for (let begin = 0, end = 0; begin < outs.length; begin = end) {
    let reads: number[] = [];
    for (end = begin; end < outs.length; end++) {
      const more = inputsOf(prog.outputs.slice(begin, end + 1));
      if (more.length + end + 1 - begin > limit) break;
      reads = more;
    }
    if (end === begin) {
      throw new LimitError(
        prog.name,
        `An expression reads ${inputsOf([prog.outputs[begin]]).length} tensors and writes one`,
        {
          expected: `at most ${limit} in all, the adapter's number of storage buffers`,
          remedy: 'fuse fewer operations',
        },
      );
    }
    const part = program(
      prog.name,
      renumber(prog.outputs.slice(begin, end), reads),
      reads.map((i) => prog.inputs[i]),
      prog.scalars,
    );
    compute(
      part,
      reads.map((i) => tensors[i]),
      scalars,
      device,
      outs.slice(begin, end),
    );
  }
  return [...outs];
}

function gradientOf(prog: Program, wanted: readonly number[]): Gradient {
  const key = wanted.join();
  let gradient = prog.gradients.get(key);
  if (!gradient) {
    const seeds = prog.outputs.map((o, i) => Expr.input(prog.inputs.length + i, isFloat(o.type) ? o.type : 'f32'));
    const exprs = differentiate(prog.outputs, seeds, wanted);
    const reads = inputsOf(exprs.filter((e): e is Expr => e !== null));
    gradient = { wanted, exprs, used: reads.filter((i) => i < prog.inputs.length) };
    prog.gradients.set(key, gradient);
  }
  return gradient;
}

const applyOp = defineOp<[Program, readonly number[], ...Tensor[]], Tensor[]>({
  name: (prog) => prog.name,
  forward(ctx, prog, scalars, ...tensors) {
    const wanted = tensors.flatMap((_, i) => (ctx.needs[i + 2] ? [i] : []));
    const gradient = gradientOf(prog, wanted);
    ctx.state.prog = prog;
    ctx.state.gradient = gradient;
    ctx.state.scalars = scalars;
    ctx.state.shapes = tensors.map((t) => t.shape);
    ctx.save(...gradient.used.map((i) => tensors[i]));
    return compute(prog, tensors, scalars, tensors[0].device);
  },
  backward(ctx, ...grads) {
    const { wanted, exprs, used } = ctx.state.gradient as Gradient;
    const prog = ctx.state.prog as Program;
    const shapes = ctx.state.shapes as Shape[];
    const saved = ctx.saved;
    const count = prog.inputs.length;
    const sources = new Map<number, Tensor>(used.map((i, k) => [i, saved[k]]));
    grads.forEach((g, k) => {
      if (g) sources.set(count + k, g);
    });
    const missing = grads.find((g) => g !== null)!;
    prog.outputs.forEach((o, k) => {
      if (!sources.has(count + k) && isFloat(o.type)) sources.set(count + k, missing.zerosLike());
    });
    const computed = run(
      `${prog.name}Backward`,
      exprs.filter((e): e is Expr => e !== null && e.kind !== 'input'),
      sources,
      prog.scalars,
      ctx.state.scalars as number[],
    );
    const results: (Tensor | null)[] = new Array<Tensor | null>(count + 2).fill(null);
    wanted.forEach((i, k) => {
      const e = exprs[k];
      if (!e) return;
      const g = e.kind === 'input' ? sources.get(e.value)! : computed.shift()!;
      results[i + 2] = g.sumToSize(shapes[i]);
    });
    return results;
  },
});

/** Runs expressions whose inputs are numbered with gaps. */
function run(
  name: string,
  exprs: readonly Expr[],
  sources: Map<number, Tensor>,
  types: readonly DType[],
  scalars: readonly number[],
): Tensor[] {
  if (!exprs.length) return [];
  const reads = inputsOf(exprs);
  const tensors = reads.map((i) => sources.get(i)!);
  if (!tensors.length) return runProgram(program(name, exprs, [], types), scalars, [...sources.values()].slice(0, 1));
  return runProgram(
    program(
      name,
      renumber(exprs, reads),
      tensors.map((t) => t.dtype),
      types,
    ),
    scalars,
    tensors,
  );
}

/** Numbers of the tensors that expressions read, ascending. */
function inputsOf(exprs: readonly Expr[]): number[] {
  return topological(exprs)
    .filter((e) => e.kind === 'input')
    .map((e) => e.value)
    .sort((a, b) => a - b);
}

function runProgram(prog: Program, scalars: readonly number[], tensors: readonly Tensor[]): Tensor[] {
  // A constant derivative reads nothing, but takes its shape from somewhere.
  if (!prog.inputs.length)
    return compute(
      program(prog.name, prog.outputs, [tensors[0].dtype], prog.scalars),
      tensors,
      scalars,
      tensors[0].device,
    );
  return applyOp(prog, scalars, ...tensors);
}

/** The same expressions with input `reads[k]` as input k. */
function renumber(exprs: readonly Expr[], reads: readonly number[]): Expr[] {
  const done = new Map<Expr, Expr>();
  for (const node of topological(exprs)) {
    let copy = node;
    if (node.kind === 'input') copy = Expr.input(reads.indexOf(node.value), node.type);
    else if (node.kind === 'cast') copy = done.get(node.args[0])!.cast(node.type);
    else if (node.op) copy = Expr.apply(node.op, ...node.args.map((a) => done.get(a)!));
    done.set(node, copy);
  }
  return exprs.map((e) => done.get(e)!);
}

/**
 * Makes one differentiable kernel of an expression: `fuse((x, y, z) => x.silu().mul(y).add(z))`. Tensors broadcast; the result's
 * type is that of the expression. With several expressions it gives several tensors. A number in the expression is part of the
 * kernel: what changes from call to call is better a tensor of one element.
 *
 * @throws LimitError when an expression reads more tensors than the adapter binds (7 everywhere)
 */
export function fuse(fn: (...x: Expr[]) => ExprLike, name?: string): (...tensors: Tensor[]) => Tensor;
export function fuse(fn: (...x: Expr[]) => readonly ExprLike[], name?: string): (...tensors: Tensor[]) => Tensor[];
export function fuse(
  fn: (...x: Expr[]) => ExprLike | readonly ExprLike[],
  name = 'fuse',
): (...tensors: Tensor[]) => Tensor | Tensor[] {
  const known = new Map<string, { prog: Program; many: boolean }>();
  return (...tensors) => {
    const types = tensors.map((t) => t.dtype);
    const key = types.join();
    let entry = known.get(key);
    if (!entry) {
      const result = fn(...types.map((type, i) => Expr.input(i, type)));
      const many = Array.isArray(result);
      const outputs = (many ? (result as readonly ExprLike[]) : [result as ExprLike]).map((e) =>
        e instanceof Expr ? e : Expr.constant(Number(e)),
      );
      entry = { prog: program(name, outputs, types, []), many };
      known.set(key, entry);
    }
    const results = applyOp(entry.prog, [], ...tensors);
    return entry.many ? results : results[0];
  };
}

/** An operation of tensors and numbers. Numbers are given at run time: a new one needs no new pipeline. */
export function elementwise(name: string, fn: (...x: Expr[]) => Expr): (...operands: (Tensor | number)[]) => Tensor {
  const known = new Map<string, Program>();
  return (...operands) => {
    const tensors = operands.filter((o): o is Tensor => isTensor(o));
    if (!tensors.length) throw new ShapeError(name, 'Expected at least one tensor among the operands');
    const common = tensors.map((t) => t.dtype).reduce(promote);
    const kinds = operands.map((o) => (isTensor(o) ? o.dtype : typeOfNumber(o, common)));
    const key = operands.map((o, i) => (isTensor(o) ? '' : '#') + kinds[i]).join();
    let prog = known.get(key);
    if (!prog) {
      let t = 0;
      const scalars: DType[] = [];
      const args = operands.map((o, i) =>
        isTensor(o) ? Expr.input(t++, kinds[i]) : Expr.scalar(scalars.push(kinds[i]) - 1, kinds[i]),
      );
      prog = program(
        name,
        [fn(...args)],
        tensors.map((x) => x.dtype),
        scalars,
      );
      known.set(key, prog);
    }
    return applyOp(
      prog,
      operands.filter((o): o is number => typeof o === 'number'),
      ...tensors,
    )[0];
  };
}

/** A number takes the type of the tensors beside it, unless it has a fraction, or a sign that they don't have. */
function typeOfNumber(value: number, tensors: DType): DType {
  if (isFloat(tensors)) return tensors;
  if (!Number.isInteger(value) || value < -(2 ** 31) || value >= 2 ** 32) return 'f32';
  if (tensors === 'u32' && value >= 0) return 'u32';
  return value < 2 ** 31 ? 'i32' : 'u32';
}

/** Writes a tensor into a view, broadcast and cast. */
export function copyInto(view: Tensor, source: Tensor): void {
  if (!sameShape(broadcastShapes('copy_', view.shape, source.shape), view.shape)) {
    throw new ShapeError('copy_', `A tensor of shape ${show(source.shape)} doesn't fit into shape ${show(view.shape)}`);
  }
  const copy = program('copy', [Expr.input(0, source.dtype)], [source.dtype], []);
  // A kernel can't read the memory that it writes.
  const from = source.storage === view.storage ? compute(copy, [source], [], view.device)[0] : source;
  compute(copy, [from], [], view.device, [view]);
  if (from !== source) from.dispose();
}
