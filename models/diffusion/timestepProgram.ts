// Kernels of the process. What it does to an element is an expression of the element's values and of coefficients that depend on
// the sample's timestep; from it come a kernel that maps elements and a kernel that sums them for each sample. Both read t and the
// coefficients themselves, and halves of the model's output in place.

import { generate, SPECIAL, topological, type Expr } from '../../core/expr/expr.ts';
import {
  defineKernel,
  dense,
  empty,
  grid1d,
  type Device,
  type Kernel,
  type KernelSource,
  type Tensor,
} from '../../core/index.ts';

/** What an input of the expressions is: an element of part `part` of a sample, a coefficient of its timestep, or one value a sample. */
export type Source =
  | { readonly kind: 'element'; readonly tensor: number; readonly part: number; readonly parts: number }
  | { readonly kind: 'coefficient'; readonly column: number }
  | { readonly kind: 'sample'; readonly tensor: number };

/** An expression, and where its values go: into part `part` of a result of `parts` parts a sample, which lies behind `before` parts. */
export interface Output {
  readonly expr: Expr;
  readonly part: number;
  readonly parts: number;
  readonly before: number;
}

/** Expressions of one kernel; scalar 0 is the reciprocal of a sample's size. */
export interface Program {
  readonly id: number;
  readonly name: string;
  readonly sources: readonly Source[];
  readonly outputs: readonly Output[];
  /** Tensors that it reads, by number. */
  readonly reads: readonly number[];
  readonly map: Kernel<Variant>;
  readonly sum: Kernel<Variant>;
}

interface Variant {
  readonly program: number;
  /** Four elements at a time. */
  readonly vec: boolean;
  /** Types of the tensors in `reads`. */
  readonly types: readonly string[];
}

const programs: Program[] = [];
const known = new Map<string, Program>();

/** The program of these expressions. Equal ones are one, and compile once. */
export function program(name: string, sources: readonly Source[], outputs: readonly Output[]): Program {
  const used = topological(outputs.map((o) => o.expr)).flatMap((e) => (e.kind === 'input' ? [e.value] : []));
  const key = JSON.stringify([
    name,
    outputs.map((o) => [o.expr.id, o.part, o.parts, o.before]),
    used.map((i) => [i, sources[i]]),
  ]);
  let prog = known.get(key);
  if (!prog) {
    const reads = new Set<number>();
    for (const i of used) {
      const source = sources[i];
      if (source.kind !== 'coefficient') reads.add(source.tensor);
    }
    prog = {
      id: programs.length,
      name,
      sources,
      outputs,
      reads: [...reads].sort((a, b) => a - b),
      map: defineKernel(`diffusion.${name}`, mapSource),
      sum: defineKernel(`diffusion.${name}.sum`, sumSource),
    };
    programs.push(prog);
    known.set(key, prog);
  }
  return prog;
}

/** Tensors of a program by number (only those that it reads are needed), and how they are cut. */
export interface Operands {
  readonly table: Tensor;
  readonly t: Tensor;
  readonly tensors: readonly (Tensor | null)[];
  readonly batch: number;
  /** Elements of one part of a sample. */
  readonly size: number;
}

/** Evaluates the expressions for every element: all results one after the other, f32. */
export function runMap(device: Device, prog: Program, operands: Operands): Tensor {
  const { batch, size } = operands;
  const last = prog.outputs[prog.outputs.length - 1];
  const y = empty(device, [(last.before + last.parts) * batch * size]);
  dispatch(device, prog.map, prog, operands, y, grid1d((batch * size) / width(size), MAP_GROUP));
  return y;
}

/** Sums the expressions over the elements of each sample, always in the same order: (outputs, batch), f32. */
export function runSum(device: Device, prog: Program, operands: Operands): Tensor {
  const { batch, size } = operands;
  const pieces = Math.ceil(size / width(size) / PIECE);
  const y = empty(device, [prog.outputs.length, batch, pieces]);
  dispatch(device, prog.sum, prog, operands, y, [pieces, batch, 1]);
  return pieces > 1 ? y.sum(2) : y.reshape(prog.outputs.length, batch);
}

function dispatch(
  device: Device,
  kernel: Kernel<Variant>,
  prog: Program,
  operands: Operands,
  y: Tensor,
  groups: [number, number, number],
): void {
  const { table, t, batch, size } = operands;
  const read = prog.reads.map((i) => dense(operands.tensors[i]!));
  const variant: Variant = { program: prog.id, vec: width(size) === 4, types: read.map((x) => x.dtype) };
  device.run(
    kernel,
    variant,
    [table, dense(t), ...read, y],
    [batch, size / width(size), ...table.shape, 1 / size],
    groups,
  );
}

/** Elements that an invocation takes at a time. */
function width(size: number): 1 | 4 {
  return size % 4 === 0 ? 4 : 1;
}

const MAP_GROUP = 64;
const SUM_GROUP = 128;
/** Elements, or vectors of them, that a workgroup of a sum goes through. */
const PIECE = SUM_GROUP * 8;

/** Bindings and parameters; the coefficients of sample `b`; and the values of element `i` of its parts. */
function scaffold({ program: id, vec, types }: Variant): {
  head: Omit<KernelSource, 'body' | 'workgroupSize'>;
  coefficients: string[];
  element: string[];
  results: string[];
} {
  const { sources, outputs, reads } = programs[id];
  const t = vec ? 'vec4<f32>' : 'f32';
  // A timestep out of range reads the nearest row: the GPU can't raise an error.
  const coefficients = [`let row = min(u32(max(t[b], 0)), p.steps - 1u) * p.columns;`];
  const perSample = (i: number, text: string): string => {
    coefficients.push(`let c${i} = ${t}(${text});`);
    return `c${i}`;
  };
  const input = (i: number): string => {
    const source = sources[i];
    if (source.kind === 'coefficient') return perSample(i, `k[row + ${source.column}u]`);
    if (source.kind === 'sample') return perSample(i, `x${source.tensor}[b]`);
    return `${t}(x${source.tensor}[${place(source)}])`;
  };
  const { lines, results, helpers } = generate(
    outputs.map((o) => o.expr),
    vec,
    input,
    () => 'p.reciprocal',
  );
  const bindings: KernelSource['bindings'][number][] = [
    { name: 'k', type: 'array<f32>', access: 'read' },
    { name: 't', type: 'array<i32>', access: 'read' },
  ];
  reads.forEach((tensor, j) => {
    const whole = sources.some((s) => s.kind === 'element' && s.tensor === tensor);
    bindings.push({
      name: `x${tensor}`,
      type: `array<${vec && whole ? `vec4<${types[j]}>` : types[j]}>`,
      access: 'read',
    });
  });
  const declarations = [...(lines.some((line) => line.includes('special(')) ? [SPECIAL] : []), ...helpers].join('\n');
  return {
    head: {
      bindings,
      declarations,
      enable: types.includes('f16') ? ['f16'] : [],
      params: [
        { name: 'batch', type: 'u32' },
        { name: 'size', type: 'u32' },
        { name: 'steps', type: 'u32' },
        { name: 'columns', type: 'u32' },
        { name: 'reciprocal', type: 'f32' },
      ],
    },
    coefficients,
    element: lines,
    results,
  };
}

/** Index of element `i` in part `part` of sample `b`. */
function place({ part, parts }: { part: number; parts: number }): string {
  return parts === 1 ? 'b * p.size + i' : `(b * ${parts}u + ${part}u) * p.size + i`;
}

function mapSource(v: Variant): KernelSource {
  const { head, coefficients, element, results } = scaffold(v);
  const stores = programs[v.program].outputs.map(
    (o, j) => `y[${o.before ? `${o.before}u * p.batch * p.size + ` : ''}${place(o)}] = ${results[j]};`,
  );
  return {
    ...head,
    bindings: [...head.bindings, { name: 'y', type: v.vec ? 'array<vec4<f32>>' : 'array<f32>', access: 'write' }],
    workgroupSize: [MAP_GROUP],
    body: `  if (flat >= p.batch * p.size) { return; }
  let b = flat / p.size;
  let i = flat % p.size;
  ${[...coefficients, ...element, ...stores].join('\n  ')}`,
  };
}

function sumSource(v: Variant): KernelSource {
  const { head, coefficients, element, results } = scaffold(v);
  const zero = v.vec ? 'vec4<f32>()' : '0.0';
  const total = (j: number): string => (v.vec ? `dot(sum${j}, vec4<f32>(1.0))` : `sum${j}`);
  return {
    ...head,
    bindings: [...head.bindings, { name: 'y', type: 'array<f32>', access: 'write' }],
    workgroupSize: [SUM_GROUP],
    workgroupBytes: SUM_GROUP * results.length * 4,
    declarations: `${head.declarations}\n${results.map((_, j) => `var<workgroup> part${j}: array<f32, ${SUM_GROUP}>;`).join('\n')}`,
    body: `  let b = wid.y;
  ${coefficients.join('\n  ')}
  ${results.map((_, j) => `var sum${j} = ${zero};`).join('\n  ')}
  let end = min(p.size, (wid.x + 1u) * ${PIECE}u);
  for (var i = wid.x * ${PIECE}u + li; i < end; i += ${SUM_GROUP}u) {
    ${element.join('\n    ')}
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
}
