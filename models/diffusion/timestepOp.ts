// Operations of the process on the tape: expressions of elements and of their timestep's coefficients, in one dispatch
// forward and one backward.

import { DTypeError, ShapeError } from '../../core/errors.ts';
import { differentiate } from '../../core/expr/differentiate.ts';
import {
  mapSamples,
  SampleProgram,
  sumSamples,
  type SampleOutput,
  type SampleSize,
  type Source,
} from '../../core/expr/samples.ts';
import { defineOp, Expr, isFloat, numelOf, sameShape, show, type Tensor } from '../../core/index.ts';
import { COEFFICIENTS, type Coefficient } from './coefficients.ts';

/**
 * Tensors by name, each with the number of parts that a sample has in it: 2 for an output whose channels are two
 * halves.
 */
export type Inputs<Name extends string> = Readonly<Record<Name, 1 | 2>>;

/** A coefficient of the sample's timestep. */
export type CoefficientExpr<Column extends string = Coefficient> = (name: Column) => Expr;

/** What an expression is made of. */
export interface Elements<Name extends string, Column extends string = Coefficient> {
  /** The parts of each tensor. */
  readonly of: Readonly<Record<Name, readonly Expr[]>>;
  /** The same values, through which no gradient flows. */
  readonly detached: Readonly<Record<Name, readonly Expr[]>>;
  readonly k: CoefficientExpr<Column>;
}

/**
 * Runs an operation. The first tensor has the shape (batch, channels, …) of the process; one of two parts has twice the
 * channels.
 *
 * @throws ShapeError, DTypeError for a tensor or timesteps of another shape or type
 */
export type TimestepOp<Name extends string> = (
  table: Tensor,
  t: Tensor,
  tensors: Readonly<Record<Name, Tensor>>,
) => Tensor[];

/**
 * An operation on elements: each expression gives a tensor of the first input's shape.
 *
 * @param columns of the tables that it will be given, in order
 */
export function timestepMap<Name extends string, Column extends string = Coefficient>(
  name: string,
  inputs: Inputs<Name>,
  build: (e: Elements<Name, Column>) => readonly Expr[],
  columns: readonly string[] = COEFFICIENTS,
): TimestepOp<Name> {
  return define(name, inputs, build, false, columns);
}

/** Means of expressions over the elements of each sample: each gives a tensor (batch). */
export function timestepMean<Name extends string>(
  name: string,
  inputs: Inputs<Name>,
  build: (e: Elements<Name>) => readonly Expr[],
): TimestepOp<Name> {
  return define(
    name,
    inputs,
    (e: Elements<Name>) => build(e).map((expr) => Expr.scalar(0).mul(expr)),
    true,
    COEFFICIENTS,
  );
}

/** Storage buffers that every adapter binds at once. */
const BINDINGS = 8;

/** The table of coefficients, and the timestep of each sample. */
interface Timesteps {
  readonly table: Tensor;
  readonly t: Tensor;
}

function define<Name extends string, Column extends string>(
  name: string,
  inputs: Inputs<Name>,
  build: (e: Elements<Name, Column>) => readonly Expr[],
  reduce: boolean,
  columns: readonly string[],
): TimestepOp<Name> {
  const names = Object.keys(inputs) as Name[];
  const parts = names.map((n) => inputs[n]);
  const { exprs, sources } = expressions(names, parts, build, columns);
  const forward = new SampleProgram(
    `diffusion.${name}`,
    sources,
    exprs.map((expr, i): SampleOutput => ({ expr, part: 0, parts: 1, before: i })),
  );
  const count = names.length;
  // Numbers of the tensors: the inputs, table and timesteps, gradients of the outputs.
  const first = count + 2;

  /** Gradients of the `wanted` tensors from those of the outputs `seeded`. */
  const gradient = (wanted: readonly number[], seeded: readonly number[]): SampleProgram => {
    const seeds = seeded.map((_, j): Source =>
      reduce ? { kind: 'sample', tensor: first + j } : { kind: 'element', tensor: first + j },
    );
    const wantedInputs = wanted.flatMap((i) =>
      Array.from({ length: parts[i] }, (_, part) => inputNumber(parts, i, part)),
    );
    const found = differentiate(
      seeded.map((o) => exprs[o]),
      seeds.map((_, j) => Expr.input(sources.length + j, 'f32')),
      wantedInputs,
    );
    let before = 0;
    const outputs = wanted.flatMap((i) => {
      const here = Array.from({ length: parts[i] }, (_, part): SampleOutput => ({
        expr: found.shift() ?? Expr.constant(0),
        part,
        parts: parts[i],
        before,
      }));
      before += parts[i];
      return here;
    });
    return new SampleProgram(`diffusion.${name}.backward`, [...sources, ...seeds], outputs);
  };
  const gradients = new Map<string, SampleProgram>();
  const gradientOf = (wanted: readonly number[], seeded: readonly number[]): SampleProgram => {
    const key = `${wanted.join()}|${seeded.join()}`;
    let prog = gradients.get(key);
    if (!prog) gradients.set(key, (prog = gradient(wanted, seeded)));
    return prog;
  };

  const op = defineOp({
    name,
    firstDerivativeOnly: true,
    forward({ tensors }: { tensors: readonly Tensor[] }, { table, t }: Timesteps, needs) {
      const { shape } = tensors[0];
      const samples: SampleSize = { batch: shape[0], size: numelOf(shape.slice(1)) };
      const all = [...tensors, table, t];
      const sums = reduce ? sumSamples(table.device, forward, all, samples) : null;
      const out = exprs.map((_, i) => sums?.select(0, i)).filter((y) => y !== undefined);
      if (!sums)
        out.push(
          ...partsOf(
            mapSamples(table.device, forward, all, samples),
            exprs.map(() => shape),
          ),
        );
      const wanted = needs.tensors.flatMap((need, i) => (need ? [i] : []));
      if (!wanted.length) return { out, saved: null };
      const every = exprs.map((_, o) => o);
      const used = gradientOf(wanted, every).reads.filter((i) => i < count);
      const shapes = tensors.map((x) => x.shape);
      return { out, saved: { table, t, reads: used.map((i) => tensors[i]), used, wanted, shapes, samples } };
    },
    backward(grads, saved) {
      const { table, t, reads, used, wanted, shapes, samples } = saved!;
      const tensors = new Array<Tensor | null>(count).fill(null);
      used.forEach((i, j) => {
        tensors[i] = reads[j];
      });
      const given = grads.flatMap((g, o) => (g ? [o] : []));
      // Gradients add up, so those of many outputs can come in portions that fit the bindings.
      const portion = BINDINGS - 3 - used.length;
      const total: Tensor[] = [];
      for (let at = 0; at < given.length; at += portion) {
        const seeded = given.slice(at, at + portion);
        const all = [...tensors, table, t, ...seeded.map((o) => grads[o])];
        const found = partsOf(
          mapSamples(table.device, gradientOf(wanted, seeded), all, samples),
          wanted.map((i) => shapes[i]),
        );
        found.forEach((g, j) => {
          total[j] = at ? total[j].add(g) : g;
        });
      }
      return { tensors: shapes.map((_, i) => total[wanted.indexOf(i)] ?? null) };
    },
  });

  return (table, t, given) => {
    const tensors = names.map((n) => given[n]);
    check(name, names, parts, t, tensors);
    return op({ tensors }, { table, t });
  };
}

/** Number of an element among the inputs of the expressions; its detached twin follows it. */
function inputNumber(parts: readonly number[], tensor: number, part: number): number {
  return 2 * (parts.slice(0, tensor).reduce((s, v) => s + v, 0) + part);
}

function expressions<Name extends string, Column extends string>(
  names: readonly Name[],
  parts: readonly number[],
  build: (e: Elements<Name, Column>) => readonly Expr[],
  columns: readonly string[],
): { exprs: readonly Expr[]; sources: Source[] } {
  const sources: Source[] = [];
  const of = {} as Record<Name, Expr[]>;
  const detached = {} as Record<Name, Expr[]>;
  names.forEach((name, tensor) => {
    of[name] = [];
    detached[name] = [];
    for (let part = 0; part < parts[tensor]; part++) {
      for (const list of [of[name], detached[name]]) {
        list.push(Expr.input(sources.length, 'f32'));
        sources.push({ kind: 'element', tensor, part, parts: parts[tensor] });
      }
    }
  });
  const first = sources.length;
  const [table, row] = [names.length, names.length + 1];
  columns.forEach((_, column) => sources.push({ kind: 'row', table, row, column, columns: columns.length }));
  const k: CoefficientExpr<Column> = (name) => Expr.input(first + columns.indexOf(name), 'f32');
  return { exprs: build({ of, detached, k }), sources };
}

/** Tensors that lie one after the other, as views. */
function partsOf(all: Tensor, shapes: readonly (readonly number[])[]): Tensor[] {
  let at = 0;
  return shapes.map((shape) => {
    const begin = at;
    at += numelOf(shape);
    return all.slice(0, begin, at).reshape(...shape);
  });
}

function check(
  name: string,
  names: readonly string[],
  parts: readonly number[],
  t: Tensor,
  tensors: readonly Tensor[],
): void {
  const { shape } = tensors[0];
  if (shape.length < 2)
    throw new ShapeError(name, `${names[0]} has shape ${show(shape)}`, { expected: '(batch, channels, …)' });
  checkTimesteps(name, t, shape[0]);
  tensors.forEach((x, i) => {
    const expected = [shape[0], shape[1] * parts[i], ...shape.slice(2)];
    if (!sameShape(x.shape, expected))
      throw new ShapeError(name, `${names[i]} has shape ${show(x.shape)}`, {
        expected: `${show(expected)}${parts[i] === 2 ? ': twice the channels, the second half for the variance' : ''}`,
      });
    if (!isFloat(x.dtype)) throw new DTypeError(name, `${names[i]} is ${x.dtype}`, { expected: 'f32 or f16' });
  });
}

/** @throws ShapeError, DTypeError unless t is (batch), i32 */
export function checkTimesteps(name: string, t: Tensor, batch: number): void {
  if (t.dtype !== 'i32') throw new DTypeError(name, `t is ${t.dtype}`, { expected: 'i32 steps of the process' });
  if (!sameShape(t.shape, [batch]))
    throw new ShapeError(name, `t has shape ${show(t.shape)}`, { expected: `(${batch}), a timestep for each sample` });
}
